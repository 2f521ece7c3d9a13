"""Tuning on dev sets whose best settings are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from asr.search_config import DecodeSettings
from asr.tuning.weights import BEAM_SIZES, Choice, DevSet, Measured, choose_settings

SETTINGS = DecodeSettings(beam_size=7, lm_order=4, lm_weight=9.0, insertion_bonus=9.0)


DEV = DevSet("word", np.full(5, 10), "speakers")


def alike(value: float) -> Measured:
    """Return what is measured if all five speakers have the same loss; then no difference is chance."""
    return Measured(round(1000 * value), np.full(5, value))


class FakeDevSet:
    """Has the loss that a function of LM weight, insertion bonus and beam size says, and 1,000 times the errors."""

    def __init__(self, errors: Callable[[float, float, int], float]) -> None:
        self.errors = errors
        self.calls: list[DecodeSettings] = []

    def measure(self, what: str, settings: Sequence[DecodeSettings]) -> list[Measured]:
        assert what
        self.calls += settings
        return [alike(self.errors(item.lm_weight, item.insertion_bonus, item.beam_size)) for item in settings]


def tuned(errors: Callable[[float, float, int], float]) -> Choice:
    return choose_settings(FakeDevSet(errors).measure, SETTINGS, DEV)


@pytest.mark.parametrize("best", [(0.3, 0.75), (0.0, -0.75), (1.1, 1.75), (0.5, 0.5), (2.3, -1.25), (3.0, 3.0)])
def test_the_weights_with_the_lowest_loss_are_found_also_beyond_the_first_grid(best: tuple[float, float]) -> None:
    result = tuned(lambda weight, bonus, beam: 2 * abs(weight - best[0]) + abs(bonus - best[1]))
    assert (result.best.lm_weight, result.best.insertion_bonus) == best
    assert min(trial.errors for trial in result.trials) == 0


def test_nothing_is_tried_twice_and_only_what_is_tuned_changes() -> None:
    dev = FakeDevSet(lambda weight, bonus, beam: weight + abs(bonus))
    result = choose_settings(dev.measure, SETTINGS, DEV)
    points = [(item.lm_weight, item.insertion_bonus, item.beam_size) for item in dev.calls]
    assert len(set(points)) == len(points) <= 42
    assert [trial.point[:3] for trial in result.trials] == points
    assert all(weight >= 0 for weight, _, _ in points)
    assert {item.lm_order for item in (*dev.calls, result.best)} == {4}


@pytest.mark.parametrize("where", [0.0, 100.0])
def test_the_search_ends_where_the_loss_falls_without_end(where: float) -> None:
    best = tuned(lambda weight, bonus, beam: 10 * abs(weight - where) + 10 * abs(bonus - where)).best
    assert (best.lm_weight, best.insertion_bonus) == ((3.0, 3.0) if where else (0.0, 0.0))


def test_among_equals_the_usual_weights_win_and_the_beam_stays() -> None:
    best = tuned(lambda weight, bonus, beam: 0.0).best
    assert (best.lm_weight, best.insertion_bonus, best.beam_size) == (0.5, 0.5, 7)


# Of 2, 1, 1, 1, 0 the mean is 1, and the standard error 0.316; of 4, 1, 0, 0, 0 it is 0.775. With five speakers 68 % of
# all differences are at most 1.13 standard errors (Student's t of 4 degrees of freedom).
@pytest.mark.parametrize(
    ("gains", "chosen"),
    [
        ((2, 1, 1, 1, 0), (0.8, 1.0)),
        ((4, 1, 0, 0, 0), (0.8, 1.0)),  # 1.29 standard errors
        ((5, 0, 0, 0, 0), (0.5, 0.5)),  # 1: one speaker's alone
        ((4, 2, 1, -1, -1), (0.5, 0.5)),  # 1.05
        ((0, 0, 0, 0, 0), (0.5, 0.5)),
    ],
)
def test_what_wins_by_no_more_than_one_standard_error_over_the_speakers_does_not_win(
    gains: Sequence[float], chosen: tuple[float, float]
) -> None:
    """All settings but one have the same losses, above that one's by the gains."""

    def measure(what: str, settings: Sequence[DecodeSettings]) -> list[Measured]:
        wins = [(item.lm_weight, item.insertion_bonus) == (0.8, 1.0) for item in settings]
        return [Measured(100, 3.0 + np.array(gains) * (not win)) for win in wins]

    result = choose_settings(measure, SETTINGS, DEV)
    assert (result.best.lm_weight, result.best.insertion_bonus) == chosen


def test_one_speaker_or_utterance_alone_is_chance() -> None:
    def measure(what: str, settings: Sequence[DecodeSettings]) -> list[Measured]:
        return [Measured(9, np.array([item.lm_weight])) for item in settings]

    assert choose_settings(measure, SETTINGS, DevSet("word", np.array([50]), "utterances")).best.lm_weight == 0.5


@pytest.mark.parametrize("own", [7, 16])
def test_beam_sizes_are_tried_at_the_chosen_weights_and_none_is_chosen(own: int) -> None:
    of_beam = {4: 9, 7: 8, 8: 7, 16: 6, 32: 5}
    dev = FakeDevSet(lambda weight, bonus, beam: abs(weight - 0.3) + abs(bonus - 0.25) + of_beam[beam])
    result = choose_settings(dev.measure, SETTINGS.model_copy(update={"beam_size": own}), DEV)
    assert (result.best.lm_weight, result.best.insertion_bonus, result.best.beam_size) == (0.3, 0.25, own)
    sizes = sorted({*BEAM_SIZES, own})
    assert [(trial.point.beam_size, trial.errors) for trial in result.beams] == [(n, 1000 * of_beam[n]) for n in sizes]


