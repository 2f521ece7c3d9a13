"""From described utterances to manifests: given and drawn splits, what is left out, what is refused."""

import os
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import cut_speaker, cut_text, read_manifest
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing import utterances as importing
from asr.importing.material import LeftOut, Material, Utterance


def write_splits(utterances, out, rule, left_out=(), notes=(), **options):
    return importing.write_splits(Material(list(utterances), list(left_out), list(notes)), out, rule, **options)


@pytest.fixture
def audio(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(16000, 0.5), 16000)
    return path


@pytest.fixture
def utterances(audio):
    """Twenty utterances of ten speakers."""
    return [Utterance(f"u{i:02}", audio, f"text {i}", f"t.csv:{i + 2}", speaker=f"s{i % 10}") for i in range(20)]


def ids(folder, split):
    return [cut.id for cut in read_manifest(folder / f"{split}.jsonl.gz")]


def test_splits_are_drawn_by_speaker(utterances, tmp_path):
    report = write_splits(utterances, tmp_path / "out", SplitRule(dev_share=0.2, test_share=0.1), language="en")
    assert report.utterances == {"train": 14, "dev": 4, "test": 2}
    assert report.manifests == {split: tmp_path / f"out/{split}.jsonl.gz" for split in ("train", "dev", "test")}
    assert report.skipped == ()
    assert report.notes == ("dev and test drawn from the training utterances, by speaker, seed 0",)
    cuts = {split: list(read_manifest(tmp_path / "out" / f"{split}.jsonl.gz")) for split in report.utterances}
    speakers = [cut_speaker(cut) for split in cuts.values() for cut in {cut_speaker(c): c for c in split}.values()]
    assert sorted(speakers) == [f"s{i}" for i in range(10)]
    assert {cut.id: cut_text(cut) for split in cuts.values() for cut in split} == {u.id: u.text for u in utterances}
    assert cuts["dev"][0].supervisions[0].language == "en"


def test_given_splits_stand_and_missing_ones_are_drawn(utterances, audio, tmp_path):
    utterances.append(Utterance("x", audio, "text", "t.csv:22", speaker="s0", split="test"))
    report = write_splits(utterances, tmp_path / "out", SplitRule(dev_share=0.1))
    assert ids(tmp_path / "out", "test") == ["x"]
    assert report.utterances == {"train": 18, "dev": 2, "test": 1}
    assert report.notes == ("dev drawn from the training utterances, by speaker, seed 0",)
    utterances.append(Utterance("y", audio, "text", "t.csv:23", speaker="s0", split="dev"))
    report = write_splits(utterances, tmp_path / "out", SplitRule())
    assert report.utterances == {"train": 20, "dev": 1, "test": 1}
    assert report.notes == ()


def test_without_speakers_each_utterance_is_its_own_and_the_user_is_told(audio, tmp_path):
    utterances = [Utterance(f"u{i}", audio, "text", f"t.csv:{i}") for i in range(10)]
    report = write_splits(utterances, tmp_path / "out", SplitRule())
    assert report.utterances == {"train": 8, "dev": 1, "test": 1}
    assert report.notes[0].startswith("no speaker is named for 10 utterances; each counts as a speaker of its own")


@pytest.mark.parametrize(("split", "rule"), [("test", SplitRule(test_share=1)), ("dev", SplitRule(dev_share=1))])
def test_if_all_utterances_are_of_one_split_no_other_share_is_spoken_of(audio, tmp_path, split, rule):
    utterances = [Utterance(f"u{i}", audio, "text", f"t.csv:{i}", speaker=f"s{i}") for i in range(10)]
    report = write_splits(utterances, tmp_path / "out", rule)
    assert report.utterances == {split: 10}
    assert report.notes == (
        f"all utterances are of {split}, because its share is 1",
        "no training set: these utterances are for `asr decode` and `asr score`",
    )


def test_what_is_left_out_is_listed_file_by_file_and_line_by_line(audio, tmp_path):
    def line(place, text="text"):
        return Utterance(f"u{place}", audio, text, place, speaker="me")

    utterances = [line("b.csv:2"), line("b.csv:10", ""), line("b.csv:9", ""), line("a.csv:3", ""), line("a.csv:4")]
    places = [
        *("b.csv:12", "b.csv:1", "a.csv:20", "a.csv:2"),
        "d.parquet: row 7",
        "c.csv:3",
        "d.parquet: row 2",
        "e.wav",
    ]
    left_out = [LeftOut(place, "wrong") for place in places]
    report = write_splits(utterances, tmp_path / "out", SplitRule(dev_share=0, test_share=0), left_out)
    listed = [entry.partition(": wrong")[0].partition(": utterance")[0] for entry in report.skipped]
    assert listed[:4] == ["d.parquet: row 2", "d.parquet: row 7", "c.csv:3", "e.wav"]  # no utterance is of these
    assert listed[4:8] == ["b.csv:1", "b.csv:9", "b.csv:10", "b.csv:12"]
    assert listed[8:] == ["a.csv:2", "a.csv:3", "a.csv:20"]


