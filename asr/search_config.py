"""Settings of the beam search, of the recurrent language model, and of pretraining."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from asr.records import Settings

Weight = Annotated[float, Field(ge=0, le=100)]


class DecodeSettings(Settings):
    """Beam search; kept in a model's decoder.yaml."""

    beam_size: int = Field(
        16, ge=1, le=1024, description="Number of hypotheses kept per frame; more take longer and miss less."
    )
    lm: Literal["tokens", "words"] = Field(
        "tokens", description="The n-gram to use: over tokens, or over words, whose words are then the lexicon."
    )
    lm_order: int = Field(
        6, ge=1, le=20, description="Longest n-gram, in tokens, that `asr lm ngram --model` estimates."
    )
    lm_weight: Weight = Field(0.3, description="Weight of the n-gram's log-probabilities; 0 searches without it.")
    oov_penalty: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="Subtracted from the log-probability of each word that is not in the lexicon; null: no such words.",
    )
    rnn_weight: Weight = Field(
        0.0, description="Weight of the recurrent language model during the search; 0 searches without it."
    )
    rescore_weight: Weight = Field(
        0.0, description="Weight of the recurrent language model when it ranks the final hypotheses; 0: off."
    )
    insertion_bonus: Annotated[float, Field(ge=-100, le=100)] = Field(
        0.0, description="Added to the score for each token; larger gives longer texts, with fewer deletions."
    )
    blank_skip: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Skip frames whose blank posterior exceeds this; smaller is faster and misses more. 1 searches "
        "every frame.",
    )
    token_floor: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Ignore a frame's tokens with a posterior up to this; larger is faster and misses more. 0 tries "
        "every token.",
    )


class RnnLmSettings(Settings):
    """Recurrent language model of `asr lm rnn`."""

    rnn: Literal["lstm", "gru"] = Field("lstm", description="Cell of the recurrent layers.")
    layers: int = Field(2, ge=1, le=20, description="Number of layers; more can learn more and take longer.")
    hidden_size: int = Field(
        512, ge=4, le=8192, description="Width of the embedding and of every layer; wider can learn more."
    )
    dropout: float = Field(
        0.2, ge=0, lt=1, description="Share of values set to 0 during training, against overfitting; 0: off."
    )
    softmax: Literal["plain", "adaptive"] = Field(
        "plain",
        description="adaptive predicts rare words in two steps, which is faster with tens of thousands of words.",
    )
    min_count: int = Field(
        2, ge=1, description="Words that occur fewer times in the text become <unk>; larger means fewer words."
    )
    bptt_units: int = Field(
        64, ge=1, description="Number of units through which gradients reach back; the state goes on further."
    )
    batch: int = Field(32, ge=1, description="Number of parallel streams that the text is cut into.")
    epochs: int = Field(10, ge=1, description="Number of passes over the text.")
    learning_rate: float = Field(2e-3, gt=0, description="Highest learning rate of the one-cycle schedule.")
    seed: int = Field(
        1, ge=0, lt=2**31, description="Start of all random numbers; another seed gives a slightly other model."
    )
    checkpoint_every_s: float = Field(
        300.0,
        ge=0,
        description="Seconds between checkpoints within an epoch; a crash costs at most this much. 0: every step.",
    )
    accelerator: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Device to train on; auto takes a GPU if there is one."
    )

    @property
    def network(self) -> str:
        """The network in words, e.g. `2 × 512 lstm`."""
        return f"{self.layers} × {self.hidden_size} {self.rnn}"


class PretrainingSettings(Settings):
    """How `asr pretrain` trains.

    Where it has no setting of its own, those of the section training hold.
    """

    epochs: int = Field(50, ge=1, description="Number of passes over the recordings.")
    batch_s: float = Field(
        40.0,
        gt=0,
        description="Seconds of audio in one step, over all devices; more than in training, because only hidden frames "
        "teach something.",
    )
    learning_rate: float = Field(
        2e-3, gt=0, description="Highest learning rate of the run, that of training; lower it if the loss jumps."
    )
    # 400 ms, as in BEST-RQ.
    mask_ms: float = Field(
        400.0,
        gt=0,
        description="Width of a hidden span, in milliseconds, of several sounds; a narrow one is known from its edges.",
    )
    mask_share: float = Field(
        0.4,
        gt=0,
        lt=1,
        description="Share of an utterance that is hidden; more gives more to learn, and less to predict it from.",
    )
    codebooks: int = Field(
        4,
        ge=1,
        le=64,
        description="Number of random codebooks, whose codes are predicted side by side; with several, one that was "
        "drawn badly does no harm.",
    )
    # BEST-RQ has 8192, for 60,000 hours.
    codebook_size: int = Field(
        1024,
        ge=2,
        le=65536,
        description="Number of codes in a codebook; more tell sounds apart more finely, and need more hours.",
    )
    ahead_frames: int = Field(
        1,
        ge=1,
        le=100,
        description="Which output frame after the last one heard is predicted, by a network with one direction; later "
        "ones are hard to know.",
    )
