"""JSON lines as NeMo and Hugging Face's datasets write them; errors that name file and line."""

import gzip
import json
import math

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import asr
from asr.errors import ManifestError
from asr.importing.json_lines import read_json_lines
from asr.importing.table import Columns

NEMO = """{"audio_filepath": "wavs/a.wav", "duration": 2.5, "text": "hello you", "speaker": 17}

{"audio_filepath": "/data/talk.flac", "offset": 61.25, "duration": 3, "text": "one", "lang": "en"}
{"audio_filepath": "/data/talk.flac", "offset": 64.25, "duration": 1.5, "text": null}
"""


@pytest.fixture
def lines(tmp_path):
    """Write a file of JSON lines and read it."""

    def read(content, **columns):
        path = tmp_path / "m.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_json_lines(path, Columns(**columns)).utterances

    return read


def test_a_nemo_manifest_gives_paths_texts_and_times(lines, tmp_path):
    whole, first, second = lines(NEMO)
    assert (whole.audio_path, whole.text, whole.speaker) == (tmp_path / "wavs/a.wav", "hello you", "17")
    assert (whole.id, whole.start_s, whole.duration_s) == ("wavs-a", 0.0, 2.5)
    assert (first.id, first.start_s, first.duration_s) == ("data-talk-0061250-0064250", 61.25, 3.0)
    assert (second.id, second.start_s, second.text) == ("data-talk-0064250-0065750", 64.25, "")
    assert second.where == f"{tmp_path}/m.jsonl:4"


def test_a_metadata_file_of_hugging_face_gives_paths_texts_and_splits(lines, tmp_path):
    (utterance,) = lines('{"file_name": "clips/1.mp3", "transcription": "H\u00e9 \\u00e9", "split": "validation"}')
    assert (utterance.audio_path, utterance.text) == (tmp_path / "clips/1.mp3", "Hé é")
    assert (utterance.split, utterance.speaker, utterance.duration_s) == ("dev", None, None)


def test_keys_can_be_named_and_audio_may_lie_elsewhere(tmp_path):
    path = tmp_path / "m.json"
    path.write_text('{"text": "wrong", "norm": "right", "audio": "x.wav", "n": 3}\n')
    (utterance,) = read_json_lines(path, Columns(text="norm", id="n"), tmp_path / "audio").utterances
    assert (utterance.id, utterance.text, utterance.audio_path) == ("3", "right", tmp_path / "audio/x.wav")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", r"m\.jsonl: no utterances"),
        ('\n{"audio"', r"m\.jsonl:2: not JSON \("),
        (b'{"audio": "a.wav", "text": "\xe9"}', r"m\.jsonl:1: not UTF-8 \(byte 0xe9\); save the manifest as UTF-8"),
        (
            '{"audio": "a.wav", "text": NaN}',
            r"m\.jsonl:1: not JSON \(NaN is not a JSON value\); each",
        ),
        ('{"audio": "a.wav", "text": "a", "offset": -Infinity}', r"m\.jsonl:1: not JSON \(-Infinity is"),
        ('["a.wav", "a"]', r"m\.jsonl:1: a JSON list; each line is an object of its own"),
        ('{"audio": "a.wav"}', r"m\.jsonl:1: no column for the text .*there are: audio; .*--text-column"),
        ('{"audio": " ", "text": "a"}', r"m\.jsonl:1: 'audio' is empty"),
        ('{"audio": ".", "text": "a"}', r"m\.jsonl:1: 'audio' is '\.'; it names the audio file"),
        (
            '{"audio": {"path": "a.wav"}, "text": "a"}',
            r"m\.jsonl:1: 'audio' is {\"path\": \"a.wav\"}, but a text",
        ),
        (
            '{"audio": "a.wav", "text": "a", "offset": "3 s"}',
            r"m\.jsonl:1: 'offset' is \"3 s\", but a number of seconds",
        ),
        (
            '{"audio": "a.wav", "text": "a", "offset": 1e999}',
            r"m\.jsonl:1: not JSON \(1e999 is too large a number\)",
        ),
        (
            '{"audio": "a.wav", "text": "a", "duration": 1' + "0" * 400 + "}",
            r"m\.jsonl:1: not JSON \(a number of 401 digits",
        ),
        ('{"audio": "a.wav", "text": "\\ud800"}', r"m\.jsonl:1: \\ud800 is half a surrogate pair"),
        ("[" * 100_000, r"m\.jsonl:1: not JSON"),
        ('{"audio": "a.wav", "text": "a", "text": "b"}', r"m\.jsonl:1: not JSON \(the key 'text' twice\)"),
        (
            '{"audio": "a.wav", "text": "a", "duration": 1e10}',
            r"m\.jsonl:1: 'duration' is 1.*, but a number of",
        ),
        ('{"audio": "a.wav", "text": "a", "split": "x"}', r"m\.jsonl:1: 'x' is not a split"),
    ],
)
def test_what_is_wrong_with_a_line_is_named(lines, content, reason):
    with pytest.raises(ManifestError, match=reason):
        lines(content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"m\.jsonl: cannot read the manifest"):
        read_json_lines(tmp_path / "m.jsonl", Columns())


