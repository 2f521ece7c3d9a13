"""Utterances of manifests, in the order in which people look at them, and what they are corrected to.

`journal.py` keeps the corrections, `server.py` shows the utterances.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from lhotse.cut.data import DataCut
from lhotse.utils import fastcopy

from asr.corpus.cut_audio import load_cut
from asr.corpus.line import require_text
from asr.corpus.manifest import cut_text, load_manifest
from asr.errors import ManifestError
from asr.reading import counted
from asr.reviewing.journal import WAY_OUT, History, Journal, State, changed, journal_of
from asr.reviewing.order import Heard
from asr.text.units import words_of

if TYPE_CHECKING:
    from lhotse.cut import Cut

AROUND_S = 2.0  # of audio before and after an utterance
_SHORTEST_S = 0.02
_LONGEST_TEXT = 100_000  # characters
_SHOWN = 3  # ids in a message


@dataclass(frozen=True)
class Utterance:
    """An utterance to look at.

    Attributes:
        split: of the data folder, or the manifest's name.
        cut: as the manifest has it.
        heard: what a model hears; None without a model.
    """

    split: str
    cut: Cut
    heard: Heard | None = None

    @property
    def was(self) -> State:
        """What the manifest says."""
        return state_of(self.cut)

    @property
    def fixed(self) -> str:
        """Why only `bad` can be corrected; empty if all can."""
        if not isinstance(self.cut, DataCut):
            return "it is a mix of several recordings"
        parts = len(self.cut.supervisions)
        return f"it has {parts} supervisions, each with a text of its own" if parts > 1 else ""


@dataclass(frozen=True)
class Answer:
    """What became of a wish to correct an utterance.

    Attributes:
        kept: whether it is on disk.
        utterance: what the utterance is now, for the page.
        reason: why it was refused; empty if it was kept.
    """

    kept: bool
    utterance: dict[str, Any]
    reason: str = ""


class Review:
    """Utterances and their corrections; each method may be called from any thread."""

    def __init__(self, utterances: Sequence[Utterance], journals: Mapping[str, Journal]) -> None:
        """Take utterances in the order in which they are looked at, and the journal of each of their splits."""
        self.utterances = utterances
        self._journals = journals
        self._lock = threading.Lock()

    @property
    def first(self) -> int:
        """The place of the first utterance that nobody has dealt with; 0 if there is none."""
        states = (self.history(place).now for place in range(len(self.utterances)))
        return next((place for place, now in enumerate(states) if not (now.confirmed or now.bad)), 0)

    def counts(self) -> dict[str, int]:
        """Return the numbers of all utterances, of those that are bad and of the others whose text is confirmed."""
        # Those that nobody corrected are neither, and there may be very many.
        found = [one.now for journal in self._journals.values() for one in journal.histories.values()]
        confirmed = sum(now.confirmed and not now.bad for now in found)
        return {"all": len(self.utterances), "confirmed": confirmed, "bad": sum(now.bad for now in found)}

    def history(self, place: int) -> History:
        """Return what became of an utterance."""
        utterance = self.utterances[place]
        return self._journals[utterance.split].histories.get(utterance.cut.id) or History(utterance.was)

    def shown(self, place: int) -> dict[str, Any]:
        """Return an utterance as the page shows it; times are seconds from the start of its recording."""
        utterance, history = self.utterances[place], self.history(place)
        heard, now = utterance.heard, history.now
        guess = heard.text if heard and not now.confirmed else ""
        return {
            "place": place,
            "id": utterance.cut.id,
            "split": utterance.split,
            "speaker": next((str(s.speaker) for s in utterance.cut.supervisions if s.speaker), ""),
            "version": history.version,
            "shown_text": now.text or guess,
            "now": now.model_dump(),
            "window_s": [*self._window(place)],
            "fixed": utterance.fixed,
            "heard": None if heard is None else _shown(heard),
        }

    def _window(self, place: int) -> tuple[float, float]:
        """Return from when to when audio is sent."""
        utterance, now = self.utterances[place], self.history(place).now
        if not isinstance(utterance.cut, DataCut) or not utterance.cut.has_recording:
            return now.start_s, now.end_s
        last_s = max(utterance.cut.recording.duration, now.end_s)
        return max(0.0, now.start_s - AROUND_S), min(last_s, now.end_s + AROUND_S)

    def audio(self, place: int) -> tuple[float, bytes]:
        """Return an utterance with the seconds around it as WAV, and where that begins in the recording, in seconds.

        Raises:
            UtteranceAudioError: it cannot be read.
        """
        cut, (start_s, end_s) = self.utterances[place].cut, self._window(place)
        if isinstance(cut, DataCut):
            cut = fastcopy(cut, start=start_s, duration=end_s - start_s, supervisions=[])
        file = io.BytesIO()
        soundfile.write(file, np.clip(load_cut(cut), -1, 1), cut.sampling_rate, "PCM_16", format="WAV")
        return start_s, file.getvalue()

    def correct(self, place: int, based_on: int, now: State) -> Answer:
        """Keep what an utterance is now, on disk; refuse it if somebody corrected the utterance meanwhile.

        Args:
            place: of the utterance, counted from 0.
            based_on: the version that was corrected.
            now: what it is corrected to.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            refusal = self._stale(place, based_on)
            history = self.history(place)
            refusal = refusal or impossible(self.utterances[place], history.now, now)
            if not refusal and not (history.kept and history.now == now):
                self._add(place, now)
            return Answer(not refusal, self.shown(place), refusal)

    def undo(self, place: int, based_on: int) -> Answer:
        """Take back an utterance's last correction, on disk; arguments and errors are those of `correct`."""
        with self._lock:
            refusal = self._stale(place, based_on)
            if not refusal and not self.history(place).kept:
                refusal = "there is nothing to undo"
            if not refusal:
                self._add(place, None)
            return Answer(not refusal, self.shown(place), refusal)

    def _add(self, place: int, now: State | None) -> None:
        utterance = self.utterances[place]
        self._journals[utterance.split].add(utterance.cut.id, utterance.was, now)

    def _stale(self, place: int, based_on: int) -> str:
        return "it was corrected elsewhere meanwhile" if based_on != self.history(place).version else ""


