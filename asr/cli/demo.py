"""`asr demo`: a first transcript, without training anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_KNOWS = "an4: it knows letters, numbers, dates and some commands, and writes all that it hears as those"


def demo(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="An audio file. Default: a recording that comes with the package."),
    ] = None,
    microphone: Annotated[
        bool, typer.Option("--microphone", help="Listen, and print each utterance as soon as it ends; Ctrl-C ends.")
    ] = False,
) -> None:
    """Recognise speech with the small model of the package.

    The model an4 was trained on 38 minutes of CMU's AN4, in which Americans spell names and say numbers and dates. Of
    such speech it gets 4.8 % of the words wrong. It knows no other words. Speak to it so: "A B C", "twenty seven", "May
    second nineteen sixty five".

    Other commands take it by its name too: asr transcribe an4 FILE. A folder of your own with the name an4 comes first.
    """
    import asr
    from asr.cli.console import err
    from asr.files import printable, write_output

    if file is not None and microphone:
        raise typer.BadParameter("name a file or listen, not both", param_hint="--microphone")
    if microphone:
        from asr.cli.transcribe import print_blocks

        blocks = asr.microphone()  # first, since the model takes a second
        recognizer = asr.load("an4")
        err.print(f"model       {_KNOWS}\nspell a name, or say a number or a date; Ctrl-C ends")
        print_blocks(recognizer, 16000, blocks)
        return
    recognizer, sample = asr.load("an4"), asr.sample_recording()
    write_output(f"model       {_KNOWS}\nfile        {printable(sample.path if file is None else file)}\n")
    if file is None:
        write_output(f"reference   {sample.text}\n")
    write_output(f"transcript  {printable(recognizer.transcribe(sample.path if file is None else file).text)}\n")
    if file is None:
        write_output("next        asr demo FILE, asr demo --microphone; asr run trains a model on synthetic speech\n")
