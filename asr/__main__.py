"""The command `asr`, and `python -m asr` for launchers such as torchrun."""

from __future__ import annotations

import os
import sys


def run() -> None:
    """Run the command line; say what is missing where no more was installed than `asr.runtime` needs."""
    try:
        from asr.cli.main import run as run_commands
        from asr.machine import set_library_defaults

        set_library_defaults()
        # The speech detector's matrices are small: numpy's threads would only wait for each other, busily.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        run_commands()
    except ModuleNotFoundError as error:
        package = (error.name or "asr").partition(".")[0]
        if package == "asr" or "--debug" in sys.argv:
            raise
        sys.exit(
            f"error: this needs the package {package}, which is not installed; `pip install .` in the checkout of asr "
            "installs all that commands need.\nWithout them, python -m asr.runtime transcribes with an exported model."
        )


if __name__ == "__main__":
    run()