def impossible(utterance: Utterance, before: State, now: State) -> str:
    """Return why an utterance cannot be corrected from one state to another; empty if it can."""
    if utterance.fixed and (now.text, now.start_s, now.end_s) != (before.text, before.start_s, before.end_s):
        return f"text and borders cannot be corrected here, because {utterance.fixed}"
    if len(now.text) > _LONGEST_TEXT:
        return f"a text may have {_LONGEST_TEXT:,} characters"
    try:
        require_text("text", now.text)
    except ManifestError as error:
        return str(error)
    if (now.start_s, now.end_s) == (before.start_s, before.end_s):
        return ""
    last_s = max(utterance.cut.recording.duration, before.end_s) if utterance.cut.has_recording else before.end_s
    if not 0 <= now.start_s < now.end_s <= last_s:
        return f"{now.start_s:g} s to {now.end_s:g} s is no part of the recording, which lasts {last_s:g} s"
    if now.end_s - now.start_s < _SHORTEST_S:
        return f"an utterance lasts at least {_SHORTEST_S:g} s"
    return ""


def _shown(heard: Heard) -> dict[str, Any]:
    """Return what a model hears for the page; `right` is of `words`, which are not separated in some scripts."""
    words = words_of(heard.text)
    return {
        "text": heard.text,
        "words": words,
        "right": list(heard.right),
        "separator": " " if words == heard.text.split() else "",
        "doubt": heard.doubt if np.isfinite(heard.doubt) else None,
        "reason": heard.reason,
    }


def state_of(cut: Cut) -> State:
    """Return what a manifest says of an utterance."""
    start_s = float(getattr(cut, "start", 0.0))
    return State(text=cut_text(cut), start_s=start_s, end_s=start_s + cut.duration)


def load_utterances(manifest: Path) -> list[Cut]:
    """Return the utterances of a manifest.

    Raises:
        ManifestError: the manifest is missing, malformed or packed, or two utterances have the same id.
    """
    if manifest.is_dir():
        raise ManifestError(f"{manifest}: its audio is packed; review the manifest that it was packed from")
    return list(load_manifest(manifest))


def require_fitting(found: Mapping[str, History], cuts: Sequence[Cut], manifest: Path) -> None:
    """Refuse corrections of a manifest that has changed since, and impossible ones.

    Args:
        found: the histories of corrected utterances.
        cuts: what the manifest holds.
        manifest: the file.

    Raises:
        ManifestError: it says something else of a corrected utterance now, or lacks it, or no manifest could say what
            the utterance was corrected to; it is named.
    """
    names = changed(found, {cut.id: state_of(cut) for cut in cuts})
    if names:
        shown = ", ".join(map(repr, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
        raise ManifestError(
            f"{manifest}: changed since its review: {counted(len(names), 'corrected utterance')} ({shown}) had another "
            f"text or other times; put that manifest back, or move {journal_of(manifest)} away, which holds the "
            "corrections"
        )
    for cut in cuts:
        history = found.get(cut.id)
        for now in history.kept if history else ():
            if history and (reason := impossible(Utterance("", cut), history.was, now)):
                raise ManifestError(f"{journal_of(manifest)}: utterance {cut.id}: {reason}; {WAY_OUT}")
