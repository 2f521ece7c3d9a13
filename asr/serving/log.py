"""What happened → a line of JSON on stderr, also from workers. No transcripts unless they are given."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from datetime import datetime, timezone

from asr.files import to_json


def log(**facts: object) -> None:
    """Write an object with the time and these facts as a line to stderr."""
    now = datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec="milliseconds")
    with suppress(OSError, ValueError):  # nobody reads it any more
        print(to_json({"time": now, **facts}), file=sys.stderr, flush=True)
