"""A dev set and many settings of the search → each utterance's errors and loss, measured on all cores of the machine.

The network runs once. Its log-posteriors are in a file that all processes map into memory. A task is one batch with one
set of settings, so there are enough tasks for many cores. A batch gives the same result in every process, and results
come in the order of the batches.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from asr.corpus.manifest import transcripts
from asr.decoding.align import align
from asr.errors import AsrError
from asr.features.batching import evaluation_batches
from asr.inference.decoder import Decoder, Search
from asr.machine import cores, end_with_the_first
from asr.model.acoustic import on_cpu
from asr.model.speaker_moments import speaker_moments
from asr.paths import ReadablePath
from asr.scoring.error_counts import Unit, count_errors, words_right
from asr.scoring.expected_errors import DevUtterance, Signs, rivalry
from asr.search_config import DecodeSettings
from asr.text.normalise import normalised_hypothesis
from asr.transcript.confidence import Calibration, Evidence
from asr.transcript.words import Hypothesis, evidence_of
from asr.tuning.weights import MOST_NATS, NATS_OF_ERROR

if TYPE_CHECKING:
    from lhotse.cut import Cut

# Audio of the utterances that are searched together. More would save a little time, but leave cores idle at the end.
DEV_BATCH_S = 120.0
# Dev audio for each process. A process takes 3 s to start; this one searches less audio than this sooner.
AUDIO_OF_PROCESS_S = 150.0

Result = TypeVar("Result")


class DevBatch(NamedTuple):
    """Some utterances: ids, references, `(batch, frame, token)` natural-log posteriors and `(batch,)` frames."""

    ids: list[str]
    references: list[str]
    log_posteriors: Tensor
    lengths: Tensor


class Task(NamedTuple):
    """What is done with a batch: a search with these settings, and in what errors are counted."""

    settings: DecodeSettings
    unit: Unit = "word"


def require_language_models(decoder: Decoder) -> None:
    """Search one frame with the model folder's settings, which reads all language models that they name.

    Raises:
        ModelError, LanguageModelError: one is missing or damaged, or does not fit the acoustic model.
    """
    settings = decoder.bundle.config.decode.model_copy(update={"lm_weight": 1.0})
    decoder.search(torch.zeros(1, 1, len(decoder.bundle.tokens)), torch.tensor([1]), Search("beam", settings=settings))


def run_network(decoder: Decoder, cuts: Iterable[Cut]) -> Iterator[DevBatch]:
    """Yield the batches of a dev set, the longest utterances first.

    Raises:
        AudioError: a recording cannot be read.
    """
    config = decoder.bundle.config
    references = transcripts(cuts, config.text)
    # Utterances of similar length need little padding. What takes longest comes first, so no core is idle at the end.
    in_order = sorted(cuts, key=lambda cut: -cut.duration)
    for batch in evaluation_batches(in_order, config, speaker_moments(cuts, config), batch_s=DEV_BATCH_S):
        log_posteriors, lengths = decoder.log_posteriors(batch)
        yield DevBatch(batch.ids, [references[name] for name in batch.ids], log_posteriors.cpu(), lengths.cpu())


def usual_jobs(audio_s: float) -> int:
    """Return how many processes search this much audio soonest: one a core, fewer for little audio."""
    return max(1, min(cores(), int(audio_s / AUDIO_OF_PROCESS_S)))


class UtteranceFigures(NamedTuple):
    """An utterance under some settings: the errors of the best hypothesis, and the loss in nats, see `weights.py`."""

    errors: int
    loss: float


def utterance_figures(decoder: Decoder, batch: DevBatch, task: Task) -> list[UtteranceFigures]:
    """Return each utterance's errors and loss in a beam search."""
    tokens, text = decoder.bundle.tokens, decoder.bundle.config.text
    searched = decoder.search(batch.log_posteriors, batch.lengths, Search("beam", settings=task.settings))
    return [
        _figures(
            reference,
            [normalised_hypothesis(tokens.decode(hypothesis.tokens), text) for hypothesis in hypotheses],
            np.array([hypothesis.score for hypothesis in hypotheses]),
            task.unit,
        )
        for reference, hypotheses in zip(batch.references, searched, strict=True)
    ]


def _figures(reference: str, texts: Sequence[str], scores: NDArray[np.float64], unit: Unit) -> UtteranceFigures:
    """Return an utterance's errors and loss from its hypotheses, best first."""
    posteriors = np.exp(scores - np.logaddexp.reduce(scores))
    errors = [_errors(reference, text, unit) for text in texts]
    right = float(posteriors[[text == reference for text in texts]].sum())
    missed = -math.log(right) if right > math.exp(-MOST_NATS) else MOST_NATS
    return UtteranceFigures(errors[0], missed + NATS_OF_ERROR * float(posteriors @ errors))


@lru_cache(maxsize=200_000)  # the same hypotheses come with most settings
def _errors(reference: str, text: str, unit: Unit) -> int:
    return count_errors(reference, text, unit=unit).errors


class UtteranceEvidence(NamedTuple):
    """What a search found in an utterance, compared with the reference.

    Attributes:
        evidence: for each recognised word; empty where `text.replace` changes the number of words.
        right: whether each of these words is right.
        words: number of recognised words.
        rivalry: see `asr.scoring.expected_errors`.
        errors: word errors.
        reference_words: number of words of the reference.
        duration_s: of the audio that the network heard.
    """

    evidence: list[Evidence]
    right: list[bool]
    words: int
    rivalry: float
    errors: int
    reference_words: int
    duration_s: float

    def seen_by(self, calibration: Calibration) -> DevUtterance:
        """Return its signs of errors, under a calibration of the confidences, and its errors."""
        doubt = sum(1 - calibration.confidence(item) for item in self.evidence)
        signs = Signs(self.words, doubt, self.rivalry)
        return DevUtterance(signs, self.errors, self.reference_words, self.duration_s)


