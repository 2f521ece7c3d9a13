"""All settings: their names, types, ranges, defaults and descriptions.

They hold values only, never class names. `settings_file.py` reads them from YAML and prints them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from asr.records import Settings, TextTable
from asr.search_config import DecodeSettings, PretrainingSettings, RnnLmSettings

Factor = Annotated[float, Field(ge=0.5, le=2)]
Decibels = Annotated[float, Field(ge=-100, le=100)]


class TextSettings(Settings):
    """How transcripts become tokens."""

    case: Literal["lower", "upper", "keep"] = Field(
        "lower", description="Turn all text into lower case or upper case; keep leaves it."
    )
    language: Literal["", "tr", "az"] = Field(
        "",
        description="Language with its own case rules: tr (Turkish) or az (Azerbaijani), where I belongs to ı, and "
        "İ to i. Empty: the rules of all other languages.",
    )
    clean: bool = Field(
        True, description="Delete what cannot be seen, and write each letter in one form, as a for the full-width ａ."
    )
    apostrophes: Literal["straight", "keep"] = Field(
        "straight", description="straight turns curly and other apostrophes (’) into the straight one ('); keep: none."
    )
    replace: TextTable = Field(
        {}, description="Words or strings to replace, as in {colour: color}, or a .tsv or .yaml file with such a table."
    )
    numbers: str = Field(
        "", description="Language that puts numbers into words, as en; ambiguous ones stay. Empty: all digits stay."
    )
    space: str = Field(
        "",
        description="Characters that become a space, as - in well-known; the word punctuation means all punctuation "
        "and symbols but apostrophes within words. Empty: none.",
    )
    remove: str = Field(
        "",
        description="Characters to delete, after text.space has had its own; the word punctuation means the same as "
        "there. Empty deletes none.",
    )
    tokens: Literal["characters", "bpe", "unigram", "words"] = Field(
        "characters",
        description="What the model emits: characters, sub-word pieces (bpe, unigram) for large corpora, or words, for "
        "phones and commands: only those of the training text.",
    )
    pieces: int = Field(
        500,
        ge=8,
        le=20000,
        description="Number of sub-word pieces; with more, pieces are longer. characters and words have none.",
    )


class FeatureSettings(Settings):
    """How a waveform becomes log-mel features."""

    sample_rate_hz: int = Field(
        16000,
        ge=4000,
        le=48000,
        description="Sample rate that the model works at; other audio is resampled. 8000 suits telephone speech.",
    )
    window_ms: float = Field(
        25.0,
        ge=2,
        le=100,
        description="Milliseconds of audio in one spectrum; longer resolves frequencies better and times worse.",
    )
    hop_ms: float = Field(
        10.0, ge=1, le=50, description="Milliseconds from one spectrum to the next; smaller takes longer to compute."
    )
    mel_bins: int = Field(
        80, ge=8, le=256, description="Number of mel bands in a spectrum; more keep finer detail of the frequencies."
    )
    encoder: str = Field(
        "",
        description="Pretrained encoder in place of log-mel: a folder, or a name on the Hugging Face hub, as "
        "facebook/wav2vec2-base-960h. Empty: log-mel.",
    )
    unfreeze_layers: int = Field(
        0,
        ge=0,
        le=200,
        description="Number of the encoder's last layers that are trained too, which needs a GPU; 0: the encoder stays "
        "as it is.",
    )
    cmvn: Literal["utterance", "speaker", "global"] = Field(
        "utterance",
        description="Normalise by mean and variance of each utterance, of all that its speaker says (speaker), or of "
        "all training data (global), which streams need.",
    )

    @property
    def frame_ms(self) -> float:
        """Milliseconds from one frame of the features to the next. An encoder's have the time of two of log-mel."""
        return 2 * self.hop_ms if self.encoder else self.hop_ms


