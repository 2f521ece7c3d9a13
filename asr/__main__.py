"""The command `asr`, and `python -m asr` for launchers such as torchrun."""

from __future__ import annotations

import atexit
import os
import sys


def run() -> None:
    """Run the command line; say what is missing where no more was installed than `asr.runtime` needs."""
    status: list[int] = []
    atexit.register(_end_at_once, status)  # what is registered first runs last
    try:
        from asr.cli.main import run as run_commands
        from asr.machine import set_library_defaults

        set_library_defaults()
        # The speech detector's matrices are small: numpy's threads would only wait for each other, busily.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        run_commands()
    except SystemExit as end:
        status += [end.code] if isinstance(end.code, int) else []
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "asr").partition(".")[0]
        if package == "asr" or "--debug" in sys.argv:
            raise
        sys.exit(
            f"error: this needs the package {package}, which is not installed; `pip install .` in the checkout of asr "
            "installs all that commands need.\nWithout them, python -m asr.runtime transcribes with an exported model."
        )


def _end_at_once(status: list[int]) -> None:
    """End the process with the status, if there is one, without taking the loaded libraries down.

    Those of torch for GPUs read most of their files then, which takes half a second and 130 MB.
    """
    if status:
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except (OSError, ValueError):
            return  # the interpreter says so, and ends with its own status
        os._exit(status[0])


if __name__ == "__main__":
    run()
