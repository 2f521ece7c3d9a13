"""Damaged audio files of all kinds: each is read or refused by name, nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import tone_speech
from damaged_audio import DAMAGES, ENCODINGS, damaged_files

from asr.data.audio import audio_info, read_audio
from asr.data.blocks import load_audio
from asr.errors import AudioError

FILES = 240


@pytest.fixture
def recordings(rng: np.random.Generator) -> list[tuple[np.ndarray, int]]:
    return [(tone_speech("ab cd", rng, rate_hz), rate_hz) for rate_hz in (8000, 16000, 48000)]


@pytest.mark.parametrize("read", [audio_info, read_audio, lambda path: load_audio(path, 16000)])
def test_a_damaged_file_is_read_or_refused_by_name(recordings, tmp_path: Path, read) -> None:
    refused = 0
    for path, damage in damaged_files(recordings, tmp_path, FILES):
        try:
            read(path)
        except AudioError as error:
            assert str(error).startswith(f"{path}: "), damage
            refused += 1
    assert FILES / 4 < refused < FILES, "the damages have lost their teeth, or nothing can be read at all"


def test_what_can_be_read_of_damaged_files_is_finite_and_no_longer_than_it_can_be(recordings, tmp_path: Path) -> None:
    for path, damage in damaged_files(recordings, tmp_path, FILES, seed=1):
        try:
            waveform, _ = read_audio(path)
        except AudioError:
            continue
        assert np.isfinite(waveform).all(), damage
        assert waveform.size < 1000 * path.stat().st_size, damage


def test_damages_are_those_of_their_seed_and_of_all_kinds(recordings, tmp_path: Path) -> None:
    made = [(path.name, path.read_bytes(), what) for path, what in damaged_files(recordings, tmp_path, FILES)]
    again = [(path.name, path.read_bytes(), what) for path, what in damaged_files(recordings, tmp_path, FILES)]
    # An ogg file has a serial number by chance.
    assert [item for item in made if item[1][:4] != b"OggS"] == [item for item in again if item[1][:4] != b"OggS"]
    assert {what for _, _, what in made} == set(DAMAGES)
    assert {name[4:] for name, _, _ in made} > set(ENCODINGS)