def test_one_speaker_is_refused_unless_splits_are_by_utterance(audio, tmp_path):
    utterances = [Utterance(f"u{i}", audio, "text", f"t.csv:{i}", speaker="me") for i in range(10)]
    with pytest.raises(ManifestError, match=r"1 speaker cannot be divided .* --split-by utterance"):
        write_splits(utterances, tmp_path / "out", SplitRule())
    assert not (tmp_path / "out").exists()
    report = write_splits(utterances, tmp_path / "out", SplitRule(by="utterance"))
    assert report.utterances == {"train": 8, "dev": 1, "test": 1}


def test_what_is_left_out_is_listed_if_the_rest_cannot_be_divided(audio, tmp_path):
    good = [Utterance("u", audio, "text", "t.csv:2", speaker="me")]
    bad = [Utterance(f"gone{i}", tmp_path / "gone.wav", "text", f"t.csv:{i}", speaker="you") for i in (3, 4)]
    with pytest.raises(ManifestError) as error:
        write_splits([*good, *bad], tmp_path / "out", SplitRule())
    first, *others = str(error.value).split("\n")
    assert first.startswith("1 speaker cannot be divided")
    assert first.endswith("; left out were:")
    assert [line.partition(" /")[0] for line in others] == ["t.csv:3:", "  t.csv:4:"]


def test_bad_utterances_are_left_out_and_listed(utterances, audio, tmp_path):
    bad = [
        Utterance("none", tmp_path / "a\0.wav", "text", "t.csv:49", speaker="s0"),
        Utterance("gone", tmp_path / "gone.wav", "text", "t.csv:50", speaker="s0"),
        Utterance("mute", audio, "  ", "t.csv:51", speaker="s0"),
        Utterance("late", audio, "text", "t.csv:52", speaker="s0", start_s=0.5, duration_s=2.0),
    ]
    seen = []

    @contextmanager
    def progress(description, total):
        seen.append(total)
        yield seen.append

    report = write_splits([*bad, *utterances], tmp_path / "out", SplitRule(), progress=progress)
    assert sum(report.utterances.values()) == 20
    assert seen == [24] + [1] * 24
    assert "a\\x00.wav' cannot be the path of a file" in report.skipped[0]
    assert report.skipped[1].startswith("t.csv:50: ")
    assert report.skipped[1].endswith("gone.wav: no such file")
    assert report.skipped[2] == "t.csv:51: utterance mute: its transcript is empty"
    assert "utterance late: 0.5 s to 2.5 s is not a part of" in report.skipped[3]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes only there")
def test_a_name_that_no_manifest_can_hold_costs_that_utterance_alone(utterances, tmp_path):
    bytes_name = tmp_path / os.fsdecode(b"caf\xe9.wav")
    os.link(utterances[0].audio_path, bytes_name)
    bad = [replace(utterances[0], id="path", audio_path=bytes_name), replace(utterances[0], id=os.fsdecode(b"\xe9"))]
    bad += [replace(utterances[0], id=name, **{name: "x\ud800"}) for name in ("text", "speaker", "gender", "language")]
    report = write_splits([*bad, *utterances], tmp_path / "out", SplitRule(dev_share=0.0, test_share=0.0))
    assert ids(tmp_path / "out", "train") == [utterance.id for utterance in utterances]
    assert "caf\\xe9.wav: a name that is not UTF-8 cannot be written down; rename it" in report.skipped[0]
    assert all("a text without half a surrogate pair, U+D" in line for line in report.skipped[1:])


def test_a_language_that_no_manifest_can_hold_is_refused(utterances, tmp_path):
    for language in ("e\nn", "\x1b[31m", "\ud800"):
        with pytest.raises(
            ManifestError, match=r"^language='.*': holds what is no character of a name; give e\.g\. en"
        ):
            write_splits(utterances, tmp_path / "out", SplitRule(), language=language)
    assert not (tmp_path / "out").exists()


def test_times_that_are_no_numbers_are_left_out(utterances, audio, tmp_path):
    nan = float("nan")
    times = [(nan, None), (nan, 0.1), (0.1, nan)]
    bad = [replace(utterances[0], id=f"{time[0]}-{time[1]}", start_s=time[0], duration_s=time[1]) for time in times]
    report = write_splits([*bad, *utterances], tmp_path / "out", SplitRule())
    assert len(report.skipped) == 3
    assert all("nan s is not a part of" in line for line in report.skipped)


