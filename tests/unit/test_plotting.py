"""Figures have one style, whatever the user's own is, and are written whole."""

from __future__ import annotations

import warnings
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from asr.errors import AsrError, FontWarning
from asr.plotting import FORMATS, save_figure, styled_figure, svg_element


def draw(path: Path) -> bytes:
    with styled_figure(2, 1) as figure:
        axes = figure.subplots()
        axes.plot([1, 2], label="a")
        axes.set_title("$ 5 – 1,5", parse_math=False)
        axes.legend()
        save_figure(figure, path)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_equal_figures_are_equal_files(tmp_path: Path, suffix: str) -> None:
    assert draw(tmp_path / f"a{suffix}") == draw(tmp_path / f"b{suffix}")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_user_s_own_settings_of_matplotlib_neither_show_nor_change(tmp_path: Path) -> None:
    usual = draw(tmp_path / "a.svg")
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        assert draw(tmp_path / "b.svg") == usual
        assert dict(mpl.rcParams) == before


def test_other_formats_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match=r"a\.gif: a figure's name ends in \.png, \.svg or \.pdf"):
        draw(tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_an_element_for_a_page_has_no_colour_of_its_own_for_text_and_axes() -> None:
    with styled_figure(2, 1, in_a_page=True) as figure:
        figure.subplots().set_xlabel("<seconds>")
        element = svg_element(figure, "Title", 'says "what"')
    svg = ElementTree.fromstring(element)
    assert (svg.get("role"), svg.get("aria-label")) == ("img", 'Title. says "what"')
    assert "<seconds>" in [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "currentColor" in element
    assert "#000000" not in element


@pytest.mark.parametrize(("suffix", "named"), [(".png", True), (".pdf", True), (".svg", False)])
def test_characters_that_no_font_has_are_named_once_unless_the_file_holds_text(
    tmp_path: Path, suffix: str, named: bool
) -> None:
    with warnings.catch_warnings(record=True) as caught, styled_figure(2, 1) as figure:
        warnings.simplefilter("always")
        figure.subplots().set_title("a \U0010fffd \U000ffffd b \U0010fffd")  # for private use: no font has them
        figure.suptitle("\U000ffffd")
        save_figure(figure, tmp_path / f"a{suffix}")
    assert [warning.category for warning in caught] == [FontWarning] * named
    for warning in caught:
        assert "no font of this machine has \U000ffffd\U0010fffd; install one" in str(warning.message)


def test_other_warnings_of_a_drawing_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with styled_figure(2, 1) as figure:
        monkeypatch.setattr(figure, "savefig", lambda *_, **__: warnings.warn("too many ticks", stacklevel=1))
        with pytest.warns(UserWarning, match="too many ticks"):
            save_figure(figure, tmp_path / "a.png")
