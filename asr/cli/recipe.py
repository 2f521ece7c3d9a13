"""`asr run`, `asr prepare`, `asr init`: a recipe → a scored model, or only manifests; manifests → a recipe.

`./run.sh` calls `asr run`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import CorpusDir, Download, Language, Mirror, Part

if TYPE_CHECKING:
    from rich.console import Console

    from asr.stages import Event


def run(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE|KEY=VALUE", help="A recipe, by default quickstart, and settings. An unknown name lists all."
        ),
    ] = None,
    corpus_dir: CorpusDir = None,
    part: Part = "",
    language: Language = "",
    download: Download = False,
    mirror: Mirror = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The manifests. Default: data/RECIPE. custom needs it.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The model folder. Default: exp/RECIPE.")] = None,
    home: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Folder of data/, exp/, own recipes. Default: the working directory.",
        ),
    ] = Path("."),
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings file. Default: conf/RECIPE.yaml, or conf/custom.yaml.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, e.g. model.hidden_size=320; repeatable."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=2**31 - 1, help="Seed of training. The model folder becomes exp/RECIPE-seedN."
        ),
    ] = None,
    stage: Annotated[str, typer.Option(metavar="STAGE", help="Start at this stage, by number or name.")] = "install",
    stop_stage: Annotated[
        str, typer.Option(metavar="STAGE", help="Stop after this stage, by number or name.")
    ] = "transcribe",
) -> None:
    """Run a recipe end to end: from a corpus to a scored model.

    \b
    ./run.sh                          the quickstart recipe, on synthetic speech
    ./run.sh RECIPE [KEY=VALUE]...    any recipe, e.g. an4, yesno or custom
    ./run.sh NAME [KEY=VALUE]...      a recipe of your own, that asr init wrote
    ./run.sh test [ARGUMENTS]         run the tests; arguments go to pytest

    ./run.sh installs the package into .venv first, and then is the same as `asr run`. KEY=VALUE, or --set KEY=VALUE,
    are settings that override the settings file, e.g. model.hidden_size=320. `asr settings` explains them all.

    \b
    Stages
      0 install      make .venv and install the package into it (only ./run.sh)
      1 prepare      corpus → manifests  (custom, your own: check them)
      2 train        manifests → acoustic model
      3 lm           training text → n-gram language model
      4 tune         choose the settings of the beam search on dev
      5 decode       recognise test, greedily and by beam search
      6 score        word error rates
      7 transcribe   one recording of test

    A stage whose output exists is not repeated, unless its data, its settings or an earlier stage changed. Stages 6 and
    7 only show results and always run. To repeat one of stages 3 to 5, remove OUT/.done-N. To train anew, name another
    --out. A model of other settings or data is moved aside, not overwritten. Logs are in OUT/log.

    If a run is interrupted, the same command continues it. SIGTERM or Ctrl-C during training writes a checkpoint; the
    exit status is then 75.

    \b
    Environment
      ASR_VENV       ./run.sh uses this virtual environment, with the package
                     installed, instead of .venv
      ASR_CORPORA    folder of the corpora, with a sub-folder for each recipe
      NO_COLOR       no colour
    """
    import asr
    from asr.bundle.files import WEIGHTS
    from asr.cli.console import out as console
    from asr.errors import ExitStatus, RecipeError
    from asr.machine import duration

    recipe, given = _recipe_and_settings(arguments or [])
    try:
        done = asr.run_recipe(
            recipe,
            corpus_dir=corpus_dir,
            part=part,
            language=language,
            download=download,
            mirror=mirror,
            data=data,
            out=out,
            home=home,
            seed=seed,
            config=config,
            overrides=[*given, *(overrides or [])],
            first_stage=stage,
            last_stage=stop_stage,
            on_event=_printer(console),
            terminal=console.is_terminal,
        )
    except RecipeError as error:
        raise typer.BadParameter(str(error)) from None
    if done.stopped:
        console.print(f"stage {done.stopped} was stopped; the same command continues it")
        raise typer.Exit(ExitStatus.STOPPED)
    _print(console, f"all: {duration(done.seconds)}", "bold", end="")
    console.print(f"   model: {done.model}" if (done.model / WEIGHTS).exists() else "")


def _recipe_and_settings(arguments: list[str]) -> tuple[str, list[str]]:
    """Tell the recipe, which comes first, from settings."""
    recipe = "quickstart"
    if arguments and "=" not in arguments[0]:
        recipe, *arguments = arguments
    for argument in arguments:
        if not re.match(r"[a-z][\w.]*=", argument):
            raise typer.BadParameter(f"{argument!r} is neither an option nor KEY=VALUE")
    return recipe, arguments


def _printer(console: Console) -> Callable[[Event], None]:
    styles = {"stage": "bold", "exists": "dim", "command": "dim", "done": "dim"}

    def show(event: Event) -> None:
        if event.kind == "output":
            console.file.write(event.text)  # as it is, with the colours and bars that the command drew
            console.file.flush()
        else:
            _print(console, event.text, styles.get(event.kind))

    return show


def _print(console: Console, text: str, style: str | None, end: str = "\n") -> None:
    console.print(text, style=None if console.no_color else style, end=end)


def prepare(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Name of a recipe, e.g. an4; an unknown name lists all of them.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder that gets {train,dev,test}.jsonl.gz, e.g. data/an4.")
    ],
    corpus_dir: CorpusDir = None,
    part: Part = "",
    language: Language = "",
    download: Download = False,
    mirror: Mirror = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of what the recipe draws by chance, e.g. dev speakers.")
    ] = 0,
) -> None:
    """Write the manifests of a corpus's train, dev and test splits.

    The last line of the output is the command that trains on them.
    """
    import asr
    from asr.cli.console import out as console
    from asr.cli.console import progress
    from asr.files import shown_path
    from asr.preparing.recipes import settings_file, variant

    prepared = asr.prepare(
        recipe,
        out,
        corpus_dir=corpus_dir,
        part=part,
        language=language,
        download=download,
        mirror=mirror,
        seed=seed,
        progress=progress,
    )
    for note in prepared.notes:
        console.print(note)
    for split, manifest in prepared.manifests.items():
        console.print(f"{split:<6}{manifest}")
    settings = str(shown_path(settings_file(recipe, part, language)))
    train = ["train", "--config", settings, "--data", str(out), "--out", f"exp/{variant(recipe, part, language)}"]
    console.print(f"next  asr {shlex.join(train)}")


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new recipe, e.g. mine.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with {train,dev,test}.jsonl.gz.")],
    keep_punctuation: Annotated[
        str,
        typer.Option(
            metavar="SIGNS", show_default=False, help="Punctuation to keep, e.g. '.,?', or all. Default: none."
        ),
    ] = "",
    home: Annotated[
        Path,
        typer.Option(
            metavar="DIR", show_default=False, help="Folder for conf/ and recipes/. Default: the working directory."
        ),
    ] = Path("."),
) -> None:
    """Write a recipe for your own manifests.

    conf/NAME.yaml gets the settings, recipes/NAME/ the place of the manifests and a README. A table shows each setting
    and the fact of the corpus that it rests on. After that, asr run NAME needs nothing else, nor does ./run.sh NAME in
    a checkout. Only manifests are read. Files that exist are never replaced.
    """
    import asr
    from asr.cli.console import out as console
    from asr.errors import RecipeError
    from asr.files import shown_path

    try:
        report = asr.init(name, data, home=home, keep_punctuation=keep_punctuation)
    except RecipeError as error:
        raise typer.BadParameter(str(error)) from None
    console.print(report.text())
    console.print()
    for path in (report.settings_file, report.folder):
        console.print(f"written  {shown_path(path)}")
    elsewhere = [] if home == Path(".") else ["--home", str(home)]
    console.print(f"next     asr {shlex.join(['run', name, *elsewhere])}")
