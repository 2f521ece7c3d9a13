"""Audio without transcripts → utterances: manifests are taken as they are, recordings are cut at pauses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import load_manifest
from asr.corpus.untranscribed import UTTERANCES, find_untranscribed
from asr.errors import AudioError

pytestmark = pytest.mark.usefixtures("loud_is_speech", "_one_core")


@pytest.fixture
def _one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.corpus.untranscribed.cores", lambda: 1)


def recording(path: Path, *loud_s: tuple[float, float], seconds: float = 8.0) -> np.ndarray:
    """Write a recording that is loud at these times and silent otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(round(seconds * 16000)) / 16000
    waveform = 0.5 * np.sin(2 * np.pi * 440 * time_s).astype(np.float32)
    waveform *= np.any([(time_s >= start) & (time_s < end) for start, end in loud_s] or [time_s < 0], axis=0)
    soundfile.write(path, waveform, 16000)
    return waveform


def test_recordings_are_cut_where_nobody_speaks_and_the_cuts_hold_all_speech(tmp_path: Path) -> None:
    whole = recording(tmp_path / "talks" / "day 1" / "a.wav", (1, 3), (5, 7))
    recording(tmp_path / "talks" / "silence.wav")
    found = find_untranscribed(tmp_path / "talks", tmp_path / "out")
    assert found.manifests == (tmp_path / "out" / UTTERANCES,)
    assert found.dev is None
    assert list(found.left_out.values()) == ["nobody speaks"]
    cuts = list(load_manifest(*found.manifests))
    assert len(cuts) == 2
    for cut, (start_s, end_s) in zip(cuts, [(1, 3), (5, 7)], strict=True):
        assert cut.id.startswith("day_1-a-")
        assert start_s - 0.5 < cut.start <= start_s
        assert end_s <= cut.end < end_s + 0.5
        assert np.abs(load_cut(cut)).max() > 0.4
    assert sum(np.square(load_cut(cut)).sum() for cut in cuts) == pytest.approx(np.square(whole).sum(), rel=1e-4)


def test_parts_of_a_recording_without_places_to_start_from_are_read_from_a_copy(tmp_path: Path) -> None:
    recording(tmp_path / "a.mp3", (1, 3), (5, 7))
    found = find_untranscribed(tmp_path / "a.mp3", tmp_path / "out")
    for cut in load_manifest(*found.manifests):
        assert Path(cut.recording.sources[0].source).parent == tmp_path / "out" / "audio"
        assert np.abs(load_cut(cut)).max() > 0.4


def test_recordings_of_one_name_in_two_folders_get_names_of_their_own(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        recording(tmp_path / folder / "a.wav", (1, 3))
    found = find_untranscribed([tmp_path / "x", tmp_path / "y"], tmp_path / "out")
    assert len(load_manifest(*found.manifests)) == 2


def test_a_data_folder_gives_its_splits_and_a_manifest_itself(tone_corpus: Path, tmp_path: Path) -> None:
    found = find_untranscribed(tone_corpus, tmp_path / "out")
    assert (found.manifests, found.dev) == ((tone_corpus / "train.jsonl.gz",), tone_corpus / "dev.jsonl.gz")
    found = find_untranscribed([str(tone_corpus / "test.jsonl.gz")], tmp_path / "out")
    assert (found.manifests, found.dev) == ((tone_corpus / "test.jsonl.gz",), None)
    assert not (tmp_path / "out").exists()


def test_what_was_cut_is_kept_if_that_is_wanted(tmp_path: Path) -> None:
    recording(tmp_path / "talks" / "a.wav", (1, 3))
    first = find_untranscribed(tmp_path / "talks", tmp_path / "out")
    recording(tmp_path / "talks" / "b.wav", (1, 3))
    assert len(load_manifest(*find_untranscribed(tmp_path / "talks", tmp_path / "out", keep=True).manifests)) == 1
    assert len(load_manifest(*find_untranscribed(tmp_path / "talks", tmp_path / "out").manifests)) == 2
    assert first.left_out == {}


def test_a_recording_that_cannot_be_read_is_left_out_and_none_at_all_is_refused(tmp_path: Path) -> None:
    recording(tmp_path / "talks" / "a.wav", (1, 3))
    (tmp_path / "talks" / "broken.wav").write_bytes(b"RIFF")
    found = find_untranscribed(tmp_path / "talks", tmp_path / "out")
    assert [name.rpartition("/")[2] for name in found.left_out] == ["broken.wav"]
    (tmp_path / "talks" / "a.wav").unlink()
    with pytest.raises(AudioError, match=r"no recording can be used; the first is .*broken\.wav: "):
        find_untranscribed(tmp_path / "talks", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="no audio files in this folder"):
        find_untranscribed(tmp_path / "empty", tmp_path / "out")
