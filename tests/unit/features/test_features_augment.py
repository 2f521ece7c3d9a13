from collections import Counter
from pathlib import Path

import numpy as np
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from asr.config import AugmentSettings
from asr.corpus.limits import training_limits
from asr.corpus.manifest import read_manifest
from asr.features.augment import (
    Draw,
    SpecMasks,
    apply_masks,
    draw_masks,
    draw_pace,
    frames_at_tempo,
    perturb_speed,
    perturb_tempo,
)
from asr.features.batching import training_batches
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.training.step import batch_loss

OPTIONS = {"hop_ms": 10.0, "views": 2, "draw": Draw(3, 5)}


def test_the_numbers_drawn_stay_the_same_from_version_to_version() -> None:
    """A run that one version began is resumed by the next, and must see the same audio."""
    assert Draw(1, 2, "u-ö").rng("speed").integers(2**62) == 3748363473747141719
    assert Draw(7, 0).rng("shards").integers(2**62) == 4475166351865618502
    assert Draw(1, 2).of("u-ö") == Draw(1, 2, "u-ö")


@given(
    frames=st.lists(st.integers(1, 400), min_size=1, max_size=4),
    share=st.floats(0, 1),
    width_ms=st.floats(0, 2000),
    bins=st.integers(0, 200),
)
def test_masks_lie_within_the_utterance_and_the_bands_and_respect_their_widths(
    frames: list[int], share: float, width_ms: float, bins: int
) -> None:
    settings = AugmentSettings(time_mask_ms=width_ms, time_mask_share=share, frequency_mask_bins=bins)
    masks = draw_masks([f"u{i}" for i in range(len(frames))], frames, 80, settings, **OPTIONS)
    limit = torch.tensor(frames * 2)[:, None]
    assert (masks.times.sum(-1) <= limit).all()
    assert (masks.times >= 0).all()
    assert (masks.times[..., 1] <= share * limit).all()
    assert (masks.times[..., 1] <= width_ms / 10).all()
    assert (masks.bands.sum(-1) <= 80).all()
    assert (masks.bands[..., 1] <= bins).all()


def test_masks_of_an_utterance_do_not_depend_on_its_neighbours() -> None:
    settings = AugmentSettings()
    together = draw_masks(["a", "b", "c"], [100, 200, 300], 80, settings, **OPTIONS)
    alone = draw_masks(["b"], [200], 80, settings, **OPTIONS)
    assert torch.equal(together.times.view(2, 3, -1)[:, 1], alone.times.view(2, -1))
    assert torch.equal(together.bands.view(2, 3, -1)[:, 1], alone.bands.view(2, -1))


def test_epochs_seeds_and_views_draw_different_masks() -> None:
    base = draw_masks(["a"], [300], 80, AugmentSettings(), **OPTIONS)
    assert not torch.equal(base.times[0], base.times[1])
    for draw in (Draw(3, 6), Draw(4, 5)):
        other = draw_masks(["a"], [300], 80, AugmentSettings(), **(OPTIONS | {"draw": draw}))
        assert not torch.equal(base.times, other.times)


def test_masked_cells_are_zero_and_the_others_untouched() -> None:
    features = torch.ones(1, 6, 4)
    masks = SpecMasks(times=torch.tensor([[[1, 2]], [[0, 0]]]), bands=torch.tensor([[[3, 1]], [[0, 2]]]), views=2)
    views, lengths = apply_masks(features, torch.tensor([6]), masks)
    assert lengths.tolist() == [6, 6]
    assert views[0].tolist() == [[1, 1, 1, 0], [0] * 4, [0] * 4, [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]]
    assert views[1].tolist() == [[0, 0, 1, 1]] * 6


def test_speed_changes_length_and_pitch_by_its_factor() -> None:
    rate_hz = 16000
    tone = np.sin(2 * np.pi * 500 * np.arange(rate_hz) / rate_hz).astype(np.float32)
    for speed in (0.9, 1.0, 1.1):
        faster = perturb_speed(tone, speed)
        assert abs(len(faster) - rate_hz / speed) <= 1
        spectrum = np.abs(np.fft.rfft(faster))
        peak_hz = spectrum.argmax() * rate_hz / len(faster)
        assert abs(peak_hz - 500 * speed) < 2


