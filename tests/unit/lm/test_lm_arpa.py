"""ARPA files: what is written is read back, other toolkits' files are read, damaged ones named by line."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.errors import LanguageModelError
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.estimate import token_ngram
from asr.lm.kneser_ney import kneser_ney
from asr.lm.ngram import LN_10, NgramEntry, NgramLm
from asr.text.tokens import TokenTable

# As SRILM writes it: text before \data\, spaces after "ngram", no back-off weight where it is 0, -99 for <s>.
SRILM = """
written by hand

\\data\\
ngram  1=5
ngram  2=4
ngram  3=1

\\1-grams:
-0.5\t</s>
-99\t<s>\t-0.301030
-0.7\ta\t-0.1
-0.8\tb\t0.05
-1.5\t<unk>

\\2-grams:
-0.2\t<s> a\t-0.4
-0.3\ta b
-0.4\tb </s>
-0.9\ta a

\\3-grams:
-0.05\t<s> a b

\\end\\
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
@pytest.mark.parametrize("order", [1, 2, 5])
def test_a_model_written_and_read_back_is_the_same(tmp_path: Path, name: str, order: int) -> None:
    texts = ["one two", "two  three", "née\u00a0o'clock", "one"]
    lm = token_ngram(texts, TokenTable.from_texts(texts), order)
    write_arpa(lm, tmp_path / name)
    again = read_arpa(tmp_path / name)
    assert again.order == lm.order
    for ngrams, read in zip(lm.ngrams, again.ngrams, strict=True):
        assert list(read) == list(ngrams)
        for ngram in ngrams:
            assert read[ngram] == pytest.approx(ngrams[ngram], abs=1e-6)


def test_equal_models_give_equal_files_and_gz_means_compressed(tmp_path: Path) -> None:
    lm = kneser_ney([["a", "b"], ["b"]], 3)
    write_arpa(lm, tmp_path / "one.arpa.gz")
    write_arpa(lm, tmp_path / "two.arpa.gz")
    write_arpa(lm, tmp_path / "plain.arpa")
    compressed = (tmp_path / "one.arpa.gz").read_bytes()
    assert compressed == (tmp_path / "two.arpa.gz").read_bytes()
    assert gzip.decompress(compressed) == (tmp_path / "plain.arpa").read_bytes()


def test_a_file_in_srilms_style_is_read(tmp_path: Path) -> None:
    lm = read_arpa(write(tmp_path / "srilm.arpa", SRILM))
    assert lm.order == 3
    assert [len(ngrams) for ngrams in lm.ngrams] == [5, 4, 1]
    assert lm.ngrams[0]["b",] == NgramEntry(-0.8, 0.05)
    assert lm.log_prob(["<s>", "a"], "b") == pytest.approx(LN_10 * -0.05)
    assert lm.log_prob(["<s>", "a"], "a") == pytest.approx(LN_10 * (-0.4 - 0.9))
    assert lm.log_prob(["a", "b"], "a") == pytest.approx(LN_10 * (0.0 + 0.05 - 0.7))


