"""What `asr train` prints while an epoch lasts."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from conftest import TINY
from rich.console import Console

from asr.cli.training_display import EpochLines, TrainingDisplay
from asr.corpus.manifest import read_manifest
from asr.model.computation import Computation
from asr.scoring.error_counts import ErrorCounts
from asr.settings_file import load_config
from asr.training.dev_score import DevScore
from asr.training.reports import EpochReport, RunStart, StepReport
from asr.training.survey import survey_training_cuts

STEP = StepReport(1, 0, 0.0, 250.0, 2.0, 2.0, 0.0, 0.0, 1.0, {}, False, False, 1e-3)
DEV = DevScore(ErrorCounts(1, 0, 0, 8), ErrorCounts(1, 0, 0, 16), 0.25, 4, 0, False, [1, 0, 0, 0], [2, 2, 2, 2])
EPOCH = EpochReport(0, 2.0, DEV, True, {}, 0.0, 0, 0, 1000.0, 80.0, 10.0, 0.001)


def step(epoch: int, share: float, loss: float, epochs: int = 3) -> StepReport:
    """Return the report of a step before which `share` of its epoch was done."""
    return replace(STEP, epoch=epoch, progress=(epoch + share) / epochs, loss=loss)


def test_a_line_comes_every_half_minute_with_share_loss_speed_and_the_time_left() -> None:
    lines = EpochLines(epochs=3, audio_s=1000.0, now_s=100.0)
    assert lines.add(step(0, 0.0, 4.0), 120.0) is None
    # 500 s of audio in 40 s; the other half takes as long, and each of the two other epochs 80 s.
    assert lines.add(step(0, 0.25, 2.0), 140.0) == (
        "epoch 1/3, 50 %: loss 3.000, 12 s of audio a second, 0:40 left in the epoch, 3:20 in the run"
    )
    assert lines.add(step(0, 0.5, 1.0), 160.0) is None
    lines.end_epoch(EPOCH, 190.0)
    assert lines.add(step(1, 0.0, 1.0), 215.0) is None  # the 30 s begin with the epoch
    # A quarter in 35 s; the evaluations take 10 s each.
    assert lines.add(step(1, 0.0, 1.0), 225.0) == (
        "epoch 2/3, 25 %: loss 1.000, 14 s of audio a second, 1:45 left in the epoch, 4:25 in the run"
    )


def test_a_resumed_epoch_is_judged_by_what_was_done_since() -> None:
    lines = EpochLines(epochs=1, audio_s=1000.0, now_s=0.0)
    assert lines.add(step(0, 0.5, 1.0, epochs=1), 31.0) == (
        "epoch 1/1, 75 %: loss 1.000, 8 s of audio a second, 0:31 left in the epoch, 0:31 in the run"
    )


@pytest.mark.parametrize(("terminal", "seconds", "shown"), [(False, 31, 2), (False, 9, 0), (True, 31, 0)])
def test_lines_are_for_epochs_that_last_and_for_output_that_is_no_terminal(
    tone_corpus: Path, terminal: bool, seconds: int, shown: int
) -> None:
    config = load_config(None, [*TINY, "training.epochs=3"])
    survey = survey_training_cuts(read_manifest(tone_corpus / "train.jsonl.gz"), config)
    console, time_s = Console(file=StringIO(), force_terminal=terminal, width=80), 0
    start = RunStart(survey, 1000, 0.1, "cpu", 1, Computation("fp32", 1), 0, 0, None, None)
    audio_s = survey.audio_s / 4
    with TrainingDisplay(console, config, now=lambda: time_s) as display:
        display.show(start)
        for share in (0.0, 0.25):
            time_s += seconds
            display.show(replace(step(0, share, 1.5), audio_s=audio_s))
        display.show(EPOCH)
    lines = console.file.getvalue().splitlines()
    progress = [line for line in lines if line.startswith("progress  epoch 1/3, ")]
    assert len(progress) == shown
    assert all(" %: loss 1.500, " in line for line in progress)
    assert any("epoch   1/3  loss  2.000, dev  0.250  CER   6.25 %  WER  12.50 % *   90.0 s" in line for line in lines)


@pytest.mark.parametrize(("rates_hz", "told"), [((8000,), True), ((8000, 16000), False), ((44100,), False)])
def test_the_start_tells_that_all_recordings_are_below_the_model_s_rate(
    tone_corpus: Path, rates_hz: tuple[int, ...], told: bool
) -> None:
    config = load_config(None, TINY)
    survey = survey_training_cuts(read_manifest(tone_corpus / "train.jsonl.gz"), config)
    assert survey.sample_rates_hz == (16000,)
    console = Console(file=StringIO(), width=80)
    survey = replace(survey, sample_rates_hz=rates_hz)
    TrainingDisplay(console, config).show(
        RunStart(survey, 1000, 0.1, "cpu", 1, Computation("fp32", 1), 0, 0, None, None)
    )
    assert ("train with --set features.sample_rate_hz=8000" in console.file.getvalue()) == told


def shown(report: EpochReport) -> list[str]:
    console = Console(file=StringIO(), width=80)
    TrainingDisplay(console, load_config(None, [*TINY, "training.epochs=120"])).show(report)
    return console.file.getvalue().splitlines()


def test_an_epoch_s_line_fits_into_80_columns_with_the_figure_that_decides_last() -> None:
    wide = replace(DEV, words=ErrorCounts(9, 0, 3, 9), loss=12.345, by_characters=True)
    (line,) = shown(replace(EPOCH, epoch=119, loss=123.456, dev=wide, train_s=985.0, dev_s=14.9))
    assert line == "epoch 120/120  loss 123.456, dev 12.345  WER 133.33 %  CER   6.25 % *  999.9 s"
    assert len(line) <= 80
    assert shown(replace(EPOCH, dev=None)) == ["epoch   1/120  loss  2.000   90.0 s"]
    assert " *" not in shown(replace(EPOCH, best=False))[0]


@pytest.mark.parametrize(("empty", "told"), [(4, True), (3, True), (2, False), (0, False)])
def test_a_network_that_gives_blanks_alone_for_most_of_dev_is_said_so(empty: int, told: bool) -> None:
    lines = shown(replace(EPOCH, dev=replace(DEV, empty=empty)))
    assert lines[1:] == [f"note      {empty} of 4 dev utterances give no text, only blanks"] * told
