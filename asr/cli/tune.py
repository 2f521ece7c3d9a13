"""`asr tune`: the settings of a model's search, the calibration of confidences, a grammar's threshold; on dev."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import Accelerator

if TYPE_CHECKING:
    from asr.bundle.rejection import Rate


def tune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder with a language model.")],
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="The dev manifest, e.g. data/an4/dev.jsonl.gz.")],
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Number of processes that search. Default: one a core, fewer for little audio."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another setting of the search, e.g. lm=words; repeatable."),
    ] = None,
    grammar: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Set only when none of this grammar's texts counts as said; the search stays as it is."
        ),
    ] = None,
    false_alarms: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="With --grammar: share of other utterances that may be accepted. Default: 0.01."
        ),
    ] = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Choose the settings of a model's search on dev data.

    The language model's weight and the insertion bonus are chosen by the posteriors of the transcripts. lm_weight 0.5
    and insertion_bonus 0.5 stay unless others are better by more than chance. A value of rnn_weight, rescore_weight or,
    with lm=words, oov_penalty is chosen too, if --set or the model folder's decoder.yaml gives one. Other beam sizes
    are only tried: a narrower beam is faster and misses more.

    Then the words' confidences are calibrated on the same data, and the errors that asr label and asr choose expect of
    an utterance. decoder.yaml in the model folder gets the chosen
    settings and those of --set; tune.json and tune.png show what was tried.

    With --grammar, the dev set needs utterances of the grammar and others, a few hundred others for 1 in 100. The
    threshold goes into rejection.json.
    """
    if grammar is not None:
        if jobs is not None or overrides:
            raise typer.BadParameter("it goes without --jobs and --set", param_hint="--grammar")
        _tune_rejection(model, manifest, grammar, 0.01 if false_alarms is None else false_alarms, accelerator)
        return
    if false_alarms is not None:
        raise typer.BadParameter("it belongs to --grammar", param_hint="--false-alarms")
    import asr
    from asr.bundle.files import CALIBRATION, DECODER, EXPECTED_ERRORS, TUNE_PLOT, TUNE_TRIALS
    from asr.cli.console import out as console
    from asr.cli.console import progress
    from asr.cli.options import decode_settings
    from asr.scoring.error_counts import RATE_NAMES
    from asr.tuning.weights import CHOSEN

    given = decode_settings(overrides)
    if chosen := [name for name in CHOSEN if name in given]:
        raise typer.BadParameter(f"{', '.join(chosen)}: this is what asr tune chooses", param_hint="--set")
    report = asr.tune(model, manifest, jobs=jobs, decode=given, accelerator=accelerator, progress=progress)
    choice = report.choice
    without, rate = f"{100 * report.rate_without_lm:.2f} %", f"{100 * report.rate:.2f} %"
    console.print(f"dev {RATE_NAMES[choice.dev.unit]}     {without} without, {rate} with the n-gram")
    if report.rate == report.rate_without_lm == 0:
        console.print("note        dev has no error to choose by; a larger dev set would tell more")
    console.print(f"chosen      {', '.join(f'{name} {getattr(choice.best, name):g}' for name in choice.chosen)}")
    drawn = f"{len(choice.dev.lengths)} {choice.dev.drawn}"
    console.print(f"            the most usual weights within chance, over {drawn}")
    beams = (f"{trial.point.beam_size}: {100 * trial.errors / choice.dev.length:.2f} %" for trial in choice.beams)
    console.print(f"beam sizes  {', '.join(beams)}; {choice.best.beam_size} stays")
    if report.confidences is not None:
        auc = "" if report.confidences.auc is None else f", AUC {report.confidences.auc:.3f}"
        console.print(f"confidence  ECE {report.confidences.ece:.3f}{auc} on dev")
    console.print(f"written to  {model}: {DECODER}, {CALIBRATION}, {EXPECTED_ERRORS}, {TUNE_TRIALS}, {TUNE_PLOT}")


def _tune_rejection(model: Path, manifest: Path, grammar: Path, share: float, accelerator: Accelerator) -> None:
    import asr
    from asr.bundle.files import REJECTION
    from asr.cli.console import out as console
    from asr.cli.console import progress
    from asr.files import printable

    report = asr.tune_rejection(
        model, manifest, grammar, false_alarms=share, accelerator=accelerator, progress=progress
    )
    alarms, misses = report.rejection.false_alarms, report.rejection.misses
    console.print(f"dev           {misses.count} utterances of the grammar, {alarms.count} others")
    if report.is_too_small:
        console.print(
            f"note          {alarms.count} others are too few for a share of {share:g}, which takes "
            f"{round(1 / share) - 1}; none of them is accepted, and the share below is a bound"
        )
    console.print(f"false alarms  {_percent(alarms)} of other utterances are to be expected")
    console.print(
        f"misses        {_percent(misses)} of the grammar's utterances; {report.wrong} are taken for another text"
    )
    console.print(f"threshold     {report.rejection.threshold:.2f}, the natural log of the grammar's probability")
    console.print(f"written to    {printable(model / REJECTION)}")


def _percent(rate: Rate) -> str:
    return f"{100 * rate.rate:.2f} % (95 % interval {100 * rate.low:.2f} … {100 * rate.high:.2f} %)"
