"""`python -m asr`: the command line, also for launchers such as torchrun."""

from asr.cli.main import run

if __name__ == "__main__":
    run()
