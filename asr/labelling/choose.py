"""Recordings without transcripts → those whose transcription would help most.

An utterance helps more the more errors the model probably makes in it, and the less it is like what is chosen already:
another speaker, other sounds. Its expected errors are therefore shared out: once to its speaker, and once to the runs
of three characters of what is recognised in it. What a choice is worth is the sum over speakers, and over these runs,
of the square root of all that they have got. So the tenth utterance of a speaker adds less than the first, and a copy
adds hardly anything.

Utterances are taken one after another: the one that adds most a second, as long as it fits into the time. The worth is
submodular, so this is not far from the best choice.

Source: Wei et al. 2014, "Submodular subset selection for large-scale speech training data" (ICASSP).
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from asr.corpus.manifest import known_speakers, write_manifest
from asr.corpus.untranscribed import AnyPath
from asr.errors import ConfigError
from asr.files import to_json, write_text
from asr.labelling.guess import Guess, Guesser, untranscribed_cuts
from asr.machine import Accelerator, Progress, silent

CHOSEN, TO_TRANSCRIBE = "chosen.jsonl.gz", "to_transcribe.jsonl"
_RUN = 3  # characters


@dataclass(frozen=True)
class ChosenRecording:
    """What was chosen of one recording.

    Attributes:
        path: the audio file; the utterance's id where its audio is in none.
        speaker: who speaks, or the recording's name where nobody is named.
        utterances: number of chosen utterances.
        audio_s: how long they are together.
        errors: word errors that are expected in them.
    """

    path: str
    speaker: str
    utterances: int
    audio_s: float
    errors: float

    @property
    def errors_per_minute(self) -> float:
        """Expected word errors in a minute of what was chosen."""
        return 60 * self.errors / self.audio_s


@dataclass(frozen=True)
class ChooseReport:
    """What `choose` found.

    Attributes:
        recordings: those with chosen utterances, the one with the most expected errors first.
        utterances: number of chosen utterances.
        audio_s: how long they are together.
        errors: word errors that are expected in them.
        of_utterances: number of all utterances.
        of_audio_s: how long all are together.
        of_errors: word errors that are expected in all.
        left_out: recordings that gave no utterance, each with the reason.
        manifest: of the chosen utterances, as they were.
        to_transcribe: the same as JSON lines, with what is recognised as text, to be corrected.
    """

    recordings: tuple[ChosenRecording, ...]
    utterances: int
    audio_s: float
    errors: float
    of_utterances: int
    of_audio_s: float
    of_errors: float
    left_out: dict[str, str]
    manifest: Path
    to_transcribe: Path


def choose(
    model: AnyPath,
    data: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    minutes: float = 30.0,
    dev: AnyPath | None = None,
    accelerator: Accelerator = "auto",
    progress: Progress = silent,
) -> ChooseReport:
    """Choose the utterances of untranscribed recordings whose transcription would help a model most.

    They are those with the most expected errors, of different speakers and with different words.

    Args:
        model: a model folder.
        data: as for `label`.
        out: the folder for chosen.jsonl.gz, a manifest, and to_transcribe.jsonl. `import_jsonl` reads the latter once
            its texts are corrected.
        minutes: how much can be transcribed.
        dev: as for `label`.
        accelerator: auto takes a GPU if there is one.
        progress: shows how far it is.

    Raises:
        AudioError: no recording can be used, or an utterance of a manifest cannot be read.
        ConfigError: no utterance is as short as `minutes`.
        ManifestError: a manifest is missing, malformed or packed.
        ModelError: the model folder cannot be used, or nothing is known of its errors and there is no `dev`.
        ScoringError: nothing was recognised in `dev`.
    """
    folder = Path(out)
    guesser = Guesser.load(model, dev, accelerator, progress)
    cuts, left_out = untranscribed_cuts(data, folder, progress)
    guesses = guesser.guess(cuts, progress)
    named = known_speakers(cuts)
    speakers = [named.get(guess.cut.id) or _recording(guess) for guess in guesses]
    chosen = choose_within(guesses, speakers, 60 * minutes)
    if not chosen:
        raise ConfigError(f"minutes={minutes:g}: no utterance is as short as that")
    write_manifest([guesses[place].cut for place in chosen], folder / CHOSEN)
    lines = [to_json(_line(guesses[place], speakers[place])) + "\n" for place in chosen]
    write_text(folder / TO_TRANSCRIBE, "".join(lines))
    some = [guesses[place] for place in chosen]
    return ChooseReport(
        recordings=_by_recording([(guesses[place], speakers[place]) for place in chosen]),
        utterances=len(some),
        audio_s=_audio_s(some),
        errors=_errors(some),
        of_utterances=len(guesses),
        of_audio_s=_audio_s(guesses),
        of_errors=_errors(guesses),
        left_out=left_out,
        manifest=folder / CHOSEN,
        to_transcribe=folder / TO_TRANSCRIBE,
    )


def choose_within(guesses: Sequence[Guess], speakers: Sequence[str], seconds: float) -> list[int]:
    """Return the places of the guesses that are worth most together and last at most `seconds`, the best first.

    What an utterance adds only falls while others are chosen. So the best one is known as soon as the one that was best
    before has been looked at again and still is (Minoux 1978).
    """
    shares = [_shares(guess, speaker) for guess, speaker in zip(guesses, speakers, strict=True)]
    worth = _Worth(shares)
    # By what each adds in a second, as it was when the utterance was last looked at, and when that was.
    heap = [(-worth.added(shares[place]) / guess.cut.duration, place, 0) for place, guess in enumerate(guesses)]
    heapq.heapify(heap)
    chosen: list[int] = []
    left_s = seconds
    while heap:
        _, place, looked_at = heapq.heappop(heap)
        duration_s = guesses[place].cut.duration
        if duration_s > left_s:
            continue
        if looked_at < len(chosen):
            heapq.heappush(heap, (-worth.added(shares[place]) / duration_s, place, len(chosen)))
            continue
        worth.add(shares[place])
        chosen.append(place)
        left_s -= duration_s
    return chosen


# What an utterance gives to its speaker, and to each run of characters in it.
Shares: TypeAlias = tuple[Mapping[str, float], Mapping[str, float]]


def _shares(guess: Guess, speaker: str) -> Shares:
    text = f" {guess.text} " if guess.text else ""
    runs = Counter(text[start : start + _RUN] for start in range(len(text) - _RUN + 1))
    return {speaker: guess.errors}, {run: guess.errors * count / runs.total() for run, count in runs.items()}


class _Worth:
    """What a choice is worth: as much by its speakers as by its runs of characters, 1 each if all were chosen."""

    def __init__(self, shares: Sequence[Shares]) -> None:
        self._got: tuple[dict[str, float], dict[str, float]] = (defaultdict(float), defaultdict(float))
        self._whole = (1.0, 1.0)
        for share in shares:
            self.add(share)
        speakers, runs = (math.fsum(map(math.sqrt, got.values())) or 1.0 for got in self._got)
        self._got, self._whole = (defaultdict(float), defaultdict(float)), (speakers, runs)

    def added(self, share: Shares) -> float:
        """Return what an utterance would add."""
        added = 0.0
        for part, got, whole in zip(share, self._got, self._whole, strict=True):
            added += math.fsum(math.sqrt(got[key] + value) - math.sqrt(got[key]) for key, value in part.items()) / whole
        return added

    def add(self, share: Shares) -> None:
        """Add an utterance."""
        for part, got in zip(share, self._got, strict=True):
            for key, value in part.items():
                got[key] += value


def _recording(guess: Guess) -> str:
    recording = getattr(guess.cut, "recording", None)
    source = recording.sources[0] if recording is not None else None
    return str(source.source) if source is not None and source.type == "file" else str(guess.cut.id)


def _line(guess: Guess, speaker: str) -> dict[str, object]:
    return {
        "id": guess.cut.id,
        "audio_filepath": _recording(guess),
        "offset": guess.cut.start,
        "duration": guess.cut.duration,
        "speaker": speaker,
        "text": guess.text,
        "expected_errors": round(guess.errors, 2),
    }


def _by_recording(chosen: Sequence[tuple[Guess, str]]) -> tuple[ChosenRecording, ...]:
    groups: dict[tuple[str, str], list[Guess]] = {}
    for guess, speaker in chosen:
        groups.setdefault((_recording(guess), speaker), []).append(guess)
    found = [
        ChosenRecording(path, speaker, len(some), _audio_s(some), _errors(some))
        for (path, speaker), some in groups.items()
    ]
    return tuple(sorted(found, key=lambda one: -one.errors))


def _audio_s(guesses: Sequence[Guess]) -> float:
    return float(sum(guess.cut.duration for guess in guesses))


def _errors(guesses: Sequence[Guess]) -> float:
    return sum(guess.errors for guess in guesses)