def test_a_line_break_in_a_name_forges_no_line(utterances, tmp_path):
    where = "a\nleft out 0 of 20:b.eaf:3"
    material = Material(notes=[f"{where} holds no speaker"])
    for reason in (f"{where}: mended by hand", "mended by hand"):
        with material.at(where):
            raise ManifestError(reason)
    material.left_out.append(LeftOut(where, "not annotated", False))
    report = write_splits(utterances, tmp_path, SplitRule(), material.left_out, material.notes)
    assert report.skipped == (r"a\nleft out 0 of 20:b.eaf:3: mended by hand",) * 2
    assert report.passed_over == {"not annotated": (r"a\nleft out 0 of 20:b.eaf:3",)}
    assert r"a\nleft out 0 of 20:b.eaf:3 holds no speaker" in report.notes


def test_nothing_usable_is_an_error_with_the_first_reason(audio, tmp_path):
    bad = [Utterance("gone", tmp_path / "gone.wav", "text", "t.csv:2")]
    with pytest.raises(ManifestError, match=r"no utterance for training: 1 cannot be used; .*t\.csv:2: .*no such file"):
        write_splits(bad, tmp_path / "out", SplitRule())
    with pytest.raises(ManifestError, match=r"2 cannot be used; the first reason: t\.csv:2: .*\n  t\.csv:3: "):
        write_splits([*bad, replace(bad[0], where="t.csv:3")], tmp_path / "out", SplitRule())
    test = [Utterance("u", audio, "text", "t.csv:3", split="test")]
    with pytest.raises(ManifestError, match=r"no utterance for training: 1 are of dev or test"):
        write_splits([*bad, *test], tmp_path / "out", SplitRule())


def test_the_first_reasons_are_lines_of_the_error(tmp_path):
    bad = [Utterance(str(i), tmp_path / f"{i}.wav", "text", f"t.csv:{i}") for i in range(25)]
    with pytest.raises(ManifestError) as raised:
        write_splits(bad, tmp_path / "out", SplitRule())
    lines = str(raised.value).splitlines()
    reason = "{0}; the first reason: t.csv:0: {1}/0.wav: no such file"
    assert lines[0].startswith(reason.format("no utterance for training: 25 cannot be used", tmp_path))
    assert all(line.startswith(f"  t.csv:{i}: ") for i, line in enumerate(lines[1:20], start=1))
    assert lines[20:] == ["  and 5 more"]


def test_a_reason_that_begins_with_its_file_names_the_file_once():
    assert LeftOut("a.txt", "a.txt:1: not UTF-8").line == "a.txt:1: not UTF-8"
    assert LeftOut("t.csv:2", "a.wav: no such file").line == "t.csv:2: a.wav: no such file"


def test_a_test_set_alone_is_written_as_it_is(utterances, tmp_path):
    test = [replace(utterance, split="test") for utterance in utterances]
    report = write_splits(test, tmp_path / "given", SplitRule())
    assert report.utterances == {"test": 20}
    assert report.notes == ("no training set: these utterances are for `asr decode` and `asr score`",)
    assert [path.name for path in (tmp_path / "given").iterdir()] == ["test.jsonl.gz"]
    drawn = write_splits(utterances, tmp_path / "drawn", SplitRule(test_share=1))
    assert drawn.utterances == {"test": 20}
    assert (tmp_path / "drawn/test.jsonl.gz").read_bytes() == (tmp_path / "given/test.jsonl.gz").read_bytes()


def test_a_test_set_alone_does_not_remove_a_training_set(utterances, tmp_path):
    write_splits(utterances, tmp_path, SplitRule())
    before = ids(tmp_path, "train")
    with pytest.raises(ManifestError, match="holds a training set, which an import without one would remove"):
        write_splits(utterances, tmp_path, SplitRule(test_share=1))
    assert ids(tmp_path, "train") == before


def test_each_split_s_hours_speakers_and_rates_are_told(utterances, tmp_path):
    slow = tmp_path / "slow.wav"
    soundfile.write(slow, np.full(8000, 0.5), 8000)
    utterances = [replace(u, audio_path=slow) if u.speaker == "s3" else u for u in utterances]
    sizes = write_splits(utterances, tmp_path / "out", SplitRule(dev_share=0.2, test_share=0.1)).sizes
    assert {split: (size.audio_s, size.speakers, round(size.share, 3)) for split, size in sizes.items()} == {
        "train": (14.0, 7, 0.7),
        "dev": (4.0, 2, 0.2),
        "test": (2.0, 1, 0.1),
    }
    rates = {rate: split for split, size in sizes.items() for rate in size.sample_rates_hz}
    assert set(rates) == {8000, 16000}


