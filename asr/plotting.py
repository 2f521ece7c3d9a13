"""Figures in one style: written whole as PNG, SVG or PDF, or as an `<svg>` element of a page. No torch."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError, FontWarning
from asr.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
# On white, on black and in print: the first for what is measured, the second for what was chosen or went wrong.
BLUE, RED = "#4878cf", "#d04040"

_DOTS_PER_INCH = 150
# The colour of text and axes in an `<svg>` element, until the page's own takes its place.
_FOREGROUND = "#010203"
_STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "asr",  # the same figure gives the same bytes
}
_IN_A_PAGE = dict.fromkeys(
    ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), _FOREGROUND
)


# Fonts of Linux, macOS and Windows for what the first, which matplotlib brings along, does not have.
_FONTS = (
    *("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans Devanagari", "Noto Sans Bengali"),
    *("Noto Sans Tamil", "Noto Sans Thai", "Noto Sans Ethiopic", "WenQuanYi Zen Hei", "Arial Unicode MS"),
    *("Hiragino Sans", "PingFang SC", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI"),
)


_MISSING = r"Glyph (\d+) .*missing from font"  # matplotlib's warning of a character


@contextmanager
def styled_figure(width_in: float, height_in: float, *, in_a_page: bool = False) -> Iterator[Figure]:
    """Yield an empty figure in the style of this package; it must be saved before the block ends.

    Args:
        width_in: width in inches.
        height_in: height in inches.
        in_a_page: for `svg_element`, whose text and axes have the colour of the page around them.
    """
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    fonts = {"font.family": [name for name in _FONTS if name in installed] + ["sans-serif"]}
    with style.context(["default", _STYLE, fonts, _IN_A_PAGE if in_a_page else {}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_MISSING)  # `save_figure` says so, once
        yield Figure(figsize=(width_in, height_in), layout="constrained")


def check_format(path: Path) -> None:
    """Refuse a file name whose ending is no format of a figure.

    Raises:
        AsrError: the name ends in none of `FORMATS`.
    """
    if path.suffix.lower() not in FORMATS:
        raise AsrError(f"{path}: a figure's name ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all, in the format that the file's name says.

    A `FontWarning` names characters that no font of this machine has. An SVG file does not need them: it holds text.

    Raises:
        AsrError: the name ends in none of `FORMATS`.
    """
    check_format(path)
    kind = path.suffix.lower()
    with atomic_path(path) as temporary, warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message=_MISSING)
        figure.savefig(temporary, format=kind[1:], dpi=_DOTS_PER_INCH, metadata=_metadata(kind))
    found = [(warning, re.match(_MISSING, str(warning.message))) for warning in caught]
    for warning in (warning for warning, match in found if not match):
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    missing = "".join(sorted({chr(int(match[1])) for _, match in found if match}))
    if missing and kind != ".svg":
        warnings.warn(
            f"{path}: no font of this machine has {missing}; install one that has, such as a Noto font, or write .svg, "
            "which is shown with the fonts of its reader",
            FontWarning,
            stacklevel=2,
        )


def svg_element(figure: Figure, title: str, description: str) -> str:
    """Return a figure as an `<svg>` element for a page, in the colour of the text around it.

    Args:
        figure: made by `styled_figure` with `in_a_page`.
        title: what it is, e.g. "Reliability diagram".
        description: what it shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    _, _, element = buffer.getvalue().partition("<svg ")  # an XML declaration has no place inside a page
    label = escape(f"{title}. {description}")
    return f'<svg role="img" aria-label="{label}" {element}'.replace(_FOREGROUND, "currentColor").strip()


def _metadata(kind: str) -> dict[str, None]:
    """Return what leaves the time of writing out, which would make equal figures differ."""
    return {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[kind]
