"""YAML files and `key=value` overrides → checked settings, and back: as a file, or as a page that explains each one.

Unknown keys, wrong types and values out of range raise `ConfigError`. It names the file and the dotted key.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from asr.config import Config
from asr.errors import ConfigError
from asr.files import write_text
from asr.paths import ReadablePath, readable
from asr.reading import parse_yaml, read_lines, read_yaml, shown
from asr.records import Settings, in_words
from asr.search_config import RnnLmSettings

AnySettings = TypeVar("AnySettings", bound=Settings)

_LONGEST_OVERRIDE = 1000  # characters
_LONGEST_GIVEN = 200  # characters of all overrides in a message
_LONGEST_KEY = 80  # characters of an unknown one in a message
_MOST_FAULTS = 8  # in one message


def load_config(path: str | os.PathLike[str] | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML settings file and apply `key=value` overrides with dotted keys, e.g. `model.hidden_size=320`.

    Args:
        path: the YAML file; None for the defaults.
        overrides: values are read as YAML; of two with the same key, the later one holds.

    A file that `text.replace` names is read too, so the settings hold its table.

    Raises:
        ConfigError: a file is missing or malformed, or a key or value is not acceptable.
    """
    values: dict[str, Any] = {}
    source = "the default settings"
    if path is not None:
        source = str(path)
        values = read_settings(readable(path))
    apply_overrides(values, overrides, Config)
    text = values.get("text")
    if isinstance(text, dict) and isinstance(text.get("replace"), str):
        text["replace"] = read_replacements(Path(text["replace"]))
    given = " ".join(overrides)
    return parse_config(
        values, f"{source} with {given if len(given) <= 200 else given[:197] + '...'}" if given else source
    )


def parse_config(values: Mapping[str, Any], source: str) -> Config:
    """Check a nested mapping and return the settings; `source` names its origin in errors."""
    return parse_settings(Config, values, source)


