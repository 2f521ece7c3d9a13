"""A line of NIST's segment time marks (.stm) → its fields. References for scoring are in it, and whole corpora.

A line is `recording channel speaker start end <labels> text`. Labels are names with commas between them, such as
`<o,f0,male>`, or one of those that corpora have, such as `<F0_M>` and `<NA>`. Lines that begin with `;;` are comments.

Source: NIST, SCTK 2.4, doc/infmts.htm.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from asr.errors import AsrError

_LINE = re.compile(
    r"(?P<name>\S+)\s+(?P<channel>\S+)\s+(?P<speaker>\S+)\s+(?P<start>\S+)\s+(?P<end>\S+)(\s+(?P<text>.*))?"
)
# <o,f0,male>, <F0_M>, <NA>; <unk> and <NOISE> are words.
_LABELS = re.compile(r"<([^<>\s]*,[^<>\s]*|[A-Z]+\d*_[MF]|F[0-9X]|NA|O)>(\s+|$)")
_NOT_SCORED = re.compile(r"ignore_?time_?segment_?in_?scoring", re.IGNORECASE)


class StmLine(NamedTuple):
    """A segment; its times are also kept as they are written, because ids have them."""

    recording: str
    channel: str
    speaker: str
    start: str
    end: str
    start_s: float
    end_s: float
    labels: str  # without the brackets; empty if there are none
    text: str

    @property
    def is_scored(self) -> bool:
        """Whether its text is to be recognised."""
        return not _NOT_SCORED.search(self.text)


def stm_line(text: str, where: str, error: type[AsrError]) -> StmLine:
    """Return the fields of a line; `where` names its place, and `error` is the kind of what is raised.

    The times may be any numbers.

    Raises:
        AsrError: it is no such line.
    """
    match = _LINE.fullmatch(text)
    if match is None:
        raise error(f"{where}: expected 'recording channel speaker start end <labels> text', found {text!r:.80}")
    name, channel, speaker, start, end = match.group("name", "channel", "speaker", "start", "end")
    try:
        start_s, end_s = float(start), float(end)
    except ValueError:
        raise error(f"{where}: {start!r:.40} and {end!r:.40} are no times in seconds") from None
    said = match["text"] or ""
    labels = _LABELS.match(said)
    words = said[labels.end() :] if labels else said
    return StmLine(name, channel, speaker, start, end, start_s, end_s, labels[1] if labels else "", words)
