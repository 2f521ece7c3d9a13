"""A data folder → a recipe for it: `conf/NAME.yaml` and `recipes/NAME/`, with what each choice rests on.

The recipe has no `prepare.py`, because its manifests exist already. `recipe.yaml` names them, and `asr run NAME` checks
them and trains. `choices.py` has the rules.
"""

from __future__ import annotations

import os
import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from asr.config import Config
from asr.corpus.line import require_path
from asr.corpus.manifest import SPLITS, find_splits
from asr.errors import ManifestError, RecipeError
from asr.files import complete_folder, printable, write_text
from asr.preparing.choices import (
    RARE,
    SPOKEN,
    Choice,
    as_config,
    choose_rest,
    choose_text,
    hours_of,
    nested,
    size_for,
    steps_of,
)
from asr.preparing.corpus_facts import CorpusFacts, measure, read_texts
from asr.preparing.find_recipe import RECIPE_FILE
from asr.preparing.recipes import CUSTOM, recipe_names, recipes_folder
from asr.reading import counted
from asr.settings_file import with_reasons
from asr.text.report import character_name

_LONGEST_NAME = 64
_TAKEN = ("test",)  # ./run.sh test runs the tests
_WIDTH = 80
_NO_BREAK = "\N{NO-BREAK SPACE}"
_LONGEST_VALUE = 14  # beside which its reason has room
_MOST_LISTED = 30  # characters in a note
# Seconds of two cores (AMD EPYC, Zen 4) for a second of audio, two views: AN4 with 1.7 and custom with 5.1 million
# parameters take 0.0088 and 0.0133. Other networks are taken to be on the same line.
_FIXED_S, _MILLION_S = 0.0065, 0.00133