class AugmentSettings(Settings):
    """Random changes of training utterances."""

    speeds: tuple[Factor, ...] = Field(
        (0.9, 1.0, 1.1),
        min_length=1,
        description="Speed factors; an utterance gets one at random, and its pitch changes with it. [1]: off.",
    )
    tempos: tuple[Factor, ...] = Field(
        (0.9, 1.0, 1.1),
        min_length=1,
        description="Tempo factors, applied after the speed; the pitch stays. [1]: off.",
    )
    frequency_masks: int = Field(2, ge=0, le=100, description="Number of frequency masks in an utterance; 0: off.")
    frequency_mask_bins: int = Field(20, ge=0, description="Largest width of a frequency mask, in mel bins.")
    time_masks: int = Field(4, ge=0, le=1000, description="Number of time masks in an utterance; 0: off.")
    time_mask_ms: float = Field(300.0, ge=0, description="Largest width of a time mask, in milliseconds.")
    time_mask_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Largest width of a time mask, as a share of the utterance; the smaller of the two limits holds.",
    )
    noise_share: float = Field(0.0, ge=0, le=1, description="Share of utterances that get noise; 0: off.")
    noise_dir: str = Field("", description="Folder of noise recordings; empty: coloured noise is generated instead.")
    noise_snr_db: tuple[Decibels, Decibels] = Field(
        (0.0, 30.0),
        description="Lowest and highest signal-to-noise ratio, in dB; smaller is noisier.",
    )
    reverb_share: float = Field(0.0, ge=0, le=1, description="Share of utterances that get reverberation; 0: off.")
    reverb_dir: str = Field("", description="Folder of impulse responses of rooms; empty: rooms are generated instead.")

    @model_validator(mode="before")
    @classmethod
    def _no_gain(cls, values: object) -> object:
        """Refuse `gain_db`, which older versions had. Off, as their model folders have it, it is left out."""
        if not isinstance(values, dict) or "gain_db" not in values:
            return values
        if values["gain_db"] not in ([0, 0], (0, 0)):
            raise ValueError("gain_db has no effect any more, because features do not depend on the level: delete it")
        return {key: value for key, value in values.items() if key != "gain_db"}

    @field_validator("noise_snr_db")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the lower end of the range comes first")
        return value


class ModelSettings(Settings):
    """The network of the acoustic model."""

    encoder: Literal["recurrent", "conformer"] = Field(
        "recurrent",
        description="Kind of layers: recurrent, or attention and convolution (conformer) for comparison.",
    )
    rnn: Literal["lstm", "gru", "tanh", "relu"] = Field(
        "lstm", description="Cell of the recurrent layers; tanh and relu are simple cells without gates."
    )
    bidirectional: bool = Field(
        True,
        description="Read each utterance forwards and backwards; false reads forwards only, with more errors and less "
        "delay in a stream.",
    )
    layers: int = Field(3, ge=1, le=20, description="Number of layers; more can learn more and take longer.")
    hidden_size: int = Field(
        256,
        ge=8,
        le=4096,
        description="Width of a layer, in each direction; a wider one can learn more and takes longer.",
    )
    dropout: float = Field(
        0.2, ge=0, lt=1, description="Share of values set to 0 during training, against overfitting; 0: off."
    )
    subsampling: Literal[2, 4, 8] = Field(
        4,
        description="Number of log-mel frames per output frame; more is faster, but fast speech needs more output "
        "frames. A frame of an encoder counts as two.",
    )
    subsampling_channels: int = Field(
        32, ge=4, le=1024, description="Channels of the subsampling convolutions; more take longer."
    )
    lookahead_frames: int = Field(
        0,
        ge=0,
        le=100,
        description="Number of future output frames that a network with one direction sees; each delays a stream.",
    )

    @property
    def sees_whole_utterance(self) -> bool:
        """Whether a frame's result depends on all frames after it."""
        return self.bidirectional or self.encoder == "conformer"

    @property
    def network(self) -> str:
        """The network in words, e.g. `3 × 256 bidirectional lstm`."""
        direction = "bidirectional" if self.bidirectional else "unidirectional"
        kind = "conformer" if self.encoder == "conformer" else f"{direction} {self.rnn}"
        ahead = f", {self.lookahead_frames} frames of look-ahead" if self.lookahead_frames else ""
        return f"{self.layers} × {self.hidden_size} {kind}{ahead}"


