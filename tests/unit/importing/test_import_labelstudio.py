"""Label Studio's exports, laid out as its documentation says: regions, labels, recordings; what is left out."""

import json

import numpy as np
import pytest
import soundfile

import asr
from asr.corpus.manifest import cut_speaker, cut_text, load_manifest
from asr.errors import ManifestError
from asr.importing.labelstudio import read_labelstudio
from asr.importing.table import Columns


def silence(path, seconds=10.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(round(8000 * seconds), np.float32), 8000)
    return path


def label(id, start_s, end_s, *labels):
    value = {"start": start_s, "end": end_s, "channel": 0, "labels": list(labels)}
    return {
        "original_length": 10.0,
        "value": value,
        "id": id,
        "from_name": "labels",
        "to_name": "audio",
        "type": "labels",
    }


def text(id, start_s, end_s, *texts, name="transcription"):
    value = {"start": start_s, "end": end_s, "channel": 0, "text": list(texts)} if end_s else {"text": list(texts)}
    return {
        "original_length": 10.0,
        "value": value,
        "id": id,
        "from_name": name,
        "to_name": "audio",
        "type": "textarea",
    }


def annotation(*results, **fields):
    return {
        "id": 11,
        "completed_by": 1,
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        **fields,
    }


def task(*annotations, audio="/data/upload/1/0a1b2c3d-talk.wav", id=1, **data):
    return {
        "id": id,
        "annotations": list(annotations),
        "file_upload": "0a1b2c3d-talk.wav",
        "data": {"audio": audio, **data},
    }


ANNA, BEN = (
    (label("r1", 0.5, 1.5, "Anna"), text("r1", 0.5, 1.5, "hello")),
    (text("r2", 2.0, 3.0, "hi", "you"), label("r2", 2.0, 3.0, "Ben")),
)


@pytest.fixture
def read(tmp_path):
    """Write an export beside a recording and read it."""

    def read(tasks, audio_dir=None, **columns):
        if not (tmp_path / "talk.wav").exists():
            silence(tmp_path / "talk.wav")
        (tmp_path / "export.json").write_text(tasks if isinstance(tasks, str) else json.dumps(tasks))
        return read_labelstudio(tmp_path / "export.json", audio_dir, Columns(**columns))

    return read


def found(material):
    return [(u.start_s, u.start_s + (u.duration_s or 0.0), u.text, u.speaker) for u in material.utterances]


def test_the_regions_of_a_json_export_become_utterances(read, tmp_path):
    noise = label("r3", 4.0, 5.0, "Noise")
    material = read([task(annotation(*ANNA, noise, *BEN))])
    assert found(material) == [(0.5, 1.5, "hello", "Anna"), (2.0, 3.0, "hi you", "Ben")]
    first = material.utterances[0]
    assert (first.id, first.audio_path) == ("talk-0000500-0001500", tmp_path / "talk.wav")
    assert first.where == f"{tmp_path}/export.json: task 1, region 'r1'"
    assert material.left_out == [(f"{tmp_path}/export.json: task 1, region 'r3'", "a region without a text", False)]


def test_a_whole_recording_with_one_text_is_one_utterance(read):
    material = read([task(annotation(text("x", None, None, "all of it")))])
    (utterance,) = material.utterances
    assert (utterance.id, utterance.text, utterance.duration_s, utterance.speaker) == ("talk", "all of it", None, None)
    assert material.notes[-1].endswith("export.json: the labels holds no speaker")


def test_labels_that_name_a_kind_of_sound_are_no_speakers(read):
    results = (
        label("r1", 0, 1, "Speech"),
        text("r1", 0, 1, "a"),
        label("r2", 1, 2, "Anna", "Ben"),
        text("r2", 1, 2, "b"),
    )
    assert [u.speaker for u in read([task(annotation(*results))]).utterances] == [None, None]
    both = (label("r1", 0, 1, "Speech"), label("r1", 0, 1, "Anna"), text("r1", 0, 1, "a"))
    assert [u.speaker for u in read([task(annotation(*both))]).utterances] == ["Anna"]


