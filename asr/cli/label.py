"""`asr label`: recordings → transcripts that are good enough to train on. `asr choose`: recordings to transcribe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import Accelerator
from asr.files import printable

if TYPE_CHECKING:
    from asr.labelling.label import LabelReport

_MOST_SHOWN = 20  # recordings

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/mine.")]
Data = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA",
        help="Untranscribed audio: data folders, manifests, audio or video files, folders to search, or patterns.",
    ),
]
Dev = Annotated[
    Path | None,
    typer.Option(
        metavar="MANIFEST",
        help="Transcribed utterances that the model was not trained on, to learn which errors to expect. Default: what "
        "asr tune or an earlier --dev has learnt.",
    ),
]


def label(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for train.jsonl.gz and rest.jsonl.gz.")],
    wer: Annotated[
        float, typer.Option(metavar="PERCENT", min=0.01, help="Wanted word error rate of what is kept, in percent.")
    ] = 5.0,
    dev: Dev = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Transcribe recordings; keep what is right enough.

    As many utterances are kept as have at most the wanted word error rate together, by expectation. train.jsonl.gz
    gets them with transcripts and confidences, rest.jsonl.gz gets the others. If even the best utterance is worse,
    nothing is kept, and the exit status is 1. What is expected holds for recordings that are like those of dev.
    """
    import asr
    from asr.cli.console import progress
    from asr.errors import ExitStatus

    report = asr.label(model, data, out, wer=wer / 100, dev=dev, accelerator=accelerator, progress=progress)
    _show(report, wer)
    if report.manifest is None:
        raise typer.Exit(ExitStatus.FAILED)


def choose(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for chosen.jsonl.gz and to_transcribe.jsonl.")],
    minutes: Annotated[
        float, typer.Option(metavar="MINUTES", min=0.01, help="How many minutes of audio can be transcribed.")
    ] = 30.0,
    dev: Dev = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Name the recordings that are most worth transcribing.

    They are those with the most expected errors a second, of different speakers and with different words.
    chosen.jsonl.gz is a manifest of them. to_transcribe.jsonl has what is recognised in each. Once its texts are
    corrected, asr import jsonl makes manifests of it.
    """
    import asr
    from asr.cli.console import out as console
    from asr.cli.console import progress

    report = asr.choose(model, data, out, minutes=minutes, dev=dev, accelerator=accelerator, progress=progress)
    console.print("minutes  errors  a minute  utterances  speaker, recording")
    for one in report.recordings[:_MOST_SHOWN]:
        figures = f"{one.audio_s / 60:7.1f}  {one.errors:6.1f}  {one.errors_per_minute:8.1f}  {one.utterances:10}"
        console.print(f"{figures}  {printable(one.speaker)}, {printable(one.path)}")
    if len(report.recordings) > _MOST_SHOWN:
        console.print(f"and {len(report.recordings) - _MOST_SHOWN} recordings more")
    console.print(
        f"chosen {report.utterances} of {report.of_utterances} utterances, {report.audio_s / 60:.1f} of "
        f"{report.of_audio_s / 60:.1f} min: {report.errors:.0f} of {report.of_errors:.0f} expected errors"
    )
    for name, reason in report.left_out.items():
        console.print(f"left out  {printable(name)}: {printable(reason)}")
    console.print(f"written to  {printable(report.manifest)}, {printable(report.to_transcribe)}")


def _show(report: LabelReport, wanted: float) -> None:
    from asr.cli.console import out as console

    for name, part in (("heard", report.heard), ("kept", report.kept)):
        size = f"{part.utterances:>7} utterances {part.audio_s / 60:>8.1f} min"
        console.print(
            f"{name:<8}{size}, expected WER {100 * part.wer:.2f} %" if part.utterances else f"{name:<8}{size}"
        )
    if report.silent:
        console.print(f"silent  {report.silent:>7} utterances in which nothing was recognised")
    learnt = report.expected
    console.print(
        f"learnt from {learnt.dev_errors} errors in {learnt.dev_words} words of dev, so a rate may be wrong by "
        f"{100 * learnt.uncertainty:.0f} % of itself"
    )
    for name, reason in report.left_out.items():
        console.print(f"left out  {printable(name)}: {printable(reason)}")
    if report.manifest is None:
        best = (
            "nothing was recognised" if report.lowest_wer is None else f"the best has {100 * report.lowest_wer:.1f} %"
        )
        console.print(f"kept nothing: no utterance has an expected WER of {wanted:g} % or less, {best}")
    for path in (report.manifest, report.rest):
        if path is not None:
            console.print(f"written to  {printable(path)}")
