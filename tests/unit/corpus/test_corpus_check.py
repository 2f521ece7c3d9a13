"""`asr.check` finds each fault that was put in, by name, and nothing else; it writes manifests without them."""

import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from conftest import syllables

import asr
from asr.config import Config, TextSettings
from asr.corpus.check import character_name, check_cuts, without_problems
from asr.corpus.findings import KINDS
from asr.corpus.limits import Limits
from asr.corpus.manifest import find_splits, make_cut, read_manifest, write_manifest
from asr.corpus.pack import write_shar
from asr.errors import ManifestError

RATE_HZ = 8000
LIMITS = Limits(TextSettings(), max_s=5.0, frame_shift_s=0.04)


@pytest.fixture
def cut(tmp_path, rng):
    """Write an audio file of a given length and return its cut."""

    def cut(id, text="hello", speaker=None, seconds=1.0, silent=False):
        path = tmp_path / "audio" / f"{id}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, syllables(rng, seconds, RATE_HZ) * (not silent), RATE_HZ)
        return make_cut(id, path, text, speaker or f"speaker of {id}")

    return cut


def check(manifests, **limits):
    return check_cuts(manifests, replace(LIMITS, **limits))


def faults(manifests, **limits):
    return [(p.split, p.name, p.reason) for p in check(manifests, **limits).problems]


def test_sound_data_are_summed_up(cut):
    manifests = {
        "train": [cut("u1", "Hello you", "s1", 1.0), cut("u2", "he", "s1", 2.0), cut("u3", "lo", "s2", 1.5)],
        "dev": [cut("u4", "oh", "s3")],
    }
    report = check(manifests)
    assert report.problems == ()
    train = report.splits["train"]
    assert (train.utterances, train.speakers, train.words) == (3, 2, 4)
    assert (train.audio_s, train.shortest_s, train.longest_s) == (4.5, 1.0, 2.0)
    assert report.splits["dev"].audio_s == 1.0
    assert report.characters == {"o": 4, "h": 3, "l": 3, "e": 2, " ": 1, "y": 1, "u": 1}
    assert list(report.characters.values()) == sorted(report.characters.values(), reverse=True)


def test_bad_audio_is_named_with_its_reason(cut, tmp_path):
    manifests = {"train": [cut("gone"), cut("text"), cut("cut-off"), cut("silent", silent=True), cut("good")]}
    assert faults(manifests) == [("train", "silent", "silent: every sample is 0")]
    (tmp_path / "audio/gone.wav").unlink()
    (tmp_path / "audio/text.wav").write_text("no audio")
    path = tmp_path / "audio/cut-off.wav"
    path.write_bytes(path.read_bytes()[:2044])
    found = {name: reason for _, name, reason in faults(manifests)}
    assert list(found) == ["gone", "text", "cut-off", "silent"]
    assert found["gone"] == f"{tmp_path}/audio/gone.wav: no such file"
    assert f"{tmp_path}/audio/text.wav: not audio in a known format" in found["text"]
    assert f"{path}: truncated: 16000 bytes of audio are declared, 2000 are there" in found["cut-off"]


def test_lengths_outside_the_limits_are_named(cut):
    manifests = {"train": [cut("long", seconds=5.5), cut("short", "a", seconds=0.05), cut("good", seconds=5.0)]}
    assert faults(manifests) == [
        ("train", "long", "too long: 5.5 s, training.max_utterance_s is 5"),
        ("train", "short", "too short: 0.05 s, at least 0.1 s are needed"),
    ]


def test_an_empty_transcript_is_named_also_if_normalising_empties_it(cut):
    manifests = {"train": [cut("empty", " "), cut("dots", "..."), cut("good")]}
    report = check(manifests, text=TextSettings(remove="."))
    assert [(p.name, p.reason) for p in report.problems] == [
        ("empty", "its transcript is empty"),
        ("dots", "its transcript is empty"),
    ]


def test_an_utterance_too_short_for_its_transcript_is_named(cut):
    # 0.2 s hold 5 frames of 40 ms: enough for 5 different characters, or for 4 with a repeat among them.
    manifests = {"train": [cut("fits", "abcde", seconds=0.2), cut("fits too", "aabc", seconds=0.2)]}
    assert faults(manifests) == []
    manifests["train"].append(cut("repeats", "aabcd", seconds=0.2))
    assert faults(manifests) == [("train", "repeats", "too short for its transcript: 5 output frames, CTC needs 6")]


