"""The `asr` command: registers every sub-command and turns errors into one line and an exit status.

Modules of commands import only light modules at their top and the rest inside the command, so `asr --help` is quick.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from asr.cli import (
    align,
    check,
    compare,
    decode,
    demo,
    diagnose,
    export,
    features,
    import_,
    label,
    lm,
    plot,
    recipe,
    review,
    search,
    segment,
    serve,
    share,
    train,
    transcribe,
    tune,
)
from asr.errors import AsrError, ExitStatus, StageError, explained
from asr.files import printable, printable_lines, set_up_streams, show_notes

# In the order of a user's work, which the help keeps. The first line of a docstring is a command's summary.
COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    "demo": demo.demo,
    "run": recipe.run,
    "prepare": recipe.prepare,
    "import": import_.app,
    "segment": segment.segment,
    "check": check.check,
    "init": recipe.init,
    "pack": share.pack,
    "features": features.features,
    "settings": train.settings,
    "pretrain": train.pretrain,
    "train": train.train,
    "distill": train.distill,
    "search": search.search,
    "diagnose": diagnose.diagnose,
    "lm": lm.app,
    "tune": tune.tune,
    "adapt": decode.adapt,
    "decode": decode.decode,
    "score": decode.score,
    "compare": compare.compare,
    "transcribe": transcribe.transcribe,
    "label": label.label,
    "choose": label.choose,
    "review": review.app,
    "plot": plot.plot,
    "align": align.align,
    "export": export.export,
    "serve": serve.serve,
    "push": share.push,
    "pull": share.pull,
}


_UNBROKEN_HYPHEN = "\u2011"  # lines are not wrapped at this one


def _count(value: Any) -> int:
    """Return the number of values that the command line has for an argument."""
    return len(value) if isinstance(value, (tuple, list)) else int(isinstance(value, str))


class _Command(TyperCommand):
    """Its help page breaks no name at a hyphen and lists arguments without types, since `list[Path]` helps no user."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse an empty argument. As a path it would mean the current folder.

        A missing argument is named as the one after those that were given: one value of `MODEL... MANIFEST` is MODEL.
        """
        for place, argument in enumerate(args):
            if not argument or re.fullmatch("--[a-z-]+=", argument):
                name = argument.rstrip("=") or (args[place - 1] if place and args[place - 1].startswith("-") else "")
                raise typer.BadParameter(f"{name or 'an argument'} is empty; is a variable not set?", ctx=ctx)
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            params: list[Any] = self.params
            needed = [param for param in params if param.param_type_name == "argument" and param.required]
            if error.param in needed and not error.message:  # what is missing has no message
                values, *_ = self.make_parser(ctx).parse_args(given)
                error.param = needed[sum(_count(values[param.name]) for param in needed)]
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line; a needed argument is `MODEL`, for which newer typer writes `{MODEL}`."""
        return [re.sub(r"^\{(.+)\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def get_help(self, ctx: Any) -> str:
        return super().get_help(ctx).replace(_UNBROKEN_HYPHEN, "-")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        write_text, write_list = formatter.write_text, formatter.write_dl

        def unbroken(text: str) -> str:
            return text.replace("-", _UNBROKEN_HYPHEN)

        def untyped(name: str) -> str:
            return name if name.startswith("-") else re.sub(" <.*>$", "", name)

        formatter.write_text = lambda text: write_text(unbroken(text))
        formatter.write_dl = lambda rows: write_list([(untyped(name), unbroken(text)) for name, text in rows])
        super().format_help(ctx, formatter)


# What wrong arguments raise: an error of click, or of the copy of it inside typer.
_UsageError: Any = typer.BadParameter.__base__


@contextmanager
def _visible_usage_errors() -> Iterator[None]:
    """Let the message of a usage error, which repeats an argument, be one line that does nothing to a terminal."""
    try:
        yield
    except _UsageError as error:
        error.message = printable(error.message)
        raise


class _Commands(TyperGroup):
    """Lists commands in the order of work, and prints errors that are meant for users without a traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _visible_usage_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _visible_usage_errors():
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
for _name, _command in COMMANDS.items():
    if isinstance(_command, typer.Typer):
        for _part in _command.registered_commands:
            _part.cls = _Command
        app.add_typer(_command, name=_name)
    else:
        app.command(_name, cls=_Command)(_command)


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
    """Declare the options before a command; `_Commands` and `_print_version` act on them."""


def run() -> None:
    """Run the command line; the entry point of the `asr` script."""
    set_up_streams()
    show_notes()
    try:
        try:
            app(prog_name="asr")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        sys.exit(ExitStatus.FAILED)
    except AsrError as error:  # of standard output: those of commands are printed by `_Commands`
        if "--debug" in sys.argv:
            raise
        _print_error(explained(error))
        sys.exit(ExitStatus.FAILED)


def _print_error(message: str) -> None:
    from rich.text import Text

    from asr.cli.console import err

    err.print(Text.assemble(("error: ", "bold red"), printable_lines(message)))
