"""What `asr check` can find: the kinds of faults with their names, and a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        severity: an error breaks training or falsifies a result. A warning is an utterance that probably teaches
            something wrong. A note is worth knowing, and no utterance is left out because of it.
        way_out: what to do.
        unusable: nobody could use the utterance, so it is left out of a test set, too.
    """

    severity: Severity
    way_out: str
    unusable: bool = False


_LISTEN = "listen to it; mend the transcript or leave the utterance out"

# In the order in which they are shown. `docs/check.md` says how each is measured.
KINDS: dict[str, Kind] = {
    "unreadable-audio": Kind("error", "copy or convert the file again, or leave it out", unusable=True),
    "truncated-audio": Kind("error", "copy the file again from its source, or leave it out", unusable=True),
    "silent": Kind("error", "record it again, or leave it out", unusable=True),
    "repeated-id": Kind("error", "give each utterance an id of its own", unusable=True),
    "empty-transcript": Kind("error", "transcribe it, or leave it out"),
    "too-long": Kind("error", "cut it at pauses, or raise training.max_utterance_s"),
    "too-short": Kind("error", "leave it out"),
    "too-many-tokens": Kind("error", "check the transcript, or set model.subsampling=2"),
    "shared-speaker": Kind("error", "move all utterances of a speaker into one split"),
    "shared-audio": Kind("error", "keep it in one split only"),
    "no-speech": Kind("warning", _LISTEN),
    "clipped": Kind("warning", "record at a lower level; small doses are harmless: --keep clipped"),
    "low-level": Kind("warning", "record it nearer or louder; amplifying does not bring back what the noise covers"),
    "cut-off": Kind("warning", "cut the recording in a pause, not within a word"),
    "dropout": Kind("warning", "copy it again from its source, or leave it out"),
    "duplicate-audio": Kind("warning", "keep one of them"),
    "transcript-too-long": Kind("warning", _LISTEN),
    "transcript-too-short": Kind("warning", _LISTEN),
    "wrong-transcript": Kind("warning", _LISTEN),
    "look-alike": Kind("warning", "write the letter of the word's own script"),
    "broken-encoding": Kind("warning", "read the source as UTF-8, or mend the text"),
    "digits": Kind("warning", "write numbers as they are spoken, or set text.numbers"),
    "annotation": Kind("warning", "delete it, or transcribe what is said"),
    "shared-sentences": Kind("warning", "choose test sentences that train does not have"),
    "unseen-character": Kind("warning", "normalise the texts, or add utterances with it to train"),
    "no-spaces": Kind("warning", "go by the CER, not the WER"),
    "low-rate": Kind("warning", "train at the rate of the recordings"),
    "one-speaker": Kind("note", "nothing, if only this voice matters; else add speakers to test"),
    "raised-rate": Kind("note", "use the original recordings, or train at the lower rate"),
    "dc-offset": Kind("note", "nothing: the network hears audio without it; the recorder has a fault"),
    "dead-channel": Kind("note", "import the other channel alone; the average of both is quieter"),
    "duplicate-text": Kind("note", "nothing, if people did say it several times"),
    "invisible-character": Kind("note", "nothing, if normalising deletes it; else keep text.clean"),
    "mixed-unicode": Kind("note", "nothing: normalising composes them"),
    "rare-character": Kind("note", "normalise the texts; nobody learns a letter from one example"),
}


class Fault(NamedTuple):
    """What is wrong with an utterance, without saying which."""

    kind: str
    reason: str
    value: float | None = None


@dataclass(frozen=True)
class Finding:
    """What is wrong with one utterance, with one speaker, or with the data as a whole.

    Attributes:
        kind: its name, one of `KINDS`.
        split: where it is; empty if it is about all splits.
        name: the utterance's id, or the speaker; empty if it is about the split as a whole.
        reason: a sentence that says what is wrong.
        value: the measured figure, if there is one.
        place: of the utterance in its manifest, counted from 0; None if it is not about one utterance.
    """

    kind: str
    split: str
    name: str
    reason: str
    value: float | None = None
    place: int | None = None

    @property
    def severity(self) -> Severity:
        """How bad it is; see `Kind`."""
        return KINDS[self.kind].severity

    @property
    def stays(self) -> bool:
        """Whether the utterance is written all the same: a fair test set needs all that can be heard."""
        return self.split == "test" and not KINDS[self.kind].unusable

    def to_json(self) -> dict[str, Any]:
        """Return the finding as `asr check --json` prints it."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "split": self.split,
            "id": self.name,
            "value": self.value,
            "reason": self.reason,
            "way_out": KINDS[self.kind].way_out,
        }