def played(features: torch.Tensor, lengths: torch.Tensor, tempos: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Play features at tempos, with as many frames as the host foresees."""
    foreseen = [frames_at_tempo(frames, tempo) for frames, tempo in zip(lengths.tolist(), tempos, strict=True)]
    features, faster = perturb_tempo(features, lengths, torch.tensor(tempos, dtype=torch.float64), max(foreseen))
    assert faster.tolist() == foreseen
    return features, faster


TEMPOS = st.sampled_from([0.5, 0.7, 0.9, 1.0, 1.1, 1.3, 2.0])


@given(utterances=st.lists(st.tuples(st.integers(1, 60), TEMPOS), min_size=1, max_size=4))
@example(utterances=[(21, 0.7)])  # 21 / 0.7 is 30.000000000000004 in float64
def test_tempo_interpolates_each_utterance_as_numpy_does(utterances: list[tuple[int, float]]) -> None:
    rng = np.random.default_rng(7)
    originals = [rng.standard_normal((frames, 3)).astype(np.float32) for frames, _ in utterances]
    batch = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(original) for original in originals], batch_first=True)
    lengths = torch.tensor([frames for frames, _ in utterances])
    faster, faster_lengths = played(batch, lengths, [tempo for _, tempo in utterances])
    assert faster.shape == (len(utterances), int(faster_lengths.max()), 3)
    for row, length, original, (frames, tempo) in zip(faster, faster_lengths, originals, utterances, strict=True):
        assert frames / tempo <= length < frames / tempo + 1
        places = np.arange(int(length)) * tempo
        expected = np.stack([np.interp(places, np.arange(frames), original[:, band]) for band in range(3)], axis=1)
        np.testing.assert_allclose(row[:length], expected, atol=1e-5)
        assert not row[length:].any()


FACTORS = st.lists(TEMPOS, min_size=1, max_size=4)


@given(
    samples=st.integers(1600, 40_000),
    speeds=FACTORS,
    tempos=FACTORS,
    tokens=st.integers(1, 60),
    subsampling=st.sampled_from([2, 4, 8]),
)
def test_a_perturbed_utterance_that_the_check_lets_through_has_frames_for_its_transcript(
    samples: int, speeds: list[float], tempos: list[float], tokens: int, subsampling: int
) -> None:
    settings = ["model.layers=1", "model.hidden_size=8", f"model.subsampling={subsampling}"]
    config = load_config(None, [*settings, f"augment.speeds={speeds}", f"augment.tempos={tempos}"])
    limits = training_limits(config)
    while tokens and limits.fault(samples / 16000, ("abcdefghij" * 6)[:tokens]):
        tokens -= 1
    assume(tokens > 0)
    fastest = limits.fastest_pace(samples / 16000, ("abcdefghij" * 6)[:tokens])
    model = AcousticModel(config, 3)
    for epoch in range(3):
        speed, tempo = draw_pace(config.augment, fastest, Draw(0, epoch, "u"))
        assert (speed in speeds, tempo in tempos) == (True, True)
        sped = torch.tensor([len(perturb_speed(np.zeros(samples, np.float32), speed))])
        frame_count = model.logmel.frame_count(sped)
        _, frame_count = played(torch.zeros(1, int(frame_count), 1), frame_count, [tempo])
        assert model.subsampling.frame_count(frame_count) >= tokens


def test_speeds_and_tempos_are_drawn_for_each_utterance_and_epoch_of_those_that_fit() -> None:
    settings = AugmentSettings(speeds=(0.8, 1.0, 1.2), tempos=(0.9, 1.0, 1.1))
    names = [f"u{i}" for i in range(900)]

    def drawn(fastest: float, seed: int = 3, epoch: int = 5) -> list[tuple[float, float]]:
        return [draw_pace(settings, fastest, Draw(seed, epoch, name)) for name in names]

    freely = drawn(10.0)
    counts = Counter(freely)
    assert set(counts) == {(speed, tempo) for speed in settings.speeds for tempo in settings.tempos}
    assert all(60 < count < 140 for count in counts.values())
    assert drawn(1.2 * 1.1 + 1e-9) == freely
    assert freely not in (drawn(10.0, seed=4), drawn(10.0, epoch=6))
    assert set(drawn(1.0)) == {(0.8, 0.9), (0.8, 1.0), (0.8, 1.1), (1.0, 0.9), (1.0, 1.0)}
    assert set(drawn(0.1)) == {(0.8, 0.9)}


def test_the_criterion_is_computed_at_the_tempo_drawn(tone_corpus: Path) -> None:
    tokens = TokenTable.from_texts([" abcd"])
    plain = ["augment.time_masks=0", "augment.frequency_masks=0", "training.consistency_weight=0", "model.dropout=0"]
    plain += ["model.hidden_size=16", "augment.tempos=[1]", "training.batch_s=6", "training.intermediate_weight=0"]
    config = load_config(None, plain)
    torch.manual_seed(0)
    model = AcousticModel(config, len(tokens))
    cuts = read_manifest(tone_corpus / "train.jsonl.gz")
    (batch, *_) = next(training_batches(cuts, tokens, config, epoch=0)).pieces
    slowed = load_config(None, [*plain, "augment.tempos=[0.5]"])
    (slow_batch, *_) = next(training_batches(cuts, tokens, slowed, epoch=0)).pieces
    found = batch_loss(model, slow_batch, slowed).ctc
    features, lengths = model.features(batch.waveforms, batch.lengths)
    log_posteriors, frames = model.encode(*played(features, lengths, [0.5] * len(lengths)))
    expected = torch.nn.functional.ctc_loss(
        log_posteriors.transpose(0, 1), batch.tokens, frames, batch.token_lengths, reduction="sum"
    )
    torch.testing.assert_close(found, expected / batch.token_lengths.sum())
    assert abs(found - batch_loss(model, batch, config).ctc) > 1