class TrainingSettings(Settings):
    """How `asr train` trains."""

    epochs: int = Field(50, ge=1, description="Number of passes over the training data.")
    seed: int = Field(
        1, ge=0, lt=2**31, description="Start of all random numbers; another seed gives slightly other error rates."
    )
    batch_s: float = Field(
        20.0,
        gt=0,
        description="Seconds of audio in one step, over all devices; larger batches mean fewer steps per epoch.",
    )
    micro_batch_s: float | None = Field(
        None,
        gt=0,
        description="Most seconds of audio, padding included, in one forward pass; lower it if memory runs out. null: "
        "the whole batch at once.",
    )
    loading_processes: int | None = Field(
        None,
        ge=0,
        le=64,
        description="Processes that read and perturb audio ahead of the network. null: for a GPU one on each core but "
        "one, at most 16; for a CPU none.",
    )
    hours: float | None = Field(
        None,
        gt=0,
        description="Hours of training audio to use, drawn by utterance; fewer hours are part of more. null: all.",
    )
    max_utterance_s: float = Field(
        30.0, gt=0, description="Longest utterance to train on, in seconds; longer ones are left out and reported."
    )
    learning_rate: float = Field(
        2e-3, gt=0, description="Highest learning rate of the run; lower it if the loss jumps or is not finite."
    )
    encoder_learning_rate: float = Field(
        3e-5, gt=0, description="The same for the encoder's layers that features.unfreeze_layers trains."
    )
    schedule: Literal["one-cycle", "plateau"] = Field(
        "one-cycle",
        description="one-cycle: the rate falls to 0 along a cosine; plateau: halved when dev stops getting better.",
    )
    warmup_share: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the run in which the learning rate rises to its highest value; 0: it starts there.",
    )
    plateau_patience: int = Field(
        3, ge=1, description="Number of epochs that are not the best on dev after which plateau halves the rate."
    )
    weight_decay: float = Field(
        1e-2, ge=0, description="How strongly AdamW pulls weights towards 0, against overfitting; 0: off."
    )
    clip_norm: float = Field(5.0, gt=0, description="Largest norm of a gradient; larger ones are scaled down to it.")
    bptt_frames: int | None = Field(
        None,
        ge=1,
        description="Number of output frames through which gradients reach back; smaller takes less memory. null: the "
        "whole utterance.",
    )
    freeze: tuple[Literal["subsampling", "layers", "output"], ...] = Field(
        (), description="Parts of the network that do not change during the first freeze_steps steps."
    )
    freeze_steps: int = Field(
        0, ge=0, description="Number of steps during which the parts in freeze do not change; 0: they always change."
    )
    checkpoint_every_s: float = Field(
        300.0,
        ge=0,
        description="Seconds between checkpoints within an epoch; a crash costs at most this much. 0: every step.",
    )
    consistency_weight: float = Field(
        0.2,
        ge=0,
        description="CR-CTC: weight of the difference between two masked views of an utterance; 0 trains on one view, "
        "in about half the time, with more errors.",
    )
    intermediate_weight: float = Field(
        0.3, ge=0, lt=1, description="Intermediate CTC: share of the loss that the middle layer has; 0: off."
    )
    teacher_weight: float = Field(
        0.5, ge=0, description="asr distill: weight of the difference from the teachers' posteriors."
    )
    unlabelled_weight: float = Field(
        1.0,
        ge=0,
        description="With --unlabelled: how much a token that the model itself has recognised counts, against one of a "
        "transcript.",
    )
    unlabelled_after: float = Field(
        0.5,
        ge=0,
        le=1,
        description="With --unlabelled: share of the run after which it takes untranscribed utterances, if at most "
        "half of dev is wrong.",
    )
    unlabelled_patience: float = Field(
        0.25,
        gt=0,
        le=1,
        description="With --unlabelled: share of the run after which it ends if no epoch of that share was the best on "
        "dev.",
    )
    ema_decay: float = Field(
        0.999,
        ge=0,
        lt=1,
        description="Moving average of the weights, which is kept as the model; nearer to 1: over more steps. 0: off.",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="Number format; auto times steps in fp32 and in bf16 and takes the quicker."
    )
    accelerator: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Device to train on; auto takes a GPU if there is one."
    )
    tracker: Literal["none", "trackio", "wandb"] = Field(
        "none",
        description="What shows the run besides TensorBoard. trackio keeps it on this machine. wandb sends it to its "
        "server, with text and audio of three dev utterances.",
    )
    tracker_project: str = Field("asr", min_length=1, description="The project in the tracker that the run is part of.")


class Config(Settings):
    """All settings, in sections. A settings file holds those that differ from the defaults."""

    text: TextSettings = TextSettings()
    features: FeatureSettings = FeatureSettings()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    pretraining: PretrainingSettings = PretrainingSettings()
    decode: DecodeSettings = DecodeSettings()
    rnnlm: RnnLmSettings = RnnLmSettings()

    @property
    def frames_joined(self) -> int:
        """Frames of the features that become one output frame: an encoder's frames have the time of two of log-mel."""
        return self.model.subsampling // 2 if self.features.encoder else self.model.subsampling

    @model_validator(mode="after")
    def _an_encoder_has_features_of_its_own(self) -> Config:
        """Refuse other times than those of the encoder's frames, which all that counts frames goes by."""
        features = self.features
        if features.unfreeze_layers and not features.encoder:
            raise ValueError("features.unfreeze_layers is for a pretrained encoder: set features.encoder, or 0")
        if not features.encoder:
            return self
        for key, needed in (("sample_rate_hz", 16000), ("hop_ms", 10.0), ("cmvn", "utterance")):
            if getattr(features, key) != needed:
                raise ValueError(
                    f"features.{key}={getattr(features, key)} is for log-mel features; with features.encoder it is "
                    f"{needed}: delete it"
                )
        return self

    @model_validator(mode="after")
    def _some_settings_need_one_direction(self) -> Config:
        if self.training.bptt_frames is not None and self.model.sees_whole_utterance:
            raise ValueError(
                "training.bptt_frames needs a recurrent network with one direction, because no other can pass its "
                "state on: set model.encoder=recurrent and model.bidirectional=false, or training.bptt_frames=null"
            )
        if self.model.lookahead_frames and self.model.sees_whole_utterance:
            raise ValueError(
                f"model.lookahead_frames={self.model.lookahead_frames} is for a recurrent network with one direction, "
                "because any other sees the whole utterance anyway: set model.encoder=recurrent and "
                "model.bidirectional=false, or model.lookahead_frames=0"
            )
        return self
