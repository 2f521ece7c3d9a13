"""`asr import`: data in other people's formats → manifests.

A format is a function decorated with `@_format`. Its parameters are the format's own arguments and options. It returns
the import with these, which is then called with what is `Common` to all formats.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from asr.cli.import_options import (
    AudioColumn,
    AudioFolder,
    Common,
    Names,
    Records,
    SpeakerColumn,
    TextColumn,
    Tiers,
    Utterances,
)
from asr.errors import ExitStatus
from asr.files import printable
from asr.reading import counted

if TYPE_CHECKING:
    from asr.importing.utterances import ImportReport

app = typer.Typer(help="Make manifests of data in other formats.", no_args_is_help=True)

_MOST_PLACES = 10  # shown of what was passed over for one reason


_Import: TypeAlias = Callable[..., "ImportReport"]  # takes `out`, `split`, `language` and `progress`


def _format(name: str) -> Callable[[Callable[..., _Import]], None]:
    """Make a command of a function: its parameters and those of `Common`; a group of options becomes these options.

    Args:
        name: what users call the format, e.g. "csv".
    """

    def register(importer: Callable[..., _Import]) -> None:
        own, common = _parameters(importer), _parameters(Common)
        groups = {
            name: _parameters(one.annotation)
            for name, one in own.items()
            if isinstance(one.annotation, type) and is_dataclass(one.annotation)
        }
        parameters = [
            option for name, parameter in own.items() for option in groups.get(name, {name: parameter}).values()
        ]

        def command(**given: Any) -> None:
            shared = Common(**{option: given.pop(option) for option in common})
            for group, options in groups.items():
                given[group] = own[group].annotation(**{option: given.pop(option) for option in options})
            run = importer(**given)
            _show(run(shared.out, split=shared.split, language=shared.language, progress=shared.progress))

        command.__doc__ = importer.__doc__
        required_first = sorted([*parameters, *common.values()], key=lambda one: one.default is not one.empty)
        command.__signature__ = inspect.Signature(required_first)  # type: ignore[attr-defined]
        app.command(name)(command)

    return register


def _parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """Return what a function, or a group of options, takes by keyword."""
    return {
        name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
    }


@_format("csv")
def _csv(source: Utterances, records: Records, names: Names) -> _Import:
    """Import a .csv or .tsv table with a row per utterance.

    Its first line names the columns. The file may be gzipped. Columns that are not named are found by their usual
    names. Common Voice:
    asr import csv cv/de/train.tsv --dev cv/de/dev.tsv --test cv/de/test.tsv --audio-dir cv/de/clips --out data/de
    """
    import asr

    return partial(
        asr.import_csv, source, dev=records.dev, test=records.test, audio_dir=records.audio_dir, columns=names.columns
    )


@_format("jsonl")
def _jsonl(source: Utterances, records: Records, names: Names) -> _Import:
    """Import JSON lines with an object per utterance.

    NeMo's manifests and Hugging Face's metadata.jsonl are such files; one may be gzipped. Keys that are not named
    are found by their usual names. An object with offset or duration, in seconds, is that part of its audio file.
    """
    import asr

    return partial(
        asr.import_jsonl,
        source,
        dev=records.dev,
        test=records.test,
        audio_dir=records.audio_dir,
        columns=names.columns,
    )


@_format("kaldi")
def _kaldi(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Folder with wav.scp and text, or with train/, dev/, test/.")
    ],
    audio_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that relative paths in wav.scp start from. Default: the working directory, as in Kaldi, or "
            "else the folder of wav.scp.",
        ),
    ] = None,
) -> _Import:
    """Import a Kaldi data folder.

    wav.scp holds paths, or commands such as `flac -c -d -s a.flac |`, which are read as the file and never run.
    segments, utt2spk, spk2gender and reco2dur are used if they exist.
    """
    import asr

    return partial(asr.import_kaldi, source, audio_dir=audio_dir)


@_format("folder")
def _folder(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The folder, of any depth.")],
    speaker_from: Annotated[
        Literal["parent", "none"],
        typer.Option(help="Who speaks: parent is the name of the folder that holds the audio file."),
    ] = "none",
) -> _Import:
    """Import audio files with their transcripts beside them.

    The transcript of a.wav is a.txt or a.lab. Folders train, dev and test at the top are splits.
    """
    import asr

    return partial(asr.import_folder, source, speaker_from=speaker_from)


@_format("ljspeech")
def _ljspeech(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with metadata.csv and wavs/.")],
) -> _Import:
    """Import a folder that is laid out like LJSpeech.

    A line of metadata.csv is ID|text|normalised text, without a header. The audio is wavs/ID.wav.
    """
    import asr

    return partial(asr.import_ljspeech, source)


@_format("librispeech")
def _librispeech(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder that holds SPEAKER/CHAPTER/ at any depth.")],
) -> _Import:
    """Import a corpus that is laid out like LibriSpeech.

    A line of SPEAKER/CHAPTER/*.trans.txt is an id and its text. The audio is beside it. What is in a folder train-…,
    dev-… or test-… is of that split.
    """
    import asr

    return partial(asr.import_librispeech, source)


@_format("stm")
def _stm(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="An .stm file, or a folder of any depth.")],
    audio_dir: AudioFolder = None,
) -> _Import:
    """Import NIST's .stm files and the recordings beside them.

    A line is: recording channel speaker start end <labels> text. The recording a is a.sph, a.wav, a.flac or the like.
    Folders train, dev and test at the top are splits, and so are files of these names.
    """
    import asr

    return partial(asr.import_stm, source, audio_dir=audio_dir)


@_format("subtitles")
def _subtitles(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A .srt, .vtt or .ass file, or a folder of any depth.")],
    audio_dir: AudioFolder = None,
) -> _Import:
    """Import subtitles and the audio or video beside them.

    talk.en.srt belongs to talk.mp4, and --language en chooses it. Markup, music and sounds in brackets are dropped, and
    speaker prefixes such as ANNA: become the speaker. The report says how many there were.
    """
    import asr

    return partial(asr.import_subtitles, source, audio_dir=audio_dir)


@_format("textgrid")
def _textgrid(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A .TextGrid file, or a folder of any depth.")],
    tiers: Tiers = None,
    audio_dir: AudioFolder = None,
) -> _Import:
    """Import Praat's TextGrids and the recordings beside them.

    Each interval with a text is an utterance. If --tier names several, each tier's name is the speaker.
    """
    import asr

    return partial(asr.import_textgrid, source, tiers=tiers or (), audio_dir=audio_dir)


@_format("elan")
def _elan(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="An .eaf file, or a folder of any depth.")],
    tiers: Tiers = None,
    audio_dir: AudioFolder = None,
) -> _Import:
    """Import ELAN's annotations and their recordings.

    The recordings are beside the files, or where these say. Each annotation with a text is an utterance, and the
    participant of its tier is the speaker. Annotations that refer to others have the times of these.
    """
    import asr

    return partial(asr.import_elan, source, tiers=tiers or (), audio_dir=audio_dir)


@_format("lhotse")
def _lhotse(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A manifest of cuts, or a folder of manifests.")],
    audio_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that relative paths start from. Default: the working directory, as in lhotse, or else the "
            "folder of the manifest.",
        ),
    ] = None,
) -> _Import:
    """Import lhotse's cuts, or its recordings and supervisions.

    A folder is one that lhotse's recipes write. The names of its manifests say which split they are. Each supervision
    is an utterance. Commands in manifests are not run.
    """
    import asr

    return partial(asr.import_lhotse, source, audio_dir=audio_dir)


@_format("labelstudio")
def _labelstudio(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The export, as JSON or JSON-MIN.")],
    audio_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the recordings, at any depth. Default: that of the export."),
    ] = None,
    audio_column: AudioColumn = None,
    text_column: TextColumn = None,
    speaker_column: SpeakerColumn = None,
) -> _Import:
    """Import an export of Label Studio and its recordings.

    Each region with a text is an utterance, and its label is the speaker. Names of recordings, TextAreas and Labels are
    given where there are several.
    """
    import asr

    columns = asr.Columns(audio_column, text_column, speaker_column)
    return partial(asr.import_labelstudio, source, audio_dir=audio_dir, columns=columns)


@_format("parquet")
def _parquet(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A .parquet file, or a folder of any depth.")],
    names: Names,
) -> _Import:
    """Import a data set of Hugging Face with the audio inside.

    The audio is written as files into the folder audio below --out. Splits are in the names of files or folders, such
    as train-00000-of-00004.parquet.
    """
    import asr

    return partial(asr.import_parquet, source, columns=names.columns)


def _show(report: ImportReport) -> None:
    """Print what was written; exit status 2 if utterances were left out."""
    from asr.cli.console import err
    from asr.cli.console import out as console

    for split, count in report.utterances.items():
        size = report.sizes[split]
        rates = "–".join(str(rate) for rate in sorted({size.sample_rates_hz[0], size.sample_rates_hz[-1]}))
        console.print(
            f"{split:<6}{count:>9} utterances {size.audio_s / 3600:>8.3f} h {100 * size.share:>4.0f} % "
            f"{size.speakers:>6} speaker{' ' if size.speakers == 1 else 's'}  {rates} Hz  {report.manifests[split]}"
        )
    for note in report.notes:
        console.print(f"note: {printable(note)}")
    for reason, places in report.passed_over.items():
        more = f" and {len(places) - _MOST_PLACES} more" if len(places) > _MOST_PLACES else ""
        console.print(f"note: {len(places)} passed over, {printable(reason)}:")
        console.print(f"  {printable(', '.join(places[:_MOST_PLACES]))}{more}")
    console.print(f"next  asr {shlex.join(['check', str(next(iter(report.manifests.values())).parent)])}")
    if report.skipped:
        total = sum(report.utterances.values()) + len(report.skipped)
        err.print(f"left out {len(report.skipped)} of {counted(total, 'utterance')}:")
        for line in report.skipped:
            err.print(f"  {printable(line)}")
        raise typer.Exit(ExitStatus.SKIPPED)
