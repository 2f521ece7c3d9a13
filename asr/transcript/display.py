"""Words and their audio → the part of a page that a notebook shows: a player, and words coloured by confidence.

It works beside others of its kind on one page, in light and dark. A notebook that is not trusted drops scripts and
style sheets. So colours are in the words' own attributes, and only the click on a word needs the script. No torch.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from asr.audio.sources import Source, is_read_once, is_source
from asr.errors import AudioError, DependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from asr.transcript.words import Word

    Audio: TypeAlias = Source | NDArray[np.floating]

LONGEST_S = 600.0
"""A longer recording gets no player: with it, a notebook would grow by more than 2.4 MB."""

_SURE = 0.95  # a word has no colour from here on
_DOUBTFUL = 0.5  # below this it is underlined too, for those who see no colour
_DARKEST = 0.6  # how much the colour of a word with confidence 0 covers


@dataclass(frozen=True)
class Shown:
    """What is shown.

    Attributes:
        words: in the order in which they were spoken.
        duration_s: of the recording.
        facts: what stands above the words.
        measure: what `Word.confidence` is called.
    """

    words: Sequence[Word]
    duration_s: float
    facts: str
    measure: str = "confidence"


def html_of(shown: Shown, audio: Audio | None, sample_rate_hz: int | None = None, channel: int | None = None) -> str:
    """Return HTML that shows words and plays their audio; without a player it says why.

    Args:
        shown: the words.
        audio: the recording, or its samples `(sample,)` or `(channel, sample)`; None if it is not at hand.
        sample_rate_hz: of samples.
        channel: the one to play, counted from 0; None mixes all down.

    Raises:
        AudioError: samples are given that cannot be used. If a file cannot be used, the HTML says so.
        DependencyError: jinja2 is missing.
    """
    try:
        from asr.pages.page import render

        player, reason = _player(shown, audio, sample_rate_hz, channel)
        return render("asr.transcript", "transcript.html.jinja", {**_values(shown), "player": player, "reason": reason})
    except ModuleNotFoundError as error:
        raise DependencyError(f"HTML needs the package {error.name}: pip install {error.name}") from None


def _values(shown: Shown) -> dict[str, Any]:
    words = [
        {
            "text": word.text,
            "space_before": word.space_before and number > 0,
            "start_s": f"{word.start_s:.3f}",
            "title": f"{word.start_s:.2f}–{word.end_s:.2f} s, {shown.measure} {word.confidence:.0%}",
            "style": _style(word.confidence),
        }
        for number, word in enumerate(shown.words)
    ]
    return {"words": words, "facts": shown.facts}


def _style(confidence: float) -> str:
    """Return the style of a word: the less sure, the more orange."""
    if confidence >= _SURE:
        return ""
    style = f"background-color: rgba(230, 140, 0, {_DARKEST * (1 - confidence):.2f})"
    return style + ("; border-bottom: 2px dotted" if confidence < _DOUBTFUL else "")


def _player(
    shown: Shown, audio: Audio | None, sample_rate_hz: int | None, channel: int | None
) -> tuple[str | None, str]:
    """Return the player's audio as base64; or None, and why."""

    from asr.audio.blocks import audio_blocks, checked_rate_hz, checked_waveform, waveform_blocks
    from asr.audio.opus import RATE_HZ, ogg_opus

    if audio is None:
        return None, "the audio is not at hand; to_html(audio) has one"
    if shown.duration_s > LONGEST_S:
        return None, f"the recording is longer than {LONGEST_S / 60:.0f} minutes"
    if not is_source(audio):
        waveform, from_hz = checked_waveform(audio), checked_rate_hz(sample_rate_hz)
        return _base64(ogg_opus(waveform_blocks(waveform, from_hz, RATE_HZ, channel=channel))), ""
    if isinstance(audio, (str, os.PathLike)) and is_read_once(audio):
        return None, "the recording can be read only once"
    try:
        return _base64(ogg_opus(audio_blocks(audio, RATE_HZ, channel=channel))), ""
    except AudioError as error:
        return None, str(error)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
