"""Curves of trainings: what they draw and say, and that their lines can be told from each other and from any page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from asr.reporting.training_curves import COLOURS, Curve, line_style

SVG = "{http://www.w3.org/2000/svg}"
DARK, WHITE = "#121212", "#ffffff"  # what browsers paint below a page


def luminance(colour: str) -> float:
    """Return the relative luminance. Source: Web Content Accessibility Guidelines 2.2."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_can_be_seen_on_a_light_and_on_a_dark_page() -> None:
    """Graphics need a contrast of 3 : 1 (Web Content Accessibility Guidelines 2.2, criterion 1.4.11)."""
    assert contrast("#000000", WHITE) == 21
    for colour in COLOURS:
        assert min(contrast(colour, WHITE), contrast(colour, DARK)) >= 3, colour


def test_two_dozen_lines_differ_in_colour_or_dashes_and_the_first_three_in_dashes_alone() -> None:
    styles = [line_style(place) for place in range(24)]
    assert len(set(styles)) == 24
    assert len({dashes for _, dashes in styles[:3]}) == 3


def test_a_curve_says_in_words_what_it_shows_and_leaves_out_what_has_no_points() -> None:
    curve = Curve("dev WER, %", {"A": [(0, 100.0), (1, 5.0), (2, 6.0)], "B": [], "C": [(0, 50.0)]})
    assert curve.description == (
        "A: 100 in epoch 0, 6 in epoch 2, least 5 in epoch 1; C: 50 in epoch 0, 50 in epoch 0, least 50 in epoch 0"
    )
    element = curve.svg()
    assert COLOURS[0] in element
    assert COLOURS[1] not in element
    assert COLOURS[2] in element, "C keeps its colour"
    texts = [text.text for text in ElementTree.fromstring(element).iter(f"{SVG}text")]
    assert {"A", "C", "epoch", "dev WER, %"} <= set(texts)
    assert "B" not in texts


def test_values_of_very_different_size_are_named_as_numbers() -> None:
    texts = [
        text.text for text in ElementTree.fromstring(Curve("x", {"A": [(0, 100.0), (1, 6.0)]}).svg()).iter(f"{SVG}text")
    ]
    assert {"10", "20", "50", "100"} <= set(texts)
    even = Curve("x", {"A": [(0, 7.0), (1, 6.0)]}).svg()
    assert "0" in [text.text for text in ElementTree.fromstring(even).iter(f"{SVG}text")], "from zero"


def test_a_rate_of_zero_is_drawn_too() -> None:
    assert re.search("<svg", Curve("x", {"A": [(0, 100.0), (1, 0.0)]}).svg())
