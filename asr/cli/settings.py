"""`asr settings`: every setting with its range and meaning, as a settings file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import typer

from asr.cli.options import ConfigFile, ConfigSet

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

COMMENT_COLUMN = 34  # where comments begin, unless a value is longer
WIDTH = 80


def settings(
    config: ConfigFile = None,
    overrides: ConfigSet = None,
) -> None:
    """Print every setting, with its range and what it means.

    What is printed is a settings file: asr settings > conf/mine.yaml is one to begin with.
    """
    from asr.config import load_config

    for line in describe(load_config(config, overrides or ())):
        typer.echo(line)


def describe(config: BaseModel) -> Iterator[str]:
    """Yield the lines of the YAML of settings in sections, each value with a comment."""
    for name in type(config).model_fields:
        section: BaseModel = getattr(config, name)
        yield from _commented(f"{name}:", (type(section).__doc__ or "").partition("\n")[0])
        values = section.model_dump(mode="json")
        for key, field in type(section).model_fields.items():
            yield from _commented(f"  {key}: {_inline(values[key])}", _meaning(field))
        yield ""


def _inline(value: Any) -> str:
    import yaml

    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("\n...\n").strip()
    )


def _meaning(field: FieldInfo) -> str:
    """Return what a field is for and, in parentheses, what it takes."""
    taken = " | ".join(_choices(field.annotation)) or _range(field.metadata)
    if field.description and taken:
        return f"{field.description} ({taken})"
    return field.description or taken


def _choices(annotation: Any) -> list[str]:
    """Return what a `Literal` allows, wherever in the type it stands."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
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
    """Yield a line and the comment beside it, on as many lines as it takes."""
    column = max(COMMENT_COLUMN, len(text) + 2)
    first, *others = textwrap.wrap(comment, WIDTH - column - 2) or [""]
    yield f"{text:<{column}}# {first}" if first else text
    for line in others:
        yield f"{'':{column}}# {line}"
