"""A training utterance → the same under other recording conditions: a room and noise, drawn anew in each epoch."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.audio.sound_file import AUDIO_SUFFIXES, audio_files
from asr.config import AugmentSettings, Config
from asr.errors import AudioError, ConfigError
from asr.features.augment import Draw
from asr.features.noise import add_noise, generated_noise, generated_room, recorded_noise, recorded_room, reverberate


@dataclass(frozen=True)
class Conditions:
    """What conditions are drawn from. Without recordings, noise and rooms are generated."""

    settings: AugmentSettings
    rate_hz: int
    noises: tuple[Path, ...]
    rooms: tuple[Path, ...]


def conditions_of(config: Config) -> Conditions:
    """Return what the settings say about conditions, with the recordings in the folders that they name.

    Raises:
        ConfigError: a folder that is needed cannot be searched or holds no audio.
    """
    augment = config.augment
    return Conditions(
        augment,
        config.features.sample_rate_hz,
        recordings_in(augment.noise_dir, "augment.noise_dir") if augment.noise_share and augment.noise_dir else (),
        recordings_in(augment.reverb_dir, "augment.reverb_dir") if augment.reverb_share and augment.reverb_dir else (),
    )


def conditions_checksum(config: Config) -> int:
    """Return a checksum of the names and sizes of the recordings that noise and rooms are drawn from."""
    conditions = conditions_of(config)
    checksum = 0
    for folder, files in ((config.augment.noise_dir, conditions.noises), (config.augment.reverb_dir, conditions.rooms)):
        for path in files:
            line = f"{path.relative_to(folder).as_posix()}\t{path.stat().st_size}\n"
            checksum = zlib.crc32(line.encode(errors="surrogatepass"), checksum)
    return checksum


def perturb_conditions(waveform: NDArray[np.float32], conditions: Conditions, draw: Draw) -> NDArray[np.float32]:
    """Return a waveform, `(sample,)`, in another room, then with noise; the length stays.

    Samples may leave [-1, 1]: they are floats, and clipping would distort them.

    Raises:
        AudioError: a recording of noise or of a room cannot be used.
    """
    settings = conditions.settings
    rng = draw.rng("reverb")
    if rng.random() < settings.reverb_share:
        waveform = reverberate(waveform, _draw_room(conditions, rng))
    rng = draw.rng("noise")
    if rng.random() < settings.noise_share:
        snr_db = rng.uniform(*settings.noise_snr_db)
        waveform = add_noise(waveform, _draw_noise(conditions, len(waveform), rng), snr_db)
    return waveform


@cache  # once a process, so that a file that appears during a run does not change the run's later epochs
def recordings_in(folder: str, setting: str) -> tuple[Path, ...]:
    """Return the audio files of a folder and its sub-folders, sorted; hidden ones are left out.

    Args:
        folder: where to search.
        setting: the key that names the folder, for errors.

    Raises:
        ConfigError: the folder cannot be searched or holds no audio.
    """

    def refuse(error: OSError) -> None:
        raise ConfigError(f"{setting}: {error.filename}: the folder cannot be searched ({error.strerror})") from error

    files = sorted(audio_files(Path(folder), refuse))
    if not files:
        known = " ".join(sorted(AUDIO_SUFFIXES))
        raise ConfigError(
            f"{setting}: {folder}: no audio files in this folder ({known}); name another, or none for generated ones"
        )
    return tuple(files)


def _draw_room(conditions: Conditions, rng: np.random.Generator) -> NDArray[np.float32]:
    if not conditions.rooms:
        return generated_room(conditions.rate_hz, rng)
    try:
        return recorded_room(conditions.rooms[rng.integers(len(conditions.rooms))], conditions.rate_hz)
    except AudioError as error:
        raise AudioError(f"augment.reverb_dir: {error}") from None


def _draw_noise(conditions: Conditions, samples: int, rng: np.random.Generator) -> NDArray[np.float32]:
    if not conditions.noises:
        return generated_noise(samples, conditions.rate_hz, rng)
    try:
        path = conditions.noises[rng.integers(len(conditions.noises))]
        return recorded_noise(path, samples, conditions.rate_hz, rng)
    except AudioError as error:
        raise AudioError(f"augment.noise_dir: {error}") from None