def test_only_training_utterances_must_fit_when_sped_up(cut):
    manifests = {"train": [cut("u1", "abcde", seconds=0.2)], "dev": [cut("u2", "abcde", seconds=0.2)]}
    assert faults(manifests, pace=1.2) == [
        ("train", "u1", "too short for its transcript: 4 output frames, CTC needs 5")
    ]


def test_ids_and_speakers_in_two_splits_are_named(cut):
    manifests = {
        "train": [cut("u1", speaker="anna"), cut("u2", speaker="ben"), cut("u1", speaker="ben")],
        "dev": [cut("u3", speaker="anna"), cut("u2", speaker="carl")],
        "test": [cut("u4", speaker="anna")],
    }
    assert faults(manifests) == [
        ("train", "u1", "its id occurs already in train"),
        ("dev", "u2", "its id occurs already in train"),
        ("train", "speaker anna", "is also in dev and test"),
    ]


def test_a_corpus_of_one_voice_is_no_fault(cut):
    manifests = {split: [cut(f"{split}-{n}", speaker="anna") for n in range(2)] for split in ("train", "dev", "test")}
    assert faults(manifests) == []
    (found,) = (finding for finding in check(manifests).findings if finding.kind == "one-speaker")
    assert "a known voice" in found.reason
    assert faults({"train": manifests["train"]}) == []
    assert not any(finding.kind == "one-speaker" for finding in check({"train": manifests["train"]}).findings)


def test_characters_that_train_lacks_are_a_warning_with_their_share(cut):
    test = [cut("u3", "abyx"), cut("u4", "abc"), cut("u5", "x a"), cut("u6", "a")]
    manifests = {"train": [cut("u1", "a bc")], "dev": [cut("u2", "cab")], "test": test}
    report = check(manifests)
    assert report.problems == ()
    (warning,) = report.warnings
    assert warning.startswith("2 of 4 utterances of test (50.0 %) hold characters that train does not have: x y.")
    del manifests["train"]
    assert check(manifests).warnings == ()


def test_only_what_cannot_be_heard_or_named_is_left_out_of_test(cut, tmp_path):
    for split in ("train", "test"):
        cuts = [
            cut(f"{split} silent", silent=True),
            cut(f"{split} unseen", "hello ÿ" if split == "test" else "hello"),
            cut(f"{split} empty", ""),
            cut(f"{split} long", seconds=2.0),
            cut(f"{split} fast", "a b c d e f g h i j k l m n o p q r s t u v w x y z", seconds=0.5),
            cut(f"{split} gone"),
        ]
        write_manifest(cuts, tmp_path / f"data/{split}.jsonl.gz")
        (tmp_path / f"audio/{split} gone.wav").unlink()
    report = asr.check(tmp_path / "data", config=Config(training={"max_utterance_s": 1.5}), out=tmp_path / "sound")
    kept = {split: [found.id for found in read_manifest(path)] for split, path in report.written.items()}
    assert kept == {"train": ["train unseen"], "test": ["test unseen", "test empty", "test long", "test fast"]}
    assert [problem.name for problem in report.unmended] == ["test empty", "test long", "test fast"]


def test_half_the_subsampling_is_proposed_where_it_makes_a_text_fit(cut):
    # 0.2 s hold 5 frames of 40 ms, or 10 of 20 ms.
    manifests = {"train": [cut("ten", "abcdefghij", seconds=0.2), cut("eleven", "abcdefghijk", seconds=0.2)]}
    assert [reason for _, _, reason in faults(manifests, finest_shift_s=0.02)] == [
        "too short for its transcript: 5 output frames, CTC needs 10; model.subsampling=2 gives 10",
        "too short for its transcript: 5 output frames, CTC needs 11",
    ]


def test_sample_rates_are_counted_and_raising_all_of_them_is_a_warning(cut, tmp_path):
    write_manifest([cut("u1", "a b"), cut("u2", "b a")], tmp_path / "train.jsonl.gz")
    report = asr.check(tmp_path)
    assert report.splits["train"].sample_rates_hz == {8000: 2}
    (warning,) = report.warnings
    assert "no recording is above 8000 Hz" in warning
    assert "features.sample_rate_hz=16000" in warning
    assert warning.endswith("train with --set features.sample_rate_hz=8000")
    assert asr.check(tmp_path, config=Config(features={"sample_rate_hz": 8000})).warnings == ()


