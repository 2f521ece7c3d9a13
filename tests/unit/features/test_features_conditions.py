from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.corpus.manifest import read_manifest
from asr.errors import AudioError, ConfigError
from asr.features.augment import Draw
from asr.features.batching import training_batches
from asr.features.conditions import (
    conditions_of,
    perturb_conditions,
    recordings_in,
)
from asr.settings_file import load_config
from asr.text.tokens import TokenTable

RATE_HZ = 16000
ALL = ("augment.noise_share=1", "augment.reverb_share=1")


def speech(seed: int = 0, samples: int = RATE_HZ) -> np.ndarray:
    envelope = np.sin(np.arange(samples) / 1000) ** 2
    return (0.1 * envelope * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def perturbed(*overrides: str, waveform: np.ndarray | None = None, epoch: int = 0, name: str = "a") -> np.ndarray:
    config = load_config(None, list(overrides))
    draw = Draw(config.training.seed, epoch, name)
    return perturb_conditions(speech() if waveform is None else waveform, conditions_of(config), draw)


def power_db(waveform: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(waveform.astype(np.float64) ** 2)))


def folder_of(folder: Path, **recordings: np.ndarray) -> Path:
    folder.mkdir()
    for name, samples in recordings.items():
        soundfile.write(folder / f"{name}.wav", samples, RATE_HZ, subtype="FLOAT")
    return folder


def test_by_default_conditions_stay_as_they_are() -> None:
    np.testing.assert_array_equal(perturbed(), speech())


@pytest.mark.parametrize("overrides", [ALL, *[(override,) for override in ALL]])
def test_conditions_are_a_function_of_seed_epoch_and_utterance(overrides: tuple[str, ...]) -> None:
    first = perturbed(*overrides)
    assert first.shape == speech().shape
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, perturbed(*overrides))
    for other in (
        perturbed(*overrides, epoch=1),
        perturbed(*overrides, name="b"),
        perturbed(*overrides, "training.seed=2"),
        speech(),
    ):
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("setting", ["noise_share", "reverb_share"])
def test_a_share_of_the_utterances_is_perturbed_and_a_larger_share_holds_the_same_ones(setting: str) -> None:
    waveform = speech(samples=400)

    def chosen(share: float) -> set[int]:
        return {
            number
            for number in range(400)
            if not np.array_equal(
                waveform, perturbed(f"augment.{setting}={share}", waveform=waveform, name=f"utterance-{number}")
            )
        }

    third, half = chosen(0.3), chosen(0.5)
    assert abs(len(third) - 120) < 40  # four standard deviations
    assert abs(len(half) - 200) < 40
    assert third < half


def test_the_signal_to_noise_ratio_is_drawn_evenly_from_its_range() -> None:
    ratios_db = []
    for number in range(200):
        noisy = perturbed("augment.noise_share=1", "augment.noise_snr_db=[5, 15]", name=f"utterance-{number}")
        ratios_db.append(power_db(speech()) - power_db(noisy - speech()))
    assert 5 <= min(ratios_db) < 6
    assert 14 < max(ratios_db) <= 15
    assert np.mean(ratios_db) == pytest.approx(10, abs=0.9)  # four standard deviations


def test_the_room_comes_first_then_the_noise() -> None:
    """Each draws for itself, so they can be applied one by one."""
    noise, room = ALL
    in_order = perturbed(noise, waveform=perturbed(room))
    np.testing.assert_array_equal(perturbed(*ALL), in_order)
    noise_first = perturbed(room, waveform=perturbed(noise))
    assert not np.allclose(noise_first, in_order, rtol=0.1, atol=1e-3)


def test_recordings_in_folders_are_used_instead_of_generated_ones(tmp_path: Path) -> None:
    hum = np.sin(2 * np.pi * 1000 * np.arange(4 * RATE_HZ) / RATE_HZ).astype(np.float32)
    noises = folder_of(tmp_path / "noises", hum=hum)
    added = perturbed("augment.noise_share=1", f"augment.noise_dir={noises}") - speech()
    spectrum = np.abs(np.fft.rfft(added)) ** 2
    assert spectrum[1000] > 0.99 * spectrum.sum()
    rooms = folder_of(tmp_path / "rooms", dry=np.float32([1.0, 0.0]))
    dry = perturbed("augment.reverb_share=1", f"augment.reverb_dir={rooms}")
    np.testing.assert_allclose(dry, speech(), atol=1e-6)


def test_folders_are_searched_through_and_sorted(tmp_path: Path) -> None:
    for name in ("b.wav", "a/z.flac", "a/c.MP3", ".hidden.wav", ".cache/d.wav", "notes.txt", "c/e.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in recordings_in(str(tmp_path), "augment.noise_dir")]
    assert found == ["a/c.MP3", "a/z.flac", "b.wav", "c/e.wav"]


@pytest.mark.parametrize("kind", ["noise", "reverb"])
def test_a_folder_without_recordings_is_refused_before_training(tmp_path: Path, kind: str) -> None:
    (tmp_path / "readme.txt").touch()
    for folder, reason in ((tmp_path, "no audio files"), (tmp_path / "gone", "No such file")):
        overrides = [f"augment.{kind}_dir={folder}", f"augment.{kind}_share=0.5"]
        with pytest.raises(ConfigError, match=rf"augment\.{kind}_dir: {folder}.*{reason}"):
            conditions_of(load_config(None, overrides))
        # A folder that is not needed need not be there.
        conditions_of(load_config(None, [overrides[0]]))


@pytest.mark.parametrize("kind", ["noise", "reverb"])
def test_a_damaged_recording_is_named_with_its_setting(tmp_path: Path, kind: str) -> None:
    (tmp_path / "bad.wav").write_text("not audio")
    with pytest.raises(AudioError, match=rf"augment\.{kind}_dir: .*bad\.wav"):
        perturbed(f"augment.{kind}_dir={tmp_path}", f"augment.{kind}_share=1")


def test_training_batches_hold_the_perturbed_waveforms(tone_corpus: Path) -> None:
    def waveforms(*overrides: str) -> dict[str, torch.Tensor]:
        config = load_config(None, ["training.batch_s=20", "augment.speeds=[0.9, 1.1]", *overrides])
        cuts = read_manifest(tone_corpus / "dev.jsonl.gz")
        steps = training_batches(cuts, TokenTable.from_texts([" abcd"]), config, epoch=3)
        return {
            name: row[:length]
            for step in steps
            for batch in step.pieces
            for name, row, length in zip(batch.ids, batch.waveforms, batch.lengths, strict=True)
        }

    clean, noisy = waveforms(), waveforms(*ALL)
    conditions = conditions_of(load_config(None, list(ALL)))
    durations_s = {cut.id: cut.duration for cut in read_manifest(tone_corpus / "dev.jsonl.gz")}
    assert clean.keys() == noisy.keys() == durations_s.keys()
    for name, waveform in clean.items():
        speed = durations_s[name] * RATE_HZ / len(waveform)
        assert min(abs(speed - 0.9), abs(speed - 1.1)) < 1e-3  # the speed is perturbed first: noise keeps its pitch
        expected = perturb_conditions(waveform.numpy(), conditions, Draw(1, 3, name))
        np.testing.assert_array_equal(noisy[name], expected)
