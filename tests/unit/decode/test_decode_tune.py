"""Tuning on dev sets whose best settings are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from asr.config import DecodeSettings
from asr.decode.tune import BEAM_SIZES, TuneResult, tune

SETTINGS = DecodeSettings(beam_size=7, lm_order=4, lm_weight=9.0, insertion_bonus=9.0)


class FakeDevSet:
    """Makes the errors that a function of LM weight, insertion bonus and beam size says."""

    def __init__(self, errors: Callable[[float, float, int], float]) -> None:
        self.errors = errors
        self.calls: list[DecodeSettings] = []

    def count(self, what: str, settings: Sequence[DecodeSettings]) -> list[int]:
        assert what
        self.calls += settings
        return [round(1000 * self.errors(item.lm_weight, item.insertion_bonus, item.beam_size)) for item in settings]


def tuned(errors: Callable[[float, float, int], float]) -> TuneResult:
    return tune(FakeDevSet(errors).count, SETTINGS)


@pytest.mark.parametrize("best", [(0.3, 0.75), (0.0, -0.75), (1.1, 1.75), (0.5, 0.5), (2.3, -1.25), (3.0, 3.0)])
def test_the_weights_with_the_fewest_errors_are_found_also_beyond_the_first_grid(best: tuple[float, float]) -> None:
    result = tuned(lambda weight, bonus, beam: 2 * abs(weight - best[0]) + abs(bonus - best[1]))
    assert (result.best.lm_weight, result.best.insertion_bonus) == best
    assert min(trial.errors for trial in result.trials) == 0


def test_nothing_is_tried_twice_and_only_what_is_tuned_changes() -> None:
    dev = FakeDevSet(lambda weight, bonus, beam: weight + abs(bonus))
    result = tune(dev.count, SETTINGS)
    points = [(item.lm_weight, item.insertion_bonus, item.beam_size) for item in dev.calls]
    assert len(set(points)) == len(points) <= 42
    assert [trial[:3] for trial in result.trials] == points
    assert all(weight >= 0 for weight, _, _ in points)
    assert {item.lm_order for item in (*dev.calls, result.best)} == {4}


@pytest.mark.parametrize("where", [0.0, 100.0])
def test_the_search_ends_where_errors_fall_without_end(where: float) -> None:
    best = tuned(lambda weight, bonus, beam: abs(weight - where) + abs(bonus - where)).best
    assert (best.lm_weight, best.insertion_bonus) == ((3.0, 3.0) if where else (0.0, 0.0))


def test_among_equals_the_smallest_weights_and_the_smallest_beam_win() -> None:
    best = tuned(lambda weight, bonus, beam: 0.0).best
    assert (best.lm_weight, best.insertion_bonus, best.beam_size) == (0.0, 0.0, 4)


@pytest.mark.parametrize(
    ("errors", "best"),
    [((9, 7, 7, 7), 8), ((9, 8, 7, 6), 32), ((7, 6, 6, 8), 8), ((5, 6, 7, 8), 4), ((8, 8, 7, 7), 16)],
)
def test_the_smallest_beam_with_the_fewest_errors_wins_at_the_weights_chosen_before(
    errors: tuple[int, ...], best: int
) -> None:
    of_beam = dict(zip((4, 8, 16, 32), errors, strict=True))
    result = tuned(lambda weight, bonus, beam: abs(weight - 0.3) + abs(bonus - 0.25) + of_beam[beam])
    assert (result.best.lm_weight, result.best.insertion_bonus, result.best.beam_size) == (0.3, 0.25, best)
    assert [result.errors(0.3, 0.25, beam) for beam in BEAM_SIZES] == [1000 * count for count in errors]


def test_a_count_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        tune(lambda what, settings: [0], SETTINGS)


def test_the_record_holds_every_trial_as_a_share_of_the_words() -> None:
    result = tuned(lambda weight, bonus, beam: 0.001 * (2 + (weight != 0.4) + (beam < 16)))
    record = json.loads(json.dumps(result.to_json(words=50)))
    assert record["chosen"] == {**SETTINGS.model_dump(), "lm_weight": 0.4, "insertion_bonus": 0.0, "beam_size": 16}
    assert len(record["trials"]) == len(result.trials)
    assert record["trials"][0] == {"lm_weight": 0.0, "insertion_bonus": -0.5, "beam_size": 16, "errors": 3, "wer": 0.06}
    assert {trial["wer"] for trial in record["trials"]} == {0.04, 0.06}


def test_the_picture_shows_every_rate_and_frames_what_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    from asr.decode.tune_plot import draw

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *given, **named: drawn.append(figure) or save(figure, *given, **named)
    )
    result = tuned(lambda weight, bonus, beam: 0.1 * (weight - 0.5) ** 2 + 0.01 * (bonus - 0.75) ** 2 + 0.02 / beam)
    draw(result, 400, tmp_path / "tune.png")
    assert (tmp_path / "tune.png").read_bytes().startswith(b"\x89PNG")
    surface, beams = drawn[0].axes
    shown = {text.xy: text.get_text() for text in surface.texts}
    assert len(shown) == len({trial[:2] for trial in result.trials})
    for trial in result.trials:
        if trial.beam_size == 16:
            rate = 100 * trial.errors / 400
            assert shown[trial[:2]] == (f"{rate:.2f}" if rate < 10 else f"{rate:.1f}")
    (frame,) = [patch for patch in surface.patches if not patch.get_fill()]
    assert frame.get_center() == pytest.approx((0.5, 0.75))
    assert [float(text.get_text()) for text in beams.texts] == [
        pytest.approx(100 * round(20 / beam) / 400, abs=0.006) for beam in BEAM_SIZES
    ]
