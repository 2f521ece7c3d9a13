"""`asr prepare`, `asr import` and `asr check`, as a user calls them."""

import gzip
import json

import numpy as np
import pytest
import soundfile
from conftest import syllables

from asr.corpus.manifest import read_manifest, write_manifest


@pytest.fixture
def table(tmp_path, rng):
    """A table of 20 utterances by 10 speakers."""
    lines = ["path,sentence,speaker"]
    for i in range(20):
        soundfile.write(tmp_path / f"{i}.wav", syllables(rng, 1.0, 16000), 16000)
        lines.append(f"{i}.wav,say abc,s{i % 10}")
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(lines))
    return path


def test_a_table_is_imported_and_found_sound(call, table, tmp_path):
    status, out, err = call("import", "csv", table, "--out", tmp_path / "data")
    assert (status, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [
        ["train", "16"],
        ["dev", "2"],
        ["test", "2"],
    ]
    status, out, err = call("check", tmp_path / "data")
    assert (status, err) == (0, "")
    assert [line.split()[:4] for line in out.splitlines()[1:4]] == [
        ["train", "16", "0.004", "8"],
        ["dev", "2", "0.001", "1"],
        ["test", "2", "0.001", "1"],
    ]
    assert "6 characters" in out
    assert "16000 Hz 20" in out
    assert "No problems found." in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_names_in_a_table_do_nothing_to_the_terminal(call, table, tmp_path):
    table.write_text(table.read_text() + "\n\x1b[2Jgone.wav,hello,s1")
    _, out, err = call("import", "csv", table, "--out", tmp_path / "data")
    assert "\\x1b[2Jgone" in err
    assert "\x1b" not in out + err


def test_faults_are_listed_and_the_status_says_so(call, table, tmp_path):
    table.write_text(table.read_text() + "\ngone.wav,hello,s1")
    status, out, err = call("import", "csv", table, "--out", tmp_path / "data")
    assert status == 2
    assert "left out 1 of 21 utterances" in err
    assert "mine.csv:22: " in err
    assert (tmp_path / "data" / "train.jsonl.gz").exists()
    (tmp_path / "3.wav").unlink()
    status, out, err = call("check", tmp_path / "data")
    assert status == 1
    assert "1 problem\n" in out
    assert f"3: {tmp_path}/3.wav: no such file" in out
    status, out, err = call("check", tmp_path / "data", "--out", tmp_path / "sound")
    assert status == 0  # for what is wrong is not in there
    assert "1 problem\n" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("written")] == [
        str(tmp_path / "sound" / f"{split}.jsonl.gz") for split in ("train", "dev", "test")
    ]
    assert "No problems found." in call("check", tmp_path / "sound")[1]
    assert sum(len(read_manifest(path).to_eager()) for path in (tmp_path / "sound").iterdir()) == 19


def test_settings_decide_what_a_fault_is(call, table, tmp_path):
    call("import", "csv", table, "--out", tmp_path / "data")
    status, out, _ = call("check", tmp_path / "data", "--set", "training.max_utterance_s=0.5")
    assert status == 1
    assert "20 problems\n" in out
    status, out, _ = call("check", tmp_path / "data", "--set", "text.remove=abc")
    assert status == 0
    assert "\n2 characters" in out  # s and y: no word is left before which a space could stand


def test_a_hard_test_utterance_is_kept_and_the_user_is_told(call, table, tmp_path):
    call("import", "csv", table, "--out", tmp_path / "data")
    path = tmp_path / "data/test.jsonl.gz"
    first, second = read_manifest(path)
    first.supervisions[0].text = "say " + "abz" * 30
    write_manifest([first, second], path)
    status, out, _ = call("check", tmp_path / "data", "--out", tmp_path / "sound")
    assert status == 1
    assert "warning: 1 of 2 utterances of test (50.0 %) hold characters that train" in out
    assert "kept: 1 of test with a fault, since the audio is usable" in out
    assert "too short for its transcript: 25 output frames, CTC needs 94" in out
    assert len(list(read_manifest(tmp_path / "sound/test.jsonl.gz"))) == 2


def test_findings_are_grouped_by_kind_and_the_first_three_are_shown_or_all(call, table, tmp_path):
    table.write_text(table.read_text().replace(",say abc,", ",say 3 times,", 5))
    call("import", "csv", table, "--out", tmp_path / "data")
    status, out, _ = call("check", tmp_path / "data")
    assert status == 0  # warnings are no errors
    assert "No problems found.\n" in out
    assert "\n5 warnings\n  digits, 5: write numbers as they are spoken, or set text.numbers\n" in out
    assert "\n    train  0: 1 digits, as in '3'\n" in out
    assert "    and 2 more; --all shows them\n" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    every = call("check", tmp_path / "data", "--all")[1]
    assert every.count(": 1 digits, as in '3'\n") == 5
    status, out, _ = call("check", tmp_path / "data", "--out", tmp_path / "sound")
    assert f"written  {tmp_path}/sound/train.jsonl.gz  (without " in out