@dataclass(frozen=True)
class InitReport:
    """A recipe that was written: its choices, what they rest on, and what to know about the corpus.

    Attributes:
        name: the recipe's name, for `asr.run_recipe`.
        choices: each setting with its value and what it rests on; the settings file holds them.
        config: all settings, as the settings file gives them.
        splits: hours, utterances and speakers of train, dev and test, in words.
        characters: how often each character occurs in the normalised transcripts of train; they are the tokens, unless
            tokens are pieces.
        steps: number of optimiser steps of the run, roughly.
        two_cores_s: seconds that training takes on two cores without a GPU, roughly.
        notes: what to know about the corpus.
        settings_file: `conf/NAME.yaml`.
        folder: `recipes/NAME`.
    """

    name: str
    choices: tuple[Choice, ...]
    config: Config
    splits: tuple[str, ...]
    characters: dict[str, int]
    steps: int
    two_cores_s: float
    notes: tuple[str, ...]
    settings_file: Path
    folder: Path

    def text(self) -> str:
        """Return splits, choices and notes as aligned text of at most 80 columns; only long values exceed them."""
        rows = [("setting", "value", "rests on")]
        rows += [(choice.setting, str(choice.value), choice.rests_on) for choice in self.choices]
        first = max(len(setting) for setting, _, _ in rows) + 2
        second = max(len(value) for _, value, _ in rows if len(value) <= _LONGEST_VALUE) + 2
        lines = [*self.splits, ""]
        for setting, value, reason in rows:
            beside = textwrap.wrap(reason, max(30, _WIDTH - first - second), break_on_hyphens=False)
            head = f"{setting:<{first}}{value:<{second}}"
            if len(head) > first + second:
                lines.append(head)
                head = ""
            lines += [f"{head if not number else '':<{first + second}}{line}" for number, line in enumerate(beside)]
        time = f"roughly {_time(self.two_cores_s)} on two cores without a GPU"
        lines += ["", f"training  about {self.steps:,} steps, {time}"]
        for note in self.notes:
            lines += textwrap.wrap(f"note: {note}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        return "\n".join(lines)


def init(
    name: str,
    data: str | os.PathLike[str],
    *,
    home: str | os.PathLike[str] = ".",
    keep_punctuation: str = "",
) -> InitReport:
    """Write a recipe for the manifests of a data folder; `asr.run_recipe(NAME)` then runs it.

    Text, sample rate, network and run are chosen by what train holds. The audio is not read. Files that exist are never
    replaced.

    Args:
        name: the recipe's name, which becomes part of file names.
        data: the folder with the manifests of train, dev and test.
        home: the folder that gets `conf/NAME.yaml` and `recipes/NAME/`, and later `exp/NAME`.
        keep_punctuation: the punctuation to keep in transcripts: its characters, or "all". Empty: none.

    Raises:
        RecipeError: the name cannot be used, or files of that name exist.
        ManifestError: a split is missing, malformed or empty, or nothing in train can be trained on.
        ConfigError: `keep_punctuation` holds a letter or the like.
    """
    folder, settings = Path(home, "recipes", name), Path(home, "conf", f"{name}.yaml")
    _check_name(name)
    _check_free(name, folder)
    if not _content(settings).startswith(_head(name)):  # a call that was killed before it wrote the folder leaves such
        _check_free(name, settings)
    _require_splits(Path(data))
    data_line = _data_line(Path(data), Path(home))
    texts = read_texts(Path(data))
    choices = choose_text(texts, keep_punctuation)
    facts = measure(Path(data), texts, as_config(choices).text)
    choices += choose_rest(facts)
    config = as_config(choices)
    hours = facts.audio.usable_hours
    report = InitReport(
        name,
        tuple(choices),
        config,
        tuple(_split_lines(facts)),
        dict(sorted(facts.splits["train"].characters.items())),
        steps_of(hours),
        _two_cores_s(hours, config),
        tuple(_notes(facts, config)),
        settings,
        folder,
    )
    _write(report, data_line)
    return report


def _check_name(name: str) -> None:
    """Refuse a name that is no plain file name, or means something else already."""
    for place, character in enumerate(name):
        kind = unicodedata.category(character)[0]
        if not (kind in "LN" or (place and (kind == "M" or character in "-_."))):
            raise RecipeError(
                f"{printable(name)[:_LONGEST_NAME]!r} cannot be a recipe's name: place {place + 1} is "
                f"{character_name(character)!r}; names hold letters, digits, '-', '_' and '.', and begin with a letter "
                "or a digit"
            )
    if not name or len(name.encode()) > _LONGEST_NAME:
        raise RecipeError(f"a recipe's name has 1 to {_LONGEST_NAME} bytes, not {len(name.encode())}; choose another")
    shipped = {known.casefold(): known for known in (*recipe_names(recipes_folder()), CUSTOM, *_TAKEN)}
    if name.casefold() in shipped:
        raise RecipeError(
            f"{shipped[name.casefold()]!r} means something else already to `asr run` or ./run.sh; choose another name"
        )


def _check_free(name: str, path: Path) -> None:
    if os.path.lexists(path):
        raise RecipeError(
            f"{path} exists and is not replaced; choose another name than {name!r}, or move it and "
            "run the command again"
        )


def _head(name: str) -> str:
    return (
        f"# Settings of the recipe {name}, by `asr init`. A comment says what the value below it rests on.\n"
        "# `asr settings` explains all settings. Values can be edited: `asr run` then trains anew.\n"
    )


def _content(path: Path) -> str:
    """Return the text of a file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return ""


def _require_splits(data: Path) -> None:
    missing = [split for split in SPLITS if split not in find_splits(data)] if data.is_dir() else []
    if missing:
        raise ManifestError(
            f"{data}: has no {' and no '.join(missing)}; a recipe trains on train, chooses on dev and is scored on "
            "test. `asr import` makes all three, unless --dev-share or --test-share is 0"
        )


def _data_line(data: Path, home: Path) -> str:
    """Return the line of the recipe file that names the manifests: below `home` by a relative path, else absolute."""
    absolute, base = Path(os.path.abspath(data)), Path(os.path.abspath(home))
    path = str(absolute.relative_to(base) if absolute.is_relative_to(base) else absolute)
    require_path(path)
    return yaml.safe_dump({"data": path}, allow_unicode=True, width=10_000)


def _split_lines(facts: CorpusFacts) -> Iterator[str]:
    for split, found in facts.splits.items():
        speakers = f"{len(found.speakers):>7,} speaker{'s'[: len(found.speakers) > 1]}" if found.speakers else ""
        yield f"{split:<6}{len(found.audio_s):>9,} utterances{hours_of(found.hours):>11}{speakers}"


def _two_cores_s(hours: float, config: Config) -> float:
    per_second = _FIXED_S + _MILLION_S * size_for(hours).million_parameters
    frames = 4 / config.model.subsampling
    return config.training.epochs * 3600 * hours * per_second * frames


def _time(seconds: float) -> str:
    """Return a rough time in words."""
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.0f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.0f} days"


def _notes(facts: CorpusFacts, config: Config) -> Iterator[str]:
    train = facts.splits["train"]
    if not facts.texts.writes_spaces:
        yield "the script writes no spaces between words, so the CER is the main figure"
    yield from _speaker_notes(facts)
    if facts.audio.unfit:
        yield (
            f"left out, without text or too short for it: {counted(facts.audio.unfit, 'utterance of train')}; "
            "`asr check` names which"
        )
    if facts.texts.with_digits:
        yield (
            f"{facts.texts.with_digits:,} of {facts.texts.utterances:,} transcripts of train hold digits. A digit is "
            "read in several ways, so write numbers as they are spoken, or see text.numbers in `asr settings`"
        )
    spoken = [sign for sign in facts.texts.signs if sign in SPOKEN and not train.characters[sign]]
    if spoken:
        yield f"{_listed(spoken)}: left out, although people say them; write them as they are spoken"
    rare = [character for character, count in sorted(train.characters.items()) if count < RARE]
    if rare and config.text.tokens == "characters":
        yield (
            f"{len(rare):,} of {len(train.characters):,} characters occur fewer than {RARE} times in train and are "
            f"hardly learnt: {_listed(rare)}"
        )
    for split in ("dev", "test"):
        unseen = sorted(facts.splits[split].characters.keys() - train.characters.keys())
        if unseen:
            yield f"{split} has characters that train does not have, each of which is an error: {_listed(unseen)}"


def _speaker_notes(facts: CorpusFacts) -> Iterator[str]:
    train = facts.splits["train"].speakers
    if not train:
        yield "the manifests name no speakers, so a voice of train may be in dev and test too"
    for split in ("dev", "test"):
        shared = sorted(train & facts.splits[split].speakers)
        if shared:
            yield (
                f"{counted(len(shared), f'speaker of {split}')} also in train, for example {printable(shared[0])}: "
                "error rates are those of known voices"
            )


def _listed(characters: list[str]) -> str:
    names = " ".join(map(character_name, characters[:_MOST_LISTED]))
    more = len(characters) - _MOST_LISTED
    return f"{names} and {more:,} more" if more > 0 else names


def _write(report: InitReport, data_line: str) -> None:
    """Write the settings file, then the recipe's folder, by which the recipe is known."""
    reasons = {choice.setting: choice.rests_on for choice in report.choices}
    text = _head(report.name) + "".join(f"{line}\n" for line in with_reasons(nested(list(report.choices)), reasons))
    if _content(report.settings_file) != text:
        _check_free(report.name, report.settings_file)
    write_text(report.settings_file, text)
    with complete_folder(report.folder) as temporary:
        write_text(temporary / "README.md", _readme(report, data_line))
        write_text(
            temporary / RECIPE_FILE,
            "# The folder of the manifests. A relative path starts at the folder that holds recipes/.\n" + data_line,
        )


def _readme(report: InitReport, data_line: str) -> str:
    counts = [f"{character_name(character)} {count:,}" for character, count in report.characters.items()]
    unbroken = "   ".join(count.replace(" ", _NO_BREAK) for count in counts)
    characters = textwrap.fill(unbroken, 100, break_on_hyphens=False, break_long_words=False).replace(_NO_BREAK, " ")
    return f"""# {report.name}

A recipe that `asr init` made of existing manifests. `recipe.yaml` names them:

~~~~
{data_line.strip()}
~~~~

In a checkout `./run.sh {report.name}`, elsewhere

```
asr run {report.name}
```

checks them, trains, estimates a language model of train's text, tunes the search on dev, and scores test. The model
folder is `exp/{report.name}`.

## What the settings rest on

~~~~
{report.text()}
~~~~

`conf/{report.name}.yaml` holds the settings. Edit it, or give `--set KEY=VALUE` to `asr run`. `asr init` replaces no
file: to choose anew, move that file and this folder away.

## Characters

The characters of train's normalised transcripts with their counts, {len(counts):,} in all:

~~~~
{characters}
~~~~
"""