def utterance_evidence(decoder: Decoder, batch: DevBatch, task: Task) -> list[UtteranceEvidence]:
    """Return what a beam search finds in each utterance, compared with the reference."""
    searched = decoder.search(batch.log_posteriors, batch.lengths, Search("beam", settings=task.settings))
    utterances = zip(searched, batch.references, *on_cpu(batch.log_posteriors, batch.lengths), strict=True)
    return [
        _evidence(decoder, hypotheses, reference, frames[:length])
        for hypotheses, reference, frames, length in utterances
    ]


def _evidence(
    decoder: Decoder, hypotheses: Sequence[Hypothesis], reference: str, log_posteriors: NDArray[np.float32]
) -> UtteranceEvidence:
    tokens, text = decoder.bundle.tokens, decoder.bundle.config.text
    found = evidence_of(hypotheses, align(log_posteriors, hypotheses[0].tokens), tokens)
    texts = [normalised_hypothesis(tokens.decode(hypothesis.tokens), text) for hypothesis in hypotheses]
    right = words_right(reference, texts[0])
    counts = count_errors(reference, texts[0], unit="word")
    same = len(found) == len(right)  # else `text.replace` made other words of them
    return UtteranceEvidence(
        found if same else [],
        right if same else [],
        len(right),
        rivalry(texts, [hypothesis.score for hypothesis in hypotheses]),
        counts.errors,
        counts.reference_length,
        len(log_posteriors) * decoder.model.frame_shift_s,
    )


class DevSearch:
    """A dev set and the processes that search it, for a `with` statement."""

    def __init__(self, decoder: Decoder, batches: Sequence[DevBatch], jobs: int) -> None:
        """Start no process yet.

        Args:
            decoder: loaded from a model folder; each process loads that folder again.
            batches: as `run_network` yields them.
            jobs: number of processes, with one thread each; 1 searches in this process.
        """
        self._decoder, self._batches, self._jobs = decoder, batches, jobs
        self._stack = ExitStack()

    def __enter__(self) -> DevSearch:
        if self._jobs > 1:
            folder = self._decoder.bundle.folder
            assert folder is not None, "a model in memory cannot be loaded by another process"
            self._folder = folder
            self._file = Path(self._stack.enter_context(TemporaryDirectory())) / "dev.safetensors"
            _save(self._batches, self._file)
            # Not forked: locks that torch's threads hold would stay locked in the copy.
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._jobs, context, initializer=_begin)
            self._stack.callback(self._executor.shutdown, cancel_futures=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def figures(
        self, settings: Sequence[DecodeSettings], unit: Unit, advance: Callable[[float], object]
    ) -> list[list[UtteranceFigures]]:
        """Return all utterances' figures under each of several settings; `advance(1)` is called after each batch.

        Raises:
            AsrError: the settings cannot be used with the model folder, or a process died.
        """
        found: list[list[UtteranceFigures]] = [[] for _ in settings]
        for index, figures in self._run(utterance_figures, [Task(item, unit) for item in settings]):
            found[index] += figures
            advance(1)
        return found

    def evidence(self, settings: DecodeSettings) -> list[UtteranceEvidence]:
        """Return what the search finds in each utterance, compared with the reference.

        Raises:
            AsrError: as `figures`.
        """
        return [one for _, found in self._run(utterance_evidence, [Task(settings)]) for one in found]

    def _run(
        self, function: Callable[[Decoder, DevBatch, Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """Yield the index of the task with the function's result for each batch."""
        if self._jobs == 1:
            for index, task in enumerate(tasks):
                for batch in self._batches:
                    yield index, function(self._decoder, batch, task)
            return
        work = [(index, place) for index in range(len(tasks)) for place in range(len(self._batches))]
        futures = [
            self._executor.submit(_work, function, self._folder, self._file, place, tasks[index])
            for index, place in work
        ]
        try:
            for (index, _), future in zip(work, futures, strict=True):
                yield index, future.result()
        except BrokenProcessPool:
            raise AsrError("a process of the search died, perhaps because memory ran out; try fewer jobs") from None


def _begin() -> None:
    """Compute with one thread, leave Ctrl-C to the first process, and end when it ends."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_the_first()


def _work(
    function: Callable[[Decoder, DevBatch, Task], Result],
    folder: ReadablePath,
    file: Path,
    place: int,
    task: Task,
) -> Result:
    return function(_decoder(folder), _load(file, place), task)


@lru_cache(maxsize=1)
def _decoder(folder: ReadablePath) -> Decoder:
    return Decoder.load(folder, accelerator="cpu", precision="fp32")


def _save(batches: Sequence[DevBatch], file: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for place, batch in enumerate(batches):
        tensors[f"{place}.log_posteriors"] = batch.log_posteriors.contiguous()
        tensors[f"{place}.lengths"] = batch.lengths
    texts = {f"{place}": json.dumps([batch.ids, batch.references]) for place, batch in enumerate(batches)}
    try:
        save_file(tensors, file, texts)
    except (OSError, SafetensorError) as error:
        raise AsrError(f"{file}: cannot write the log-posteriors ({error}); set TMPDIR to a folder with room") from None


def _load(file: Path, place: int) -> DevBatch:
    """Return a batch. Its tensors are read from the file when they are used, into memory that all processes share."""
    with safe_open(file, framework="pt") as content:
        ids, references = json.loads(content.metadata()[f"{place}"])
        tensors = (content.get_tensor(f"{place}.{name}") for name in ("log_posteriors", "lengths"))
        return DevBatch(ids, references, *tensors)
