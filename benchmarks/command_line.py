"""What several benchmarks are told alike."""

from __future__ import annotations

import argparse
from pathlib import Path


def model_and_manifest(description: str | None) -> argparse.ArgumentParser:
    """Return a parser for a model folder, `model`, and a manifest, `manifest`; the description keeps its lines."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    return parser
