"""`asr import`: data in other people's formats → manifests."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from asr.data.importers.utterances import Utterance

app = typer.Typer(help="Make manifests of a table or a Kaldi data folder.", no_args_is_help=True)


class SplitBy(str, Enum):
    """What train, dev and test do not share."""

    SPEAKER = "speaker"
    UTTERANCE = "utterance"


Out = Annotated[Path, typer.Option(help="Folder for {train,dev,test}.jsonl.gz, e.g. data/mine.")]
By = Annotated[SplitBy, typer.Option(help="What the splits that are drawn do not share.")]
DevShare = Annotated[float, typer.Option(help="Share of the audio drawn for dev, unless the source has a dev split.")]
TestShare = Annotated[float, typer.Option(help="Share of the audio drawn for test, unless it has a test split.")]
Seed = Annotated[int, typer.Option(help="Seed of the draw.")]
Language = Annotated[str | None, typer.Option(help="Noted in the manifests, e.g. en.")]


@app.command("csv")
def import_csv(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A .csv or .tsv table with a header.")],
    out: Out,
    audio_column: Annotated[str | None, typer.Option(help="Audio file, relative to the table.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Transcript.")] = None,
    speaker_column: Annotated[str | None, typer.Option(help="Speaker.")] = None,
    split_column: Annotated[str | None, typer.Option(help="train, dev or test.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Utterance id; without it, made from the path.")] = None,
    split_by: By = SplitBy.SPEAKER,
    dev_share: DevShare = 0.1,
    test_share: TestShare = 0.1,
    seed: Seed = 0,
    language: Language = None,
) -> None:
    """Import a table with a row per utterance.

    Columns that are not named are found by their usual names.
    """
    from asr.data.importers.table import Columns, read_table

    columns = Columns(audio_column, text_column, speaker_column, split_column, id_column)
    _write(read_table(source, columns), out, split_by, dev_share, test_share, seed, language)


@app.command("kaldi")
def import_kaldi(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Folder with wav.scp and text, or with train/, dev/, test/.")
    ],
    out: Out,
    split_by: By = SplitBy.SPEAKER,
    dev_share: DevShare = 0.1,
    test_share: TestShare = 0.1,
    seed: Seed = 0,
    language: Language = None,
) -> None:
    """Import a Kaldi data folder whose wav.scp holds plain paths.

    utt2spk and segments are used if they are there.
    """
    from asr.data.importers.kaldi import read_kaldi

    _write(read_kaldi(source), out, split_by, dev_share, test_share, seed, language)


def _write(
    utterances: list[Utterance],
    out: Path,
    split_by: SplitBy,
    dev_share: float,
    test_share: float,
    seed: int,
    language: str | None,
) -> None:
    """Write the manifests and print what was written; exit status 1 if utterances were left out."""
    from asr.cli.console import err, progress
    from asr.cli.console import out as console
    from asr.data.importers.utterances import SplitRule, write_splits

    rule = SplitRule(split_by.value, dev_share, test_share, seed)
    with progress("import", len(utterances)) as advance:
        report = write_splits(utterances, out, rule, language=language, on_utterance=lambda: advance(1))
    for split, count in report.utterances.items():
        console.print(f"{split:<6}{count:>9} utterances   {out / f'{split}.jsonl.gz'}")
    for note in report.notes:
        console.print(f"note: {note}")
    if report.skipped:
        err.print(f"{len(report.skipped)} of {len(utterances)} utterances were left out:")
        for line in report.skipped:
            err.print(f"  {line}")
        raise typer.Exit(1)