def test_a_corpus_without_spaces_is_told_to_go_by_the_cer(cut):
    (warning,) = check({"train": [cut("u1", "\u4f60\u597d"), cut("u2", "\u518d\u89c1")]}).warnings
    assert "scripts without spaces" in warning
    assert "CER" in warning
    assert check({"train": [cut("u1", "a b")]}).warnings == ()
    assert check({"train": [cut("u1", "yes"), cut("u2", "no")]}).warnings == ()  # single words need no spaces


def test_what_normalising_does_is_in_the_report_and_on_the_screen(call, cut, tmp_path):
    write_manifest([cut("u1", "co\u00adop 42"), cut("u2", "10:30 ok")], tmp_path / "train.jsonl.gz")
    settings = Config(text={"numbers": "en"})
    report = asr.check(tmp_path, config=settings)
    assert report.to_json()["texts"]["said"] == {"42 → forty-two": 1}
    _, shown, _ = call("check", tmp_path, "--set", "text.numbers=en")
    place = shown.index("what normalising does")
    assert "deleted, since they show nothing: U+00AD (1)\n" in shown[place:]
    assert "in words (text.numbers): 42 → forty-two (1)\n" in shown[place:]
    assert "10:30 (1)" in shown[place:]


def test_progress_is_told_of_every_utterance(cut):
    calls = []

    @contextmanager
    def progress(description, total):
        calls.append((description, total))
        yield calls.append

    check_cuts({"train": [cut("u1"), cut("u2", "")], "dev": [cut("u3")]}, LIMITS, progress=progress)
    assert calls == [("check", 3), 1, 1, 1]


def test_a_folder_gives_its_manifests_in_order_and_a_file_itself(cut, tmp_path):
    for split in ("test", "train"):
        write_manifest([cut("u1")], tmp_path / f"{split}.jsonl.gz")
    assert list(find_splits(tmp_path)) == ["train", "test"]
    assert list(find_splits(tmp_path / "test.jsonl.gz")) == ["test"]


def test_a_folder_without_manifests_is_an_error(tmp_path):
    with pytest.raises(ManifestError, match=r"holds none of train\.jsonl\.gz, dev\.jsonl\.gz, test\.jsonl\.gz"):
        find_splits(tmp_path)


def test_characters_that_show_nothing_of_their_own_are_told_by_number():
    assert [character_name(character) for character in ("a", "é", "你", " ", "'")] == ["a", "é", "你", "space", "'"]
    assert [character_name(character) for character in ("\u200b", "\u0301", "\u00a0", "\u094d")] == [
        "U+200B",
        "◌\u0301 U+0301",
        "U+00A0",
        "◌\u094d U+094D",
    ]


def test_without_problems_keeps_the_first_of_two_utterances_with_one_id(cut):
    manifests = {"train": [cut("a", "ab"), cut("b", ""), cut("a", "ba")], "dev": [cut("c", "ba"), cut("b", "ab")]}
    report = check(manifests)
    train, dev = (list(without_problems(manifests[split], split, report)) for split in ("train", "dev"))
    assert [(found.id, found.supervisions[0].text) for found in train] == [("a", "ab")]
    assert [found.id for found in dev] == ["c"]


def test_a_recording_that_the_manifest_does_not_name_is_a_fault(cut):
    nowhere = cut("nowhere")
    nowhere.recording = None
    assert faults({"train": [nowhere, cut("good")]}) == [("train", "nowhere", "it has no recording")]


def test_manifests_of_the_utterances_without_a_fault_are_written_and_named(cut, tmp_path):
    write_manifest([cut("u1"), cut("u2", "")], tmp_path / "data/train.jsonl.gz")
    write_manifest([cut("u3", "")], tmp_path / "data/dev.jsonl.gz")
    write_manifest([cut("former")], tmp_path / "sound/dev.jsonl.gz")
    report = asr.check(tmp_path / "data", out=tmp_path / "sound")
    assert report.written == {"train": tmp_path / "sound/train.jsonl.gz"}
    assert [found.id for found in read_manifest(report.written["train"])] == ["u1"]
    assert [(problem.split, problem.name) for problem in report.unmended] == [("dev", "u3")]
    assert asr.check(str(tmp_path / "data")).unmended == report.problems
    assert [path.name for path in (tmp_path / "sound").iterdir()] == ["train.jsonl.gz"]


