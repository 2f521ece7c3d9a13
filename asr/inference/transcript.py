"""What was said in a recording, when, and how sure the recogniser is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asr.inference import formats


@dataclass(frozen=True)
class Word:
    """One word of a transcript.

    Attributes:
        text: the word, without spaces around it.
        start_s: seconds from the start of the recording to the word's first sound.
        end_s: seconds from the start of the recording to the word's end; not before `start_s`.
        confidence: 0 (a guess) to 1 (certain).
    """

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """What was said in one recording.

    Attributes:
        text: all words, separated by single spaces; empty if nothing was recognised.
        words: in the order in which they were spoken.
        duration_s: length of the recording in seconds.
        confidence: of the whole, 0 (a guess) to 1 (certain).
        path: the audio file; None if the audio came as a waveform.
        channel: the one that was transcribed, counted from 0; None if all were mixed down.
    """

    text: str
    words: tuple[Word, ...]
    duration_s: float
    confidence: float
    path: str | None = None
    channel: int | None = None

    @classmethod
    def of(
        cls, words: Sequence[Word], duration_s: float, path: str | None = None, channel: int | None = None
    ) -> Transcript:
        """Return the transcript of these words; its confidence is the mean of theirs, 0 without any."""
        confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
        return cls(" ".join(word.text for word in words), tuple(words), duration_s, confidence, path, channel)

    def to_txt(self) -> str:
        """Return the text as one line, as in a `.txt` file."""
        return formats.to_txt(self)

    def to_json(self) -> str:
        """Return text, word times and confidences as a JSON document, as in a `.json` file."""
        return formats.to_json(self)

    def to_jsonl(self) -> str:
        """Return what `to_json` returns as one line, as in a `.jsonl` file."""
        return formats.to_jsonl(self)

    def to_srt(self) -> str:
        """Return SubRip subtitles, as in a `.srt` file; empty if there are no words."""
        return formats.to_srt(self)

    def to_vtt(self) -> str:
        """Return WebVTT subtitles, as in a `.vtt` file."""
        return formats.to_vtt(self)

    def to_tsv(self) -> str:
        """Return a table of words with times and confidences, as in a `.tsv` file."""
        return formats.to_tsv(self)

    def to_ctm(self) -> str:
        """Return NIST's form of words with times and confidences, as in a `.ctm` file; empty if there are no words."""
        return formats.to_ctm(self)

    def to_textgrid(self) -> str:
        """Return a Praat TextGrid with the words as a tier."""
        return formats.to_textgrid(self)