def test_fields_may_be_separated_by_spaces_and_lines_end_as_on_windows(tmp_path: Path) -> None:
    text = SRILM.replace("\t", "  ")
    path = tmp_path / "windows.arpa"
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert read_arpa(path) == read_arpa(write(tmp_path / "srilm.arpa", SRILM))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "data", r"lm\.arpa:25: the file ends too early"),
        ("\\end\\", "", r"lm\.arpa:25: the file ends too early"),
        ("ngram  2=4", "ngram  2=5", r"lm\.arpa:22: 4 different 2-grams, but the header says 5"),
        ("ngram  2=4", "ngram two=4", r"lm\.arpa:6: expected 'ngram 2=<count>', found 'ngram two=4'"),
        ("\\2-grams:", "\\3-grams:", r"lm\.arpa:16: expected '\\\\2-grams:', found '\\\\3-grams:'"),
        ("-0.3\ta b", "-0.3\ta", r"lm\.arpa:18: expected a number, 2 units"),
        ("-0.3\ta b", "-0.3\ta b c d", r"lm\.arpa:18: expected a number, 2 units"),
        ("-0.3\ta b", "-0.3\ta b c", r"lm\.arpa:18: '-0.3 c' should be numbers"),
        ("-0.3\ta b", "x\ta b", r"lm\.arpa:18: 'x' should be numbers"),
        ("-0.3\ta b", "0.3\ta b", r"lm\.arpa:18: .* a probability is at most 1"),
        ("-0.3\ta b", "nan\ta b", r"lm\.arpa:18: .* a probability is at most 1"),
        ("-0.1\n", "-inf\n", r"lm\.arpa:12: .* and a back-off weight is finite"),
        ("-0.9\ta a", "-0.9\tc a", r"lm\.arpa:20: the history of 'c a' is not among the 1-grams"),
        ("-0.3\ta b", "-0.3\ta c", r"lm\.arpa:18: 'c' is not among the 1-grams"),
        ("-0.05\t<s> a b", "-0.05\tb a b", r"lm\.arpa:23: the history of 'b a b' is not among the 2-grams"),
        ("-0.3\ta b", "-0.3\ta a", r"lm\.arpa:22: 3 different 2-grams, but the header says 4"),
        ("ngram  1=5\nngram  2=4\nngram  3=1\n", "", r"lm\.arpa:6: the header names no n-grams"),
        ("ngram  1=5", "ngram  1=0", r"lm\.arpa:9: the header says 0 1-grams"),
        ("ngram  1=5", "ngram  1=5000000", r"lm\.arpa:9: the header says 5000000 1-grams"),
        ("ngram  1=5", f"ngram  1={'5' * 10_000}", r"lm\.arpa:5: expected 'ngram 1=<count>', found '.{70,80}$"),
        ("ngram  3=1", "".join(f"ngram {n}=1\n" for n in range(3, 22)), r"lm\.arpa:25: n-grams of an order above 20"),
        ("-0.1\n", "-100\n", r"lm\.arpa:12: .* a back-off weight is from -99 to 99"),
        ("-0.5\t</s>\n", "-0.5\t</s>\n" * 8, r"lm\.arpa:21: more 1-grams than the 5"),
        ("written", "written\n" * 1001, r"lm\.arpa:1001: no \\data\\ so far"),
        ("\\2-grams", "\n" * 1001 + "\\2-grams", r"lm\.arpa:1015: too many empty lines"),
        ("\\end\\\n", "\\end\\\n" + "x\n" * 1001, r"lm\.arpa:25: too much follows"),
        ("-0.3\ta b", "-0.3\ta b" * 10_000, r"lm\.arpa:18: expected a number, .{100,120}$"),
    ],
)
def test_a_damaged_file_is_named_with_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SRILM
    path = write(tmp_path / "lm.arpa", SRILM.replace(old, new, 1))
    with pytest.raises(LanguageModelError, match=message):
        read_arpa(path)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(LanguageModelError, match=r"none\.arpa: cannot read the language model"):
        read_arpa(tmp_path / "none.arpa")
    with pytest.raises(LanguageModelError, match=r"text\.arpa\.gz: damaged after line 0"):
        read_arpa(write(tmp_path / "text.arpa.gz", SRILM))
    write_arpa(kneser_ney([["a", "b"]], 2), tmp_path / "cut.arpa.gz")
    whole = (tmp_path / "cut.arpa.gz").read_bytes()
    (tmp_path / "cut.arpa.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LanguageModelError, match=r"cut\.arpa\.gz: damaged after line \d"):
        read_arpa(tmp_path / "cut.arpa.gz")
    (tmp_path / "latin.arpa").write_bytes(SRILM.replace("\ta", "\té").encode("latin-1"))
    with pytest.raises(LanguageModelError, match=r"latin\.arpa:12: not UTF-8 \(byte 0xe9\)"):
        read_arpa(tmp_path / "latin.arpa")


@pytest.mark.parametrize("byte", [-1, -5])
def test_the_checksum_and_the_length_behind_the_last_line_are_compared(byte: int, tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa.gz"
    write_arpa(kneser_ney([["a", "b"]], 2), path)
    whole = bytearray(path.read_bytes())
    whole[byte] ^= 1
    path.write_bytes(whole)
    with pytest.raises(LanguageModelError, match=r"lm\.arpa\.gz: damaged after line"):
        read_arpa(path)


def test_a_probability_of_0_is_that_of_other_toolkits(tmp_path: Path) -> None:
    for zero in ("-inf", "-1e308", "-99"):
        lm = read_arpa(write(tmp_path / "lm.arpa", SRILM.replace("-0.7\ta", f"{zero}\ta")))
        assert lm.ngrams[0]["a",].log10_probability == -99


@pytest.mark.parametrize("unit", ["a b", "", "a\tb", "a\n"])
def test_a_unit_that_would_not_be_read_back_is_not_written(tmp_path: Path, unit: str) -> None:
    lm = NgramLm(({(unit,): NgramEntry(-1.0)},))
    with pytest.raises(LanguageModelError, match="cannot hold the unit"):
        write_arpa(lm, tmp_path / "lm.arpa")
    assert list(tmp_path.iterdir()) == []


# A trigram worked by hand: log10 probabilities and back-off weights.
Grams = dict[str, tuple[float, float | None]]
MODEL: list[Grams] = [
    {
        "<s>": (-99.0, -0.25),
        "</s>": (-0.75, None),
        "<unk>": (-1.5, -0.125),
        "ja": (-0.5, -0.5),
        "née": (-0.625, 0.125),
    },
    {"<s> ja": (-0.375, -0.25), "ja née": (-0.4375, None), "née </s>": (-0.25, None), "<unk> ja": (-1.25, None)},
    {"<s> ja née": (-0.03125, None)},
]


def srilm(model: list[Grams]) -> str:
    """Tabs between fields, no weight of 0, a blank line first."""
    text = "\n\\data\\\n" + "".join(f"ngram {order}={len(grams)}\n" for order, grams in enumerate(model, 1))
    for order, grams in enumerate(model, 1):
        lines = (f"{prob:g}\t{gram}" + (f"\t{weight:g}" if weight else "") for gram, (prob, weight) in grams.items())
        text += f"\n\\{order}-grams:\n" + "\n".join(lines) + "\n"
    return text + "\n\\end\\\n"


def kenlm(model: list[Grams]) -> str:
    """A weight everywhere but in the highest order, `<unk>` first, a probability of 1 for `<s>`."""
    unigrams = {"<unk>": model[0]["<unk>"], **model[0], "<s>": (0.0, model[0]["<s>"][1])}
    parts = ["\\data\\"] + [f"ngram {order}={len(grams)}" for order, grams in enumerate(model, 1)]
    for order, grams in enumerate([unigrams, *model[1:]], 1):
        parts += ["", f"\\{order}-grams:"]
        for gram, (prob, weight) in grams.items():
            parts.append(f"{prob:.7f}\t{gram}" + ("" if order == len(model) else f"\t{weight or 0}"))
    return "\n".join([*parts, "", "\\end\\", ""])


def cmu(model: list[Grams]) -> str:
    """Capitals, an explanation that names the marks of the format, spaces at the ends of lines."""
    head = "## Copyright\nBeginning of data mark: \\data\\\nngram 1=nr   # number of 1-grams\n\\1-grams:\np_1 wd_1\n"
    text = srilm([{gram.replace("<unk>", "<UNK>"): value for gram, value in grams.items()} for grams in model])
    return head + "end of data mark: \\end\\\n" + text.replace("\t", " ").replace("\n", " \n")


def capitals(model: list[Grams]) -> str:
    names = {"<s>": "<S>", "</s>": "</S>", "<unk>": "<Unk>"}
    return srilm([{" ".join(names.get(u, u) for u in gram.split()): value for gram, value in g.items()} for g in model])


def irstlm(model: list[Grams]) -> str:
    """Wide counts, exponents, the probability of nothing as an infinity, lines that end as on Windows."""
    text = srilm(model).replace("ngram ", "ngram  ").replace("=", "=        ").replace("-99\t", "-inf\t")
    return text.replace("-0.03125", "-3.125e-02").replace("0.125", "1.25E-1").replace("\n", "\r\n")


def empty_highest_order(model: list[Grams]) -> str:
    """As a pruned model may have it."""
    return srilm([*model, {}])


@pytest.mark.parametrize("write_dialect", [srilm, kenlm, cmu, capitals, irstlm, empty_highest_order])
@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_the_dialects_of_other_toolkits_say_the_same(
    tmp_path: Path, name: str, write_dialect: Callable[[list[Grams]], str]
) -> None:
    content = write_dialect(MODEL).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    lm = read_arpa(tmp_path / name)
    for history, unit, log10 in [
        (["<s>"], "ja", -0.375),
        (["<s>", "ja"], "née", -0.03125),
        (["<s>", "ja"], "</s>", -0.25 - 0.5 - 0.75),
        (["ja", "née"], "</s>", -0.25),
        (["née"], "ja", 0.125 - 0.5),
        (["other"], "ja", -1.25),
        (["other"], "née", -0.125 - 0.625),
        (["née", "ja"], "other", -0.5 - 1.5),
    ]:
        assert lm.log_prob(history, unit) == pytest.approx(log10 * math.log(10)), (history, unit)
    assert lm.perplexity([["ja", "other"]]).oovs == 1


def test_a_unit_in_capitals_stays_where_the_mark_itself_is_listed_too(tmp_path: Path) -> None:
    both = [{**MODEL[0], "<UNK>": (-3.0, None)}, *MODEL[1:]]
    lm = read_arpa(write(tmp_path / "lm.arpa", srilm(both)))
    assert lm.log_prob([], "other") == pytest.approx(-1.5 * math.log(10))
    assert lm.log_prob([], "<UNK>") == pytest.approx(-3.0 * math.log(10))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"mmap lm http://kheafield.com/code format version 5\n\0", "a binary file of KenLM"),
        (b"SRILM_BINARY_NGRAM_002\n", "a binary file of SRILM"),
        (b"blmt 3 1 1 1\n", "a binary file of IRSTLM"),
        (b"iARPA\n\n\\data\\\n", "IRSTLM's intermediate format"),
        (b"qARPA 2 256 256\n\n\\data\\\n", "quantised by IRSTLM"),
        (gzip.compress(SRILM.encode()), "let its name end in .gz"),
        (srilm(MODEL).replace("-0.375", "-0,375").encode(), "'-0,375 -0.25' should be numbers"),
        (srilm(MODEL).replace("-99", "-1.#INF").encode(), "'-1.#INF -0.25' should be numbers"),
        (srilm(MODEL).encode("utf-16"), "not UTF-8 (byte 0xff)"),
        (b"", "the file ends too early"),
    ],
)
def test_files_of_other_formats_are_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "lm.arpa").write_bytes(content)
    with pytest.raises(LanguageModelError, match=r"lm\.arpa.*" + re.escape(message)):
        read_arpa(tmp_path / "lm.arpa")
