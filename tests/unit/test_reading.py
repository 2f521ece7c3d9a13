"""Files from others are read within limits, or refused in a short message that names file and line."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from asr import reading
from asr.errors import ManifestError
from asr.reading import counted, parse_json, parse_yaml, read_json, read_lines, read_text, read_yaml, shown

REPOSITORY = Path(__file__).parents[2]
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
values = st.recursive(plain | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)


def refused(read: object, *arguments: object) -> str:
    assert callable(read)
    with pytest.raises(ManifestError) as refusal:
        read(*arguments)
    message = str(refusal.value)
    assert len(message) < 400
    return message


@given(values)
def test_json_is_read_as_the_standard_library_reads_it(content: object) -> None:
    text = json.dumps(content)
    assert parse_json(text, ManifestError, "x") == json.loads(text)


@given(values)
def test_what_yaml_is_written_is_read_as_it_was(content: object) -> None:
    text = yaml.safe_dump(content, allow_unicode=True)
    assert parse_yaml(text, ManifestError, "x") == content


@pytest.mark.parametrize("path", sorted((REPOSITORY / "conf").glob("*.yaml")), ids=lambda path: path.name)
def test_the_settings_of_the_recipes_mean_what_yaml_1_1_says(path: Path) -> None:
    assert read_yaml(path, ManifestError, "x") == yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "deeper than 64"),
        ("[" * 65 + "]" * 65, "deeper than 64"),
        ('{"a":' * 65 + "1" + "}" * 65, "deeper than 64"),
        ("1" * 5_000_000, "a number of 5000000 digits"),
        ("[0." + "1" * 5_000_000 + "]", "a number of 5000002 digits"),
        ("NaN", "NaN is not a JSON value"),
        ("[-Infinity]", "-Infinity is not a JSON value"),
        ("1e999", "too large a number"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' twice"),
        ('{"' + "k" * 10**6 + '": 1, "' + "k" * 10**6 + '": 1}', "twice"),
        ("{", "not JSON"),
        ("", "not JSON"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_json_beyond_a_limit_is_refused(text: str, reason: str) -> None:
    assert reason in refused(parse_json, text, ManifestError, "cuts.jsonl:7")


def test_json_may_be_nested_64_levels_deep_and_hold_many_brackets() -> None:
    deep = "[" * 64 + "]" * 64
    assert parse_json(deep, ManifestError, "x") == json.loads(deep)
    assert parse_json(f"[{deep[1:-1]},{'[],' * 1000}1]", ManifestError, "x")[-1] == 1


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: &x [1]\nb: 2", 1, "aliases and anchors"),
        ("a: 1\nb: *x", 2, "aliases and anchors"),
        ("a: !!python/object/apply:os.system [ls]", 1, "tags"),
        ("a: !!binary aGk=", 1, "tags"),
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' twice"),
        ("a: 1\n? [b]\n: 2", 2, "a key is a text"),
        ("[" * 65 + "]" * 65, 1, "deeper than 64"),
        ("\n".join("  " * depth + "a:" for depth in range(65)), 65, "deeper than 64"),
        ("a: [1", 1, "not valid YAML"),
        ("a: b: c", 1, "not valid YAML"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_yaml_beyond_a_limit_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    message = refused(parse_yaml, text, ManifestError, "config.yaml")
    assert message.startswith(f"config.yaml:{line}: ")
    assert reason in message


@pytest.mark.parametrize("text", ["a: " + "1" * 200, "a: " + "[" * 300_000, "a: \0", "a: " + "x" * 300_000])
def test_yaml_that_is_too_long_or_not_text_is_refused(text: str) -> None:
    assert "not valid YAML" in refused(parse_yaml, text, ManifestError, "config.yaml")


@pytest.mark.parametrize(
    "text", ["no", "Yes", "on", "1:1:1", "1:30.5", "2024-01-01", "0x1F", "017", "1_000", "<<", "="]
)
def test_what_only_yaml_1_1_takes_for_something_else_is_text(text: str) -> None:
    assert parse_yaml(f"a: {text}", ManifestError, "x") == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("~", None), ("", None), ("-3", -3), ("+2.5", 2.5), ("1.0e-3", 1e-3), (".5", 0.5)],
)
def test_plain_numbers_booleans_and_null_are_no_text(text: str, value: object) -> None:
    found = parse_yaml(f"a: {text}", ManifestError, "x")["a"]
    assert (found, type(found)) == (value, type(value))


def test_files_beyond_the_largest_size_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate(300 << 20)  # zeros that take no space
    assert "larger than 16 MiB" in refused(read_json, path, ManifestError, "it")
    assert "larger than 256 KiB" in refused(read_yaml, path, ManifestError, "it")
    with pytest.raises(ManifestError, match="larger than 2 KiB"):
        read_text(path, ManifestError, "it", most_bytes=2048)


def lines_of(path: Path) -> list[str]:
    return list(read_lines(path, ManifestError, "the lines"))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_line_of_more_than_4_mib_is_refused_and_one_of_4_mib_is_not(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for size in (4 << 20, (4 << 20) + 1):
        content = b"first\n" + b"x" * (size - 1) + b"\n"
        path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
        if size == 4 << 20:
            assert [len(line) for line in lines_of(path)] == [5, size - 1]
        else:
            assert f"{path}:2: " in refused(lines_of, path)


def test_a_gzip_file_that_becomes_hundreds_of_times_larger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    with gzip.open(path, "wb", 9) as file:
        for _ in range(80):
            file.write((b"0" * 1023 + b"\n") * 1024)
    assert 300 * path.stat().st_size < 80 << 20
    message = refused(lines_of, path)
    assert "more than 64 MiB when it is decompressed" in message


def test_a_gzip_file_of_an_ordinary_ratio_is_read_beyond_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_FREE_BYTES", 1000)
    path = tmp_path / "a.gz"
    lines = [f"{'word ' * 50}{number}" for number in range(20_000)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert path.stat().st_size * 20 < len("\n".join(lines))
    assert lines_of(path) == lines
    monkeypatch.setattr(reading, "_MOST_EXPANDED_BYTES", 1 << 20)
    assert "more than 1 MiB" in refused(lines_of, path)


@pytest.mark.parametrize("damage", ["checksum", "tail", "length"])
def test_a_gzip_file_whose_end_is_damaged_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    whole = bytearray(gzip.compress(b"one\ntwo\n"))
    if damage == "tail":
        del whole[-3:]
    else:
        whole[-8 if damage == "checksum" else -1] ^= 1
    path.write_bytes(whole)
    assert "damaged after line" in refused(lines_of, path)


@given(st.recursive(plain | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_value_is_shown_as_python_writes_it_if_that_is_short(value: object) -> None:
    text = shown(value)
    assert len(text) <= 80
    assert "\n" not in text
    if isinstance(value, str) and len(repr(value)) <= 80:
        assert text == repr(value)


def test_a_huge_value_is_shown_shortly() -> None:
    for value in ("x" * 10**8, [list(range(10**6))] * 10, {str(n): n for n in range(10**5)}, "9" * 5000):
        assert len(shown(value)) <= 80
    assert re.fullmatch(r"'x+\.\.\.x+'", shown("x" * 10**8))


@pytest.mark.parametrize(
    ("number", "thing", "text"),
    [
        (1, "utterance", "1 utterance"),
        (0, "utterance", "0 utterances"),
        (2, "speaker", "2 speakers"),
        (2, "entry", "2 entries"),
        (2, "key", "2 keys"),
        (1, "word of dev", "1 word of dev"),
        (3, "word of dev", "3 words of dev"),
    ],
)
def test_things_are_counted_in_the_singular_and_the_plural(number: int, thing: str, text: str) -> None:
    assert counted(number, thing) == text
