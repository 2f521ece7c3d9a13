"""What `asr train` prints while an epoch lasts."""

import math
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from asr.bundle.training_log import DevText
from asr.cli.dev_texts import sparkline, text_lines
from asr.cli.pace import EpochLines
from asr.cli.training_display import TrainingDisplay
from asr.config import Config
from asr.corpus.manifest import read_manifest
from asr.model.computation import Computation
from asr.scoring.error_counts import ErrorCounts, count_errors
from asr.settings_file import load_config
from asr.training.dev_score import DevScore
from asr.training.reports import EpochReport, Report, RunStart, StepReport, TrackerFailed
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


def shown(report: EpochReport, width: int = 80) -> list[str]:
    """Return what a log has of an epoch of 120."""
    console = Console(file=StringIO(), width=width)
    TrainingDisplay(console, load_config(None, [*TINY, "training.epochs=120"])).show(report)
    return console.file.getvalue().splitlines()


TEXTS = (
    DevText("a", "rubout n s v", "rubout m s"),
    DevText("b", "[red]café[/red] \x1b[31m <script>", "[red]café[/red] \x1b[31m <script>"),
    DevText("c", "nine", ""),
)


def test_an_epoch_s_line_fits_into_80_columns_with_the_figure_that_decides_last() -> None:
    wide = replace(DEV, words=ErrorCounts(9, 0, 3, 9), loss=12.345, by_characters=True)
    line, _ = shown(replace(EPOCH, epoch=119, loss=123.456, dev=wide, train_s=985.0, dev_s=14.9))
    assert line == "epoch 120/120  loss 123.456, dev 12.345  WER 133.33 %  CER   6.25 % *  999.9 s"
    assert len(line) <= 80
    assert shown(replace(EPOCH, epoch=2, dev=None)) == ["epoch   3/120  loss  2.000   90.0 s"]
    assert " *" not in shown(replace(EPOCH, best=False))[0]


@pytest.mark.parametrize(("empty", "told"), [(4, True), (3, True), (2, False), (0, False)])
def test_a_network_that_gives_blanks_alone_for_most_of_dev_is_said_so(empty: int, told: bool) -> None:
    lines = shown(replace(EPOCH, epoch=2, dev=replace(DEV, empty=empty)))
    assert lines[1:] == [f"note      {empty} of 4 dev utterances give no text, only blanks"] * told


def test_a_log_has_the_course_the_pace_and_three_texts_after_some_epochs() -> None:
    # 1,000 s of audio in 80 s; 119 epochs of 90 s are left.
    block = [
        "WER       ▁  12 × real time, 2:58:30 left",
        "ref       rubout n   s v",
        "hyp       rubout [m] s [-]",
        "ref       [red]café[/red] \\x1b[31m <script>",
        "hyp       [red]café[/red] \\x1b[31m <script>",
        "ref       nine",
        "hyp       (nothing)",
    ]
    assert shown(replace(EPOCH, dev_texts=TEXTS))[1:] == block
    counts = [len(shown(replace(EPOCH, epoch=epoch, dev_texts=TEXTS))) for epoch in range(20)]
    assert [epoch + 1 for epoch, count in enumerate(counts) if count > 1] == [1, 2, 5, 10, 20]


@pytest.mark.parametrize("width", [40, 20])
def test_all_below_the_line_of_an_epoch_is_cut_to_a_narrow_width(width: int) -> None:
    long = DevText("a", "one " * 3000, "one " * 2000 + "two " * 1000)
    chinese = DevText("b", "今天天气很好" * 9, "今天天汽很好" * 9)
    lines = shown(replace(EPOCH, dev_texts=(long, chinese)), width)[1:]
    assert [cell_len(line) for line in lines[1:3]] == [width, width]
    assert all(width - 1 <= cell_len(line) <= width for line in lines[1:])  # a wide character may not fit
    assert all(line.endswith("…") for line in lines[1:])
    assert len(lines) == 5


