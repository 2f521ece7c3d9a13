"""A model folder ↔ an acoustic model with its settings, tokens and calibration.

`files.py` lists the folder's files. Anyone can read them, and none has to be unpickled.

A folder may come from anybody. So each file is checked when it is loaded: its size, its types, and that it fits the
others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from asr.bundle.files import CONFIG, DECODER, LANGUAGE_MODEL, ONNX_NETWORK, TOKENS, WEIGHTS
from asr.bundle.settings import load_calibration, load_settings, save_settings
from asr.bundle.weights import load_network
from asr.config import Config, DecodeSettings
from asr.errors import AsrError, ModelError
from asr.files import atomic_path
from asr.model.acoustic import AcousticModel
from asr.settings_file import parse_settings
from asr.text.tokens import TokenTable, load_tokens
from asr.transcript.confidence import Calibration


@dataclass(frozen=True)
class ModelBundle:
    """An acoustic model with what belongs to it.

    Attributes:
        config: the settings; `config.decode` are those of the search.
        tokens: what the model emits.
        model: the network.
        folder: where it was loaded from, and where its language models are; None for a model in memory.
        calibration: of the confidences.
    """

    config: Config
    tokens: TokenTable
    model: AcousticModel
    folder: Path | None = field(default=None, kw_only=True)
    calibration: Calibration = field(default=Calibration(), kw_only=True)

    @property
    def lm_path(self) -> Path | None:
        """The file of the token n-gram, or None if there is none."""
        path = None if self.folder is None else self.folder / LANGUAGE_MODEL
        return path if path is not None and path.is_file() else None

    def save(self, folder: Path) -> None:
        """Write settings, tokens, weights and model card. Language models and calibration in the folder stay.

        Raises:
            ModelError: the weights cannot be written, for instance because the disk is full.
        """
        from asr.bundle.card import write_card  # here, because transcribing needs no cards

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        path = folder / WEIGHTS
        try:
            with atomic_path(path) as temporary:
                save_file(tensors, temporary)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot write the weights ({error}); make room or permission") from None
        self.tokens.save(folder / TOKENS)
        save_settings(self.config, folder)
        write_card(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], decode: Mapping[str, Any] | None = None) -> ModelBundle:
        """Read a model folder. The model is in evaluation mode on the CPU.

        Args:
            folder: as `save` writes it.
            decode: settings of the search in place of the folder's, e.g. `{"beam_size": 50}`.

        Raises:
            ConfigError: `decode` has an unknown key or a value out of range.
            ModelError: a file is missing, damaged, or does not fit the others.
        """
        root = Path(folder)
        _require_model_folder(root)
        try:
            config, tokens, calibration = load_settings(root), load_tokens(root / TOKENS), load_calibration(root)
        except AsrError as error:
            raise ModelError(f"the model folder is damaged: {error}") from None
        if decode:
            source = f"{root / DECODER} with {dict(decode)}"
            settings = parse_settings(DecodeSettings, config.decode.model_dump() | dict(decode), source)
            config = config.model_copy(update={"decode": settings})
        model = load_network(
            root / WEIGHTS, lambda: AcousticModel(config, len(tokens)), ModelError, f"{CONFIG} and {TOKENS}"
        )
        return cls(config, tokens, model, folder=root, calibration=calibration)


def _require_model_folder(folder: Path) -> None:
    missing = [name for name in (CONFIG, TOKENS, WEIGHTS, DECODER) if not (folder / name).is_file()]
    if not missing:
        return
    if (folder / ONNX_NETWORK).is_file():
        raise ModelError(f"{folder}: an ONNX export; use it with `python -m asr.runtime {folder} FILE`")
    if folder.is_file():
        raise ModelError(f"{folder}: a file, but the first argument is a model folder")
    reason = f"{', '.join(missing)} missing" if folder.is_dir() else "there is no such folder"
    raise ModelError(f"{folder}: not a model folder ({reason}); `asr train` writes one")
