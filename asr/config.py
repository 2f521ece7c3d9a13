"""The settings of every room, composed. YAML in, typed and closed objects out; values only, never class names.

Unknown keys, wrong types and values out of range raise `ConfigError` with the file and the key's dotted path.


The settings of a recurrent language model and of its training.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Settings(BaseModel):
    """A closed section of settings: unknown keys, wrong types and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


Factor = Annotated[float, Field(ge=0.5, le=2)]


class TextSettings(Settings):
    """How transcripts become tokens."""

    case: Literal["lower", "upper", "keep"] = Field("lower", description="case folding before anything else")
    remove: str = Field("", description="characters deleted from every transcript, e.g. punctuation")
    tokens: Literal["characters", "bpe", "unigram"] = Field(
        "characters", description="what the model emits; bpe and unigram are sub-word pieces for larger corpora"
    )
    pieces: int = Field(500, ge=8, le=20000, description="number of bpe or unigram pieces, the blank apart")


class FeatureSettings(Settings):
    """Waveform → log-mel."""

    sample_rate_hz: int = Field(16000, ge=4000, le=48000)
    window_ms: float = Field(25.0, gt=0, le=100)
    hop_ms: float = Field(10.0, gt=0, le=50)
    mel_bins: int = Field(80, ge=8, le=256)
    cmvn: Literal["utterance", "global"] = Field(
        "utterance",
        description="mean and variance of each utterance, or of the training set (needed for streaming)",
    )


class AugmentSettings(Settings):
    """Perturbations of training utterances."""

    speeds: tuple[Factor, ...] = Field(
        (0.9, 1.0, 1.1), min_length=1, description="one is drawn per utterance and epoch; the pitch moves along"
    )
    tempos: tuple[Factor, ...] = Field(
        (0.9, 1.0, 1.1), min_length=1, description="likewise, after the speed; the pitch stays"
    )
    frequency_masks: int = Field(2, ge=0)
    frequency_mask_bins: int = Field(20, ge=0, description="largest width of one mask, in mel bins")
    time_masks: int = Field(4, ge=0)
    time_mask_ms: float = Field(300.0, ge=0, description="largest width of one mask")
    time_mask_share: float = Field(
        0.1, ge=0, le=1, description="largest width of one mask, as a share of the utterance"
    )
    noise_share: float = Field(0.0, ge=0, le=1, description="share of utterances to which noise is added")
    noise_dir: str = Field("", description="folder of noise recordings; generated coloured noise without it")
    noise_snr_db: tuple[float, float] = Field((0.0, 30.0), description="signal-to-noise ratio, drawn from this range")
    reverb_share: float = Field(0.0, ge=0, le=1, description="share of utterances that are reverberated")
    reverb_dir: str = Field("", description="folder of impulse responses; synthetic rooms without it")
    gain_db: tuple[float, float] = Field((0.0, 0.0), description="level change, drawn from this range")

    @field_validator("noise_snr_db", "gain_db")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the lower end of the range comes first")
        return value


class ModelSettings(Settings):
    """Subsampling convolutions and the recurrent layers."""

    encoder: Literal["recurrent", "conformer"] = Field(
        "recurrent", description="conformer is the yardstick: attention and convolution in place of recurrence"
    )
    rnn: Literal["lstm", "gru", "tanh", "relu"] = Field("lstm", description="tanh and relu are the vanilla RNN")
    bidirectional: bool = True
    layers: int = Field(3, ge=1, le=20)
    hidden_size: int = Field(256, ge=8, le=4096, description="of each direction; the Conformer's width")
    dropout: float = Field(0.2, ge=0, lt=1)
    subsampling: Literal[2, 4, 8] = Field(4, description="log-mel frames per output frame")
    subsampling_channels: int = Field(32, ge=4, le=1024)
    lookahead_frames: int = Field(
        0, ge=0, le=100, description="output frames to come that a network with one direction looks at"
    )

    @property
    def sees_whole_utterance(self) -> bool:
        """Whether a frame's result depends on all that comes after it."""
        return self.bidirectional or self.encoder == "conformer"

    @property
    def network(self) -> str:
        """The network in words, e.g. `3 × 256 bidirectional lstm`."""
        direction = "bidirectional" if self.bidirectional else "unidirectional"
        kind = "conformer" if self.encoder == "conformer" else f"{direction} {self.rnn}"
        ahead = f", {self.lookahead_frames} frames of look-ahead" if self.lookahead_frames else ""
        return f"{self.layers} × {self.hidden_size} {kind}{ahead}"


