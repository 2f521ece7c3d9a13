"""lhotse's manifests as lhotse writes them: cuts, recordings and supervisions, channels, splits; what is refused."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.audio import AudioSource

import asr
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import cut_speaker, cut_text, load_manifest
from asr.errors import ManifestError
from asr.importing.lhotse import read_lhotse


@pytest.fixture
def corpus(tmp_path, rng):
    """Two recordings, one of them stereo, and three supervisions."""
    for name, channels in (("a", 1), ("b", 2)):
        soundfile.write(tmp_path / f"{name}.wav", rng.uniform(-0.5, 0.5, (32000, channels)), 16000)
    recordings = RecordingSet.from_recordings(Recording.from_file(tmp_path / f"{name}.wav") for name in "ab")
    supervisions = SupervisionSet.from_segments(
        [
            SupervisionSegment("u1", "a", 0.25, 0.5, 0, text="one", speaker="anna", gender="F", language="English"),
            SupervisionSegment("u2", "b", 1.0, 0.75, 1, text="two", speaker="ben"),
            SupervisionSegment("u3", "b", 0.0, 1.0, [0, 1], text="three", speaker="ben"),
        ]
    )
    return recordings, supervisions


def found(material):
    return {
        u.id: (u.audio_path.name, u.channel, u.start_s, u.duration_s, u.text, u.speaker) for u in material.utterances
    }


ALL = {
    "u1": ("a.wav", 0, 0.25, 0.5, "one", "anna"),
    "u2": ("b.wav", 1, 1.0, 0.75, "two", "ben"),
    "u3": ("b.wav", None, 0.0, 1.0, "three", "ben"),
}


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_recordings_and_supervisions_as_recipes_write_them(corpus, tmp_path, suffix):
    recordings, supervisions = corpus
    (tmp_path / "m").mkdir()
    for split in ("train-clean-5", "dev-clean-2"):
        recordings.to_file(tmp_path / "m" / f"mini_recordings_{split}.{suffix}")
        supervisions.to_file(tmp_path / "m" / f"mini_supervisions_{split}.{suffix}")
    material = read_lhotse(tmp_path / "m")
    assert found(material) == ALL
    assert [u.split for u in material.utterances] == ["dev"] * 3 + ["train"] * 3
    first = material.utterances[0]
    assert (first.gender, first.language, first.where) == (
        "F",
        "English",
        f"{tmp_path}/m/mini_supervisions_dev-clean-2.{suffix}:1",
    )
    for kind in ("recordings", "supervisions"):  # either names the pair
        assert found(read_lhotse(tmp_path / "m" / f"mini_{kind}_train-clean-5.{suffix}")) == ALL


def test_a_set_of_cuts(corpus, tmp_path):
    recordings, supervisions = corpus
    cuts = CutSet.from_manifests(recordings, supervisions)
    cuts.to_file(tmp_path / "cuts_test.jsonl.gz")
    material = read_lhotse(tmp_path / "cuts_test.jsonl.gz")
    assert found(material) == ALL
    assert {u.split for u in material.utterances} == {"test"}
    assert found(read_lhotse(tmp_path)) == ALL
    trimmed = cuts.trim_to_supervisions(keep_overlapping=False)
    trimmed.to_file(tmp_path / "trimmed.jsonl")
    assert found(read_lhotse(tmp_path / "trimmed.jsonl")) == ALL


def test_cuts_beside_recordings_and_supervisions_are_passed_over(corpus, tmp_path):
    recordings, supervisions = corpus
    recordings.to_file(tmp_path / "x_recordings_all.jsonl.gz")
    supervisions.to_file(tmp_path / "x_supervisions_all.jsonl.gz")
    CutSet.from_manifests(recordings, supervisions).to_file(tmp_path / "x_cuts.jsonl.gz")
    material = read_lhotse(tmp_path)
    assert found(material) == ALL
    assert {u.split for u in material.utterances} == {None}
    assert [(Path(where).name, is_fault) for where, _, is_fault in material.left_out] == [("x_cuts.jsonl.gz", False)]


def test_a_channel_may_have_a_file_of_its_own(tmp_path, rng):
    for channel in (2, 5):
        soundfile.write(tmp_path / f"{channel}.wav", rng.uniform(-0.5, 0.5, 8000), 8000)
    sources = [AudioSource("file", [channel], str(tmp_path / f"{channel}.wav")) for channel in (2, 5)]
    recording = Recording("r", sources, 8000, 8000, 1.0, channel_ids=[2, 5])
    supervisions = [SupervisionSegment(f"u{c}", "r", 0, 1, c, text="x") for c in (5, [2, 5], 3)]
    RecordingSet.from_recordings([recording]).to_file(tmp_path / "recordings.jsonl")
    SupervisionSet.from_segments(supervisions).to_file(tmp_path / "supervisions.jsonl")
    material = read_lhotse(tmp_path)
    assert [(u.audio_path.name, u.channel) for u in material.utterances] == [("5.wav", 0)]
    assert [fault.reason for fault in material.left_out] == [
        "its channels [2, 5] are neither one nor all of a file; name one channel",
        "its recording has no channel 3; there are: [2, 5]",
    ]
    assert material.notes == [f"{tmp_path}/supervisions.jsonl holds no speaker"]


def test_the_audio_of_an_imported_utterance_is_that_of_lhotse(corpus, tmp_path):
    recordings, supervisions = corpus
    cuts = CutSet.from_manifests(recordings, supervisions).trim_to_supervisions(keep_overlapping=False)
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    report = asr.import_lhotse(tmp_path / "cuts.jsonl.gz", tmp_path / "data", split=asr.SplitRule(test_share=1))
    assert report.utterances == {"test": 3}
    imported = {cut.id: cut for cut in load_manifest(report.manifests["test"])}
    for cut in cuts:
        mine = imported[cut.supervisions[0].id]
        assert np.allclose(load_cut(mine), cut.load_audio().mean(0), atol=1e-6)
        assert (cut_text(mine), cut_speaker(mine)) == (cut.supervisions[0].text, cut.supervisions[0].speaker)


def test_relative_paths_start_where_lhotse_or_the_user_says(corpus, tmp_path, monkeypatch):
    recordings, supervisions = corpus
    (tmp_path / "m").mkdir()
    cuts = CutSet.from_manifests(recordings, supervisions)
    lines = [json.dumps(cut.to_dict()).replace(f"{tmp_path}/", "") for cut in cuts]
    (tmp_path / "m/cuts.jsonl").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    assert {str(u.audio_path) for u in read_lhotse(Path("m")).utterances} == {"a.wav", "b.wav"}
    monkeypatch.chdir(tmp_path / "m")
    material = read_lhotse(tmp_path / "m/cuts.jsonl")
    assert {u.audio_path for u in material.utterances} == {tmp_path / "m/a.wav", tmp_path / "m/b.wav"}
    assert {u.relative_to for u in material.utterances} == {f"the working directory {tmp_path}/m, or to {tmp_path}/m"}
    material = read_lhotse(tmp_path / "m/cuts.jsonl", tmp_path)
    assert {u.audio_path for u in material.utterances} == {tmp_path / "a.wav", tmp_path / "b.wav"}


def cut_line(tmp_path, **changes):
    """A line of a cut; `changes` are of the recording, the cut or the supervision."""
    recording = Recording("r", [AudioSource("file", [0], str(tmp_path / "a.wav"))], 16000, 32000, 2.0)
    cut = MonoCut(
        "c", 0, 1, 0, [SupervisionSegment("u", "r", 0, 1, text="x", speaker="s")], recording=recording
    ).to_dict()
    for name, value in changes.items():
        if name in ("sources", "transforms", "sampling_rate"):
            cut["recording"][name] = value
        elif name in ("start", "type", "recording", "supervisions"):
            cut[name] = value
        else:
            cut["supervisions"][0][name.removeprefix("supervision_")] = value
    return json.dumps({key: value for key, value in cut.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"sources": [{"type": "command", "channels": [0], "source": "touch ran; cat a.wav"}]},
            r"its audio source is of type 'command' \('touch ran; cat a\.wav'\), which is not used; write",
        ),
        ({"sources": [{"type": "url", "channels": [0], "source": "http://x"}]}, r"its audio source is of type 'url'"),
        (
            {"transforms": [{"name": "Speed", "kwargs": {"factor": 1.1}}]},
            r"its recording is changed by Speed; import it",
        ),
        ({"recording": None}, r"the cut has no recording"),
        ({"sampling_rate": 0}, r"its recording's sampling_rate is 0"),
        ({"supervision_duration": 1.5}, r"the supervision 'u' reaches beyond its cut"),
        ({"supervision_start": "x"}, r"supervision's start|not a lhotse cut"),
        ({"supervision_text": 5}, r"its text is 5, but a text is needed"),
        ({"start": -3}, r"its start is -3, but a number of seconds"),
        ({"type": "MixedCut"}, r"not a lhotse cut"),
        ({"type": "Horse"}, r"not a lhotse cut"),
    ],
)
def test_a_line_that_cannot_be_used_is_left_out_with_its_reason(tmp_path, monkeypatch, changes, reason):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cuts.jsonl"
    path.write_text(cut_line(tmp_path) + "\n\n" + cut_line(tmp_path, **changes) + "\n[1]\n{\n")
    material = read_lhotse(path)
    assert len(material.utterances) == 1
    assert [fault.where for fault in material.left_out] == [f"{path}:{number}" for number in (3, 4, 5)]
    with pytest.raises(ManifestError, match=reason):
        raise ManifestError(material.left_out[0].reason)
    assert not (tmp_path / "ran").exists()


def test_a_channel_of_a_source_may_be_a_number(tmp_path):
    path = tmp_path / "cuts.jsonl"
    path.write_text(cut_line(tmp_path, sources=[{"type": "file", "channels": 0, "source": "a.wav"}]))
    assert [u.channel for u in read_lhotse(path).utterances] == [0]


def test_the_channel_of_a_cut_counts_also_where_its_supervision_says_none(corpus, tmp_path):
    recordings, _ = corpus
    supervision = SupervisionSegment("u", "b", 0, 1, text="x")
    CutSet.from_cuts([MonoCut("c", 0, 1, 1, [supervision], recording=recordings["b"])]).to_file(tmp_path / "cuts.jsonl")
    assert [u.channel for u in read_lhotse(tmp_path / "cuts.jsonl").utterances] == [1]


def test_a_mixed_cut_and_one_without_speech_are_left_out(tmp_path, corpus):
    recordings, supervisions = corpus
    cuts = list(CutSet.from_manifests(recordings, supervisions))
    mixed = cuts[0].append(cuts[1])
    silent = cuts[0].drop_supervisions()
    CutSet.from_cuts([cuts[0], mixed, silent]).to_file(tmp_path / "cuts.jsonl")
    material = read_lhotse(tmp_path / "cuts.jsonl")
    assert set(found(material)) == {"u1"}
    assert [fault[1:] for fault in material.left_out] == [
        ("a MixedCut, whose audio is in no file; import the cuts it is made of", True),
        ("a cut without a supervision", False),
    ]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, r"no manifests of lhotse here; looked for \*recordings\* and \*supervisions\*, or \*cuts\*"),
        ({"x_supervisions_a.jsonl": "{}"}, r"x_recordings_a\.jsonl: cannot read the recordings \(No such file"),
        ({"recordings.jsonl": "{}"}, r"recordings\.jsonl:1: not a lhotse recording|supervisions\.jsonl: cannot read"),
        (
            {
                "recordings.jsonl": "",
                "supervisions.jsonl": '{"id": "u", "recording_id": "r", "start": 0, "duration": 1}',
            },
            r"supervisions\.jsonl:1: its recording 'r' is not in .*recordings\.jsonl",
        ),
        ({"recordings.jsonl": "", "supervisions.jsonl": ""}, r"no supervisions"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(tmp_path, files, reason):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ManifestError, match=reason):
        read_lhotse(tmp_path)


def test_a_wrong_name_and_damaged_gzip_are_named(tmp_path):
    with pytest.raises(ManifestError, match="nowhere: no such manifest or folder"):
        read_lhotse(tmp_path / "nowhere")
    (tmp_path / "cuts.json").touch()
    with pytest.raises(
        ManifestError, match=r"a manifest's name ends in \.jsonl or \.jsonl\.gz; `lhotse copy` makes one"
    ):
        read_lhotse(tmp_path / "cuts.json")
    (tmp_path / "cuts.jsonl.gz").write_bytes(gzip.compress(cut_line(tmp_path).encode() * 9)[:-20])
    with pytest.raises(ManifestError, match=r"cuts\.jsonl\.gz: damaged"):
        read_lhotse(tmp_path / "cuts.jsonl.gz")


def test_a_folder_of_lhotse_becomes_manifests(call, corpus, tmp_path):
    recordings, supervisions = corpus
    (tmp_path / "m").mkdir()
    recordings.to_file(tmp_path / "m/x_recordings_train.jsonl.gz")
    supervisions.to_file(tmp_path / "m/x_supervisions_train.jsonl.gz")
    arguments = ("--out", tmp_path / "data", "--split-by", "utterance", "--dev-share", "0.3", "--test-share", 0)
    status, _, err = call("import", "lhotse", tmp_path / "m", *arguments)
    assert status == 0, err
    cuts = [*load_manifest(tmp_path / "data/train.jsonl.gz"), *load_manifest(tmp_path / "data/dev.jsonl.gz")]
    assert {cut.id: (cut.start, cut.duration, cut_text(cut)) for cut in cuts} == {
        name: (start_s, duration_s, text) for name, (_, _, start_s, duration_s, text, _) in ALL.items()
    }
