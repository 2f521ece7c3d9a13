"""A data folder → what it holds and what is wrong with it; with a model also which transcripts are wrong."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from asr.config import Config
from asr.corpus.check import DataReport, check_cuts, without_problems
from asr.corpus.findings import KINDS, Fault, Finding
from asr.corpus.limits import training_limits
from asr.corpus.manifest import cut_text, entries, find_splits, read_manifest
from asr.corpus.splits import require_others, write_manifests
from asr.errors import ConfigError, ManifestError, TokenError
from asr.features.batching import evaluation_batches
from asr.inference.decoder import Decoder
from asr.machine import Accelerator, Progress, cores, silent
from asr.model.speaker_moments import speaker_moments
from asr.text.normalise import normalise
from asr.text.report import text_report
from asr.text.tokens import BLANK, min_frames

if TYPE_CHECKING:
    from lhotse.cut import Cut

# Natural logarithms a token. AN4's and the quickstart's right dev transcripts have at most 0.8 with their models, wrong
# ones at least 0.9, 99 of 100 more than 2.8, and those with one wrong word of three or more mostly above 1.
_WRONG = 1.0
_WRONG_SPREADS = 5.0  # beyond the median, in robust standard deviations: a model that fits badly accuses nobody
# Of these utterances the network can compute nothing that means anything.
_UNHEARD = frozenset({"unreadable-audio", "truncated-audio", "silent", "empty-transcript", "too-short", "too-long"})


def check(
    data: str | os.PathLike[str],
    *,
    config: Config | None = None,
    model: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    keep: Iterable[str] = (),
    accelerator: Accelerator = "auto",
    jobs: int | None = None,
    progress: Progress = silent,
) -> DataReport:
    """Read every utterance of a data folder, its audio included, and return what the folder holds and what is wrong.

    Args:
        data: a folder of manifests or Shar folders, or one of those.
        config: says how transcripts are normalised and which utterances can be trained on; None: the model's settings,
            or the default ones.
        model: a model folder, with which transcripts are found that are probably wrong; None: none are.
        out: where to write manifests of the utterances without an error or warning; None: write nothing. A split
            without any such utterance is not written. Of test, only utterances with unusable audio or a repeated id
            are left out.
        keep: kinds of warnings because of which no utterance is left out.
        accelerator: for the model; auto takes a GPU if there is one.
        jobs: number of processes that share the work; None: one for each core.
        progress: shows how far the check is.

    Raises:
        ConfigError: there is no such kind to keep.
        DeviceError: the accelerator does not exist.
        ManifestError: a manifest is missing or a line is malformed; `out` is asked for of a Shar folder, or is
            the folder of the manifests.
        ModelError: the model folder cannot be used.
    """
    kept = frozenset(keep)
    if kept - KINDS.keys():
        raise ConfigError(f"no kind of finding is named {min(kept - KINDS.keys())!r}; known: {', '.join(KINDS)}")
    paths = find_splits(Path(data))
    if out is not None:
        require_others(paths.values(), [Path(out) / f"{split}.jsonl.gz" for split in paths])
    for path in paths.values():
        if out is not None and path.is_dir():
            raise ManifestError(
                f"{path}: its audio is packed, so manifests of it cannot be written; check the folder that it was "
                "packed from, and pack what was written"
            )
    decoder = None if model is None else Decoder.load(model, accelerator=accelerator)
    settings = config or (decoder.bundle.config if decoder else Config())
    manifests = {split: read_manifest(path) for split, path in paths.items()}
    report = check_cuts(
        manifests,
        training_limits(settings),
        model_rate_hz=settings.features.sample_rate_hz,
        processes=cores() if jobs is None else jobs,
        progress=progress,
    )
    texts = (entry.text for cuts in manifests.values() for entry in entries(cuts))
    report = replace(report, kept=kept, texts=text_report(texts, settings.text))
    if decoder is not None:
        report = replace(report, findings=(*report.findings, *wrong_transcripts(decoder, manifests, report, progress)))
    return report if out is None else _write(manifests, report, Path(out))


def _write(manifests: Mapping[str, Iterable[Cut]], report: DataReport, out: Path) -> DataReport:
    targets = {split: out / f"{split}.jsonl.gz" for split in manifests}
    written = write_manifests({targets[split]: without_problems(manifests[split], split, report) for split in targets})
    return replace(report, written={split: path for split, path in targets.items() if path in written})


def wrong_transcripts(
    decoder: Decoder, manifests: Mapping[str, Iterable[Cut]], report: DataReport, progress: Progress = silent
) -> list[Finding]:
    """Return the utterances whose transcript is probably wrong, the worst first.

    Utterances that cannot be heard, or whose transcript the model cannot spell, are left aside.

    Args:
        decoder: a model that knows the language.
        manifests: cuts by split.
        report: what is known about them.
        progress: shows how far it is.
    """
    found: list[Finding] = []
    with progress("compare with the model", sum(summary.utterances for summary in report.splits.values())) as advance:
        for split, cuts in manifests.items():
            unheard = {p.place for p in report.findings if p.split == split and p.kind in _UNHEARD}
            advance(len(unheard))
            for place, name, distance, heard in distances(decoder, cuts, unheard):
                fault = Fault("wrong-transcript", f"the model hears {heard!r:.60}", distance)
                found.append(Finding(fault.kind, split, name, fault.reason, fault.value, place))
                advance(1)
    if not found:
        return []
    values = np.array([finding.value for finding in found])
    median = float(np.median(values))
    limit = max(_WRONG, median + _WRONG_SPREADS * 1.4826 * float(np.median(np.abs(values - median))))
    wrong = [finding for finding, value in zip(found, values.tolist(), strict=True) if value > limit]
    return sorted(wrong, key=lambda finding: -(finding.value or 0.0))


def distances(decoder: Decoder, cuts: Iterable[Cut], unheard: set[int | None]) -> Iterator[tuple[int, str, float, str]]:
    """Yield place, id, distance and what the model hears, of the utterances whose transcript it can spell.

    The distance says by how much the transcript is less probable than what is heard, in natural logarithms a token.

    Args:
        decoder: a model that knows the language.
        cuts: the utterances; of those with the same id the first counts.
        unheard: places of utterances that are left aside, counted from 0.

    Raises:
        AudioError: a recording cannot be read.
    """
    config, table = decoder.bundle.config, decoder.bundle.tokens
    places: dict[str, int] = {}
    texts: dict[str, str] = {}

    def heard_cuts() -> Iterator[Cut]:
        for place, cut in enumerate(cuts):
            if place not in unheard and cut.id not in places:
                places[cut.id] = place
                texts[cut.id] = normalise(cut_text(cut), config.text)
                yield cut

    can_be_heard = (cut for place, cut in enumerate(cuts) if place not in unheard)
    for batch in evaluation_batches(heard_cuts(), config, speaker_moments(can_be_heard, config)):
        log_posteriors, lengths = decoder.log_posteriors(batch)
        for name, frames, length in zip(batch.ids, log_posteriors.float().cpu(), lengths.tolist(), strict=True):
            text = texts.pop(name)
            try:
                tokens = table.encode(text)
            except TokenError:
                continue
            heard = _best(frames[:length])
            distance = _distance(frames[:length], tokens, heard)
            if math.isfinite(distance):
                yield places[name], name, distance, table.decode(heard)


def _distance(log_posteriors: Tensor, tokens: list[int], heard: list[int]) -> float:
    """Return by how much a transcript is less probable than what is heard, in natural logarithms a token.

    Args:
        log_posteriors: `(frame, token)`.
        tokens: of the transcript.
        heard: of the best path.
    """
    if len(log_posteriors) < min_frames(tokens):
        return math.inf
    return (_log_probability(log_posteriors, heard) - _log_probability(log_posteriors, tokens)) / max(
        1, len(tokens), len(heard)
    )


def _log_probability(log_posteriors: Tensor, tokens: list[int]) -> float:
    if not tokens:
        return float(log_posteriors[:, BLANK].sum())
    lengths = torch.tensor([len(log_posteriors)]), torch.tensor([len(tokens)])
    loss = torch.nn.functional.ctc_loss(
        log_posteriors[:, None], torch.tensor([tokens]), *lengths, blank=BLANK, reduction="sum"
    )
    return -float(loss)


def _best(log_posteriors: Tensor) -> list[int]:
    """Return the tokens of the best path."""
    path = torch.unique_consecutive(log_posteriors.argmax(1)).tolist()
    return [token for token in path if token != BLANK]
