"""The model card, `README.md` in a model folder: what the model is, what it was trained on, how well it does. No torch.

The card says what the folder's other files know and no more: what was never measured is not mentioned. It is written
with the model, and again when something new is known, such as the error rates of a decode folder inside. Its text is in
`asr/bundle/templates/`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asr.bundle.files import CARD, CONFIG, DECODE_RUN, ONNX_NETWORK, SCALE, SCORES, TOKENS, TRAINING, WEIGHTS
from asr.bundle.speaker_names import speaker_names
from asr.config import Config
from asr.errors import AsrError, ModelError
from asr.files import printable, to_json, write_text
from asr.paths import ReadablePath
from asr.reading import TensorForm, read_json, read_tensor_forms, read_text
from asr.records import Count, Record, Text, checked
from asr.settings_file import parse_config, read_settings

if TYPE_CHECKING:
    from markupsafe import Markup

_MOMENTS = "cmvn."  # tensors whose name begins so are measured, not trained
# What its owner adds to a card is kept: before the title, and behind this sentence.
_TITLE = "# Speech recognition model\n"
_LAST_SENTENCE = "counts them on your own recordings.\n"
_MOST_CARD_BYTES = 1 << 20
_CASES = {"lower": "in lower case", "upper": "in upper case", "keep": "in upper and lower case"}


@dataclass(frozen=True)
class TrainingFacts:
    """What a model was trained on and how well it did.

    `dev_wer` and `dev_cer` are the error rates of greedy search on dev in words and in characters, and `dev_loss` is
    the CTC loss per token there, in nats; None if the model was trained without a dev set. `main` is the rate that
    decided: in scripts without spaces the character error rate.
    `languages` are those noted in the training manifest. `init_from` is the model folder whose weights were taken over.
    `teachers` are the model folders whose posteriors were learnt.
    `precision` is the number format (fp32 or bf16) in which the network computed, also on dev.
    """

    train_utterances: int
    train_s: float
    dev_utterances: int
    dev_s: float
    dev_words: int
    dev_wer: float | None
    epochs: int
    languages: Sequence[str] = ()
    init_from: str | None = None
    dev_cer: float | None = None
    dev_loss: float | None = None
    precision: str | None = None
    threads: int | None = None
    processor: str | None = None
    main: Literal["wer", "cer"] = "wer"
    teachers: Sequence[str] = ()

    def save(self, folder: Path) -> None:
        """Write `training.json` into a model folder."""
        write_text(folder / TRAINING, to_json(asdict(self), indent=2) + "\n")


@dataclass(frozen=True)
class Exported:
    """What was exported from a model folder: its form, the size of its weights, and whether they are in int8."""

    form: Literal["onnx", "torch"]
    weights_bytes: int
    int8: bool


def is_model_folder(folder: ReadablePath) -> bool:
    """Return whether a folder is a model folder."""
    return all((folder / name).is_file() for name in (CONFIG, TOKENS, WEIGHTS))


def write_card(folder: Path) -> Path | None:
    """Write the card of a model folder into it; return its path.

    What its owner wrote behind the last generated sentence, such as a licence, or as front matter, stays. A `README.md`
    that is no card stays as it is, and None is returned.

    Raises:
        ModelError: a file of the folder is damaged.
    """
    text = model_card(folder)
    if is_foreign_card(folder):
        return None
    write_text(folder / CARD, text)
    return folder / CARD


def is_foreign_card(folder: ReadablePath) -> bool:
    """Return whether a folder has a `README.md` that is no model card of this package."""
    return (folder / CARD).exists() and _own_words(folder) is None


def _own_words(folder: ReadablePath) -> tuple[str, str] | None:
    """Return the front matter of a card and what is behind its last generated sentence; None if it is no card."""
    try:
        text = read_text(folder / CARD, ModelError, "the model card", most_bytes=_MOST_CARD_BYTES)
    except ModelError:
        return None
    front, title, rest = text.partition(_TITLE)
    _, last_sentence, own = rest.rpartition(_LAST_SENTENCE)
    is_front_matter = not front or re.fullmatch(r"---\n.*?\n---\n+", front, flags=re.DOTALL)
    return (front, own) if title and last_sentence and is_front_matter else None


def model_card(folder: ReadablePath, exported: Exported | None = None) -> str:
    """Return the card of a model folder, in Markdown, with what its owner added to the one that is there.

    Args:
        folder: the model folder.
        exported: what was exported from it, if the card is of that.

    Raises:
        ModelError: a file of the folder is damaged.
    """
    try:
        config = parse_config(read_settings(folder / CONFIG), str(folder / CONFIG))
        text = _rendered(
            {
                "network": _network(folder, config, exported),
                "facts": training_facts(folder),
                "speakers": speaker_names(folder),
                "results": _results(folder),
                "exported_as": None if exported is None else exported.form,
                "onnx_network": ONNX_NETWORK,
                "settings_file": CONFIG,
                "case": _CASES[config.text.case],
                "spaced": config.text.space,
                "removed": config.text.remove,
                "numbers": config.text.numbers,
            }
        )
    except (AsrError, OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise ModelError(f"{folder}: no card can be made, since a file is damaged ({error})") from None
    if (own := _own_words(folder)) is None:
        return text
    return own[0] + text[: text.index(_LAST_SENTENCE) + len(_LAST_SENTENCE)] + own[1]


def _rendered(values: Mapping[str, object]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("asr.bundle"),
        autoescape=True,  # Markdown may hold HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"markdown": as_markdown, "code": as_code}
    return templates.get_template("card.md.jinja").render(values)


def as_markdown(text: str) -> Markup:
    """Return users' text so that Markdown and HTML show it as it is: every sign that could mean something is escaped.

    Source: CommonMark 0.31, section 2.4: any ASCII punctuation may be escaped by a backslash.
    """
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([\\`*_{}\[\]()#+\-.!|~^:@])", r"\\\1", str(escape(printable(text)))))


def as_code(text: str) -> Markup:
    """Return users' text as Markdown code for a cell of a table, where it is shown as it is.

    Source: CommonMark 0.31, section 6.1 (a fence longer than any run of backticks inside); GitHub Flavored Markdown
    0.29, section 4.10 (in a table a bar is escaped even within code).
    """
    from markupsafe import Markup

    shown = printable(text).replace("|", r"\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    room = " " if shown.startswith(("`", " ")) or shown.endswith(("`", " ")) else ""
    return Markup(f"{fence}{room}{shown}{room}{fence}")


@dataclass(frozen=True)
class _Network:
    kind: str
    parameters: int
    weights_bytes: int
    int8: bool
    sample_rate_hz: int
    tokens: int
    token_kind: str
    frame_shift_ms: float
    encoder: str


def parameter_count(folder: ReadablePath) -> int:
    """Return the number of trained weights of a model folder, without those of a pretrained encoder elsewhere.

    Raises:
        ModelError: the weights are missing or damaged.
    """
    return _parameters(_trained_tensors(folder))


def _parameters(tensors: Iterable[TensorForm]) -> int:
    return sum(math.prod(tensor.shape) for tensor in tensors)


def _trained_tensors(folder: ReadablePath) -> list[TensorForm]:
    stored, _ = read_tensor_forms(folder / WEIGHTS, ModelError, "the weights")
    return [form for name, form in stored.items() if not name.startswith(_MOMENTS) and not name.endswith(SCALE)]


def _network(folder: ReadablePath, config: Config, exported: Exported | None) -> _Network:
    table = read_json(folder / TOKENS, ModelError, "the token table")
    tensors = _trained_tensors(folder)
    return _Network(
        kind=config.model.network,
        parameters=_parameters(tensors),
        weights_bytes=exported.weights_bytes if exported else len((folder / WEIGHTS).read_bytes()),
        int8=exported.int8 if exported else any(tensor.kind == "I8" for tensor in tensors),
        sample_rate_hz=config.features.sample_rate_hz,
        tokens=len(table["symbols"]) - 1,
        token_kind=config.text.tokens + " pieces" * (config.text.tokens in ("bpe", "unigram")),
        frame_shift_ms=config.model.subsampling * config.features.hop_ms,
        encoder=config.features.encoder,
    )


def training_facts(folder: ReadablePath) -> TrainingFacts | None:
    """Return what a model was trained on, if that is known.

    Raises:
        ModelError: the file is damaged.
    """
    if not (folder / TRAINING).is_file():
        return None
    path = folder / TRAINING
    content = read_json(path, ModelError, "what the model was trained on")
    return checked(TrainingFacts, content, path, ModelError, "train again, or remove the file")


@dataclass(frozen=True)
class _Result:
    """The error rates of a decode folder; rates and interval as fractions, `rtf` None if it is not known.

    `main` names the main rate, which `low` and `high` bound: "wer" or "cer". `length` is that of the references in its
    unit.
    """

    folder: str
    method: str
    length: int
    wer: float
    low: float
    high: float
    cer: float
    main: str
    rtf: float | None


class _Interval(Record):
    low: float
    high: float


class _Lengths(Record):
    reference: Count


class _Scores(Record):
    """What the card shows of a decode folder's error rates."""

    words: _Lengths
    wer: float
    wer_interval: _Interval
    cer: float


