"""Model folder → a folder to pass on: a smaller model folder, ONNX for `asr.runtime`, or a page for the browser."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.metadata import files as files_of
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from asr.audio.speech_detector import shipped_weights
from asr.bundle import files
from asr.bundle.bundle import ModelBundle, save_weights, to_int8
from asr.bundle.card import Exported, is_foreign_card, model_card
from asr.decoding.beam import BeamOptions
from asr.decoding.folder_scorers import NgramUse
from asr.errors import ConfigError, DependencyError, ModelError
from asr.files import atomic_path, write_text
from asr.paths import ReadablePath
from asr.runtime.description import TEXT_SETTINGS, Description
from asr.sharing.hub import hub_name
from asr.sharing.names import model_folder
from asr.sharing.packed import is_packed

Format = Literal["onnx", "torch", "web"]


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote; `size_bytes` is the size of the file with the weights."""

    folder: Path
    format: Format
    int8: bool
    size_bytes: int


def export(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    format: Format = "onnx",
    int8: bool = False,
) -> ExportReport:
    """Write a model to pass on, without checkpoints and logs.

    Args:
        model: a model folder.
        out: the folder to write. Default: beside the model, with `-onnx`, `-torch` and `-int8` added to its name.
        format: `onnx` runs without torch, see `asr.runtime`. It takes along the n-gram that the settings of the search
            name and the threshold of a grammar, but no recurrent language model. `torch` is a model folder again, with
            its language models. `web` is a page that transcribes in the browser, with the `onnx` export in its folder
            `model`; see docs/browser.md.
        int8: store the weights in 8 bits, a quarter of the size.

    Raises:
        ConfigError: there is no such format.
        ModelError: the model folder is damaged, `out` is a model folder already, or `format` is `onnx` or `web` and the
            network is not recurrent or has too large an encoder.
        DependencyError: the package onnx or silero-vad is missing.
    """
    if format not in get_args(Format):
        raise ConfigError(f"format={format!r}: {' or '.join(get_args(Format))}")
    source = model_folder(model)
    folder = _beside(Path(model), f"-{format}{'-int8' if int8 else ''}") if out is None else Path(out)
    write = {"onnx": export_onnx, "torch": export_torch, "web": export_web}[format]
    return ExportReport(folder, format, int8, write(source, folder, int8=int8))


def export_onnx(model: ReadablePath, folder: Path, *, int8: bool = False) -> int:
    """Write a model as ONNX, with features and normalisation inside, the n-gram and the settings of the search.

    A recurrent language model needs torch, so it stays behind.

    Args:
        model: the model folder.
        folder: where to write.
        int8: store the weights in 8 bits, a quarter of the size; see `acoustic_graph`.

    Returns:
        The size of the network's file in bytes.

    Raises:
        ModelError: the model folder is damaged, its network is not recurrent or has too large an encoder, or `folder`
            is a model folder itself.
        DependencyError: the package onnx or silero-vad is missing.
    """
    try:
        from asr.exporting.onnx_graph import acoustic_graph
    except ModuleNotFoundError as error:
        raise DependencyError(f"exporting needs the package {error.name}: pip install {error.name}") from None

    _refuse_model_folder(folder)
    bundle = ModelBundle.load(model)
    network = acoustic_graph(bundle.model, int8=int8).SerializeToString()
    with atomic_path(folder / files.ONNX_NETWORK) as temporary:
        temporary.write_bytes(network)
    _description(bundle).save(folder)
    _copy_search_files(bundle, folder)
    _write_speech_detector(folder)
    write_text(folder / files.CARD, model_card(model, Exported("onnx", len(network), int8)))
    return len(network)


def export_web(model: ReadablePath, folder: Path, *, int8: bool = False) -> int:
    """Write a page that transcribes in the browser, with the model as ONNX in its folder `model`.

    Args, Returns and Raises: as `export_onnx`.
    """
    from asr.exporting.web import is_foreign, write_page

    _refuse_model_folder(folder)
    if is_foreign(folder):
        raise ModelError(f"{folder}: holds a page that is not of an export, so it is not replaced; name another folder")
    size = export_onnx(model, folder / files.WEB_MODEL, int8=int8)
    from asr.exporting.detector_graph import detector_graph

    with atomic_path(folder / files.WEB_MODEL / files.ONNX_SPEECH_DETECTOR_NETWORK) as temporary:
        temporary.write_bytes(detector_graph(shipped_weights()).SerializeToString())
    write_page(folder, Path(model).resolve().name)
    return size