def test_the_newest_annotation_counts_unless_another_is_the_truth_or_it_is_cancelled(read):
    def one(word, **fields):
        return annotation(text("r", 0, 1, word), **fields)

    old, new = one("old", updated_at="2024-01-01T10:00:00Z"), one("new", updated_at="2024-02-01T10:00:00Z")
    cancelled = one("no", updated_at="2024-03-01T10:00:00Z", was_cancelled=True)
    assert found(read([task(new, old, cancelled)]))[0][2] == "new"
    assert found(read([task(new, one("truth", ground_truth=True), cancelled)]))[0][2] == "truth"
    material = read([task(cancelled), task(id=2), task(new, id=3)])
    assert [fault[1:] for fault in material.left_out] == [("a task that is not annotated", False)] * 2


JSON_MIN = {
    "audio": "/data/upload/1/0a1b2c3d-talk.wav",
    "id": 1,
    "labels": [
        {"start": 0.5, "end": 1.5, "channel": 0, "labels": ["Anna"], "original_length": 10.0},
        {"start": 2.0, "end": 3.0, "channel": 0, "labels": ["Ben"], "original_length": 10.0},
    ],
    "transcription": ["hello", "hi you"],
    "annotator": 1,
    "annotation_id": 11,
    "created_at": "2024-01-01T10:00:00.000000Z",
    "lead_time": 3.5,
}


def test_a_json_min_export_says_the_same(read):
    same = found(read([task(annotation(*ANNA, *BEN))]))
    assert found(read([JSON_MIN])) == same
    timed = [{"start": 2.0, "end": 3.0, "text": ["hi", "you"]}, {"start": 0.5, "end": 1.5, "text": ["hello"]}]
    assert found(read([{**JSON_MIN, "transcription": timed}])) == same
    assert found(read([{**JSON_MIN, "labels": JSON_MIN["labels"][:1], "transcription": "hello"}])) == same[:1]
    whole = {key: value for key, value in JSON_MIN.items() if key != "labels"} | {"transcription": "all of it"}
    assert found(read([whole])) == [(0.0, 0.0, "all of it", None)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"transcription": ["one"]}, r"1 texts of 2 regions, which JSON-MIN does not assign to each other; use JSON"),
        ({"labels": [JSON_MIN["labels"][0]] * 2, "transcription": [{"start": 0, "end": 1, "text": "x"}]}, "same times"),
        ({"transcription": ["a", {"text": "b"}]}, r"some of its texts have times, and some have not"),
        (
            {"labels": [{"start": 1.0, "labels": ["a"]}], "transcription": "x"},
            r"region '1' has only one of start and end",
        ),
    ],
)
def test_json_min_that_does_not_say_which_text_is_whose_is_refused(read, changes, reason):
    with pytest.raises(ManifestError, match=rf"export\.json: task 1: .*{reason}"):
        read([{**JSON_MIN, **changes}])


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("/data/upload/1/0a1b2c3d-call.wav", "a/call.wav"),
        ("/data/upload/1/0a1b2c3d-1a1b2c3d-other.wav", "b/1a1b2c3d-other.wav"),
        ("/data/local-files/?d=rec/b%20c/same.wav", "b c/same.wav"),
        ("s3://bucket/x/a/same.wav", "a/same.wav"),
        ("https://example.org/x/a/same.wav?token=1", "a/same.wav"),
        ("../../../etc/a/same.wav", "a/same.wav"),
        (r"C:\audio\a\same.wav", "a/same.wav"),
    ],
)
def test_a_recording_is_found_by_name(read, tmp_path, address, place):
    for name in ("a/call.wav", "b/1a1b2c3d-other.wav", "a/same.wav", "b c/same.wav"):
        silence(tmp_path / "audio" / name)
    material = read([task(annotation(*ANNA), audio=address)], tmp_path / "audio")
    assert material.utterances[0].audio_path == tmp_path / "audio" / place


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        (
            [task(annotation(*ANNA), audio="x/none.wav")],
            r"'x/none\.wav': no recording 'none\.wav' in .*; --audio-dir names",
        ),
        (
            [task(annotation(*ANNA), audio="z/same.wav")],
            r"several recordings have its name: a/same\.wav, b/same\.wav; ren",
        ),
        (
            [task(annotation(*ANNA), audio="talk.txt")],
            r"no path of a recording: --audio-column names it; there are: none",
        ),
        ([task(annotation(*ANNA), audio=5)], r"no path of a recording"),
        ([task(annotation(*ANNA), other="b.wav", audio=None, more="c.wav")], r"there are: 'other', 'more'"),
        ([task({**annotation(), "result": 5})], r"task 1: its result is 5, but a list is needed"),
        ([{**task(), "annotations": 5}], r"task 1: its annotations are 5, but a list is needed"),
        ([task(annotation(text("r", 1, 1.5, 5)))], r"task 1: its text is 5, but a text is needed"),
        ([task(annotation(text("r", "x", 1.5, "a")))], r"task 1: its start is 'x', but a number of seconds is needed"),
        ([task(annotation(text("r", 2, 1.5, "a")))], r"task 1, region 'r': from 2 s to 1\.5 s ends before it begins"),
        ([task(annotation(text("r", -2, 1.5, "a")))], r"task 1, region 'r': from -2 s to 1\.5 s is impossible"),
        ([task(annotation({**ANNA[1], "value": 3}))], r"the value of a region is 3, but an object is needed"),
        ([task(annotation(label("r", 1, 2, 3)))], r"the labels of a region are \[3\], but a list of texts is needed"),
        (
            [task(annotation(text("r", 1, 2, "a"), text("r", 3, 4, "b")))],
            r"region 'r' is from 1 s to 2 s and from 3 s to 4 s; give each region an id of its own",
        ),
        (
            [task(annotation({**ANNA[1], "value": {**ANNA[1]["value"], "unit": "percent"}}))],
            r"has times in 'percent', but seconds are needed",
        ),
        (
            [task(annotation(text("r", 1, 2, "a", name="one"), text("r", 1, 2, "b", name="two")))],
            r"no TextArea: --text-column names it; there are: 'one', 'two'",
        ),
        ([5], r"not an export of Label Studio, which is a list of tasks; choose JSON or JSON-MIN"),
        ({"a": 1}, r"not an export of Label Studio"),
        ([], r"no transcripts"),
        ("{", r"export\.json: cannot read the export: not JSON"),
        ("[" * 100, r"export\.json: cannot read the export: not JSON"),
    ],
)
def test_what_is_wrong_with_an_export_is_named(read, tmp_path, tasks, reason):
    for name in ("a/same.wav", "b/same.wav"):
        silence(tmp_path / name)
    with pytest.raises(ManifestError, match=reason):
        read(tasks)


