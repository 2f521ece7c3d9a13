"""`log.jsonl` of a model folder → a record per epoch, for reports, comparisons and plots.

`asr/training/reports.py` writes the log. Nothing of training is imported here, so every later room can read it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from asr.bundle.files import TRAINING_LOG
from asr.errors import ModelError
from asr.paths import ReadablePath
from asr.records import Count, Record, journal_records

_WAY_OUT = "delete the line, or the file if nobody needs the curves"


class DevErrors(Record):
    """The errors on dev, in words or in characters."""

    substitutions: Count
    deletions: Count
    insertions: Count
    reference_length: Count


@dataclass(frozen=True)
class DevText:
    """What the averaged weights recognised in one utterance of dev; both texts are normalised."""

    id: str
    reference: str
    hypothesis: str


class EpochLine(Record):
    """One epoch of an acoustic training, as the log has it.

    Attributes:
        epoch: its number, from 0.
        loss: training loss in nats per token, mean of the steps.
        best: whether the weights after this epoch were kept as the best so far.
        learning_rate: that at the end of the epoch; None in older logs.
        dev: errors in words; None without a dev set.
        dev_characters: errors in characters; None without a dev set and in older logs.
        dev_by_characters: whether the character error rate is the main figure; None as before.
        dev_wer: word error rate, 0.05 is 5 %; None without a dev set.
        dev_cer: character error rate; None without a dev set.
        dev_loss: CTC loss on dev in nats per token; None without a dev set, and if it was infinite.
        dev_empty: how many dev utterances have a text, but nothing was recognised in them; None without a dev set.
        dev_texts: three dev utterances, the same in each epoch; empty without a dev set and in older logs.
        gradient_norms: by part of the network, from input to output; mean of the steps, before clipping.
        clipped_share: share of the steps whose gradient was scaled down.
        spikes: steps whose loss rose far above the level before.
        skipped: steps without a finite gradient.
        audio_s: seconds of audio that were trained on.
        train_s: wall time of training.
        dev_s: wall time of the evaluation on dev.
        labelled_share: share of untranscribed utterances that got a label; None if there were none.
    """

    epoch: Count
    loss: float
    best: bool
    learning_rate: float | None = None
    dev: DevErrors | None = None
    dev_characters: DevErrors | None = None
    dev_by_characters: bool | None = None
    dev_wer: float | None = None
    dev_cer: float | None = None
    dev_loss: float | None = None
    dev_empty: Count | None = None
    dev_texts: tuple[DevText, ...] = ()
    gradient_norms: dict[str, float] = Field(default_factory=dict)
    clipped_share: float = 0.0
    spikes: Count = 0
    skipped: Count = 0
    audio_s: float = 0.0
    train_s: float = 0.0
    dev_s: float = 0.0
    labelled_share: float | None = None

    @property
    def number(self) -> int:
        """Its number from 1, as the terminal and pages count."""
        return self.epoch + 1

    @property
    def main_rate(self) -> float | None:
        """The figure that decides: the character error rate if `dev_by_characters`, else the word error rate."""
        return self.dev_cer if self.dev_by_characters else self.dev_wer


def read_epochs(folder: ReadablePath) -> list[EpochLine]:
    """Return the epochs in the log of the model folder `folder`, in order; none if it has no log.

    A last line without an end is left out, because a training may be writing it.

    Raises:
        ModelError: the log cannot be read; a line has another form; the epochs are not in order.
    """
    path = folder / TRAINING_LOG
    if not path.exists():
        return []
    epochs: list[EpochLine] = []
    for place, record, _ in journal_records(path, EpochLine, "the log of the training", ModelError, _WAY_OUT):
        if epochs and record.epoch <= epochs[-1].epoch:
            raise ModelError(f"{place}: epoch {record.epoch} comes after epoch {epochs[-1].epoch}; {_WAY_OUT}")
        epochs.append(record)
    return epochs
