"""The diagrams in the page of a scored decode folder."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from asr.bundle.training_log import EpochLine
from asr.plotting import BLUE, styled_figure
from asr.reporting.training_curves import training_curves
from asr.scoring.calibration import draw_reliability, reliability_svg, score_calibration, share_interval

SVG = "{http://www.w3.org/2000/svg}"


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


def epoch(number: int, **more: object) -> EpochLine:
    return EpochLine.model_validate({"epoch": number, "loss": 8.0 / (number + 1), "best": True, **more})


def test_a_curve_has_what_the_log_has_and_says_it_in_words() -> None:
    logged = [
        epoch(0, dev_wer=0.9, dev_loss=None, learning_rate=0.1, gradient_norms={"output": 4.0}),
        epoch(1, dev_wer=0.2, dev_loss=3.0, learning_rate=0.3, gradient_norms={"output": 1.0, "layers.0": 2.0}),
        epoch(2, dev_wer=0.5, dev_loss=5.0, learning_rate=0.2, gradient_norms={"output": 2.0}),
    ]
    curves = {curve.title: curve for curve in training_curves(logged)}
    assert {title: dict(curve.lines) for title, curve in curves.items()} == {
        "loss, nats per token": {
            "training": [(1, 8.0), (2, 4.0), (3, 8 / 3)],
            "dev": [(2, 3.0), (3, 5.0)],
        },
        "dev WER, %": {"dev": [(1, 90.0), (2, 20.0), (3, 50.0)]},
        "learning rate": {"rate": [(1, 0.1), (2, 0.3), (3, 0.2)]},
        "gradient norms before clipping": {"output": [(1, 4.0), (2, 1.0), (3, 2.0)], "layers.0": [(2, 2.0)]},
    }
    svg = ElementTree.fromstring(curves["dev WER, %"].svg())
    assert str(svg.get("aria-label")).endswith("dev: 90 in epoch 1, 50 in epoch 3, least 20 in epoch 2")


def test_without_a_dev_set_and_learning_rates_there_are_no_curves_of_them() -> None:
    assert [curve.title for curve in training_curves([epoch(0), epoch(1)])] == ["loss, nats per token"]
    assert training_curves([]) == []


def test_where_characters_decide_the_curve_is_the_character_error_rate() -> None:
    curves = training_curves([epoch(0, dev_wer=1.0, dev_cer=0.25, dev_by_characters=True)])
    assert [(curve.title, dict(curve.lines)) for curve in curves[1:]] == [("dev CER, %", {"dev": [(1, 25.0)]})]
