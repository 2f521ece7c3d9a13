"""In which number format a model transcribes on this machine.

bfloat16 rounds to 8 binary digits. It changes about one word in some hundred, for better or worse, and is the quicker
format on some processors and GPUs. `auto` takes it only if

* the model was trained in it: then the error rate on dev, by which its weights were chosen, was measured in it; and
* it is the quicker one for this network on this machine, by timing.

A recording must give the same text in the next run. So the model is timed once, and the choice is kept in the user's
cache. Where it cannot be kept, `auto` is float32.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

import torch
from filelock import FileLock, Timeout

from asr.bundle.bundle import ModelBundle, trained_precision
from asr.bundle.files import CONFIG, TOKENS
from asr.errors import AsrError, ConfigError
from asr.files import to_json, write_text
from asr.machine import Accelerator, cache_folder, choose_accelerator, cores, processor_name
from asr.model.computation import Comparison, Precision, compare, threads
from asr.paths import ReadablePath
from asr.reading import read_json

WantedPrecision = Literal["auto", "fp32", "bf16"]

_FORMATS: tuple[Precision, ...] = ("fp32", "bf16")
_UTTERANCES, _UTTERANCE_S = 2, 5.0  # of noise, that are timed
_BUDGET_S = 0.2
_PATIENCE_S = 30.0  # while another process times


def settled_precision(folder: ReadablePath, accelerator: Accelerator, wanted: WantedPrecision) -> Precision:
    """Return the number format in which the model in `folder` transcribes.

    Args:
        folder: a model folder.
        accelerator: where.
        wanted: the user's wish.

    Raises:
        ConfigError: there is no such format.
        DeviceError: `cuda` is asked for and there is none.
        ModelError: the model has to be timed and cannot be read.
    """
    if wanted not in ("auto", *_FORMATS):
        raise ConfigError(f"precision={wanted!r}: auto, fp32 or bf16")
    if wanted != "auto":
        return wanted
    if trained_precision(folder) != "bf16":
        return "fp32"
    device = choose_accelerator(accelerator)
    try:
        name = processor_name() if device == "cpu" else torch.cuda.get_device_name()
        made_for = {"device": name, "cores": cores(), "torch": torch.__version__}
        network = b"".join((folder / part).read_bytes() for part in (CONFIG, TOKENS))
        key = hashlib.blake2b(json.dumps(made_for).encode() + network, digest_size=16).hexdigest()
        path = cache_folder() / "precision" / f"{key}.json"
        kept = _kept(path)
        if kept is not None:
            return kept
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=_PATIENCE_S):  # who waited takes what was found meanwhile
            kept = _kept(path)
            if kept is not None:
                return kept
            found = time_formats(ModelBundle.load(folder), torch.device(device))
            write_text(path, to_json(made_for | {"precision": found.chosen, "seconds": found.times_s}, indent=2) + "\n")
            return found.chosen
    except (OSError, RuntimeError, NotImplementedError, Timeout):  # no home, no room, no permission, no locks
        return "fp32"


def _kept(path: Path) -> Precision | None:
    """Return what an earlier run chose; None if there is none or its file is damaged."""
    try:
        content = read_json(path, AsrError, "the precision")
    except AsrError:
        return None
    precision = content.get("precision") if isinstance(content, dict) else None
    return cast(Precision, precision) if precision in _FORMATS else None


@torch.inference_mode()
def time_formats(bundle: ModelBundle, device: torch.device) -> Comparison[Precision]:
    """Time a model's network on noise in each number format, with one thread, for a fifth of a second."""
    model = bundle.model.to(device)
    draws = torch.Generator().manual_seed(0)

    def prepare(share: float) -> Callable[[Precision], object]:
        samples = round(share * _UTTERANCE_S * model.sample_rate_hz)
        waveforms = (0.1 * torch.randn(_UTTERANCES, samples, generator=draws)).to(device)
        lengths = torch.full((_UTTERANCES,), samples, device=device)

        def transcribe(precision: Precision) -> None:
            with threads(1), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                model(waveforms, lengths)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return transcribe

    stopwatch = time.thread_time if device.type == "cpu" else time.perf_counter
    return compare(_FORMATS, prepare, budget_s=_BUDGET_S, stopwatch=stopwatch)
