"""Samples → Opus in an Ogg file, small enough to be part of a page: at most 24 kbit/s."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16000
"""Opus has 8, 12, 16, 24 and 48 kHz. This one keeps all of speech that its models hear."""

# libsndfile's scale, on which 0 is 256 kbit/s and 1 is 6 kbit/s.
_COMPRESSION = 0.93


def ogg_opus(blocks: Iterable[NDArray[np.float32]]) -> bytes:
    """Return the bytes of an Ogg file that browsers play, at most 175 kB a minute.

    Args:
        blocks: consecutive, `(sample,)`, mono at `RATE_HZ`; louder samples than full scale are clipped.

    Source: RFC 6716 (Opus), RFC 7845 (Ogg encapsulation).
    """
    import soundfile

    written = io.BytesIO()
    with soundfile.SoundFile(written, "w", RATE_HZ, 1, "OPUS", format="OGG", compression_level=_COMPRESSION) as file:
        for block in blocks:
            file.write(np.clip(block, -1, 1))
    return written.getvalue()
