"""`asr import`: data in other people's formats → manifests."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from asr.corpus.importers.table import Columns
    from asr.corpus.importers.utterances import Utterance

    Reader = Callable[[Path, Columns, Path | None], list[Utterance]]

app = typer.Typer(help="Make manifests of a table, JSON lines or a Kaldi data folder.", no_args_is_help=True)


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
Dev = Annotated[Path | None, typer.Option("--dev", help="The dev set, where it is a file of its own.")]
Test = Annotated[Path | None, typer.Option("--test", help="The test set, likewise.")]
AudioDir = Annotated[Path | None, typer.Option(help="What audio paths are relative to. Default: the source's folder.")]
AudioColumn = Annotated[str | None, typer.Option(help="Audio file.")]
TextColumn = Annotated[str | None, typer.Option(help="Transcript.")]
SpeakerColumn = Annotated[str | None, typer.Option(help="Speaker.")]
SplitColumn = Annotated[str | None, typer.Option(help="train, dev or test.")]
IdColumn = Annotated[str | None, typer.Option(help="Utterance id; without it, made from the path.")]


def _import_records(read: Reader) -> Callable[..., None]:
    """Return the command that imports a file of records: one signature for all formats of such files."""

    def command(
        source: Annotated[Path, typer.Argument(metavar="SRC", help="The utterances; with --dev, the training set.")],
        out: Out,
        dev: Dev = None,
        test: Test = None,
        audio_dir: AudioDir = None,
        audio_column: AudioColumn = None,
        text_column: TextColumn = None,
        speaker_column: SpeakerColumn = None,
        split_column: SplitColumn = None,
        id_column: IdColumn = None,
        split_by: By = SplitBy.SPEAKER,
        dev_share: DevShare = 0.1,
        test_share: TestShare = 0.1,
        seed: Seed = 0,
        language: Language = None,
    ) -> None:
        from dataclasses import replace

        from asr.corpus.importers.table import Columns

        columns = Columns(audio_column, text_column, speaker_column, split_column, id_column)
        utterances = read(source, columns, audio_dir)
        for split, path in (("dev", dev), ("test", test)):
            if path is not None:  # what is in the file of a split belongs to it
                utterances += [replace(utterance, split=split) for utterance in read(path, columns, audio_dir)]
        _write(utterances, out, split_by, dev_share, test_share, seed, language)

    command.__doc__ = read.__doc__
    return command


def _read_csv(source: Path, columns: Columns, audio_dir: Path | None) -> list[Utterance]:
    """Import a .csv or .tsv table with a header and a row per utterance.

    Columns that are not named are found by their usual names. Common Voice:
    asr import csv cv/de/train.tsv --dev cv/de/dev.tsv --test cv/de/test.tsv --audio-dir cv/de/clips --out data/de
    """
    from asr.corpus.importers.table import read_table

    return read_table(source, columns, audio_dir)


def _read_jsonl(source: Path, columns: Columns, audio_dir: Path | None) -> list[Utterance]:
    """Import JSON lines, such as NeMo's manifests and Hugging Face's metadata.jsonl.

    An object is an utterance. Keys that are not named are found by their usual names. One with offset or duration, in
    seconds, is that part of its audio file.
    """
    from asr.corpus.importers.json_lines import read_json_lines

    return read_json_lines(source, columns, audio_dir)


app.command("csv")(_import_records(_read_csv))
app.command("jsonl")(_import_records(_read_jsonl))


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
    from asr.corpus.importers.kaldi import read_kaldi

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
    from asr.corpus.importers.utterances import SplitRule, write_splits

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
