import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.config import AugmentSettings
from asr.features.augment import SpecMasks, apply_masks, draw_masks, perturb_speed

OPTIONS = {"hop_ms": 10.0, "views": 2, "seed": 3, "epoch": 5}


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
    for change in ({"epoch": 6}, {"seed": 4}):
        other = draw_masks(["a"], [300], 80, AugmentSettings(), **(OPTIONS | change))
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