WORDS = DecodeSettings(lm="words", oov_penalty=5.0)
RNN = DecodeSettings(rnn_weight=0.3)
RESCORED = DecodeSettings(rescore_weight=0.25)


@pytest.mark.parametrize(
    ("settings", "name", "best"),
    [
        (WORDS, "oov_penalty", 8.0),
        (WORDS, "oov_penalty", 5.0),
        (RNN, "rnn_weight", 0.8),
        (RNN, "rnn_weight", 0.0),
        (RESCORED, "rescore_weight", 0.4),
    ],
)
def test_what_the_settings_use_besides_is_chosen_too_and_the_weights_with_it(
    settings: DecodeSettings, name: str, best: float
) -> None:
    """Where it is best, other weights are than where it was first."""

    def measure(what: str, tried: Sequence[DecodeSettings]) -> list[Measured]:
        away = [10 * abs(getattr(item, name) - best) for item in tried]
        weights = [0.7 if distance == 0 else 0.2 for distance in away]
        return [
            alike(distance + abs(item.lm_weight - weight) + abs(item.insertion_bonus - 0.75))
            for item, distance, weight in zip(tried, away, weights, strict=True)
        ]

    result = choose_settings(measure, settings, DEV)
    assert result.best == settings.model_copy(update={name: best, "lm_weight": 0.7, "insertion_bonus": 0.75})
    assert result.chosen == ("lm_weight", "insertion_bonus", name)
    points = [trial.point for trial in result.trials]
    assert len(set(points)) == len(points) < 100
    assert result.errors(0.0, 0.0, 16) == 1450
    assert {getattr(trial.point, name) for trial in result.surface} == {best}
    assert {trial.point[:2] for trial in result.surface} > {(0.2, 0.5), (0.7, 0.75), (1.0, 1.5)}


def test_what_helps_by_no_more_than_chance_stays_as_it_was() -> None:
    def measure(what: str, tried: Sequence[DecodeSettings]) -> list[Measured]:
        return [Measured(100, np.array([1.0, 1, 1, 1, 1 + (item.rnn_weight != 0.8)])) for item in tried]

    assert choose_settings(measure, RNN, DEV).best.rnn_weight == 0.3


def test_what_the_settings_do_not_use_is_not_tried() -> None:
    for settings in (SETTINGS, DecodeSettings(lm="words"), DecodeSettings(oov_penalty=5.0)):
        result = choose_settings(FakeDevSet(lambda weight, bonus, beam: 0.0).measure, settings, DEV)
        assert {trial.point[3:] for trial in result.trials} == {(settings.oov_penalty, 0.0, 0.0)}
        assert result.chosen == ("lm_weight", "insertion_bonus")


def test_a_count_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        choose_settings(lambda what, settings: [alike(0)], SETTINGS, DEV)


def test_the_record_holds_every_trial_as_a_share_of_the_words() -> None:
    result = tuned(lambda weight, bonus, beam: 0.001 * (2 + (weight != 0.4) + 4 * (beam < 7)))
    record = json.loads(json.dumps(result.to_json()))
    assert (record["words"], record["drawn"]) == (50, "speakers")
    assert record["chosen"] == {**SETTINGS.model_dump(), "lm_weight": 0.4, "insertion_bonus": 0.5}
    assert len(record["trials"]) == len(result.trials)
    assert record["trials"][0] == {
        **{"lm_weight": 0.0, "insertion_bonus": -0.5, "beam_size": 7},
        **{"oov_penalty": None, "rnn_weight": 0.0, "rescore_weight": 0.0},
        **{"errors": 3, "loss": pytest.approx(0.015), "wer": 0.06},
    }
    assert {trial["wer"] for trial in record["trials"]} == {0.04, 0.06, 0.12}


def test_in_scripts_without_spaces_the_record_is_of_characters() -> None:
    dev = DevSet("character", np.full(5, 100), "speakers")
    record = choose_settings(FakeDevSet(lambda weight, bonus, beam: 0.01).measure, SETTINGS, dev).to_json()
    assert record["characters"] == 500
    assert {trial["cer"] for trial in record["trials"]} == {0.02}


def test_the_picture_shows_every_rate_and_frames_what_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    from asr.tuning.tune import draw_tuning as draw

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *given, **named: drawn.append(figure) or save(figure, *given, **named)
    )
    result = tuned(lambda weight, bonus, beam: 0.1 * (weight - 0.5) ** 2 + 0.01 * (bonus - 0.75) ** 2 + 0.02 / beam)
    draw(result, tmp_path / "tune.png")
    assert (tmp_path / "tune.png").read_bytes().startswith(b"\x89PNG")
    surface, beams = drawn[0].axes
    shown = {text.xy: text.get_text() for text in surface.texts}
    assert len(shown) == len({trial.point[:2] for trial in result.trials})
    for trial in result.trials:
        if trial.point.beam_size == 7:
            rate = 100 * trial.errors / 50
            assert shown[trial.point[:2]] == (f"{rate:.2f}" if rate < 10 else f"{rate:.1f}")
    (frame,) = [patch for patch in surface.patches if not patch.get_fill()]
    assert frame.get_center() == pytest.approx((0.5, 0.75))
    assert [float(text.get_text()) for text in beams.texts] == [
        pytest.approx(100 * round(20 / beam) / 50, abs=0.06) for beam in (4, 7, 8, 16, 32)
    ]