def test_in_scripts_without_spaces_single_characters_are_compared_and_stay_below_each_other() -> None:
    texts = (DevText("a", "今天天气很好", "今天田气很"),)
    course, reference, hypothesis = shown(replace(EPOCH, dev=replace(DEV, by_characters=True), dev_texts=texts))[1:]
    assert course.startswith("CER       ")
    assert reference == "ref       今天天  气很好"
    assert hypothesis == "hyp       今天[田]气很[-]"
    assert cell_len(reference[: reference.index("气")]) == cell_len(hypothesis[: hypothesis.index("气")])


@given(st.lists(st.sampled_from(["a", "b", "cc"]), min_size=1), st.lists(st.sampled_from(["a", "b", "cc"]), min_size=1))
def test_all_words_are_shown_and_those_outside_brackets_are_in_both(said: list[str], heard: list[str]) -> None:
    text = DevText("a", " ".join(said), " ".join(heard))
    reference, hypothesis = (line.plain for line in text_lines(text, by_characters=False, width=10_000))
    assert reference[10:].split() == said
    assert re.sub(r"\[-\]|[][]", " ", hypothesis[10:]).split() == heard
    right = re.sub(r"\[[^]]*\]", " ", hypothesis[10:]).split()
    errors = count_errors(text.reference, text.hypothesis, unit="word")
    assert len(right) == errors.reference_length - errors.substitutions - errors.deletions


def test_a_terminal_marks_what_is_wrong_also_by_colour() -> None:
    _, hypothesis = text_lines(DevText("a", "one two", "one too"), by_characters=False, width=80)
    (span,) = hypothesis.spans
    assert (hypothesis.plain[span.start : span.end], span.style) == ("[too]", "bold red")


@pytest.mark.parametrize(
    ("figures", "bars"),
    [
        ([1.0, 0.5, 0.0], "█▅▁"),
        ([0.5], "▁"),
        ([0.5, 0.5], "▁▁"),
        ([math.inf, 8.0, 1.0], "██▁"),
        ([math.inf], "▁"),
        ([0.0, *(1.0 for _ in range(23)), 2.0], "▁" * 23 + "█"),  # the last 24
        ([], ""),
    ],
)
def test_a_sparkline_goes_from_the_lowest_to_the_highest_of_the_last_figures(figures: list[float], bars: str) -> None:
    assert sparkline(figures) == bars


def displayed(config: Config, reports: list[Report], *, terminal: bool) -> str:
    """Return all that is written to a terminal of 80 columns, or to a log, while the reports come once a minute."""
    console, time_s = Console(file=StringIO(), force_terminal=terminal, width=80, height=24, color_system=None), 0.0
    with TrainingDisplay(console, config, now=lambda: time_s) as display:
        for report in reports:
            time_s += 60
            display.show(report)
    return console.file.getvalue()


def test_a_terminal_shows_the_state_below_the_bar_and_keeps_the_last_one(tone_corpus: Path) -> None:
    config = load_config(None, [*TINY, "training.epochs=3"])
    survey = survey_training_cuts(read_manifest(tone_corpus / "train.jsonl.gz"), config)
    start = RunStart(survey, 1000, 0.1, "cpu", 1, Computation("fp32", 1), 1, 0, None, None, dev_rates=(0.5, 0.25))
    again = replace(EPOCH, epoch=2, dev_texts=(DevText("c", "nine", "nine"),))
    reports = [start, step(1, 0.0, 2.0), replace(EPOCH, epoch=1, dev_texts=TEXTS), step(2, 0.0, 2.0), again]
    written = displayed(config, reports, terminal=True)
    frames = written.split("training ")
    assert any("hyp       (nothing)" in frame for frame in frames)
    assert "hyp       (nothing)" not in frames[-1]
    last = [re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line) for line in frames[-1].splitlines()[-3:]]
    assert last == ["WER       █▃▁▁", "ref       nine", "hyp       nine"]
    # A log has them after the second epoch, and after the last.
    log = displayed(config, reports, terminal=False).splitlines()
    assert log.count("hyp       (nothing)") == 1
    assert log[-3:] == last


def test_a_tracker_that_failed_is_named() -> None:
    config = load_config(None, TINY)
    (line,) = displayed(config, [TrackerFailed("trackio", "OSError: [red]disk full")], terminal=False).splitlines()
    assert line == "note      trackio gets no more of this run, which goes on: OSError: [red]disk full"
