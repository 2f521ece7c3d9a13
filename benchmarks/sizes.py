"""What an installation takes on disk: the runtime alone, the runtime with the server, everything.

python benchmarks/sizes.py [--everything]

Builds the wheel of this checkout and installs it into empty folders with pip. The last one downloads torch: gigabytes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
RUNTIME = ["numpy", "onnxruntime", "soundfile"]
SERVER = ["typer", "rich", "jinja2", "starlette", "uvicorn", "websockets", "python-multipart", "prometheus_client"]


def pip_install(folder: Path, *arguments: str) -> None:
    """Install into a folder that has nothing of the environment that runs this."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "--ignore-installed", "--target", str(folder), *arguments], check=True)


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def installed_mb(wheel: Path, folder: Path, packages: list[str]) -> float:
    """Return the size of the package without its dependencies, and of these packages with theirs."""
    pip_install(folder, "--no-deps", str(wheel))
    pip_install(folder, *packages)
    return size_mb(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--everything", action="store_true", help="Also install everything; downloads torch.")
    everything = parser.parse_args().everything
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder / "dist")]
        subprocess.run([*command, str(REPOSITORY)], check=True)
        (wheel,) = (folder / "dist").glob("*.whl")
        print(f"Python {sys.version.split()[0]}, {sys.platform}; the wheel has {wheel.stat().st_size / 1e6:.1f} MB")
        print(f"runtime alone    {installed_mb(wheel, folder / 'runtime', RUNTIME):7.0f} MB")
        print(f"with the server  {installed_mb(wheel, folder / 'server', [*RUNTIME, *SERVER]):7.0f} MB")
        if everything:
            pip_install(folder / "everything", str(wheel))
            print(f"everything       {size_mb(folder / 'everything'):7.0f} MB")


if __name__ == "__main__":
    main()