def parse_settings(kind: type[AnySettings], values: Mapping[str, Any], source: str) -> AnySettings:
    """Check a mapping and return it as settings of a kind; `source` names its origin in errors.

    Raises:
        ConfigError: a key or value is not acceptable.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}:", *_explained(error, kind)) from None


def apply_overrides(
    values: dict[str, Any], overrides: Sequence[str], kind: type[BaseModel], *, section: str = ""
) -> None:
    """Set `key=value` pairs in a nested mapping. Dots in a key lead into sections.

    Values are read as YAML. If the setting is a text, its value is taken literally, with or without quotes around it.

    Args:
        values: the mapping; it changes.
        overrides: the pairs, e.g. `model.hidden_size=320`.
        kind: the settings that the mapping will become.
        section: a name that may stand before each key, as in `decode.lm_weight=0.3` for the section `decode`.

    Raises:
        ConfigError: an override is malformed.
    """
    for override in overrides:
        key, separator, text = override.partition("=")
        keys = (key.removeprefix(f"{section}.") if section else key).split(".")
        if not separator or not all(map(str.strip, keys)):
            raise ConfigError(f"{shown(override)}: an override has the form key=value, e.g. model.hidden_size=320")
        if len(override) > _LONGEST_OVERRIDE:
            raise ConfigError(f"{shown(override)}: longer than {_LONGEST_OVERRIDE} characters; use a settings file")
        _set(values, keys, _value(text, override, is_text=_is_text(kind, keys)), override)


def _value(text: str, override: str, *, is_text: bool) -> Any:
    if is_text:
        return re.sub(r"^(['\"])(.*)\1$", r"\2", text)
    return parse_yaml(text, ConfigError, shown(override))


def _is_text(kind: type[BaseModel], keys: Sequence[str]) -> bool:
    beside = _fields_beside(tuple(keys), kind)
    return keys[-1] in beside and beside[keys[-1]].annotation is str


def save_config(config: Settings, path: str | os.PathLike[str], *, without: Collection[str] = ()) -> None:
    """Write settings as YAML, every value spelled out; sections named in `without` are left out."""
    values = config.model_dump(mode="json", exclude=set(without))
    write_text(Path(path), yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def read_settings(path: ReadablePath) -> dict[str, Any]:
    """Return the content of a settings file, unchecked but for its being sections; files that it names are not read.

    Raises:
        ConfigError: the file is missing or malformed.
    """
    values = read_yaml(path, ConfigError, "the settings file")
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a settings file holds sections such as 'model:', not a {type(values).__name__}")
    return values


def read_replacements(path: Path) -> dict[str, str]:
    """Return the table of a file that `text.replace` names.

    Args:
        path: `.tsv` with a word or string, a tab and what becomes of it on each line; or `.yaml` with a mapping.

    Raises:
        ConfigError: the file is missing, malformed, or has another suffix.
    """
    if path.suffix in (".yaml", ".yml"):
        content = read_yaml(path, ConfigError, "the table of text.replace")
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: the table of text.replace holds lines such as 'colour: color'")
        return content
    if path.suffix != ".tsv":
        raise ConfigError(
            f"text.replace: {shown(str(path))} is neither a table nor a .tsv or .yaml file that holds one"
        )
    table: dict[str, str] = {}
    for number, line in enumerate(read_lines(path, ConfigError, "the table of text.replace"), start=1):
        key, *values = line.split("\t")
        if not line.strip():
            continue
        if len(values) != 1:
            raise ConfigError(f"{path}:{number}: {shown(line)} is not a word, one tab, and what becomes of it")
        if key in table:
            raise ConfigError(f"{path}:{number}: {shown(key)} is in the table already")
        table[key] = values[0]
    return table


def _set(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{shown(override)}: {key!r} is a value, not a section")
    values[keys[-1]] = value


def _explained(error: ValidationError, kind: type[BaseModel]) -> list[str]:
    """Return a line for each setting that cannot be used."""
    lines, listed = [], set()
    found = error.errors(include_url=False)
    for item in found[:_MOST_FAULTS]:
        if item["type"] != "extra_forbidden":
            lines.append(f"  {in_words(item)}")
            continue
        *section, last = map(str, item["loc"])
        key = ".".join((*section, last))
        known = "" if tuple(section) in listed else f"; known here: {', '.join(_fields_beside(item['loc'], kind))}"
        listed.add(tuple(section))
        lines.append(f"  {key[:_LONGEST_KEY]}: unknown key{known}{_meant(key, kind)}")
    if len(found) > _MOST_FAULTS:
        lines.append(f"  and {len(found) - _MOST_FAULTS} more")
    return lines


def _meant(key: str, kind: type[BaseModel]) -> str:
    """Return a question: which setting does an unknown key mean? One of that name elsewhere, or one alike."""
    from difflib import get_close_matches

    named: dict[str, list[str]] = {}
    for dotted in _dotted(kind):
        named.setdefault(dotted.rpartition(".")[2], []).append(dotted)
    last = key.rpartition(".")[2]
    found = named.get(last, [])
    if not found and "." in key:
        found = get_close_matches(key[:_LONGEST_KEY], list(_dotted(kind)), 1)
    if not found:
        found = [name for alike in get_close_matches(last[:_LONGEST_KEY], named, 1) for name in named[alike]]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _dotted(kind: type[BaseModel]) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from (f"{name}.{key}" for key in _dotted(section))
        else:
            yield name


def _fields_beside(location: tuple[int | str, ...], model: type[BaseModel]) -> dict[str, FieldInfo]:
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return {}
        model = annotation
    return model.model_fields


def parse_rnnlm_settings(overrides: Sequence[str]) -> RnnLmSettings:
    """Return the default settings of a recurrent language model with overrides.

    Args:
        overrides: `hidden_size=256` or `rnnlm.hidden_size=256`; of two with the same key, the later one holds.

    Raises:
        ConfigError: a key or value is not acceptable.
    """
    values: dict[str, Any] = {}
    apply_overrides(values, overrides, RnnLmSettings, section="rnnlm")
    return parse_settings(RnnLmSettings, values, "the language model's settings")


COMMENT_COLUMN = 34  # where comments begin, unless a value is longer
WIDTH = 80
_REASON_WIDTH = 110  # of a comment above its value
_NO_BREAK = "\N{NO-BREAK SPACE}"  # for a space at which no comment is broken; it is printed as a space


def describe(config: BaseModel) -> Iterator[str]:
    """Yield the lines of a settings file that holds every setting, with a comment that says what it does."""
    for name in type(config).model_fields:
        section: BaseModel = getattr(config, name)
        yield from _commented(f"{name}:", (type(section).__doc__ or "").partition("\n")[0])
        values = section.model_dump(mode="json")
        for key, field in type(section).model_fields.items():
            yield from _commented(f"  {key}: {_inline(values[key])}", _meaning(field))
        yield ""


def with_reasons(values: Mapping[str, Mapping[str, Any]], reasons: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a settings file with these values, each below a comment that gives its reason.

    Args:
        values: by section and key.
        reasons: by dotted key, each a text on one line.
    """
    for section, settings in values.items():
        yield f"{section}:"
        for key, value in settings.items():
            for line in textwrap.wrap(reasons[f"{section}.{key}"], _REASON_WIDTH, break_on_hyphens=False):
                yield f"  # {line}"
            yield f"  {key}: {_inline(value)}"


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n...\n").strip()


def _meaning(field: FieldInfo) -> str:
    """Return what a setting does and, in parentheses, which values it takes."""
    taken = " | ".join(_choices(field.annotation)) or _range(field.metadata)
    description = (field.description or "").removesuffix(".")
    meaning = f"{description} ({taken.replace(' ', _NO_BREAK)})" if taken else description
    return re.sub(r"(\S:) (off\b)", rf"\1{_NO_BREAK}\2", meaning)


def _choices(annotation: Any) -> list[str]:
    """Return what a type's `Literal` allows; it may be nested in the type."""
    if get_origin(annotation) is Literal:
        return [str(choice) or "''" for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _range(constraints: Iterable[Any]) -> str:
    bounds = {
        name: f"{getattr(constraint, name):,}"
        for constraint in constraints
        for name in ("ge", "gt", "le", "lt")
        if getattr(constraint, name, None) is not None
    }
    if {"ge", "le"} <= bounds.keys():
        return f"{bounds['ge']} to {bounds['le']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(f"{words[name]} {bound}" for name, bound in bounds.items())


def _commented(text: str, comment: str) -> Iterator[str]:
    """Yield a line with the comment beside it, which may take several lines."""
    column = max(COMMENT_COLUMN, len(text) + 2)
    lines = textwrap.wrap(comment, WIDTH - column - 2, break_on_hyphens=False)
    first, *others = [line.replace(_NO_BREAK, " ") for line in lines] or [""]
    yield f"{text:<{column}}# {first}" if first else text
    for line in others:
        yield f"{'':{column}}# {line}"