def _description(bundle: ModelBundle) -> Description:
    text, decode = bundle.config.text.model_dump(), bundle.config.decode
    return Description(
        bundle.model.sample_rate_hz,
        bundle.model.frame_shift_s,
        bundle.tokens.symbols,
        bundle.tokens.kind,
        {name: text[name] for name in TEXT_SETTINGS},
        bundle.calibration,
        BeamOptions(decode.beam_size, decode.insertion_bonus, decode.blank_skip, decode.token_floor),
        NgramUse(decode.lm, decode.lm_weight, decode.oov_penalty),
    )


def _copy_search_files(bundle: ModelBundle, folder: Path) -> None:
    """Take along the n-gram that the settings name and the threshold of a grammar; leave none from an export before."""
    used = files.WORD_LANGUAGE_MODEL if bundle.config.decode.lm == "words" else files.LANGUAGE_MODEL
    for name in (files.LANGUAGE_MODEL, files.WORD_LANGUAGE_MODEL, files.REJECTION):
        (folder / name).unlink(missing_ok=True)
        source = None if bundle.folder is None or name not in (used, files.REJECTION) else bundle.folder / name
        if source is not None and source.is_file():
            _copy(source, folder / name)


def _write_speech_detector(folder: Path) -> None:
    weights = shipped_weights()
    with atomic_path(folder / files.ONNX_SPEECH_DETECTOR) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **weights)  # type: ignore[arg-type]
    licences = [file.read_text(encoding="utf-8") for file in files_of("silero-vad") or () if file.name == "LICENSE"]
    write_text(
        folder / files.ONNX_SPEECH_DETECTOR_LICENCE, "\n".join(["https://github.com/snakers4/silero-vad\n", *licences])
    )


def export_torch(model: ReadablePath, folder: Path, *, int8: bool = False) -> int:
    """Write a model folder that transcribes as `model` does, without checkpoints and logs.

    Args:
        model: the model folder.
        folder: where to write.
        int8: store the weights in 8 bits, a quarter of the size, see `asr/bundle/bundle.py`. Language models stay
            as they are.

    Returns:
        The size of the weights' file in bytes.

    Raises:
        ModelError: the model folder is damaged, or `folder` is a model folder already.
    """
    _refuse_model_folder(folder)
    tensors = ModelBundle.load(model).model.state_dict()
    for name in (*files.READ_BY_TRANSCRIBING, files.TRAINING):
        if name != files.WEIGHTS and (model / name).is_file():
            _copy(model / name, folder / name)
    for path in (model / files.SPEAKERS).glob(f"*{files.SPEAKER_SUFFIX}"):
        _copy(path, folder / files.SPEAKERS / path.name)
    save_weights(to_int8(tensors) if int8 else tensors, folder / files.WEIGHTS)
    size = (folder / files.WEIGHTS).stat().st_size
    write_text(folder / files.CARD, model_card(model, Exported("torch", size, int8)))
    return size


def _copy(source: ReadablePath, target: Path) -> None:
    with atomic_path(target) as temporary, source.open("rb") as read, temporary.open("wb") as file:
        shutil.copyfileobj(read, file)


def _beside(model: Path, ending: str) -> Path:
    """Return the path beside a model that has its name and this ending, without the suffix of a packed one.

    Of a model on the hub it is in the working directory.
    """
    on_hub = hub_name(model)
    if on_hub is not None:
        return Path(on_hub.repository.rpartition("/")[2] + ending)
    named = model.resolve() if model.name in ("", "..") else model
    name = named.stem if is_packed(named) else named.name
    return named.with_name(f"{name}{ending}")


def _refuse_model_folder(folder: Path) -> None:
    if (folder / files.WEIGHTS).exists():
        raise ModelError(f"{folder}: holds a model already, which would be overwritten; name another folder")
    if (folder / files.CONFIG).exists() or is_foreign_card(folder):
        name = files.CONFIG if (folder / files.CONFIG).exists() else files.CARD
        raise ModelError(f"{folder / name}: exists and is not of an export, so it is not replaced; name another folder")