def test_texts_that_are_no_addresses_stop_nothing(read):
    material = read(
        [task(annotation(*ANNA), note="http://[x?.wav", other="//[::1/?"), task(audio="http://[::1/talk.wav", id=2)]
    )
    assert [u.text for u in material.utterances] == ["hello"]


def test_a_region_has_the_times_of_the_result_that_has_some(read):
    for results in ([label("r", 1.0, 2.0, "Anna"), text("r", None, None, "a")], [text("r", None, None, "b"), ANNA[0]]):
        results = [{**one, "id": "r"} for one in results]
        assert found(read([task(annotation(*results))]))[0][:2] in [(1.0, 2.0), (0.5, 1.5)]


def test_names_of_the_configuration_can_be_given(read):
    silence_labels = {**label("r", 1, 2, "loud"), "from_name": "level"}
    results = (text("r", 1, 2, "a", name="one"), text("r", 1, 2, "b", name="two"), *ANNA, silence_labels)
    material = read([task(annotation(*results), more="x.wav")], text="two", speaker="labels", audio="audio")
    assert found(material) == [(1, 2, "b", None)]


def test_an_export_becomes_manifests(call, tmp_path):
    silence(tmp_path / "audio/talk.wav", seconds=2.5)
    (tmp_path / "export.json").write_text("\ufeff" + json.dumps([task(annotation(*ANNA, *BEN))]))
    arguments = ("--audio-dir", tmp_path / "audio", "--out", tmp_path / "data", "--dev-share", 0, "--test-share", 0)
    status, _, err = call("import", "labelstudio", tmp_path / "export.json", *arguments)
    assert status == 2
    assert "task 1, region 'r2': utterance talk-0002000-0003000: 2 s to 3 s is not a part of" in err
    (cut,) = load_manifest(tmp_path / "data/train.jsonl.gz")
    assert (cut.start, cut.duration, cut_text(cut), cut_speaker(cut)) == (0.5, 1.0, "hello", "Anna")
    report = asr.import_labelstudio(
        tmp_path / "export.json", tmp_path / "d2", audio_dir=tmp_path, split=asr.SplitRule(test_share=1)
    )
    assert report.utterances == {"test": 1}
