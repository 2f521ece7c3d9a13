"""`python -m asr.runtime`: audio files → transcripts, without torch."""

from __future__ import annotations

import argparse
import os
import sys

from asr.errors import AsrError, AudioError
from asr.files import write_utf8
from asr.runtime.recognizer import load
from asr.transcript.transcript import FORMATS, STREAMED

_FAILED, _SOME_SKIPPED, _INTERRUPTED = 1, 2, 130


def main() -> int:
    """Transcribe the files that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m asr.runtime",
        description="Turn audio files into text with an exported model, without torch.",
        epilog="Exit status: 0 all files done, 1 the model cannot be used, 2 some files skipped.",
    )
    parser.add_argument("model", metavar="MODEL", help="a folder that `asr export` wrote")
    parser.add_argument("files", metavar="FILE", nargs="+", help="audio files; - is standard input")
    parser.add_argument("--format", choices=FORMATS, default="txt", help="of several files txt or jsonl (default txt)")
    parser.add_argument("--threads", type=int, default=1, help="to compute with (default 1)")
    arguments = parser.parse_args()
    several = len(arguments.files) > 1
    if several and arguments.format not in STREAMED:
        parser.error(f"several files become {' or '.join(STREAMED)}, not {arguments.format}")
    write_utf8()

    status = 0
    try:
        recognizer = load(arguments.model, threads=arguments.threads)
        for path in arguments.files:
            try:
                transcript = recognizer.transcribe(path)
            except AudioError as error:
                status = _SOME_SKIPPED
                print(f"skipped: {error}", file=sys.stderr)
            else:
                prefix = f"{path}\t" if several and arguments.format == "txt" else ""
                print(prefix + FORMATS[arguments.format](transcript), end="", flush=True)
    except AsrError as error:
        print(f"error: {error}", file=sys.stderr)
        return _FAILED
    except BrokenPipeError:  # whoever reads the output has seen enough; Python would complain when it closes it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return status


if __name__ == "__main__":
    sys.exit(main())
