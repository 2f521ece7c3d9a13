"""Folders → the systems of a comparison: their texts and figures, size, settings and training. No torch.

A system is a decode folder. Texts and figures come from it; the rest comes from the model folder around it, if there is
one. What is missing there is left out, and what is damaged there becomes a note: it does not stop the comparison.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from asr.bundle.card import is_model_folder, parameter_count
from asr.bundle.files import DECODE_RUN, HYPOTHESES, REFERENCES
from asr.bundle.settings import load_settings
from asr.bundle.training_log import EpochLine, read_epochs
from asr.errors import AsrError, ScoringError, explained
from asr.paths import ReadablePath
from asr.reading import counted, read_json, shown
from asr.scoring.score import CorpusScore, read_score, read_trn, score_texts
from asr.sharing.names import folder_here

LETTERS = string.ascii_uppercase  # the short names of the systems
_NAMES_IN_A_MESSAGE = 3
_MEASURED = ("audio_s", "seconds")  # of `run.json`: what decoding found, not how it was done
_MODELS = "models"  # in `run.json`; one is no setting, its own are
_SEARCH = "decode"  # the section of the settings of the search, in `config` and in `run.json`
# Sections without influence on a model that is there.
_WITHOUT_INFLUENCE = ("pretraining", "rnnlm")

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class ComparedSystem:
    """One of the systems of a comparison.

    Attributes:
        letter: its short name in the comparison: "A" for the first.
        folder: its decode folder.
        model: the model folder around it, or the model with which it was decoded; None if neither is there.
        score: its figures on the compared utterances.
        hypotheses: what it recognised, by utterance id.
        parameters: number of trained weights; None if that is not known.
        settings: all that is known of how it was made and run, by dotted name, e.g. `training.seed`.
        epochs: the log of its training; empty if there is none.
        notes: what could not be read.
    """

    letter: str
    folder: Path
    model: ReadablePath | None
    score: CorpusScore
    hypotheses: Mapping[str, str]
    parameters: int | None
    settings: Mapping[str, Any]
    epochs: tuple[EpochLine, ...]
    notes: tuple[str, ...] = ()

    @property
    def training_s(self) -> float | None:
        """Wall time of the training and of its evaluations on dev, in seconds; None if that is not known."""
        return sum(epoch.train_s + epoch.dev_s for epoch in self.epochs) or None


def decode_folders(given: Sequence[Path]) -> list[Path]:
    """Return the decode folder of each system, given as such or as the model folder around it.

    Of a model folder it is the one that has the same name, and the same references, in all model folders.

    Raises:
        ScoringError: a folder is neither, or several decode folders could be meant, or none; or there are too few
            folders, or too many, or the same twice.
    """
    if not 2 <= len(given) <= len(LETTERS):
        raise ScoringError(f"{counted(len(given), 'system')}: a comparison needs 2 to {len(LETTERS)}")
    _require_different(given)
    found = _decode_folders(given)
    _require_different(found)
    return found


def _require_different(folders: Sequence[Path]) -> None:
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ScoringError(f"a system is given twice: {', '.join(map(str, folders))}")


def _decode_folders(given: Sequence[Path]) -> list[Path]:
    inside = {
        path: sorted(found.parent.name for found in path.glob(f"*/{REFERENCES}"))
        for path in given
        if not (path / REFERENCES).exists()
    }
    for path, names in inside.items():
        if not names:
            read_score(path)  # says what the folder is and what to do
    names = _names_in_common(given, inside)
    if len(names) == 1:
        return [path / names[0] if path in inside else path for path in given]
    if all(len(names) == 1 for names in inside.values()):
        return [path / inside[path][0] if path in inside else path for path in given]
    names_of = {path: names or inside[path] for path in inside}
    example = " ".join(str(path / names_of[path][0] if path in inside else path) for path in given)
    listed = "; ".join(f"{path} has {_listed(found)}" for path, found in inside.items())
    problem = "several decode folders could be compared" if names else "no decode folder is in all model folders"
    raise ScoringError(f"{problem}: {listed}; name them, e.g. `asr compare {example}`")


def _names_in_common(given: Sequence[Path], inside: Mapping[Path, Sequence[str]]) -> list[str]:
    """Return the decode folders that all model folders have, if possible those with the same references in all."""
    names = sorted(set.intersection(*map(set, inside.values()))) if inside else []
    if len(names) < 2:
        return names
    others = [read_trn(path / REFERENCES) for path in given if path not in inside]
    same = []
    for name in names:
        first, *rest = [*others, *(read_trn(path / name / REFERENCES) for path in inside)]
        if all(references == first for references in rest):
            same.append(name)
    return same or names


def common_utterances(references: Mapping[Path, Mapping[str, str]]) -> list[str]:
    """Return the ids of the utterances that all folders have, with the same reference, in the order of the first."""
    first, *rest = references.values()
    return [name for name, text in first.items() if all(texts.get(name) == text for texts in rest)]


def require_same(references: Mapping[Path, Mapping[str, str]], common: int) -> None:
    """Refuse folders whose references differ; the message names the first utterances of each kind of difference.

    Args:
        references: by decode folder.
        common: how many utterances could be compared nevertheless.

    Raises:
        ScoringError: an utterance is missing somewhere, or has another reference there.
    """
    (first, expected), *rest = references.items()
    for folder, found in rest:
        missing = [name for name in expected if name not in found]
        surplus = [name for name in found if name not in expected]
        other = [name for name, text in expected.items() if found.get(name, text) != text]
        problems = []
        if missing:
            problems.append(f"{counted(len(missing), 'utterance')} only in {first}: {_listed(missing)}")
        if surplus:
            problems.append(f"{counted(len(surplus), 'utterance')} only in {folder}: {_listed(surplus)}")
        if other:
            texts = f"{shown(expected[other[0]])} and {shown(found[other[0]])}"
            differing = counted(len(other), "utterance")
            problems.append(f"{differing} with another reference: {_listed(other)}, first {texts}")
        if problems:
            way_out = "decode the same manifest with all models"
            if common:
                way_out += f", or compare the {counted(common, 'utterance')} that all have: --common"
            raise ScoringError(f"the systems have different references ({'; '.join(problems)}): {way_out}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_IN_A_MESSAGE]) + ", …" * (len(names) > _NAMES_IN_A_MESSAGE)


def read_system(letter: str, folder: Path, score: CorpusScore, names: Sequence[str]) -> ComparedSystem:
    """Return a system, scored on some of its utterances.

    Args:
        letter: its short name.
        folder: its decode folder.
        score: its figures on all its utterances.
        names: the ids of those that are compared.

    Raises:
        ScoringError: a file of the decode folder is damaged, or these utterances have no text.
    """
    hypotheses = read_trn(folder / HYPOTHESES)
    if len(names) != len(score.references):
        some = score_texts(
            {name: score.references[name] for name in names},
            {name: hypotheses[name] for name in names},
            {name: score.speakers[name] for name in names if name in score.speakers},
        )
        score = replace(some, recognised=score.recognised)
    notes: list[str] = []
    run = _unless_damaged(lambda: _read_run(folder), notes) or {}
    model = _unless_damaged(lambda: _model_of(folder, run), notes)
    parameters: int | None = None
    epochs: tuple[EpochLine, ...] = ()
    settings: dict[str, Any] = {}
    if model is not None:
        parameters = _unless_damaged(lambda: parameter_count(model), notes)
        epochs = tuple(_unless_damaged(lambda: read_epochs(model), notes) or ())
        settings = _unless_damaged(lambda: _settings_of_model(model), notes) or {}
    settings |= _settings_of_run(run)
    return ComparedSystem(letter, folder, model, score, hypotheses, parameters, settings, epochs, tuple(notes))


def _unless_damaged(read: Callable[[], _Found], notes: list[str]) -> _Found | None:
    """Return what is read; if it cannot be read, None, and the reason becomes a note."""
    try:
        return read()
    except (AsrError, OSError) as error:
        notes.append(explained(error))
        return None


def _settings_of_model(folder: ReadablePath) -> dict[str, Any]:
    return _flat(load_settings(folder).model_dump(mode="json", exclude=set(_WITHOUT_INFLUENCE)))


def _read_run(folder: Path) -> dict[str, Any]:
    """Return how a folder was decoded; nothing if it has no such file."""
    path = folder / DECODE_RUN
    if not path.is_file():
        return {}
    content = read_json(path, ScoringError, "how it was decoded", way_out="decode again")
    if not isinstance(content, dict):
        raise ScoringError(f"{path}: not written by `asr decode`; decode again")
    return content


def _model_of(folder: Path, run: Mapping[str, Any]) -> ReadablePath | None:
    """Return the model folder around a decode folder, or the model with which it was made; None if neither is there.

    Nothing is downloaded, because a decode folder may come from anybody.

    Raises:
        ModelError: the model is a packed one that is damaged, or one of the hub that is not in the cache.
        DependencyError: the model is one of the hub, and huggingface_hub is missing.
    """
    # `folder.parent` of a folder such as "." is not the folder around it.
    around = folder.parent if folder.name not in ("", "..") else folder.resolve().parent
    names = _models(run)
    if len(names) > 1:
        return None
    if is_model_folder(around):
        return around
    found = folder_here(names[0]) if names else around
    return found if is_model_folder(found) else None


def _models(run: Mapping[str, Any]) -> list[str]:
    names = run.get(_MODELS)
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _settings_of_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `run.json` says as settings; those of the search are the ones that were used."""
    used = run.get(_SEARCH)
    unwanted = {*_MEASURED, _SEARCH, *[_MODELS] * (len(_models(run)) < 2)}
    # What was not asked for is null or 0; older folders do not mention it.
    how = {name: value for name, value in run.items() if name not in unwanted and value not in (None, 0)}
    return _flat({"run": how} | ({_SEARCH: used} if isinstance(used, dict) else {}))


def _flat(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted name; a table within a section, such as that of `text.replace`, is one value."""
    return {f"{section}.{name}": value for section, values in sections.items() for name, value in values.items()}
