"""A file of ranges → which values `asr search` may try for each setting, and one draw of them.

The file has the form of a settings file. In place of a value, a setting has a list of values, or a text such as
`0.001 to 0.01` for all numbers between two ends. Numbers are whole if the setting is. Their logarithm is drawn evenly
if the low end is above 0 and the high end is at least ten times as high; else the numbers themselves are.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel

from asr.config import Config
from asr.errors import ConfigError
from asr.files import to_json
from asr.reading import shown
from asr.settings_file import parse_config, read_settings
from asr.training.run import WITHOUT_INFLUENCE

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Values: TypeAlias = dict[str, Any]  # of settings, by dotted name

_RANGE = re.compile(r"\s*(\S+)\s+to\s+(\S+)\s*")
_LOG_FROM = 10.0  # high end ÷ low end
_RANDOM_DRAWS = 10  # before the sampler goes by their results
_MOST_DRAWS = 20  # of the sampler, for values that were not drawn before
_TEXTS_STAY = "changes the texts that errors are counted in, so error rates could not be compared"


@dataclass(frozen=True)
class Range:
    """What a setting may be: one of `choices`, or if there are none, a number from `low` to `high`."""

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False

    @property
    def log(self) -> bool:
        """Whether the logarithm of a number is drawn evenly."""
        return not self.choices and self.low > 0 and self.high >= _LOG_FROM * self.low

    @property
    def count(self) -> float:
        """How many values there are."""
        if self.choices:
            return len(self.choices)
        return self.high - self.low + 1 if self.whole else math.inf

    def __contains__(self, value: object) -> bool:
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high

    def written(self) -> Any:
        """Return what a file of ranges holds of it."""
        return list(self.choices) if self.choices else f"{self.low!r} to {self.high!r}"

    def distribution(self) -> BaseDistribution:
        """Return the same as optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution([_label(choice) for choice in self.choices])
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def value(self, drawn: Any) -> Any:
        """Return the setting's value that optuna drew; numbers that are not whole have four significant digits."""
        if self.choices:
            return next(choice for choice in self.choices if _label(choice) == drawn)
        return drawn if self.whole else min(max(float(f"{drawn:.4g}"), self.low), self.high)


def read_ranges(path: Path, base: Config) -> tuple[Range, ...]:
    """Return the ranges of a file, in its order; each value that a list or an end of a range names is checked.

    Args:
        path: the YAML file.
        base: all other settings.

    Raises:
        ConfigError: the file is missing or malformed, or names a setting or value that does not exist, or a setting
            that changes what is measured, or nothing of it.
    """
    ranges = []
    for name, value in _leaves(read_settings(path)):
        if reason := _why_not(name):
            raise ConfigError(f"{path}: {name[:80]}: {reason}; leave it out")
        ranges.append(_range(path, name, value, base))
    if not ranges:
        raise ConfigError(f"{path}: names no setting; write e.g. 'model: {{hidden_size: [128, 192, 256]}}'")
    return tuple(ranges)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and not prefix:
            yield from _leaves(value, f"{key}.")
        else:
            yield f"{prefix}{key}", value


def _why_not(name: str) -> str:
    """Return why a setting cannot be searched over; empty if it can."""
    section, _, key = name.partition(".")
    if name in ("training.epochs", "training.seed"):
        return "the search sets it itself"
    without = WITHOUT_INFLUENCE.get(section, set())
    if without is True or (isinstance(without, set) and key in without):
        return "changes nothing of what is measured, the errors of greedy search on dev"
    return _TEXTS_STAY if section == "text" and key not in ("tokens", "pieces") else ""


