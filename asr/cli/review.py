"""`asr review`: utterances → a page on which people correct them. `asr review apply`: manifests with corrections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from asr.cli.options import Accelerator
from asr.files import printable
from asr.reading import counted

if TYPE_CHECKING:
    from asr.reviewing.review import ReviewReport

_SHOWN = 20  # utterances that were left out


class _WithDefault(TyperGroup):
    """`asr review DATA` is short for `asr review open DATA`."""

    default = "open"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name the command if none is named."""
        if args and args[0] not in self.commands and not {"-h", "--help"} & set(args[:1]):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_WithDefault,
    help="Listen to utterances and correct them on a page. `asr review DATA` is short for `asr review open DATA`.",
    no_args_is_help=True,
)


@app.command("open")
def open_(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder with {train,dev,test}.jsonl.gz, or one manifest. With --out also a recording, or a folder "
            "of recordings.",
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Model folder. Transcripts that fit worst come first. Where there is none, the model's is the start.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for utterances.jsonl.gz, the utterances of recordings.")
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port of the page; 0: a free one.")] = 0,
    accelerator: Accelerator = "auto",
) -> None:
    """Serve a page to listen to utterances and correct them.

    The page is for this machine's browser only. Its address, which is printed, has a secret in it. Keys do all: play,
    correct the text, move a border, mark as bad, undo, next. The page shows them.

    Each correction is on disk before the page says so: in review.train.jsonl beside train.jsonl.gz. The manifest stays
    as it is. Ctrl-C ends, and the same command goes on. asr review apply writes manifests with the corrections.
    """
    import asr
    from asr.cli.console import out as console
    from asr.cli.console import progress

    def show(url: str, report: ReviewReport) -> None:
        for name, reason in report.left_out.items():
            console.print(f"left out  {printable(name)}: {printable(reason)}")
        for journal, size in report.dropped.items():
            console.print(f"{printable(journal)}: dropped {size} bytes at the end, a line that was never finished")
        console.print(f"{_count(report)}\nopen {url}\nCtrl-C ends")

    report = asr.review(
        data, model=model, out=out, port=port, on_ready=show, accelerator=accelerator, progress=progress
    )
    manifests = [*report.manifests.values()]
    reviewed = manifests[0] if len(manifests) == 1 else data
    console.print(f"{_count(report)}\nasr review apply {printable(reviewed)} --out DIR writes them")


def _count(report: ReviewReport) -> str:
    return f"{counted(report.utterances, 'utterance')}: {report.confirmed} confirmed, {report.bad} bad"


@app.command("apply")
def apply(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The data folder or the manifest that was reviewed.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the corrected manifests.")],
) -> None:
    """Write manifests with the corrections of a review.

    The original manifests stay as they are. Utterances that were marked as bad are left out and listed. So are those
    without a transcript. Texts are written as they were typed; training normalises them.

    Utterances are matched by their ids. If a manifest has another text or other times for a corrected utterance than
    when it was corrected, the utterance is named and nothing is written.
    """
    import asr
    from asr.cli.console import out as console

    report = asr.apply_review(data, out)
    console.print(
        f"{counted(report.utterances, 'utterance')}: {report.confirmed} confirmed, {report.texts} with another text, "
        f"{report.moved} moved"
    )
    for name, reason in list(report.left_out.items())[:_SHOWN]:
        console.print(f"left out  {printable(name)}: {reason}")
    if len(report.left_out) > _SHOWN:
        console.print(f"left out  {len(report.left_out) - _SHOWN} more")
    for path in report.written.values():
        console.print(f"written   {printable(path)}")
