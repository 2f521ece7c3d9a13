"""`asr import`: data in other people's formats → manifests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from asr.errors import ExitStatus
from asr.files import printable

if TYPE_CHECKING:
    from asr.corpus.importers.utterances import ImportReport

app = typer.Typer(help="Make manifests of a table, JSON lines or a Kaldi data folder.", no_args_is_help=True)

Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for {train,dev,test}.jsonl.gz, e.g. data/mine.")]
By = Annotated[Literal["speaker", "utterance"], typer.Option(help="What no two drawn splits have in common.")]
DevShare = Annotated[
    float,
    typer.Option(metavar="SHARE", help="Share of the audio drawn for dev if the source has no dev split; 1: all."),
]
TestShare = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        help="Share of the audio drawn for test if the source has no test split; 1: all, for a test set alone.",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of the random draw.")]
Language = Annotated[str | None, typer.Option(metavar="CODE", help="Language noted in the manifests, e.g. en.")]
Dev = Annotated[Path | None, typer.Option("--dev", metavar="FILE", help="The dev set, if it is a file of its own.")]
Test = Annotated[Path | None, typer.Option("--test", metavar="FILE", help="The test set, if it is a file of its own.")]
AudioDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder that audio paths start from. Default: the source's folder.")
]
AudioColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name of the column, or key, with the path of the audio file.")
]
TextColumn = Annotated[str | None, typer.Option(metavar="NAME", help="The one with the transcript.")]
SpeakerColumn = Annotated[str | None, typer.Option(metavar="NAME", help="The one with the speaker.")]
SplitColumn = Annotated[str | None, typer.Option(metavar="NAME", help="The one with the split: train, dev or test.")]
KaldiAudioDir = Annotated[
    Path | None,
    typer.Option(
        "--audio-dir",
        metavar="DIR",
        help="Folder that relative paths in wav.scp start from. Default: the working directory, as in Kaldi, or else "
        "the folder of wav.scp.",
    ),
]
IdColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="The one with the utterance id; without it, ids come from paths.")
]


def _import_records(kind: Literal["csv", "jsonl"], description: str) -> Callable[..., None]:
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
        split_by: By = "speaker",
        dev_share: DevShare = 0.1,
        test_share: TestShare = 0.1,
        seed: Seed = 0,
        language: Language = None,
    ) -> None:
        import asr
        from asr.cli.console import progress

        report = (asr.import_csv if kind == "csv" else asr.import_jsonl)(
            source,
            out,
            dev=dev,
            test=test,
            audio_dir=audio_dir,
            columns=asr.Columns(audio_column, text_column, speaker_column, split_column, id_column),
            split=asr.SplitRule(split_by, dev_share, test_share, seed),
            language=language,
            progress=progress,
        )
        _show(report)

    command.__doc__ = description
    return command


app.command("csv")(
    _import_records(
        "csv",
        """Import a .csv or .tsv table with a header and a row per utterance.

        The file may be gzipped. Columns that are not named are found by their usual names. Common Voice:
        asr import csv cv/de/train.tsv --dev cv/de/dev.tsv --test cv/de/test.tsv --audio-dir cv/de/clips --out data/de
        """,
    )
)
app.command("jsonl")(
    _import_records(
        "jsonl",
        """Import JSON lines with an object per utterance.

        NeMo's manifests and Hugging Face's metadata.jsonl are such files; one may be gzipped. Keys that are not named
        are found by their usual names. An object with offset or duration, in seconds, is that part of its audio file.
        """,
    )
)


@app.command("kaldi")
def import_kaldi(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Folder with wav.scp and text, or with train/, dev/, test/.")
    ],
    out: Out,
    audio_dir: KaldiAudioDir = None,
    split_by: By = "speaker",
    dev_share: DevShare = 0.1,
    test_share: TestShare = 0.1,
    seed: Seed = 0,
    language: Language = None,
) -> None:
    """Import a Kaldi data folder whose wav.scp holds plain paths.

    utt2spk and segments are used if they exist.
    """
    import asr
    from asr.cli.console import progress

    split = asr.SplitRule(split_by, dev_share, test_share, seed)
    _show(asr.import_kaldi(source, out, audio_dir=audio_dir, split=split, language=language, progress=progress))


def _show(report: ImportReport) -> None:
    """Print what was written; exit status 1 if utterances were left out."""
    from asr.cli.console import err
    from asr.cli.console import out as console

    for split, count in report.utterances.items():
        size = report.sizes[split]
        rates = "–".join(str(rate) for rate in sorted({size.sample_rates_hz[0], size.sample_rates_hz[-1]}))
        console.print(
            f"{split:<6}{count:>9} utterances {size.audio_s / 3600:>8.3f} h {100 * size.share:>4.0f} % "
            f"{size.speakers:>6} speakers  {rates} Hz  {report.manifests[split]}"
        )
    for note in report.notes:
        console.print(f"note: {printable(note)}")
    if report.skipped:
        total = sum(report.utterances.values()) + len(report.skipped)
        err.print(f"{len(report.skipped)} of {total} utterances were left out:")
        for line in report.skipped:
            err.print(f"  {printable(line)}")
        raise typer.Exit(ExitStatus.FAILED)
