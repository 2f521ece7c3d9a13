"""How long a user waits before anything happens: `import asr` and `asr --help`, each in fresh processes.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 7
# The second is what the `asr` script does, whether or not it is installed.
COMMANDS = {
    "nothing": "pass",
    "import asr": "import asr",
    "asr --help": "import sys; sys.argv = ['asr', '--help']; from asr.cli.main import run; run()",
}
REPORT_TORCH = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "


def measure(code: str) -> float:
    """Return the seconds that a fresh interpreter takes to run `code`, the median of `RUNS`."""
    times_s = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
        times_s.append(time.perf_counter() - start)
    return statistics.median(times_s)


def loads_torch(code: str) -> bool:
    """Say whether torch is among the loaded modules when `code` is done."""
    done = subprocess.run([sys.executable, "-c", REPORT_TORCH + code], capture_output=True, text=True, check=True)
    return done.stderr.split()[-1] == "True"


def main() -> None:
    print(f"median of {RUNS} fresh processes, Python {sys.version.split()[0]}, {sys.platform}")
    for name, code in COMMANDS.items():
        print(f"{name:12}{measure(code):6.3f} s   torch {'loaded' if loads_torch(code) else 'not loaded'}")


if __name__ == "__main__":
    main()