class _CharacterScores(_Scores):
    """The same where the character error rate is the main figure."""

    characters: _Lengths
    cer_interval: _Interval


class _Run(Record):
    """What the card shows of how a folder was decoded."""

    method: Text
    seconds: float = Field(ge=0)
    audio_s: float = Field(ge=0)


def _results(folder: ReadablePath) -> list[_Result]:
    """Return the error rates of the decode folders inside; a packed model has none."""
    return [_result(path) for path in sorted(folder.glob(f"*/{SCORES}"))] if isinstance(folder, Path) else []


def _result(path: Path) -> _Result:
    way_out = "run `asr score` again"
    content = read_json(path, ModelError, "the error rates", way_out=way_out)
    by_characters = isinstance(content, dict) and content.get("main") == "cer"
    score = checked(_CharacterScores if by_characters else _Scores, content, path, ModelError, way_out)
    length, interval = score.words, score.wer_interval
    if isinstance(score, _CharacterScores):
        length, interval = score.characters, score.cer_interval
    run_path = path.with_name(DECODE_RUN)
    run = None
    if run_path.is_file():
        content = read_json(run_path, ModelError, "how it was decoded", way_out="decode again")
        run = checked(_Run, content, run_path, ModelError, "decode again")
    return _Result(
        folder=path.parent.name,
        method=run.method if run else "",
        length=length.reference,
        wer=score.wer,
        low=interval.low,
        high=interval.high,
        cer=score.cer,
        main="cer" if by_characters else "wer",
        rtf=run.seconds / run.audio_s if run and run.audio_s else None,
    )
