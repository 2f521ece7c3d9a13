"""The page of a scored decode folder, and the reliability diagram in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from asr.plotting import BLUE, styled_figure
from asr.scoring.calibration import draw_reliability, reliability_svg, score_calibration, share_interval
from asr.scoring.report import LISTED_UTTERANCES, to_html, write_reports
from asr.scoring.score import read_score, score_texts, write_trn

SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """The texts of a page in their order, and its tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_each_dot_and_bar_is_where_the_case_worked_by_hand_has_it() -> None:
    # 0.2 to 0.3: two words, claimed 0.25, half of them right. 0.9 to 1: four words, claimed 0.95, three of them right.
    confidences, right = [0.2, 0.3 - 1e-12, 0.9, 0.95, 0.95, 1.0], [True, False, True, False, True, True]
    with styled_figure(4, 5) as figure:
        draw_reliability(figure, score_calibration(confidences, right))
    shares, counts = figure.axes
    _, interval, _, dots = shares.lines  # the dashed line is first
    assert dots.get_xydata().tolist() == [pytest.approx((0.25, 0.5)), pytest.approx((0.95, 0.75))]
    assert interval.get_xdata() == pytest.approx([0.25, 0.25])
    assert interval.get_ydata().tolist() == pytest.approx(share_interval(0.5, 2))
    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in counts.patches]
    assert bars == [pytest.approx((0.25, 2)), pytest.approx((0.95, 4))]
    assert [text.get_text() for text in counts.texts] == ["2", "4"]


def test_the_diagram_is_in_the_colour_of_the_page_and_says_in_words_what_it_shows() -> None:
    element = reliability_svg(score_calibration([0.25, 0.25, 0.95], [True, False, True]))
    svg = ElementTree.fromstring(element)
    assert svg.get("role") == "img"
    assert "0.2 to 0.3: 2 words, mean confidence 0.250, share right 0.500" in str(svg.get("aria-label"))
    assert "share of words that are right" in [text.text for text in svg.iter(f"{SVG}text")]
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", element))
    assert colours == {"none", "currentColor", BLUE}
    assert element == reliability_svg(score_calibration([0.25, 0.25, 0.95], [True, False, True]))


@pytest.mark.parametrize(
    ("right", "count", "interval"),
    [(0, 10, (0.0, 0.2775)), (5, 10, (0.2366, 0.7634)), (1, 1, (0.2065, 1.0)), (81, 263, (0.2553, 0.3662))],
)
def test_the_interval_of_a_share_is_that_of_published_tables(
    right: int, count: int, interval: tuple[float, float]
) -> None:
    """The last one is the example of Newcombe 1998, "Two-sided confidence intervals for the single proportion"."""
    assert share_interval(right / count, count) == pytest.approx(interval, abs=1e-4)


def test_the_page_holds_rates_errors_and_confidences_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    write_trn({"u1": "turn the <b> on", "u2": "off"}, tmp_path / "ref.trn")
    write_trn({"u1": "turn a <b> on now", "u2": ""}, tmp_path / "hyp.trn")
    words = [{"text": "x", "confidence": confidence} for confidence in (0.95, 0.15, 0.95, 0.95, 0.25)]
    records = [{"id": "u1", "words": words}, {"id": "u2", "words": []}]
    (tmp_path / "hyp.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    write_reports(read_score(tmp_path), tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    names = [tag for tag, _ in page.tags]
    assert names.count("svg") == 1
    assert "b" not in names
    assert "script" not in names
    assert not any(name in attributes for _, attributes in page.tags for name in ("src", "href"))
    place = page.texts.index("WER")
    assert page.texts[place + 1] == "60.00 %"  # 1 substitution, 1 deletion, 1 insertion, 5 words
    assert page.texts[place + 3 : place + 8] == ["3", "1", "1", "1", "5 words"]
    assert page.texts[page.texts.index("ECE") + 1] == "0.110"  # 3 · 0.05 + 0.15 + 0.25, of 5
    assert page.texts[page.texts.index("AUC") + 1] == "1.000"
    marks = [attributes["class"] for tag, attributes in page.tags if str(attributes.get("class")).startswith("word")]
    assert marks == ["word C", "word S", "word C", "word C", "word I", "word D"]
    texts = list(filter(None, page.texts))
    place = texts.index("substitutions")
    assert texts[place + 1 : place + 6] == ["1", "the", "→", "a", "1"]


def test_what_users_wrote_is_text_on_the_page() -> None:
    evil = "<script>alert(1)</script>"
    page = Page(to_html(score_texts({evil: "a & b\x1b[2J"}, {evil: f"{evil} b"}), f"{evil}\n"))
    assert "script" not in [tag for tag, _ in page.tags]
    assert f"{evil}\\n" in page.texts
    assert any(text.startswith(f"{evil}: 3 of 3 words") for text in page.texts)
    assert {"&", "b\\x1b[2J"} <= set(page.texts)
    assert page.texts[page.texts.index("→") - 1 :][:3] == ["&", "→", evil]


def test_without_confidences_or_errors_the_page_has_no_part_for_them() -> None:
    score = score_texts({"u": "one two"}, {"u": "one two"})
    page = Page(to_html(score, "exp/a & b"))
    assert "exp/a & b" in page.texts
    assert not [text for text in page.texts if text.startswith(("Confidences", "Frequent", "Utterances"))]
    calibrated = replace(score, calibration=score_calibration([0.5, 0.5], [True, True]))
    page = Page(to_html(calibrated, "x"))
    assert page.texts[page.texts.index("AUC") + 1] == "–"


def test_of_very_many_utterances_with_errors_the_first_are_shown_and_the_others_counted() -> None:
    names = [f"u{index}" for index in range(LISTED_UTTERANCES + 3)]
    page = Page(to_html(score_texts(dict.fromkeys(names, "one"), dict.fromkeys(names, "two")), "x"))
    assert sum(attributes.get("class") == "utterance" for _, attributes in page.tags) == LISTED_UTTERANCES
    assert any("3 more in wer.txt" in text for text in page.texts)
