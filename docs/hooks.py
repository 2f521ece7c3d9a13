"""What mkdocs calls while it builds the site: all messages are collected from the source, links to code become text."""

from __future__ import annotations

import ast
import html
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1] / "asr"
PLACE = "<!-- all messages -->"
# A link to a file of the checkout, which the site does not hold.
_CODE_LINK = re.compile(r"\[(`?[^\]`]+`?)\]\(\.\./[^)]*\)")
_KINDS = re.compile(r"^class (\w+Error)\b", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page's text as the site shows it."""
    return _CODE_LINK.sub(r"\1", markdown).replace(PLACE, all_messages())


def all_messages() -> str:
    """Return a section for each kind of error, with every message that the package raises as one."""
    found = defaultdict(set)
    for kind, message in messages():
        found[kind].add(message)
    return "\n".join(
        line
        for kind in sorted(found)
        for line in (
            f"## {kind}\n",
            *(f"- <code>{_as_text(message)}</code>" for message in sorted(found[kind])),
            "",
        )
    )


def _as_text(message: str) -> str:
    """Return HTML that shows a message as it is: what Markdown would take for a sign is an entity."""
    return re.sub(r"[`*_\[\]\\]", lambda sign: f"&#{ord(sign[0])};", html.escape(message))


def messages() -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of each message in the source; `…` stands for a value in it."""
    kinds = set(_KINDS.findall((PACKAGE / "errors.py").read_text(encoding="utf-8")))
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds and node.args:
                message = text_of(node.args[0]).strip()
                if re.search(r"\w{3}", message):
                    yield node.func.id, message


def text_of(node: ast.expr) -> str:
    """Return a text of the source, with `…` for each value in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return re.sub("…+", "…", "".join(map(text_of, node.values)))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return "…"
