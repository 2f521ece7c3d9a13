"""`python -m asr.runtime`: audio files → transcripts, without torch."""

from __future__ import annotations

import argparse
import sys
from typing import get_args

from asr.decoding.hotwords import parse_hotwords
from asr.errors import AsrError, AudioError, ConfigError, ExitStatus, explained
from asr.files import printable, set_up_streams, show_notes, write_output
from asr.lm.grammar import load_grammar
from asr.runtime.recognizer import Method, load
from asr.transcript.transcript import FORMATS, STREAMED, format_names


def main() -> int:
    """Transcribe the files that the command line names; return the exit status."""
    set_up_streams()
    show_notes()
    try:
        try:
            arguments, format = _parsed()
            return _transcribe(arguments, format)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has seen enough
        return ExitStatus.FAILED
    except (AsrError, OSError) as error:
        print(f"error: {printable(explained(error))}", file=sys.stderr)
        return ExitStatus.FAILED
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return ExitStatus.INTERRUPTED


def _parsed() -> tuple[argparse.Namespace, str]:
    """Return the arguments of the command line, and the format's name as `FORMATS` has it."""
    parser = argparse.ArgumentParser(
        prog="python -m asr.runtime",
        description="Turn audio files into text with an exported model, without torch.",
        epilog="Exit status: 0 all files are done, 1 failed, 2 some files were skipped.",
    )
    parser.add_argument("model", metavar="MODEL", help="A folder that `asr export` wrote.")
    parser.add_argument("files", metavar="FILE", nargs="+", help="Audio files, or - for stdin.")
    parser.add_argument(
        "--format",
        metavar="NAME",
        default="txt",
        help=f"{', '.join(FORMATS)}. Several files need {' or '.join(STREAMED)}. Default: txt.",
    )
    parser.add_argument(
        "--method",
        choices=get_args(Method),
        help="Search. Default: beam with a language model or hotwords, else greedy.",
    )
    parser.add_argument(
        "--hotword",
        metavar="PHRASE[=BONUS]",
        action="append",
        default=[],
        help="An expected word or phrase, and the bonus for each time it occurs; repeatable.",
    )
    parser.add_argument(
        "--grammar", metavar="FILE", help="What may be said: phrases, one a line, or JSGF. Other speech gives no text."
    )
    parser.add_argument("--threads", metavar="N", type=int, default=1, help="Number of threads. Default: 1.")
    arguments = parser.parse_args()
    try:
        formats = format_names(arguments.format)
    except ConfigError as error:
        parser.error(f"--format: {error}")
    if len(formats) > 1:
        parser.error(f"--format: {arguments.format} names {len(formats)} formats, but one is written")
    if len(arguments.files) > 1 and formats[0] not in STREAMED:
        parser.error(f"--format: several files become {' or '.join(STREAMED)}, not {formats[0]}")
    return arguments, formats[0]


def _transcribe(arguments: argparse.Namespace, format: str) -> ExitStatus:
    status = ExitStatus.DONE
    recognizer = load(arguments.model, threads=arguments.threads)
    hotwords = parse_hotwords(arguments.hotword)
    grammar = None if arguments.grammar is None else load_grammar(arguments.grammar)
    for path in arguments.files:
        try:
            transcript = recognizer.transcribe(path, method=arguments.method, hotwords=hotwords, grammar=grammar)
        except AudioError as error:
            status = ExitStatus.SKIPPED
            print(f"skipped: {printable(str(error))}", file=sys.stderr)
        else:
            prefix = f"{printable(path)}\t" if len(arguments.files) > 1 and format == "txt" else ""
            write_output(prefix + FORMATS[format](transcript))
    return status


if __name__ == "__main__":
    sys.exit(main())
