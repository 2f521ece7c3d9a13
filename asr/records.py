"""Values from a file of others → typed records, or an error that names the place, the value and what is needed.

A `Record` lists the fields that a reader needs and their types. pydantic compares them; its complaints become plain
English, for settings too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from asr.errors import AsrError
from asr.paths import ReadablePath
from asr.reading import counted, parse_json, read_raw_lines, shown


class Record(BaseModel):
    """What is needed of an object in a file: no type is turned into another, no number is infinite; more may be there.

    A text holds no half of a surrogate pair, which JSON can escape although it is no character.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


Form = TypeVar("Form")


def require_characters(text: str) -> str:
    """Return a text that holds characters only.

    Raises:
        ValueError: it holds half a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):x}"
        raise ValueError(f"{half} is half a surrogate pair, which is no character; write the text again") from None
    return text


class Settings(BaseModel):
    """A closed section of settings: unknown keys, wrong types and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_other_type(cls, value: object, info: ValidationInfo) -> object:
        """Refuse what pydantic would take: true as the number 1, and halves of characters, which no file can hold."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError(f"{'true' if value else 'false'} is no value of this setting")
        return require_characters(value) if isinstance(value, str) else value


Text = Annotated[str, AfterValidator(require_characters)]
_MOST_TABLE_BYTES = 150_000  # some 5,000 words; the settings of a model folder must remain readable


def _small_table_of_texts(table: object) -> object:
    """Refuse a mapping with what YAML reads as numbers, and one that is too large; leave all else to pydantic."""
    if not isinstance(table, dict):
        return table
    for text in (text for entry in table.items() for text in entry):
        if not isinstance(text, str):
            raise ValueError(f"{shown(text)} is not a text; put it in quotes")
        require_characters(text)
    size = sum(len(text.encode()) + 8 for entry in table.items() for text in entry)
    if size > _MOST_TABLE_BYTES:
        raise ValueError(f"a table of some {size // 1000} kB is too large, at most {_MOST_TABLE_BYTES // 1000}")
    return table


TextTable = Annotated[dict[str, str], BeforeValidator(_small_table_of_texts)]
Count = Annotated[int, Field(ge=0, le=2**53)]  # larger numbers are not exact in JSON


def checked(form: type[Form], value: Any, where: object, error: type[AsrError], way_out: str) -> Form:
    """Return a value that was read from JSON as a record, or a dataclass, of the given form.

    Args:
        form: what is needed.
        value: what was read.
        where: the file, and the line if there are several, for the message.
        error: what is raised if the value has not the form.
        way_out: what the user can do, for the message.

    Raises:
        error: a field is missing, or has another type or an impossible value. The message names the first.
    """
    try:
        # From JSON, because only there a strict check takes a list for a tuple, and an object for a dataclass.
        record: Form = _adapter_of(form).validate_json(json.dumps(value), strict=True)
    except ValidationError as reason:
        raise error(f"{where}: {next(faults(reason))}; {way_out}") from None
    return record


def journal_records(
    path: ReadablePath, form: type[Form], what: str, error: type[AsrError], way_out: str
) -> Iterator[tuple[str, Form, int]]:
    """Yield place, record and length in bytes of each line of a file to which JSON lines are appended.

    A last line without an end is left out: it is being written, or whoever wrote it was stopped.

    Args:
        path: the file.
        form: what each line must be.
        what: the file holds, for the message, e.g. "the corrections".
        error: what is raised if a line is something else.
        way_out: what the user can do, for the message.

    Raises:
        error: the file cannot be read, or a line is not UTF-8, not JSON, or has not the form. The message names it.
    """
    for number, line in enumerate(read_raw_lines(path, error, what), 1):
        if not line.endswith(b"\n"):
            return
        place = f"{path}:{number}"
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise error(f"{place}: not UTF-8; {way_out}") from None
        content = parse_json(text, error, place, way_out=way_out)
        yield place, checked(form, content, place, error, way_out), len(line)


_adapter_of: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)  # making one takes long


def faults(error: ValidationError) -> Iterator[str]:
    """Yield what is wrong, one line for each value: e.g. `model.layers: 0 is not at least 1`."""
    yield from map(in_words, error.errors(include_url=False))


def in_words(item: ErrorDetails) -> str:
    """Return one of pydantic's complaints in plain English, with the key and the value."""
    key = ".".join(map(str, item["loc"]))[:_LONGEST_KEY]
    if item["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {_reason(item)}" if key else _reason(item)


def _reason(item: ErrorDetails) -> str:
    kind, context, value = item["type"], item.get("ctx", {}), shown(item["input"])
    if kind == "value_error":
        return f"{context['error']}"
    if kind in _BOUNDS:
        word, name = _BOUNDS[kind]
        return f"{value} is not {word} {context[name]:,g}".replace(",", "_")
    if kind == "literal_error":
        return f"{value} is not {context['expected']}"
    if kind == "too_short":
        return f"{value} needs at least {counted(context['min_length'], 'value')}"
    if kind == "too_long":
        return f"{value} has more than {counted(context['max_length'], 'value')}"
    if kind in _NEEDED:
        return f"{value} is not {_NEEDED[kind]}"
    message = item["msg"]
    return f"{value} cannot be used: {message[:1].lower()}{message[1:]}"


_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
}
_NEEDED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("string_type", "string_unicode"), "a text"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a group of named values"),
    "finite_number": "a finite number",
    "string_too_short": "a text with a character",
    "invalid_key": "a name",
}
_LONGEST_KEY = 80  # characters of a key in a message
