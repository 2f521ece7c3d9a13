"""Model folder → a folder for `asr.runtime`, which needs no torch."""

from __future__ import annotations

from pathlib import Path

from asr.data.files import atomic_path, write_text
from asr.errors import DependencyError, ModelError
from asr.inference.onnx_folder import CARD, NETWORK, Description
from asr.model.bundle import ModelBundle
from asr.model.card import model_card
from asr.model.files import WEIGHTS


def export_onnx(model: Path, folder: Path, *, int8: bool = False) -> int:
    """Write a model as ONNX, with features and normalisation inside; a language model is not exported.

    Args:
        model: the model folder.
        folder: where to write, see `onnx_folder.py`.
        int8: weights of 8 bits, for a quarter of the size; see `acoustic_graph`.

    Returns:
        The size of the network's file in bytes.

    Raises:
        ModelError: the model folder is damaged, its network is not recurrent, or `folder` is a model folder itself.
        DependencyError: the package onnx is missing.
    """
    try:
        from asr.inference.onnx_graph import acoustic_graph
    except ModuleNotFoundError as error:
        raise DependencyError(f"exporting needs the package {error.name}: pip install 'asr[onnx]'") from None

    if (folder / WEIGHTS).exists():
        raise ModelError(f"{folder}: holds a model folder, whose card an export would overwrite; name another one")
    bundle = ModelBundle.load(model)
    network = acoustic_graph(bundle.model, int8=int8).SerializeToString()
    use = _use("int8" if int8 else "float32", len(network))
    with atomic_path(folder / NETWORK) as temporary:
        temporary.write_bytes(network)
    Description(bundle.model.sample_rate_hz, bundle.model.frame_shift_s, bundle.tokens.texts).save(folder)
    write_text(folder / CARD, model_card(model, use))
    return len(network)


def _use(numbers: str, size: int) -> str:
    return f"""## Use

`{NETWORK}` holds the network, features and normalisation inside, in {numbers}: {size / 1e6:.1f} MB. Error rates above,
if any, are those of the model in torch that it was exported from; a language model was not exported.

```
pip install numpy onnxruntime soundfile && pip install --no-deps asr
python -m asr.runtime THIS_FOLDER speech.wav
```

```python
import asr.runtime
print(asr.runtime.load("THIS_FOLDER").transcribe("speech.wav").text)
```
"""
