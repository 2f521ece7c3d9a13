"""Damaged audio files of all kinds: each is read or refused by name, nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone_speech
from damaged_audio import DAMAGES, ENCODINGS, damaged_files
from lying_audio import ENCODINGS as EVERY_ENCODING
from lying_audio import encoded

from asr.audio.blocks import load_audio
from asr.audio.sound_file import audio_info, read_audio
from asr.errors import AudioError

FILES = 240


@pytest.fixture
def recordings(rng: np.random.Generator) -> list[tuple[np.ndarray, int]]:
    return [(tone_speech("ab cd", rng, rate_hz), rate_hz) for rate_hz in (8000, 16000, 48000)]


@pytest.fixture
def no_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What ffmpeg makes of damaged files is its own; and it takes long."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("no_ffmpeg")
@pytest.mark.parametrize("read", [audio_info, read_audio, lambda path: load_audio(path, 16000)])
def test_a_damaged_file_is_read_or_refused_by_name(recordings, tmp_path: Path, read) -> None:
    refusals = {}
    for path, _ in damaged_files(recordings, tmp_path, FILES):
        try:
            read(path)
        except AudioError as error:
            refusals[path] = str(error)
    assert [text for path, text in refusals.items() if not text.startswith(f"{path}: ")] == []
    assert FILES / 4 < len(refusals) < FILES, "the damages have lost their teeth, or nothing can be read at all"


@pytest.mark.usefixtures("no_ffmpeg")
def test_what_can_be_read_of_damaged_files_is_finite_and_no_longer_than_it_can_be(recordings, tmp_path: Path) -> None:
    for path, damage in damaged_files(recordings, tmp_path, FILES, seed=1):
        try:
            waveform, _ = read_audio(path)
        except AudioError:
            continue
        assert np.isfinite(waveform).all(), damage
        assert waveform.size < 1000 * path.stat().st_size, damage


@pytest.mark.parametrize("read", [read_audio, lambda path: load_audio(path, 16000)])
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_page_that_is_missing_in_the_middle_of_an_ogg_file_is_noticed(rng, tmp_path: Path, read, subtype) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, np.tile(tone_speech("ab cd", rng, 48000), 10), 48000, subtype=subtype)
    data = bytearray(path.read_bytes())
    assert data.count(b"OggS") > 4
    data[len(data) // 2] ^= 1  # its checksum does not fit any more
    path.write_bytes(data)
    with pytest.raises(AudioError, match=r"a\.ogg: truncated: \d+ samples were expected and \d+ could be decoded"):
        read(path)


def test_damages_are_those_of_their_seed_and_of_all_kinds(recordings, tmp_path: Path) -> None:
    made = [(path.name, path.stat().st_size, what) for path, what in damaged_files(recordings, tmp_path, FILES)]
    again = [(path.name, path.stat().st_size, what) for path, what in damaged_files(recordings, tmp_path, FILES)]
    assert made == again
    assert {what for _, _, what in made} == set(DAMAGES)
    assert {name[4:] for name, _, _ in made} > set(ENCODINGS)


@pytest.mark.usefixtures("no_ffmpeg")
@pytest.mark.parametrize(("container", "codec"), EVERY_ENCODING)
def test_headers_with_any_bytes_are_read_or_refused_by_name(tmp_path: Path, rng, container: str, codec: str) -> None:
    data, path = encoded(container, codec, tmp_path), tmp_path / "a.wav"
    for _ in range(20):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 128), rng.integers(1, 6)):
            values = (0, 1, 0x7F, 0xFF, int(rng.integers(256)))
            damaged[place : place + rng.choice([1, 4])] = bytes([values[rng.integers(5)]] * int(rng.choice([1, 4, 5])))
        path.write_bytes(damaged)
        for read in (read_audio, audio_info):
            try:
                read(path)
            except AudioError as error:
                assert str(error).startswith(f"{path}: ")  # noqa: PT017 (it may be read as well)
