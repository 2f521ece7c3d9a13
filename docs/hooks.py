"""What mkdocs calls while it builds the site.

All messages are collected from the source, links to code become text, and each notebook becomes a page.
"""

from __future__ import annotations

import ast
import html
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1] / "asr"
PLACE = "<!-- all messages -->"
# A link to a file of the checkout, which the site does not hold.
_CODE_LINK = re.compile(r"\[(`?[^\]`]+`?)\]\(\.\./[^)]*\)")
_KINDS = re.compile(r"^class (\w+Error)\b", re.MULTILINE)


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add a page for each notebook; the notebook itself stays a file to download."""
    from mkdocs.structure.files import File

    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            text = page_of(Path(file.abs_src_path))
            files.append(File.generated(config, f"{file.src_uri.removesuffix('.ipynb')}.md", content=text))
    return files


def page_of(notebook: Path) -> str:
    """Return a notebook, with what its cells show, as Markdown."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\((\w+)\.ipynb\)", r"(\1.md)", source))
        else:
            parts += [_block("python", source), *map(_shown, cell["outputs"])]
    heading, rest = parts[0].split("\n", 1)
    download = f"[Download this notebook]({notebook.name}), and run it in a folder of your own."
    return "\n\n".join([heading, download, rest, *parts[1:]]) + "\n"


def _shown(output: Mapping[str, Any]) -> str:
    """Return what a cell shows as Markdown."""
    data = {kind: "".join(content) for kind, content in output.get("data", {}).items()}
    if "image/png" in data:
        picture = data["image/png"].replace("\n", "")
        return f'<p><img alt="What the cell above draws" src="data:image/png;base64,{picture}"></p>'
    if "text/html" in data:
        return f"<div>\n{data['text/html'].strip()}\n</div>"
    return _block("text", data.get("text/plain") or "".join(output["text"]))


def _block(language: str, text: str) -> str:
    """Return text as a block of code; no line of it can end the block."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {language}\n{text.rstrip()}\n{fence}"


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
