"""`asr pack`: a data folder or a model → a few large files, or one. `asr push`, `asr pull`: to the hub, and from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.errors import ExitStatus
from asr.files import printable
from asr.reading import counted


def pack(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DATA|MODEL", help="A folder with {train,dev,test}.jsonl.gz; or a model, or an exported one."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder for train/, dev/ and test/, e.g. data/mine-shar; of a model a file, e.g. mine.asr.",
        ),
    ],
) -> None:
    """Pack a data folder into few large files, a model into one.

    Manifests and audio become tar files of a thousand utterances each, in lhotse's Shar format. They suit corpora of
    very many files, and network storage. `asr train` and the other commands take the new folder like the old one. Audio
    becomes mono FLAC, without loss.

    A model becomes one file, which every command that reads a model takes like the folder. Checkpoints, logs, decode
    folders and what is known of single speakers stay behind. To make it small, first write the model in 8 bits: asr
    export MODEL --format torch --int8.
    """
    from asr.sharing.listed import is_shareable
    from asr.sharing.names import is_model_name

    if is_shareable(folder) if folder.is_dir() else is_model_name(folder):
        _pack_model(folder, out)
    else:
        _pack_data(folder, out)


def _pack_model(folder: Path, out: Path) -> None:
    import asr
    from asr.cli.console import out as console

    packed = asr.pack_model(folder, out)
    console.print(f"{printable(packed.path)}: the model in {printable(folder)}, {packed.size_bytes / 1e6:.1f} MB")
    console.print(f"sha256    {packed.sha256}")
    if packed.left_out:
        console.print(f"left out  {printable(', '.join(packed.left_out))}")
    console.print(f"transcribe with it: {packed.usage}")


def _pack_data(data: Path, out: Path) -> None:
    if out.resolve() == data.resolve():
        raise typer.BadParameter(
            "it is DATA, whose manifests would stay in it; name another folder", param_hint="--out"
        )
    import asr
    from asr.cli.console import err, progress
    from asr.cli.console import out as console

    report = asr.pack(data, out, progress=progress)
    for split, packed in report.splits.items():
        console.print(f"{split:<6}{packed.utterances:>9} utterances   {packed.folder}")
    skipped = [(split, *item) for split, packed in report.splits.items() for item in packed.skipped.items()]
    if skipped:
        err.print(f"left out {counted(len(skipped), 'utterance')}:")
        for split, name, reason in skipped:
            err.print(f"  {split}  {printable(name)}: {printable(reason)}")
        raise typer.Exit(ExitStatus.SKIPPED)


def pull(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="hf://user/model or hf://user/model@REVISION; or a packed model."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write, e.g. exp/mine.")],
) -> None:
    """Make a folder of a shared model.

    Commands that only read a model take its name on the Hugging Face hub, or the packed model, as it is. Those that
    write into the model folder, such as asr tune, need a folder.

    Of the hub, only what asr push wrote is taken, and checked: settings, tables and weights, nothing that can be
    executed. A private model needs a token: hf auth login stores one.
    """
    import asr
    from asr.cli.console import out as console

    report = asr.pull(model, out)
    console.print(f"{printable(report.folder)}: {counted(len(report.files), 'file')} of {printable(report.model)}")
    if report.left_out:
        console.print(f"not taken  {printable(', '.join(report.left_out))}")


def push(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, an exported one, or a packed model.")],
    to: Annotated[str, typer.Argument(metavar="NAME", help="hf://user/model, or hf://user/model@BRANCH.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private, if it is new.")] = False,
    license: Annotated[
        str | None, typer.Option("--license", metavar="NAME", help="For the model card, e.g. cc-by-4.0 or apache-2.0.")
    ] = None,
) -> None:
    """Share a model on the Hugging Face hub.

    Checkpoints, logs, decode folders and what is known of single speakers stay behind. The model card gets what the hub
    reads: language, licence, metrics. hf auth login stores the token that is needed.

    The printed name has the revision. It always means the same model: in asr.load, asr transcribe and all commands that
    read a model.
    """
    import asr
    from asr.cli.console import out as console

    report = asr.push(model, to, private=private, license=license)
    console.print(f"{printable(report.name)}: {counted(len(report.files), 'file')}")
    if report.left_out:
        console.print(f"left out  {printable(', '.join(report.left_out))}")
