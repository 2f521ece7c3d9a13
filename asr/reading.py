"""Files from others: read as UTF-8 within limits, or explained.

A model, a manifest or a table may come from anybody. So whatever is read has a largest size, lines have a longest
length, numbers a largest count of digits, and what is nested a largest depth. A compressed file may not become
disproportionately large. JSON and YAML hold no key twice. YAML has no aliases and no tags, and only `true`, `false`,
`null` and decimal numbers are more than text: `no`, `1:30` and `2024-01-01` are texts.

Every message names the file, and the line where there is one. It never spells out a long value.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import math
import re
import reprlib
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar, cast

from asr.errors import AsrError
from asr.paths import ReadablePath

if TYPE_CHECKING:
    from yaml import MappingNode, Node, SafeLoader

AnyType = TypeVar("AnyType")

_MIB = 1 << 20
_BUFFER_BYTES = _MIB
_MOST_TEXT_BYTES = 1024 * _MIB  # of a file that is read whole
_MOST_JSON_BYTES = 16 * _MIB  # its objects take some 25 times the memory
_MOST_YAML_BYTES = _MIB // 4  # which takes seconds to read
_MOST_LINE_BYTES = 4 * _MIB
_MOST_DEPTH = 64
_MOST_DIGITS = 100
# What compressed text may become: this much in any case, this many times its size, and this much at most.
_FREE_BYTES, _MOST_EXPANSION, _MOST_EXPANDED_BYTES = 64 * _MIB, 200, 64 * 1024 * _MIB


def read_text(
    path: ReadablePath, error: type[AsrError], what: str, *, way_out: str = "", most_bytes: int = _MOST_TEXT_BYTES
) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark; lines end in `\\n`.

    A file that begins with the byte order mark of UTF-16, which UTF-8 cannot hold, is read as UTF-16: so Praat writes
    TextGrids, and Windows some subtitles.

    Args:
        path: the file.
        error: what is raised if it cannot be read.
        what: what the file holds, for the message, e.g. "the table".
        way_out: what the user can do, for the message.
        most_bytes: the largest file that is read.

    Raises:
        error: the file is missing, unreadable, too large or not UTF-8; the message names the line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as reason:
        raise error(_unreadable(path, what, reason, way_out)) from None
    if len(data) > most_bytes:
        raise error(f"{path}: cannot read {what}: larger than {_size(most_bytes)}" + _then(way_out))
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as reason:
            raise error(f"{path}: not UTF-16, though it begins like it ({reason.reason})" + _then(way_out)) from None
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        line = reason.object.count(b"\n", 0, reason.start) + 1
        raise error(_undecodable(path, line, what, reason, way_out)) from None


def read_json(path: ReadablePath, error: type[AsrError], what: str, *, way_out: str = "") -> Any:
    """Return the content of a JSON file; arguments and errors are those of `read_text`, and see `parse_json`."""
    text = read_text(path, error, what, way_out=way_out, most_bytes=_MOST_JSON_BYTES)
    return parse_json(text, error, f"{path}: cannot read {what}", way_out=way_out)


def parse_json(text: str, error: type[AsrError], place: str, *, way_out: str = "") -> Any:
    """Return the content of a JSON text, which has finite numbers and no key twice.

    Args:
        text: the JSON.
        error: what is raised if it is none.
        place: where it is, for the message, e.g. "train.jsonl:7".
        way_out: what the user can do, for the message.

    Raises:
        error: it is not JSON, or beyond the limits of this module.
    """
    try:
        content = _JSON.decode(text)
        require_shallow(content, text.count("[") + text.count("{"))
    except RecursionError:
        raise error(f"{place}: not JSON ({_TOO_DEEP})" + _then(way_out)) from None
    except ValueError as reason:
        raise error(f"{place}: not JSON ({reason})" + _then(way_out)) from None
    return content


_TOO_DEEP = f"nested deeper than {_MOST_DEPTH} levels"


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits} is too large a number")
    return number


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {shown(twice)} twice")
    return found


# One for all texts, because making it takes longer than reading a line.
_JSON = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_constant, object_pairs_hook=_object)


def require_shallow(content: Any, brackets: int) -> None:
    """Refuse content that is nested too deep: whoever goes through it by recursion would fail.

    Args:
        content: of a JSON text.
        brackets: how many the text opens; few cannot nest deep, so nothing is looked through then.

    Raises:
        ValueError: it is nested too deep.
    """
    if brackets > _MOST_DEPTH and _depth(content) > _MOST_DEPTH:
        raise ValueError(_TOO_DEEP)


def _depth(content: Any) -> int:
    """Return how deep lists and dictionaries are nested, without recursion."""
    depth, level = 0, [content]
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [value for item in level for value in (item.values() if isinstance(item, dict) else item)]
    return depth


def read_yaml(path: ReadablePath, error: type[AsrError], what: str) -> Any:
    """Return the content of a YAML file; arguments and errors are those of `read_text`, and see `parse_yaml`."""
    return parse_yaml(read_text(path, error, what, most_bytes=_MOST_YAML_BYTES), error, str(path))


def parse_yaml(text: str, error: type[AsrError], place: str, *, way_out: str = "") -> Any:
    """Return the content of a YAML text: mappings without a key twice, lists, texts, numbers, booleans and null.

    Arguments are those of `parse_json`.

    Raises:
        error: it is not YAML, has aliases or tags, or is beyond the limits of this module; the message names the line.
    """
    from yaml import MarkedYAMLError, YAMLError

    if len(text) > _MOST_YAML_BYTES:
        raise error(f"{place}: not valid YAML (longer than {_size(_MOST_YAML_BYTES)})" + _then(way_out))
    loader = None
    try:
        loader = _yaml_loader()(text)
        return loader.get_single_data()
    except MarkedYAMLError as reason:
        mark = reason.problem_mark or reason.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = first_line(reason.problem or reason.context or "damaged")
        raise error(f"{place}{line}: not valid YAML ({problem})" + _then(way_out)) from None
    except (YAMLError, ValueError, RecursionError) as reason:
        raise error(f"{place}: not valid YAML ({first_line(str(reason))})" + _then(way_out)) from None
    finally:
        if loader is not None:
            loader.dispose()


@cache
def _yaml_loader() -> type[SafeLoader]:
    """Return the loader; it is made when YAML is first read, because the runtime does without the package."""
    import yaml
    from yaml.composer import ComposerError
    from yaml.constructor import ConstructorError

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (as in the base)
        depth = 0

        def compose_node(self, parent: Node | None, index: int) -> Node | None:
            event = self.peek_event()  # type: ignore[no-untyped-call]
            refused = ""
            if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
                refused = "aliases and anchors are not read; write their values out"
            elif getattr(event, "tag", None) is not None:
                refused = "tags such as !!str are not read; leave them out"
            elif isinstance(event, yaml.CollectionStartEvent) and self.depth == _MOST_DEPTH:
                refused = _TOO_DEEP
            if refused:
                raise ComposerError(None, None, refused, event.start_mark)
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise ConstructorError(None, None, "a key is a text", key.start_mark)
                if key.value in keys:
                    raise ConstructorError(None, None, f"the key {shown(key.value)} twice", key.start_mark)
                keys.add(key.value)
            return super().construct_mapping(node, deep)

        def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
            return _integer(node.value)

    # A part of YAML 1.1, so that whatever its writers write plainly is read as they meant it. The loader finds a
    # pattern by the first character.
    for kind, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
        ("float", r"(?:[-+]?[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?", "-+0123456789."),
        ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z"), list(first))
    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    return Loader


class TensorForm(NamedTuple):
    """What a tensor in a file is: its kind of numbers as safetensors names it, e.g. F32, and its shape."""

    kind: str
    shape: tuple[int, ...]


def read_tensor_forms(
    path: ReadablePath, error: type[AsrError], what: str, *, way_out: str = ""
) -> tuple[dict[str, TensorForm], dict[str, str]]:
    """Return the form of each tensor in a safetensors file, and its metadata; the tensors are not read.

    Arguments and errors are those of `read_text`.

    Source: https://huggingface.co/docs/safetensors (format: size of the header, header in JSON, bytes of the tensors).
    """
    place = f"{path}: cannot read {what}"
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = file.read(size) if size <= _MOST_JSON_BYTES else b""
    except OSError as reason:
        raise error(_unreadable(path, what, reason, way_out)) from None
    if size > _MOST_JSON_BYTES or len(header) < size or not size:
        raise error(f"{place}: damaged, not a safetensors file" + _then(way_out))
    try:
        content = parse_json(header.decode(), error, place, way_out=way_out)
        metadata = content.pop("__metadata__", {})
        forms = {
            name: TensorForm(_typed(form["dtype"], str), tuple(_typed(length, int) for length in form["shape"]))
            for name, form in content.items()
        }
        return forms, {name: _typed(text, str) for name, text in metadata.items()}
    except (ValueError, LookupError, TypeError, AttributeError) as reason:
        raise error(f"{place}: damaged header ({first_line(repr(reason))})" + _then(way_out)) from None


def _typed(value: Any, kind: type[AnyType]) -> AnyType:
    if not isinstance(value, kind):
        raise TypeError(f"{shown(value)} is not of type {kind.__name__}")
    return value


def read_lines(path: ReadablePath, error: type[AsrError], what: str, *, way_out: str = "") -> Iterator[str]:
    """Yield the lines of a UTF-8 file, decompressed if its name ends in `.gz`, without their line ends.

    One line is in memory at a time. Arguments and errors are those of `read_text`.
    """
    for number, line in enumerate(read_raw_lines(path, error, what, way_out=way_out), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as reason:
            raise error(_undecodable(path, number, what, reason, way_out)) from None
        yield from text.rstrip("\r\n").split("\r")


def read_raw_lines(path: ReadablePath, error: type[AsrError], what: str, *, way_out: str = "") -> Iterator[bytes]:
    """Yield the lines of a file as bytes up to each `\\n`, decompressed if its name ends in `.gz`.

    The checksum of a compressed file is behind its last line, so whoever wants it checked reads to the end. Arguments
    are those of `read_text`.

    Raises:
        error: the file is missing, unreadable, damaged or beyond the limits of this module; the message names the last
            line that was read.
    """
    number = read_bytes = 0
    allowed_bytes = _FREE_BYTES
    try:
        with path.open("rb") as stored, _expanded(path, stored) as file:
            while line := file.readline(_MOST_LINE_BYTES + 1):
                number += 1
                if len(line) > _MOST_LINE_BYTES:
                    too_long = f"{path}:{number}: cannot read {what}: a line of more than {_size(_MOST_LINE_BYTES)}"
                    raise error(too_long + _then(way_out or "break it into several"))
                read_bytes += len(line)
                if read_bytes > allowed_bytes and file is not stored:
                    allowed_bytes = min(max(_FREE_BYTES, stored.tell() * _MOST_EXPANSION), _MOST_EXPANDED_BYTES)
                    if read_bytes > allowed_bytes:
                        too_large = f"{path}: cannot read {what}: it becomes more than {_size(allowed_bytes)}"
                        raise error(f"{too_large} when it is decompressed" + _then(way_out or "decompress it yourself"))
                yield line
    except (OSError, EOFError, zlib.error) as reason:
        if isinstance(reason, OSError) and reason.strerror:
            raise error(_unreadable(path, what, reason, way_out)) from None
        raise error(f"{path}: damaged after line {number} ({reason})" + _then(way_out or "write it again")) from None


def _expanded(path: ReadablePath, stored: BinaryIO) -> BinaryIO:
    if path.suffix == ".gz":
        # A GzipFile's own line reading is slow; a buffer of its own in front is not.
        return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=stored, mode="rb"), _BUFFER_BYTES))
    return stored


def _unreadable(path: ReadablePath, what: str, reason: OSError, way_out: str) -> str:
    return f"{path}: cannot read {what} ({reason.strerror})" + _then(way_out)


def _undecodable(path: ReadablePath, line: int, what: str, reason: UnicodeDecodeError, way_out: str) -> str:
    wrong = reason.object[reason.start]
    if line == 1 and reason.object.startswith(b"\x1f\x8b"):
        return f"{path}: compressed with gzip; unpack it, or give it a name that ends in .gz where that may be"
    return f"{path}:{line}: not UTF-8 (byte 0x{wrong:02x})" + _then(way_out or f"save {what} as UTF-8")


def _then(way_out: str) -> str:
    return f"; {way_out}" if way_out else ""


def _size(size: int) -> str:
    unit, name = (1 << 30, "GiB") if size >= 1 << 30 else (_MIB, "MiB") if size >= _MIB else (1 << 10, "KiB")
    return f"{size / unit:.3g} {name}"


_MOST_SHOWN = 80  # characters of a value
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = _MOST_SHOWN
_repr.maxlevel = 3


def shown(value: object) -> str:
    """Return a value as it is in JSON or YAML, shortened to at most 80 characters. A long value takes no longer."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return first_line(_repr.repr(value))


def counted(number: int, thing: str) -> str:
    """Return a number and its thing in the singular or plural: "1 utterance", "12 utterances", "2 rows of dev"."""
    noun, of, rest = thing.partition(" of ")
    if number != 1:
        noun = f"{noun[:-1]}ies" if re.search("[^aeiou]y$", noun) else f"{noun}s"
    return f"{number} {noun}{of}{rest}"


def first_line(text: str) -> str:
    """Return the first line of a text, such as another package's message, shortened to at most 80 characters."""
    line = text.partition("\n")[0]
    return line if len(line) <= _MOST_SHOWN else f"{line[: _MOST_SHOWN - 3]}..."