def test_the_manifests_that_are_checked_stay_as_they_are(cut, tmp_path):
    write_manifest([cut("u1"), cut("u2", "")], tmp_path / "train.jsonl.gz")
    for data in (tmp_path, tmp_path / "train.jsonl.gz"):
        with pytest.raises(
            ManifestError, match=r"train\.jsonl\.gz: the original stays as it is; choose another folder"
        ):
            asr.check(data, out=tmp_path)
    assert [found.id for found in read_manifest(tmp_path / "train.jsonl.gz")] == ["u1", "u2"]


def test_the_settings_say_what_a_fault_is(cut, tmp_path):
    write_manifest([cut("u1", seconds=2.0)], tmp_path / "train.jsonl.gz")
    assert asr.check(tmp_path).problems == ()
    strict = Config(training={"max_utterance_s": 1.5})
    assert [problem.name for problem in asr.check(tmp_path, config=strict).problems] == ["u1"]


def test_no_manifests_are_written_of_packed_audio(cut, tmp_path):
    write_shar([cut("u1")], tmp_path / "data/train")
    assert asr.check(tmp_path / "data").problems == ()
    with pytest.raises(ManifestError, match=r"data/train: its audio is packed, so manifests of it cannot be written"):
        asr.check(tmp_path / "data", out=tmp_path / "sound")
    assert not (tmp_path / "sound").exists()


def test_a_copy_is_left_out_of_train_not_of_test_and_another_transcript_is_told(cut, tmp_path):
    original, copy, within = cut("original", "abc"), cut("copy", "abd"), cut("within", "abc")
    samples, _ = soundfile.read(tmp_path / "audio/original.wav")
    for quieter in ("copy", "within"):
        soundfile.write(tmp_path / f"audio/{quieter}.wav", 0.5 * samples, RATE_HZ)
    report = check({"train": [cut("other"), original, within], "test": [copy]})
    assert {(p.kind, p.split, p.name) for p in report.findings if "audio" in p.kind} == {
        ("shared-audio", "train", "original"),
        ("duplicate-audio", "train", "within"),
    }
    assert report.problems[0].reason == "the same recording as copy of test, which has another transcript: 'abd'"
    assert report.left_out("train") == {1, 2}
    assert report.left_out("test") == set()


def test_what_most_utterances_are_is_told_once_and_leaves_nothing_out(cut, tmp_path):
    train = [cut(f"u{place}", f"say {place % 7}" if place < 25 else "say it", seconds=0.4) for place in range(40)]
    report = check({"train": train})
    (digits,) = (finding for finding in report.findings if finding.kind == "digits")
    assert (digits.name, digits.place, digits.value) == ("", None, 25 / 40)
    assert digits.reason.startswith(
        "digits: 25 of 40 utterances (62.5 %), so none is left out because of it, e.g. u0: "
    )
    assert report.left_out("train") == set()
    few = check({"train": train[15:]})  # 10 of 25
    assert len(few.left_out("train")) == 10


def test_a_kind_that_is_kept_leaves_nothing_out(cut, tmp_path):
    write_manifest([cut("seven", "7"), cut("remark", "[a] b"), cut("good", "abc")], tmp_path / "data/train.jsonl.gz")
    report = asr.check(tmp_path / "data", out=tmp_path / "sound", keep=["digits"])
    assert [found.id for found in read_manifest(report.written["train"])] == ["seven", "good"]


def test_sentences_of_train_in_test_are_a_warning_with_their_share(cut):
    manifests = {"train": [cut("u1", "Say it")], "test": [cut("u2", "say  it"), cut("u3", "it"), cut("u4", "it say")]}
    report = check(manifests)
    (shared,) = (finding for finding in report.findings if finding.kind == "shared-sentences")
    assert shared.value == pytest.approx(1 / 3)
    assert "1 of 3 utterances of test (33.3 %) say a sentence of train" in report.warnings[0]


def test_the_documentation_lists_every_kind_where_its_severity_is(cut):
    page = (Path(asr.__file__).parents[1] / "docs/check.md").read_text(encoding="utf-8")
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    listed = {
        kind: title.split()[0].lower().rstrip("s")
        for title, text in sections.items()
        for row in re.findall(r"^\| (`[a-z`, -]+`) \|", text, re.MULTILINE)
        for kind in re.findall(r"`([a-z-]+)`", row)
    }
    assert listed == {kind: about.severity for kind, about in KINDS.items()}
