"""The settings of a recurrent language model and of its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from asr.config import Settings, apply_overrides, parse_settings


class RnnLmSettings(Settings):
    """The network and its optimisation; values only."""

    rnn: Literal["lstm", "gru"] = "lstm"
    layers: int = Field(2, ge=1, le=20)
    hidden_size: int = Field(512, ge=4, le=8192, description="width of the embedding and of every layer")
    dropout: float = Field(0.2, ge=0, lt=1)
    softmax: Literal["plain", "adaptive"] = Field(
        "plain", description="adaptive: rare words are predicted in two steps, for vocabularies of tens of thousands"
    )
    min_count: int = Field(2, ge=1, description="words that the text holds fewer times are <unk>")
    bptt_units: int = Field(64, ge=1, description="units in a window; gradients end at its start, the state goes on")
    batch: int = Field(32, ge=1, description="streams that are read side by side")
    epochs: int = Field(10, ge=1)
    learning_rate: float = Field(2e-3, gt=0, description="the peak of the one-cycle schedule")
    seed: int = Field(1, ge=0, lt=2**31)
    checkpoint_every_s: float = Field(300.0, ge=0, description="wall time between checkpoints within an epoch")
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def network(self) -> str:
        """The network in words, e.g. `2 × 512 lstm`."""
        return f"{self.layers} × {self.hidden_size} {self.rnn}"


def parse_rnnlm_settings(overrides: Sequence[str]) -> RnnLmSettings:
    """Return the default settings with `key=value` overrides, e.g. `hidden_size=256`; later ones win.

    Raises:
        ConfigError: a key or value is not acceptable.
    """
    values: dict[str, Any] = {}
    apply_overrides(values, overrides, RnnLmSettings)
    return parse_settings(RnnLmSettings, values, "the language model's settings")
