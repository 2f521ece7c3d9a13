"""How long a round trains."""

from __future__ import annotations

import pytest

from asr.config import Config
from asr.segmenting.rounds import with_enough_epochs


def test_a_round_with_little_audio_gets_more_epochs_and_none_gets_fewer() -> None:
    config = Config()
    epochs = [with_enough_epochs(config, hours).training.epochs for hours in (0.01, 0.1, 0.5, 1.0, 100.0)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] == 500
    assert epochs[-1] == config.training.epochs
    assert 0.1 * epochs[1] == pytest.approx(30, rel=0.01)