def test_the_report_as_json_holds_every_finding(call, table, tmp_path):
    table.write_text(table.read_text().replace("\n3.wav,say abc,", "\n3.wav,say [it] abc,"))
    call("import", "csv", table, "--out", tmp_path / "data")
    status, out, _ = call("check", tmp_path / "data", "--json")
    report = json.loads(out)
    assert status == 0
    assert report["splits"]["train"]["utterances"] == 16
    (remark,) = (finding for finding in report["findings"] if finding["kind"] == "annotation")
    assert remark == {
        "kind": "annotation",
        "severity": "warning",
        "split": "train",
        "id": "3",
        "value": 1,
        "reason": "'[it]' is in brackets and becomes part of what is learnt",
        "way_out": "delete it, or transcribe what is said",
    }


def test_common_voice_is_imported_with_its_own_splits(call, table, tmp_path):
    """A table per split beside a folder of clips."""
    rows = [f"{line}\n" for line in table.read_text().splitlines()]
    clips, tables = tmp_path, tmp_path / "cv"
    tables.mkdir()
    for name, mine in {"train": rows[1:15], "dev": rows[15:18], "test": rows[18:]}.items():
        (tables / f"{name}.tsv").write_text("".join([rows[0], *mine]).replace(",", "\t"))
    status, out, err = call(
        "import", "csv", tables / "train.tsv", "--dev", tables / "dev.tsv", "--test", tables / "test.tsv",
        "--audio-dir", clips, "--out", tmp_path / "data",
    )  # fmt: skip
    assert (status, err) == (0, "")
    *splits, following = [line.split() for line in out.splitlines()]
    assert [split[:2] for split in splits] == [["train", "14"], ["dev", "3"], ["test", "3"]]
    assert following == ["next", "asr", "check", str(tmp_path / "data")]
    assert [cut.id for cut in read_manifest(tmp_path / "data" / "dev.jsonl.gz")] == ["14", "15", "16"]


def test_a_table_of_test_utterances_alone_is_imported(call, table, tmp_path):
    status, out, err = call("import", "csv", table, "--out", tmp_path / "data", "--test-share", "1")
    assert (status, err) == (0, "")
    assert out.split()[:9] == ["test", "20", "utterances", "0.006", "h", "100", "%", "10", "speakers"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["test.jsonl.gz"]


def test_json_lines_are_imported_part_by_part(call, table, tmp_path):
    lines = [
        {"audio_filepath": f"{i}.wav", "offset": start, "duration": 0.5, "text": f"part at {start}", "speaker": i}
        for i in range(20)
        for start in (0, 0.5)
    ]
    source = tmp_path / "train_manifest.json"
    source.write_text("\n".join(map(json.dumps, lines)))
    packed = tmp_path / "train.jsonl.gz"
    packed.write_bytes(gzip.compress(source.read_bytes()))
    assert call("import", "jsonl", packed, "--out", tmp_path / "packed")[0] == 0
    status, out, err = call("import", "jsonl", source, "--out", tmp_path / "data")
    assert (tmp_path / "packed/dev.jsonl.gz").read_bytes() == (tmp_path / "data/dev.jsonl.gz").read_bytes()
    assert (status, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [["train", "32"], ["dev", "4"], ["test", "4"]]
    cuts = {
        cut.id: cut for split in ("train", "dev", "test") for cut in read_manifest(tmp_path / f"data/{split}.jsonl.gz")
    }
    assert (cuts["3-0000500-0001000"].start, cuts["3-0000500-0001000"].duration) == (0.5, 0.5)
    audio, _ = soundfile.read(tmp_path / "3.wav")
    assert np.allclose(cuts["3-0000500-0001000"].load_audio()[0], audio[8000:], atol=1e-4)


def test_a_kaldi_folder_is_imported(call, table, tmp_path):
    folder = tmp_path / "kaldi"
    folder.mkdir()
    (folder / "wav.scp").write_text("".join(f"u{i} {tmp_path}/{i}.wav\n" for i in range(20)))
    (folder / "text").write_text("".join(f"u{i} hello\n" for i in range(20)))
    status, out, _ = call("import", "kaldi", folder, "--out", tmp_path / "data", "--dev-share", "0.2")
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [
        ["train", "14"],
        ["dev", "4"],
        ["test", "2"],
    ]
    assert "note: no speaker is named for 20 utterances" in out


def test_errors_name_file_line_and_reason(call, table, tmp_path):
    table.write_text("path,sentence\na.wav\n")
    status, out, err = call("import", "csv", table, "--out", tmp_path / "data")
    assert (status, out) == (1, "")
    assert err.startswith(f"error: {table}:2: 1 cells, but the header")
    assert not (tmp_path / "data").exists()


def test_an_unknown_recipe_lists_the_known_ones(call, tmp_path):
    status, _, err = call("prepare", "nothing", "--out", tmp_path / "data")
    assert status == 1
    assert err.startswith("error: no recipe 'nothing'; known: an4")


def test_a_corpus_that_is_not_there_says_where_to_get_it(call, tmp_path, monkeypatch):
    monkeypatch.setenv("ASR_CORPORA", str(tmp_path))
    status, _, err = call("prepare", "an4", "--out", tmp_path / "data")
    assert status == 1
    assert f"no AN4 corpus at {tmp_path}/an4; --download gets it; or get it with `git clone" in err


@pytest.mark.corpus
def test_a_real_corpus_is_prepared_and_sound(call, an4_dir, tmp_path):
    status, out, _ = call("prepare", "an4", "--corpus-dir", an4_dir, "--out", tmp_path / "data")
    assert status == 0
    assert f"{tmp_path}/data/test.jsonl.gz" in out
    status, out, _ = call("check", tmp_path / "data")
    assert status == 0
    assert "27 characters" in out
