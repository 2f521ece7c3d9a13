"""A model folder and a dev set → the settings of the search and the calibration of confidences, in the folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.bundle.files import TUNE_PLOT, TUNE_TRIALS
from asr.bundle.settings import save_calibration, save_decode_settings
from asr.config import DecodeSettings
from asr.corpus.manifest import load_manifest
from asr.errors import ConfigError, ModelError, ScoringError
from asr.files import to_json, write_text
from asr.inference.decoder import Decoder
from asr.machine import Accelerator, Progress, silent
from asr.scoring.calibration import CalibrationScore, score_calibration
from asr.transcript.confidence import Calibration, Evidence, evidence_features
from asr.tuning.dev_search import DevBatch, DevSearch, require_language_models, run_network, usual_jobs
from asr.tuning.plot import draw_tuning
from asr.tuning.weights import CHOSEN, WEIGHTS_BEAM_SIZE, Choice, choose_settings


@dataclass(frozen=True)
class TuneReport:
    """What `tune` chose.

    Attributes:
        folder: the model folder, which now holds it.
        choice: the settings, and all that was tried.
        words: how many words the dev set's references have.
        calibration: of the confidences.
        confidences: how well they agree with the facts on dev; None if no word was recognised.
    """

    folder: Path
    choice: Choice
    words: int
    calibration: Calibration
    confidences: CalibrationScore | None

    @property
    def wer(self) -> float:
        """The word error rate on dev with the chosen settings."""
        best = self.choice.best
        return self.choice.errors(best.lm_weight, best.insertion_bonus, best.beam_size) / self.words

    @property
    def wer_without_lm(self) -> float:
        """The word error rate on dev without the n-gram and without an insertion bonus."""
        return self.choice.errors(0.0, 0.0, WEIGHTS_BEAM_SIZE) / self.words


def tune(
    model: str | os.PathLike[str],
    manifest: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    decode: Mapping[str, Any] | None = None,
    accelerator: Accelerator = "auto",
    progress: Progress = silent,
) -> TuneReport:
    """Choose the settings of a model's search by the word errors on a dev set, and calibrate its confidences there.

    Chosen are the LM weight, the insertion bonus and the beam size. `rnn_weight`, `rescore_weight` and, with lm=words,
    `oov_penalty` are chosen too if the settings give them a value. The results go into the model folder: settings,
    calibration, all that was tried, and a plot of it.

    Args:
        model: a model folder with a language model.
        manifest: the dev set.
        jobs: number of processes that search. Default: one a core, fewer for little audio, one on a GPU.
        decode: settings of the search in place of the folder's, e.g. `{"lm": "words"}`; they are kept too.
        accelerator: where the network runs; auto takes a GPU if there is one.
        progress: shows how far each step is.

    Raises:
        ConfigError: `decode` gives a setting that is chosen, an unknown one, or a value out of range.
        ModelError: the model folder cannot be used, or has no language model.
        ManifestError: the manifest is missing, malformed or empty.
        ScoringError: no transcript of the dev set holds a word.
        AsrError: a process died.
    """
    folder, decode = Path(model), decode or {}
    if chosen := [name for name in CHOSEN if name in decode]:
        raise ConfigError(f"decode: {', '.join(chosen)}: this is what tune chooses; leave it out")
    decoder = Decoder.load(folder, accelerator=accelerator, decode=decode)
    settings = decoder.bundle.config.decode
    if settings.lm == "tokens" and decoder.bundle.lm_path is None:
        raise ModelError(f"{folder}: no language model to weigh; `asr lm ngram TEXT --model {folder}` estimates one")
    require_language_models(decoder)

    cuts = load_manifest(Path(manifest))
    batches: list[DevBatch] = []
    with progress("log-posteriors", len(cuts)) as advance:
        for batch in run_network(decoder, cuts):
            batches.append(batch)
            advance(len(batch.references))
    words = sum(len(reference.split()) for batch in batches for reference in batch.references)
    if words == 0:
        raise ScoringError(f"{manifest}: no transcript holds a word, so there are no errors to choose by")
    with DevSearch(decoder, batches, jobs or usual_jobs(decoder, sum(cut.duration for cut in cuts))) as dev:
        choice = _choose(dev, settings, len(batches), progress)
        evidence, right = dev.evidence(choice.best)
    calibration = fit_calibration(evidence, right)
    confidences = [calibration.confidence(item) for item in evidence]
    report = TuneReport(
        folder, choice, words, calibration, score_calibration(confidences, right) if confidences else None
    )
    _write(report)
    return report


def _choose(dev: DevSearch, settings: DecodeSettings, batches: int, progress: Progress) -> Choice:
    def count_errors(what: str, several: Sequence[DecodeSettings]) -> list[int]:
        with progress(what, len(several) * batches) as advance:
            return dev.count_errors(several, advance)

    return choose_settings(count_errors, settings)


def _write(report: TuneReport) -> None:
    save_decode_settings(report.choice.best, report.folder)
    save_calibration(report.calibration, report.folder)
    trials = to_json(report.choice.to_json(report.words), indent=2)
    write_text(report.folder / TUNE_TRIALS, f"{trials}\n")
    draw_tuning(report.choice, report.words, report.folder / TUNE_PLOT)


# Ridge: with few errors on dev, extreme coefficients would fit them by chance.
_RIDGE = 1.0
_NEWTON_STEPS = 50


def fit_calibration(evidence: Sequence[Evidence], right: Sequence[bool]) -> Calibration:
    """Return the calibration under which these words are most probably right and the others wrong.

    It is a logistic regression with a ridge, solved by Newton's method.

    Args:
        evidence: of the words of a dev set; words without a posterior are left out.
        right: whether each word is right.

    Returns:
        The defaults if no word is wrong, or none is right: then there is nothing to learn from.
    """
    pairs = [pair for pair in zip(evidence, right, strict=True) if pair[0].posterior is not None]
    y = np.array([is_right for _, is_right in pairs], np.float64)
    if not 0 < y.sum() < len(y):
        return Calibration()
    x = evidence_features([item for item, _ in pairs])
    ridge = np.diag([1e-6, _RIDGE, _RIDGE])
    coefficients = np.zeros(3)
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-x @ coefficients))
        gradient = x.T @ (y - p) - ridge @ coefficients
        coefficients += np.linalg.solve((x.T * (p * (1 - p))) @ x + ridge, gradient)
    return Calibration(*coefficients.tolist())
