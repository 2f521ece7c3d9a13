"""`asr segment`: long recordings and their texts → manifests of utterances."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from asr.cli.options import Accelerator, ConfigFile, ConfigSet
from asr.files import printable

if TYPE_CHECKING:
    from asr.config import Config
    from asr.segmenting.segment import SegmentReport


def segment(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="[MODEL] AUDIO TEXT",
            help="A model folder, an audio file and its text file. Or a model folder and a table with a row for each "
            "recording, with the columns audio and text. MODEL may be left out with --data.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder for {train,dev,test}.jsonl.gz and skipped_stretches.jsonl, e.g. data/mine."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Utterances that have times already. Rounds train on them as well."),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Number of models to train, each on what the one before has found. Default: 0, and 1 without MODEL.",
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: ConfigSet = None,
    speaker: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who speaks. Default: the table's speaker, or the recording's name."),
    ] = None,
    split_by: Annotated[
        Literal["speaker", "utterance"], typer.Option(help="What no two drawn splits have in common.")
    ] = "speaker",
    dev_share: Annotated[float, typer.Option(metavar="SHARE", help="Share of the audio drawn for dev; 0: none.")] = 0.1,
    test_share: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the audio drawn for test; 0: none.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the random draw.")] = 0,
    language: Annotated[
        str | None, typer.Option(metavar="CODE", help="Language noted in the manifests, e.g. en.")
    ] = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Cut long recordings into utterances by their texts.

    Manifests are written. The text may have faults: wrong, missing and added words, parts in another order and pages
    that were not read are skipped. skipped_stretches.jsonl lists them with the reason. Utterances have 1 to 20 s and
    begin and end in pauses.
    """
    import asr
    from asr.cli.console import progress

    model, recordings = _sources(sources, data)
    report = asr.segment(
        model,
        recordings,
        out,
        data=data,
        rounds=rounds,
        config=_config(model, config, overrides),
        speaker=speaker,
        split=asr.SplitRule(split_by, dev_share, test_share, seed),
        language=language,
        accelerator=accelerator,
        progress=progress,
    )
    _show(report, out)


def _sources(sources: list[Path], data: Path | None) -> tuple[Path | None, Path | list[tuple[Path, Path]]]:
    """Return the model, and the table or the recording with its text."""
    from asr.sharing.names import is_model_name

    model = sources[0] if is_model_name(sources[0]) or data is None else None
    rest = sources[1:] if model is not None else sources
    if len(rest) not in (1, 2):
        raise typer.BadParameter(
            f"{len(sources)} arguments; give MODEL AUDIO TEXT, or MODEL TABLE" + (", or no MODEL" if data else ""),
            param_hint="[MODEL] AUDIO TEXT",
        )
    return model, rest[0] if len(rest) == 1 else [(rest[0], rest[1])]


def _config(model: Path | None, file: Path | None, overrides: list[str] | None) -> Config | None:
    from asr.bundle.files import CONFIG
    from asr.settings_file import load_config
    from asr.sharing.names import model_folder

    if file is None and not overrides:
        return None
    return load_config(file if file is not None or model is None else model_folder(model) / CONFIG, overrides or ())


def _show(report: SegmentReport, out: Path) -> None:
    """Print what was found, and what was skipped for which reason."""
    from asr.cli.console import out as console
    from asr.segmenting.segment import SKIPPED

    for split, count in report.manifests.utterances.items():
        size = report.manifests.sizes[split]
        console.print(
            f"{split:<6}{count:>9} utterances {size.audio_s / 3600:>8.3f} h  {report.manifests.manifests[split]}"
        )
    for note in report.manifests.notes:
        console.print(f"note: {printable(note)}")
    console.print(
        f"{report.utterance_words} of {report.words} words, {report.utterances_s / 60:.1f} of "
        f"{report.recordings_s / 60:.1f} minutes became utterances"
    )
    counts = Counter(stretch.reason for stretch in report.skipped)
    seconds: Counter[str] = Counter()
    for stretch in report.skipped:
        seconds[stretch.reason] += round(1000 * (stretch.end_s - stretch.start_s))
    for reason, count in counts.most_common():
        console.print(f"skipped {count:>6} stretches {seconds[reason] / 60000:>8.1f} min  {reason}")
    if counts:
        console.print(f"they are listed in {printable(str(out / SKIPPED))}")
