"""The model card, `README.md` in a model folder: what the model is, what it learnt from, how well it does.

It is made of the folder's other files, no more than they know: what was never measured is not mentioned. It is written
with the model and again whenever something new is known, as when a decode folder inside is scored. No torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from asr.bundle.files import CARD, CONFIG, SCALE, TOKENS, TRAINING, WEIGHTS
from asr.config import Config
from asr.errors import AsrError, ModelError
from asr.files import write_text
from asr.settings_file import load_config

_MOMENTS = "cmvn."  # tensors of this name are measured, not trained

USE = f"""## Use

```
asr transcribe THIS_FOLDER speech.wav
asr decode THIS_FOLDER test.jsonl.gz --out THIS_FOLDER/decode_test && asr score THIS_FOLDER/decode_test
asr export THIS_FOLDER --format onnx --int8
```

```python
import asr
print(asr.load("THIS_FOLDER").transcribe("speech.wav").text)
```

The settings stand in `{CONFIG}`.
"""


@dataclass(frozen=True)
class TrainingFacts:
    """On what a model was trained and how well it did; `dev_wer` is that of greedy search, None without a dev set."""

    train_utterances: int
    train_s: float
    dev_utterances: int
    dev_s: float
    dev_words: int
    dev_wer: float | None
    epochs: int

    def save(self, folder: Path) -> None:
        """Write `training.json` into a model folder."""
        write_text(folder / TRAINING, json.dumps(asdict(self), indent=2) + "\n")


def is_model_folder(folder: Path) -> bool:
    """Return whether a folder holds a model."""
    return all((folder / name).is_file() for name in (CONFIG, TOKENS, WEIGHTS))


def write_card(folder: Path) -> None:
    """Write the card of a model folder into it.

    Raises:
        ModelError: a file of the folder is damaged.
    """
    write_text(folder / CARD, model_card(folder))


def model_card(folder: Path, weights: str | None = None, use: str = USE) -> str:
    """Return the card of a model folder, in Markdown.

    Args:
        folder: the model folder.
        weights: the `weights_line` of what was exported from it, if the card is for that.
        use: the section that says how to use the model, if it is not used as this folder is.

    Raises:
        ModelError: a file of the folder is damaged.
    """
    try:
        config = load_config(folder / CONFIG)
        table = json.loads((folder / TOKENS).read_text(encoding="utf-8"))
        known = [_network(folder, config, len(table["symbols"]) - 1, weights), *_data(folder), *_results(folder)]
    except (AsrError, SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: no card can be made, since a file is damaged ({error})") from None
    return "\n".join([*known, use, _limits(config)])


def weights_line(size: int, *, int8: bool) -> str:
    """Return what the card says of a file of weights of `size` bytes."""
    return f"{size / 1e6:.1f} MB, {'int8' if int8 else 'float32'}"


def _network(folder: Path, config: Config, tokens: int, weights: str | None) -> str:
    with safe_open(folder / WEIGHTS, framework="numpy") as file:
        names = [name for name in file.keys() if not name.startswith(_MOMENTS)]  # noqa: SIM118
        tensors = {name: file.get_slice(name) for name in names if not name.endswith(SCALE)}
    parameters = sum(math.prod(tensor.get_shape()) for tensor in tensors.values())
    int8 = any(tensor.get_dtype() == "I8" for tensor in tensors.values())
    weights = weights or weights_line((folder / WEIGHTS).stat().st_size, int8=int8)
    kind = "characters" if config.text.tokens == "characters" else f"{config.text.tokens} pieces"
    return f"""# Speech recognition model

| | |
| --- | --- |
| network | {config.model.network}, CTC |
| parameters | {parameters:,} |
| weights | {weights} |
| audio | {config.features.sample_rate_hz} Hz mono; other rates and channel counts are converted |
| tokens | {tokens} {kind} and the blank |
| frame shift | {config.model.subsampling * config.features.hop_ms:g} ms |
"""


def _data(folder: Path) -> Iterator[str]:
    """Yield the section on what the model learnt from, if that is known."""
    if not (folder / TRAINING).is_file():
        return
    facts = TrainingFacts(**json.loads((folder / TRAINING).read_text(encoding="utf-8")))
    table = f"""## Data

| | utterances | hours |
| --- | ---: | ---: |
| train | {facts.train_utterances:,} | {facts.train_s / 3600:.2f} |
"""
    if facts.dev_wer is None:
        yield f"{table}\nThese weights are those of epoch {facts.epochs}; dev was trained on too, and chose nothing.\n"
    else:
        yield f"""{table}| dev | {facts.dev_utterances:,} | {facts.dev_s / 3600:.2f} |

These weights are those of epoch {facts.epochs}, the best on dev: {100 * facts.dev_wer:.2f} % WER greedy, \
{facts.dev_words:,} words.
"""


def _results(folder: Path) -> Iterator[str]:
    """Yield the section on error rates, if a decode folder inside was scored."""
    rows = [_row(path) for path in sorted(folder.glob("*/wer.json"))]
    if rows:
        table = "\n".join(rows)
        yield f"""## Word error rates

| `asr score` of | search | words | WER (95 % interval) | CER | RTF there |
| --- | --- | ---: | --- | ---: | ---: |
{table}
"""


def _row(path: Path) -> str:
    score: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    run_path = path.with_name("run.json")
    run: dict[str, Any] = json.loads(run_path.read_text(encoding="utf-8")) if run_path.is_file() else {}
    low, high = (100 * score["wer_interval"][end] for end in ("low", "high"))
    cells = [
        f"`{path.parent.name}`",
        str(run.get("method", "")),
        f"{score['words']['reference']:,}",
        f"{100 * score['wer']:.2f} % ({low:.2f}–{high:.2f})",
        f"{100 * score['cer']:.2f} %",
        f"{run['seconds'] / run['audio_s']:.4f}" if run else "",
    ]
    return f"| {' | '.join(cells)} |"


def _limits(config: Config) -> str:
    return f"""## Limits and licence

Text comes {_writing(config)}. With other voices, rooms, microphones and subjects than those of the training data,
expect more errors; `asr score` counts them on your own recordings.

Licence: to be filled in by whoever passes this model on; that of the training data has a say in it.
"""


def _writing(config: Config) -> str:
    case = {"lower": "in lower case", "upper": "in upper case", "keep": "in upper and lower case"}[config.text.case]
    return case + (f", without {config.text.remove!r}" if config.text.remove else "")