def _range(path: Path, name: str, value: Any, base: Config) -> Range:
    if isinstance(value, list):
        choices = tuple(_checked(path, name, choice, base) for choice in value)
        if len(choices) < 2 or any(choice in choices[:place] for place, choice in enumerate(choices)):
            raise ConfigError(f"{path}: {name[:80]}: {shown(value)} is not a list of two or more different values")
        return Range(name, choices)
    match = _RANGE.fullmatch(value) if isinstance(value, str) else None
    try:
        low, high = map(float, match.groups() if match else ())
    except ValueError:
        low = high = math.nan
    if low > high:
        raise ConfigError(f"{path}: {name[:80]}: {shown(value)}: the lower end of the range comes first")
    if not low < high or math.isinf(high - low):
        way_out = "a list such as [128, 192, 256] nor a range such as 0.001 to 0.01"
        raise ConfigError(f"{path}: {name[:80]}: {shown(value)} is neither {way_out}")
    section, _, key = name.partition(".")
    kind = type(getattr(base, section, None))
    whole = issubclass(kind, BaseModel) and key in kind.model_fields and kind.model_fields[key].annotation is int
    if whole and not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"{path}: {name[:80]}: {shown(value)}: this setting has whole numbers only")
    for end in (low, high):
        _checked(path, name, int(end) if whole else end, base)
    return Range(name, low=low, high=high, whole=whole)


def _checked(path: Path, name: str, value: Any, base: Config) -> Any:
    """Return a value as the settings hold it, as JSON."""
    section, _, key = name.partition(".")
    return with_values(base, {name: value}, str(path)).model_dump(mode="json")[section][key]


def with_values(base: Config, values: Values, source: str) -> Config:
    """Return settings with some values of others.

    Raises:
        ConfigError: a name or value is not acceptable; the message names `source`.
    """
    return parse_config(nested(base.model_dump(), values), source)


def nested(settings: dict[str, Any], values: Values) -> dict[str, Any]:
    """Return sections of settings with values, which have dotted names, in the place of others."""
    new = {section: dict(content) for section, content in settings.items()}
    for name, value in values.items():
        section, _, key = name.partition(".")
        new.setdefault(section, {})[key] = value
    return new


def values_in(config: BaseModel, ranges: Sequence[Range]) -> Values:
    """Return what the settings hold for each range, as JSON values."""
    settings = config.model_dump(mode="json")
    return {one.name: settings[one.name.partition(".")[0]][one.name.partition(".")[2]] for one in ranges}


def draw(ranges: Sequence[Range], before: Sequence[tuple[Values, float | None]], seed: int) -> Values:
    """Return values that were not drawn before. The same arguments give the same values.

    The first ten are random. Later ones are drawn where values with good results are dense and others are not.

    Source: Bergstra et al. 2011, "Algorithms for hyper-parameter optimization" (TPE), as optuna does it.

    Args:
        ranges: they must have a value that was not drawn before.
        before: what was drawn, with what came of it, lower is better; None if that failed or is not known yet.
        seed: of the draw.
    """
    from optuna import create_study
    from optuna.samplers import RandomSampler, TPESampler
    from optuna.trial import create_trial

    drawn = [values for values, _ in before]
    distributions = {one.name: one.distribution() for one in ranges}
    history = [
        create_trial(value=result, params=parameters(ranges, values), distributions=distributions)
        for values, result in before
        if result is not None and all(values[one.name] in one for one in ranges)
    ]
    generator = random.Random(seed)
    for number in itertools.count():
        own_seed = generator.randrange(2**31)
        usual = TPESampler(n_startup_trials=_RANDOM_DRAWS, seed=own_seed)
        study = create_study(sampler=usual if number < _MOST_DRAWS else RandomSampler(seed=own_seed))
        study.add_trials(history)
        found = study.ask(distributions).params
        values = {one.name: one.value(found[one.name]) for one in ranges}
        if values not in drawn:
            return values
    raise AssertionError


def parameters(ranges: Sequence[Range], values: Values) -> Values:
    """Return values as optuna keeps them: those of a list that are no texts or numbers become JSON."""
    return {one.name: _label(values[one.name]) if one.choices else values[one.name] for one in ranges}


def _label(choice: Any) -> str | int | float | bool | None:
    return choice if choice is None or isinstance(choice, str | int | float | bool) else to_json(choice)
