"""The model folder: everything that transcribing needs, in files that anyone can read and nothing has to unpickle.

config.yaml         the settings
tokens.json         the token table; that of sub-word pieces holds their sentencepiece model in base64
model.safetensors   weights, in float32 or 8 bits (`int8.py`), and normalisation moments
decoder.yaml        the beam search's settings, as chosen on dev
lm.arpa.gz          a token n-gram (optional, like the next two; written by `asr lm ngram --model`)
lm.words.arpa.gz    a word n-gram, whose words are the lexicon (`asr lm ngram --model --words`)
rnnlm/              a recurrent language model (`asr lm rnn --model`)
training.json       on what it was trained, for the card (written by `asr train`)
README.md           the model card
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from asr.bundle.card import write_card
from asr.bundle.files import CONFIG, DECODER, LANGUAGE_MODEL, ONNX_NETWORK, TOKENS, WEIGHTS
from asr.bundle.int8 import to_float32
from asr.config import Config, DecodeSettings
from asr.errors import AsrError, ModelError
from asr.files import atomic_path
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config, parse_settings, save_config
from asr.text.tokens import TokenTable, load_tokens


@dataclass(frozen=True)
class ModelBundle:
    """An acoustic model with what belongs to it; language models lie in `folder`, from which it was loaded."""

    config: Config
    tokens: TokenTable
    model: AcousticModel
    decoder: DecodeSettings
    folder: Path | None = None

    @property
    def lm_path(self) -> Path | None:
        """The token n-gram's file; None if there is none."""
        path = None if self.folder is None else self.folder / LANGUAGE_MODEL
        return path if path is not None and path.is_file() else None

    def save(self, folder: Path) -> None:
        """Write settings, tokens, weights, decoder settings and model card; a language model is left as it stands.

        Raises:
            ModelError: the weights cannot be written, for instance because the disk is full.
        """
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        try:
            with atomic_path(folder / WEIGHTS) as temporary:
                save_file(tensors, temporary)
        except (OSError, SafetensorError) as error:
            path = folder / WEIGHTS
            raise ModelError(f"{path}: cannot write the weights ({error}); make room or permission") from None
        self.tokens.save(folder / TOKENS)
        save_config(self.config, folder / CONFIG)
        save_decoder(self.decoder, folder)
        write_card(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], decode: Mapping[str, Any] | None = None) -> ModelBundle:
        """Read a model folder; the model is in evaluation mode on the CPU.

        Args:
            folder: as `save` wrote it.
            decode: decoder settings in place of the folder's, e.g. `{"beam_size": 50}`.

        Raises:
            ConfigError: `decode` has an unknown key or a value out of range.
            ModelError: a file is missing, damaged, or does not fit the others.
        """
        root = Path(folder)
        missing = [name for name in (CONFIG, TOKENS, WEIGHTS, DECODER) if not (root / name).is_file()]
        if missing:
            if (root / ONNX_NETWORK).is_file():
                raise ModelError(f"{root}: an ONNX export, which is used by `python -m asr.runtime {root} FILE`")
            if root.is_file():
                raise ModelError(f"{root}: a file, not a model folder, which comes first")
            reason = f"{', '.join(missing)} missing" if root.is_dir() else "there is no such folder"
            raise ModelError(f"{root}: not a model folder ({reason}); `asr train` writes one")
        try:
            config = load_config(root / CONFIG)
            tokens = load_tokens(root / TOKENS)
            decoder = load_decoder(root)
        except AsrError as error:
            raise ModelError(f"the model folder is damaged: {error}") from None
        if decode:
            source = f"{root / DECODER} with {dict(decode)}"
            decoder = parse_settings(DecodeSettings, decoder.model_dump() | dict(decode), source)
        try:
            tensors = to_float32(load_file(root / WEIGHTS))
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"the model folder is damaged: {root / WEIGHTS}: {error}") from None
        model = AcousticModel(config, len(tokens))
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ModelError(f"{root / WEIGHTS}: does not fit {CONFIG} and {TOKENS} ({error})") from None
        return cls(config, tokens, model.eval(), decoder, root)


def save_decoder(settings: DecodeSettings, folder: Path) -> None:
    """Write the beam search's settings into a model folder."""
    save_config(settings, folder / DECODER)


def load_decoder(folder: Path) -> DecodeSettings:
    """Read the beam search's settings from a model folder.

    Raises:
        ModelError: the file is not what `save_decoder` wrote.
    """
    path = folder / DECODER
    try:
        return DecodeSettings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise ModelError(f"{path}: cannot be used as decoder settings ({error})") from None
