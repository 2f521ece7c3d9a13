"""Folders of several systems → a comparison of them, and a page of it. No torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from asr.files import write_text
from asr.reporting.compare_page import comparison_page
from asr.reporting.comparison import Comparison, compared
from asr.reporting.systems import decode_folders


def compare(
    systems: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    common: bool = False,
    audio: bool = True,
) -> Comparison:
    """Return how systems differ on the same utterances; write a page of it for the browser if asked to.

    A system is a decode folder, or a model folder. Of model folders, the decode folder is taken that all have.

    Args:
        systems: two or more folders. A difference is that of the later one minus that of the earlier one.
        out: the page to write; one file with all that it needs. Without it nothing is written.
        common: compare only the utterances that all have with the same reference, and name the others.
        audio: whether utterances can be played on the page, as far as there is room for 10 MB of audio.

    Raises:
        ScoringError: a file of a decode folder is missing or malformed, the references differ, or it is not clear which
            decode folder of a model folder is meant.
    """
    comparison = compared(decode_folders([Path(system) for system in systems]), common=common)
    if out is None:
        return comparison
    write_text(Path(out), comparison_page(comparison, audio=audio))
    return replace(comparison, page=Path(out))