BROKEN = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just("\ud800"), st.lists, max_leaves=3
)


@given(key=st.sampled_from(["audio", "text", "speaker", "split", "id", "offset", "duration"]), value=BROKEN)
def test_whatever_a_line_holds_it_is_an_utterance_or_refused_by_its_number(tmp_path_factory, key, value):
    path = tmp_path_factory.getbasetemp() / "m.jsonl"
    path.write_text(json.dumps({"audio": "a.wav", "text": "a"} | {key: value}))
    try:
        (utterance,) = read_json_lines(path, Columns()).utterances
    except ManifestError as error:
        reason = str(error)
    else:
        reason = f"{path}:1: "
        assert f"{utterance.id}{utterance.text}{utterance.speaker}".encode() is not None
        assert "/" not in utterance.id or key == "id"
        assert math.isfinite(utterance.start_s + (utterance.duration_s or 0.0))
    assert reason.startswith(f"{path}:1: ")


def test_a_file_is_imported_from_python(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(16000, 0.1), 8000)
    parts = [{"audio": "a.wav", "said": "one", "offset": start, "duration": 0.2} for start in (0.0, 0.5, 1.0)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, parts)))
    columns, split = asr.Columns(text="said"), asr.SplitRule(by="utterance", dev_share=0.3, test_share=0.0)
    report = asr.import_jsonl(str(tmp_path / "m.jsonl"), str(tmp_path / "data"), columns=columns, split=split)
    assert report.utterances == {"train": 2, "dev": 1}
    assert report.manifests == {split: tmp_path / f"data/{split}.jsonl.gz" for split in ("train", "dev")}
    with pytest.raises(ManifestError, match=r"m\.jsonl:1: no column for the text"):
        asr.import_jsonl(tmp_path / "m.jsonl", tmp_path / "data")


def test_a_source_is_not_replaced_by_its_manifests(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(16000, 0.1), 8000)
    source = tmp_path / "train.jsonl.gz"
    content = gzip.compress(b'{"audio": "a.wav", "text": "one"}\n')
    source.write_bytes(content)
    with pytest.raises(ManifestError, match=r"train\.jsonl\.gz: the original stays as it is; choose another folder"):
        asr.import_jsonl(source, tmp_path, split=asr.SplitRule(dev_share=0.0, test_share=0.0))
    assert source.read_bytes() == content


def test_lines_that_cannot_be_used_are_left_out_and_speakers_are_looked_for_in_all(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"audio": "a.wav", "text": "a", "reader": "x"}\n{"audio"\n{"audio": "b.wav", "text": "b"}\n')
    material = read_json_lines(path, Columns())
    assert [u.id for u in material.utterances] == ["a", "b"]
    assert [(fault.where, fault.reason.partition(" (")[0]) for fault in material.left_out] == [
        (f"{path}:2", "not JSON")
    ]
    assert material.notes == [f"{path}: key 'reader' holds no speaker in 1 of 2 utterances"]
    path.write_text('{"audio": "b.wav", "text": "b"}')
    assert read_json_lines(path, Columns()).notes[0].startswith(f"{path}: no key for the speaker (looked for speaker")
