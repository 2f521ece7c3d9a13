"""`asr tune`: the settings of a model's search and the calibration of its confidences, chosen on dev."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Accelerator


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
    """
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
    beams = (f"{trial.beam_size}: {100 * trial.errors / choice.dev.length:.2f} %" for trial in choice.beams)
    console.print(f"beam sizes  {', '.join(beams)}; {choice.best.beam_size} stays")
    if report.confidences is not None:
        auc = "" if report.confidences.auc is None else f", AUC {report.confidences.auc:.3f}"
        console.print(f"confidence  ECE {report.confidences.ece:.3f}{auc} on dev")
    console.print(f"written to  {model}: {DECODER}, {CALIBRATION}, {EXPECTED_ERRORS}, {TUNE_TRIALS}, {TUNE_PLOT}")
