"""Options that several formats of `asr import` share: those of all, and groups that some formats have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from asr.corpus.splits import SplitRule
    from asr.importing.table import Columns
    from asr.machine import Progress

Utterances = Annotated[Path, typer.Argument(metavar="SRC", help="The utterances; with --dev, the training set.")]
AudioFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of the recordings. Default: they are beside the files.")
]
Tiers = Annotated[
    list[str] | None,
    typer.Option("--tier", metavar="NAME", help="A tier with the texts; repeatable. Default: the only one."),
]


@dataclass(frozen=True)
class Common:
    """The options of all formats."""

    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for {train,dev,test}.jsonl.gz, e.g. data/mine.")]
    split_by: Annotated[
        Literal["speaker", "utterance"], typer.Option(help="What no two drawn splits have in common.")
    ] = "speaker"
    dev_share: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of the audio drawn for dev if the source has no dev split; 1: all."),
    ] = 0.1
    test_share: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Share of the audio drawn for test if the source has no test split; 1: all, for a test set alone.",
        ),
    ] = 0.1
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the random draw.")] = 0
    language: Annotated[str | None, typer.Option(metavar="CODE", help="Language noted in the manifests, e.g. en.")] = (
        None
    )

    @property
    def split(self) -> SplitRule:
        """How splits are drawn."""
        from asr.corpus.splits import SplitRule

        return SplitRule(self.split_by, self.dev_share, self.test_share, self.seed)

    @property
    def progress(self) -> Progress:
        """The progress bar."""
        from asr.cli.console import progress

        return progress


@dataclass(frozen=True)
class Records:
    """The options of files with a record per utterance."""

    dev: Annotated[
        Path | None, typer.Option("--dev", metavar="FILE", help="The dev set, if it is a file of its own.")
    ] = None
    test: Annotated[
        Path | None, typer.Option("--test", metavar="FILE", help="The test set, if it is a file of its own.")
    ] = None
    audio_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that audio paths start from. Default: the source's folder."),
    ] = None


AudioColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name of the column, or key, with the audio or its path.")
]
TextColumn = Annotated[str | None, typer.Option(metavar="NAME", help="The one with the transcript.")]
SpeakerColumn = Annotated[str | None, typer.Option(metavar="NAME", help="The one with the speaker.")]


@dataclass(frozen=True)
class Names:
    """The options that say which columns hold what."""

    audio_column: AudioColumn = None
    text_column: TextColumn = None
    speaker_column: SpeakerColumn = None
    split_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The one with the split: train, dev or test.")
    ] = None
    id_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The one with the utterance id; without it, ids come from paths."),
    ] = None

    @property
    def columns(self) -> Columns:
        """Which columns hold what."""
        from asr.importing.table import Columns

        return Columns(self.audio_column, self.text_column, self.speaker_column, self.split_column, self.id_column)
