"""The `asr` command: registers every sub-command and turns errors into one line and an exit status.

Modules of commands import only typer at their top and what they need inside, so that `asr --help` is quick.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from asr.cli import (
    align,
    check,
    decode,
    diagnose,
    export,
    import_,
    lm,
    plot,
    recipe,
    score,
    settings,
    train,
    transcribe,
    tune,
)
from asr.errors import AsrError, ExitStatus, StageError, explained
from asr.files import printable, use_utf8

# In the order of a user's work, which the help keeps.
COMMANDS: dict[str, tuple[Callable[..., None] | typer.Typer, str]] = {
    "run": (recipe.run, "Run a recipe end to end: from a corpus to a scored model."),
    "prepare": (recipe.prepare, "Make the manifests of a known corpus."),
    "import": (import_.app, "Make the manifests of your own data."),
    "shar": (check.shar, "Pack a data folder into a few big files, for large corpora."),
    "check": (check.check, "Look through a data folder and name unfit utterances."),
    "settings": (settings.settings, "Print every setting and what it means."),
    "train": (train.train, "Train an acoustic model."),
    "diagnose": (diagnose.diagnose, "Show where a model's gradients vanish or explode."),
    "lm": (lm.app, "Estimate a language model from text."),
    "tune": (tune.tune, "Choose a model's decoding weights on dev data."),
    "decode": (decode.decode, "Recognise the utterances of a manifest."),
    "score": (score.score, "Count the errors of a decode folder: WER and CER."),
    "transcribe": (transcribe.transcribe, "Turn audio files into text."),
    "plot": (plot.plot, "Draw a recording: waveform, spectrogram, posteriors, words."),
    "export": (export.export, "Write a model to ship: as ONNX, or in 8 bits."),
    "align": (align.align, "Show when each word of a text was spoken, and which fit badly."),
}


class _Commands(TyperGroup):
    """Lists commands in the order of work, and prints what they raise on purpose without a traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _print_error("interrupted")
            raise typer.Exit(ExitStatus.INTERRUPTED) from None
        except (AsrError, OSError) as error:
            if ctx.params["debug"] or isinstance(error, BrokenPipeError):
                raise
            _print_error(explained(error))
            raise typer.Exit(error.status if isinstance(error, StageError) else ExitStatus.FAILED) from None


app = typer.Typer(
    name="asr",
    cls=_Commands,
    help="Train, run and trust your own speech recogniser.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: paragraphs are filled, and [brackets] stay
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, (_command, _summary) in COMMANDS.items():
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_name, short_help=_summary)
    else:
        app.command(_name, short_help=_summary)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from asr import __version__

        typer.echo(f"asr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Hold the options that stand before a command; `_Commands` and `_print_version` act on them."""


def run() -> None:
    """Run the command line; the entry point of the `asr` script."""
    use_utf8()
    app(prog_name="asr")


def _print_error(message: str) -> None:
    from rich.text import Text

    from asr.cli.console import err

    err.print(Text.assemble(("error: ", "bold red"), "\n".join(map(printable, message.split("\n")))))
