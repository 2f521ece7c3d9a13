"""A model folder's settings and calibration, read and written without torch.

Each setting is in one file: those of the search in `decoder.yaml`, those of the recurrent language model in its own
file, all others in `config.yaml`, with the whole table of `text.replace`. Those of pretraining have no influence on a
model and are left out. Folders of older versions have those of the search in `config.yaml` too; what `decoder.yaml`
says holds. Folders from before `text.apostrophes` or `text.clean` keep the characters that these change, which may be
among their tokens. Folders from before features became independent of the level are read if they normalise by the
utterance, which hid the level before; others are refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field

from asr.bundle.files import CALIBRATION, CONFIG, DECODER
from asr.config import Config
from asr.errors import ConfigError, ModelError
from asr.files import write_text
from asr.paths import ReadablePath
from asr.reading import read_json, read_text, read_yaml
from asr.records import Record, checked
from asr.search_config import DecodeSettings
from asr.settings_file import parse_config, parse_settings, read_settings, save_config
from asr.transcript.confidence import Calibration


def save_settings(config: Config, folder: Path) -> None:
    """Write `config.yaml` and `decoder.yaml` into a model folder."""
    save_config(config, folder / CONFIG, without=("pretraining", "decode", "rnnlm"))
    save_decode_settings(config.decode, folder)


def load_settings(folder: ReadablePath) -> Config:
    """Return the settings of a model folder.

    Raises:
        ConfigError: `config.yaml` is missing or damaged.
        ModelError: `decoder.yaml` is damaged, or the model takes features that this version does not compute.
    """
    path = folder / CONFIG
    config = parse_config(read_settings(path), str(path))
    # Folders from before features became independent of the level hold this setting, which is gone.
    if config.features.cmvn == "global" and re.search(
        r"^\s*gain_db:", read_text(path, ConfigError, "the settings"), re.MULTILINE
    ):
        raise ModelError(
            f"{path}: this model was trained on features that depend on the level, which this version does not "
            "compute; train it again, or use the version of asr that trained it"
        )
    rule = {"apostrophes": "keep", "clean": False}  # of folders that were written before these settings existed
    missing = {name: value for name, value in rule.items() if name not in config.text.model_fields_set}
    if missing:
        config = config.model_copy(update={"text": config.text.model_copy(update=missing)})
    if not (folder / DECODER).is_file():
        return config
    return config.model_copy(update={"decode": load_decode_settings(folder)})


def save_decode_settings(settings: DecodeSettings, folder: Path) -> None:
    """Write the settings of the search into a model folder."""
    save_config(settings, folder / DECODER)


def load_decode_settings(folder: ReadablePath) -> DecodeSettings:
    """Return the settings of the search of a model folder.

    Raises:
        ModelError: the file is missing, or not what `save_decode_settings` writes.
    """
    path = folder / DECODER
    content = read_yaml(path, ModelError, "the decoder settings")
    try:
        return parse_settings(DecodeSettings, content, str(path))
    except ConfigError as error:
        raise ModelError(*error.args) from None


def save_calibration(calibration: Calibration, folder: Path) -> None:
    """Write a calibration into a model folder."""
    write_text(folder / CALIBRATION, json.dumps(asdict(calibration), indent=2, allow_nan=False) + "\n")


def load_calibration(folder: ReadablePath) -> Calibration:
    """Return the calibration of a model folder, or the default one if the folder has none.

    Raises:
        ModelError: the file is not what `save_calibration` writes.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return Calibration()
    way_out = "delete it or run `asr tune` again"
    content = read_json(path, ModelError, "the calibration", way_out=way_out)
    return Calibration(
        **checked(_Coefficients, content, f"{path}: not a calibration", ModelError, way_out).model_dump()
    )


_Coefficient = Annotated[float, Field(ge=-1e6, le=1e6)]


class _Coefficients(Record):
    """What the file of a calibration holds."""

    bias: _Coefficient
    posterior: _Coefficient
    acoustic: _Coefficient