class TrainingSettings(Settings):
    """The optimisation."""

    epochs: int = Field(50, ge=1)
    seed: int = Field(1, ge=0, lt=2**31)
    batch_s: float = Field(
        20.0, gt=0, description="audio seconds in a step's batch, over all devices and before augmentation doubles it"
    )
    micro_batch_s: float | None = Field(
        None,
        gt=0,
        description="most seconds in one forward pass, padding included; a larger batch goes in pieces",
    )
    max_utterance_s: float = Field(30.0, gt=0, description="longer utterances are left out and named")
    learning_rate: float = Field(2e-3, gt=0, description="the peak of the schedule")
    schedule: Literal["one-cycle", "plateau"] = Field(
        "one-cycle",
        description="rise and cosine fall over the whole run, or halve when dev WER stops improving",
    )
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the run in which the rate rises")
    plateau_patience: int = Field(3, ge=1, description="epochs without a better dev WER before the rate is halved")
    weight_decay: float = Field(1e-2, ge=0)
    clip_norm: float = Field(5.0, gt=0, description="gradient norm above which gradients are scaled down")
    bptt_frames: int | None = Field(
        None,
        ge=1,
        description="truncated backpropagation: output frames in a window; whole utterances without it",
    )
    freeze: tuple[Literal["subsampling", "layers", "output"], ...] = Field(
        (), description="parts of the network that stay as they are for the first freeze_steps"
    )
    freeze_steps: int = Field(0, ge=0)
    checkpoint_every_s: float = Field(300.0, ge=0, description="wall time between checkpoints within an epoch")
    consistency_weight: float = Field(
        0.2,
        ge=0,
        description="CR-CTC: weight of the divergence between two masked views; 0 trains on one view",
    )
    intermediate_weight: float = Field(
        0.3, ge=0, lt=1, description="intermediate CTC: share of the middle layer's loss; 0 asks the last layer alone"
    )
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="moving average of the weights, used for dev and kept; 0 = off"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 where the processor has it")
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"


class DecodeSettings(Settings):
    """The beam search's defaults; `asr tune` writes the chosen weights into the model folder."""

    beam_size: int = Field(16, ge=1, le=1024)
    lm: Literal["tokens", "words"] = Field(
        "tokens", description="the n-gram: over tokens, or over words through the lexicon of its words"
    )
    lm_order: int = Field(6, ge=1, le=20, description="order of the token n-gram estimated from the training text")
    lm_weight: float = Field(0.3, ge=0, description="of the n-gram's log-probabilities; 0 does without it")
    oov_penalty: float | None = Field(
        None, ge=0, description="of a word outside the lexicon, off its log-probability; null forbids such words"
    )
    rnn_weight: float = Field(0.0, ge=0, description="of the recurrent language model, in the search")
    rescore_weight: float = Field(0.0, ge=0, description="of the recurrent language model, over the n-best hypotheses")
    insertion_bonus: float = Field(0.0, description="added to the score for each token")
    blank_skip: float = Field(
        1.0, gt=0, le=1, description="frames whose blank has a greater posterior are not searched; 1 searches all"
    )
    token_floor: float = Field(
        0.0, ge=0, lt=1, description="tokens whose posterior in a frame is not above this extend no prefix; 0 is exact"
    )


class Config(Settings):
    """All settings of a model, as saved in its folder's `config.yaml`."""

    text: TextSettings = TextSettings()
    features: FeatureSettings = FeatureSettings()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    decode: DecodeSettings = DecodeSettings()

    @model_validator(mode="after")
    def _some_settings_need_one_direction(self) -> Config:
        if self.training.bptt_frames is not None and self.model.sees_whole_utterance:
            raise ValueError(
                "training.bptt_frames needs a recurrent network with one direction, for no other can hand its state "
                "on: set model.encoder=recurrent and model.bidirectional=false, or training.bptt_frames=null"
            )
        if self.model.lookahead_frames and self.model.sees_whole_utterance:
            raise ValueError(
                f"model.lookahead_frames={self.model.lookahead_frames} is for a recurrent network with one direction, "
                "since any other sees the whole utterance anyway: set model.encoder=recurrent and "
                "model.bidirectional=false, or model.lookahead_frames=0"
            )
        return self


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