def test_a_share_that_few_speakers_cannot_give_is_told_in_hours_and_speakers(audio, tmp_path):
    utterances = [Utterance(f"u{i}", audio, "text", f"t.csv:{i}", speaker=f"s{i % 3}") for i in range(12)]
    notes = write_splits(utterances, tmp_path / "out", SplitRule()).notes
    assert notes[1:] == tuple(
        f"{split} became 33 % of the audio in place of 10 %: 0.00 h of 1 speaker; each is in one split only"
        for split in ("dev", "test")
    )


def test_recordings_below_the_usual_rate_are_told_with_the_setting(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(8000, 0.5), 8000)
    utterances = [Utterance(f"u{i}", path, "text", f"t.csv:{i}", speaker=f"s{i}") for i in range(10)]
    assert "features.sample_rate_hz=8000" in write_splits(utterances, tmp_path / "out", SplitRule()).notes[-1]


def test_the_error_of_a_missing_file_says_what_its_path_is_relative_to(utterances, tmp_path):
    gone = Utterance("gone", tmp_path / "gone.wav", "text", "t.csv:50", speaker="s0", relative_to="the folder X")
    (line,) = write_splits([gone, *utterances], tmp_path / "out", SplitRule()).skipped
    assert line.endswith("no such file; the path is relative to the folder X, and --audio-dir names another folder")


def test_of_an_id_that_occurs_twice_the_first_is_kept_and_both_places_are_named(utterances, tmp_path):
    twice = replace(utterances[3], where="t.csv:40", text="another")
    report = write_splits([*utterances, twice], tmp_path / "out", SplitRule())
    assert report.skipped == ("t.csv:40: the utterance id 'u03' occurs already at t.csv:5",)
    assert sum(report.utterances.values()) == 20


@pytest.mark.parametrize("id", ["", "a  b", "a\nb", "a(1)", " a"])
def test_ids_that_a_trn_file_cannot_hold_are_left_out(utterances, audio, tmp_path, id):
    report = write_splits([Utterance(id, audio, "text", "t.csv:1"), *utterances], tmp_path / "out", SplitRule())
    (line,) = report.skipped
    assert line.startswith("t.csv:1: ")
    assert "its id is empty" in line or "cannot be an utterance id" in line


def test_a_split_with_a_share_of_nothing_is_not_written_and_an_older_one_goes(utterances, tmp_path):
    write_splits(utterances, tmp_path, SplitRule())
    report = write_splits(utterances, tmp_path, SplitRule(test_share=0.0))
    assert set(report.utterances) == {"train", "dev"}
    assert {path.name for path in tmp_path.glob("*.gz")} == {"train.jsonl.gz", "dev.jsonl.gz"}
    assert report.notes == ("dev drawn from the training utterances, by speaker, seed 0",)


def test_what_the_reader_left_out_is_listed_and_what_the_source_excludes_is_no_fault(utterances, tmp_path):
    left_out = [
        LeftOut("a.stm:3", "marked so", False),
        LeftOut("a.stm:4", "no"),
        LeftOut("a.stm:5", "marked so", False),
    ]
    gone = Utterance("gone", tmp_path / "gone.wav", "text", "a.stm:1", speaker="s0")
    report = write_splits([*utterances, gone], tmp_path / "out", SplitRule(), left_out, ["heed this"])
    assert report.skipped == (f"a.stm:1: {tmp_path}/gone.wav: no such file", "a.stm:4: no")
    assert report.passed_over == {"marked so": ("a.stm:3", "a.stm:5")}
    assert report.notes[0] == "heed this"


def test_one_channel_of_a_file_is_an_utterance(tmp_path):
    path = tmp_path / "call.wav"
    both = np.stack([np.full(16000, 0.25), np.full(16000, -0.5)], axis=1)
    soundfile.write(path, both, 16000)
    sides = [Utterance(f"u{c}", path, "hello", f"t:{c}", speaker=f"s{c}", channel=c) for c in (0, 1, 2)]
    report = write_splits(sides, tmp_path / "out", SplitRule(dev_share=0, test_share=0))
    assert [load_cut(cut).mean() for cut in read_manifest(tmp_path / "out/train.jsonl.gz")] == [0.25, -0.5]
    assert report.skipped == (f"t:2: utterance u2: channel 2, counted from 0, does not exist in {path}, which has 2",)


def test_gender_and_language_of_the_source_are_kept(utterances, tmp_path):
    told = [replace(u, gender="female", language="de") for u in utterances]
    write_splits(told, tmp_path / "out", SplitRule())
    (supervision,) = next(iter(read_manifest(tmp_path / "out/dev.jsonl.gz"))).supervisions
    assert (supervision.gender, supervision.language) == ("female", "de")
    write_splits(told, tmp_path / "out", SplitRule(), language="en")
    assert next(iter(read_manifest(tmp_path / "out/dev.jsonl.gz"))).supervisions[0].language == "en"
