"""README.md → the description on PyPI, which has none of the repository's files beside it. hatchling calls this."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


class DescriptionHook(MetadataHookInterface):
    """Sets `readme` in the metadata of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description; `metadata` is the table `project` of pyproject.toml."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        metadata["readme"] = {"content-type": "text/markdown", "text": description(text, repository)}


def description(readme: str, repository: str | None) -> str:
    """Return the text of a README whose links to files lead to a repository.

    Args:
        readme: Markdown.
        repository: an address as https://github.com/user/name; None: of links the text stays, of pictures nothing.
    """

    def link(found: re.Match[str]) -> str:
        is_picture, text, path = found.groups()
        if repository is None:
            return "" if is_picture else text
        return f"{is_picture}[{text}]({repository.rstrip('/')}/{'raw' if is_picture else 'blob'}/HEAD/{path})"

    return _RELATIVE_LINK.sub(link, readme)
