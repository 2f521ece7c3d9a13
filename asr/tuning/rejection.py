"""A model, a grammar and a dev set → the threshold below which speech is none of the grammar's texts.

Of each dev utterance the evidence for the grammar is known (`asr/decoding/grammar_search.py`). The others are the
utterances whose transcript is none of the grammar's texts. With n of them, the threshold is the k-th greatest of their
evidence, where k is the whole part of `rate · (n + 1)`. If a further utterance comes from the same source, its place
among the n others is any of n + 1 with the same probability. So it is accepted with a probability of `k / (n + 1)`. The
probability that holds for one fixed threshold has the beta distribution of k and n + 1 − k, which gives the interval.
Nothing is assumed of how the evidence is distributed.

If n is too small for the rate, none of the others comes in. The greatest evidence of the others would be too low a
threshold: a further one comes in with a probability of `1 / (n + 1)`, more than was asked for. So the threshold is
midway between the greatest evidence of the others and the least of the grammar's utterances, if that is higher. Then
`1 / (n + 1)` is what is expected at most. On the quickstart's dev set, thresholds from 72 others and 31 utterances of
the grammar let in 0.1 % of the rest, where the greatest evidence lets in 1.4 %, and miss 0.3 %.

Sources: David & Nagaraja 2003, "Order statistics", section 2.3 (the distribution of k and n + 1 − k); Clopper & Pearson
1934 (the interval of the misses).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from asr.bundle.rejection import Rate, Rejection
from asr.corpus.manifest import load_manifest
from asr.decoding.grammar_automaton import compile_grammar
from asr.decoding.grammar_search import GrammarSearch
from asr.errors import ConfigError, ScoringError
from asr.inference.decoder import Decoder
from asr.lm.grammar import GrammarSource, load_grammar
from asr.machine import Accelerator, Progress, silent
from asr.model.acoustic import on_cpu
from asr.sharing.names import own_folder
from asr.text.normalise import normalise
from asr.tuning.dev_search import run_network

_LEAST_EVIDENCE = -1e6  # for JSON, in place of −inf: no text of the grammar fits at all
_LEVEL = 0.95
_ROUNDING = 1e-12  # 0.01 · 300 is not quite 3


@dataclass(frozen=True)
class Heard:
    """An utterance that was compared with a grammar.

    Attributes:
        is_inside: whether its transcript is one of the grammar's texts.
        is_right: whether the text that fits best is its transcript.
        evidence: for the grammar, a natural log.
    """

    is_inside: bool
    is_right: bool
    evidence: float


@dataclass(frozen=True)
class RejectionReport:
    """What `tune_rejection` set.

    Attributes:
        folder: the model folder, which now holds it.
        rejection: the threshold, and the rates that are to be expected.
        wrong: number of accepted utterances of the grammar for which another of its texts fits best.
        wanted: the rate of false alarms that was asked for.
    """

    folder: Path
    rejection: Rejection
    wrong: int
    wanted: float

    @property
    def is_too_small(self) -> bool:
        """Whether the dev set has too few others for the rate that was asked for."""
        return self.rejection.false_alarms.rate > self.wanted + _ROUNDING


def tune_rejection(
    model: str | os.PathLike[str],
    manifest: str | os.PathLike[str],
    grammar: GrammarSource,
    *,
    false_alarms: float = 0.01,
    accelerator: Accelerator = "auto",
    progress: Progress = silent,
) -> RejectionReport:
    """Set from which evidence on an utterance counts as one of a grammar's texts, on a dev set.

    The threshold goes into the model folder, with the rates that are to be expected. They hold for this grammar and for
    speech like that of the dev set. A threshold of another grammar is replaced.

    Args:
        model: a model folder.
        manifest: the dev set, with utterances of the grammar and others.
        grammar: what may be said, as for `Recognizer.transcribe`.
        false_alarms: share of the others that may be accepted.
        accelerator: where the network runs; auto takes a GPU if there is one.
        progress: shows how far it is.

    Raises:
        ConfigError: `false_alarms` is not between 0 and 0.5.
        LanguageModelError, TokenError: the grammar cannot be used.
        ManifestError, ModelError: the dev set or the model folder cannot be used.
        ScoringError: all transcripts of the dev set are of the grammar, or none is.
    """
    if not 0 < false_alarms <= 0.5:
        raise ConfigError(f"false_alarms={false_alarms}: a share of the other utterances, above 0 and at most 0.5")
    folder = own_folder(model)
    loaded = load_grammar(grammar)
    decoder = Decoder.load(folder, accelerator=accelerator)
    heard = hear_manifest(decoder, search_in(decoder, loaded), manifest, progress)
    inside = sum(one.is_inside for one in heard)
    if not 0 < inside < len(heard):
        found = "all transcripts are" if inside else "no transcript is"
        raise ScoringError(
            f"{manifest}: {found} of {loaded.name}; a threshold needs utterances of the grammar and others"
        )
    threshold, alarms = threshold_for(heard, false_alarms)
    missed = sum(one.is_inside and one.evidence <= threshold for one in heard)
    misses = measured(missed, inside)
    rejection = Rejection(threshold, loaded.checksum, loaded.name, alarms, misses)
    rejection.save(folder)
    wrong = sum(one.is_inside and not one.is_right and one.evidence > threshold for one in heard)
    return RejectionReport(folder, rejection, wrong, false_alarms)


def search_in(decoder: Decoder, grammar: GrammarSource) -> GrammarSearch:
    """Return the search for a grammar's texts, without a threshold."""
    settings = decoder.bundle.config.text
    tokens = decoder.bundle.tokens
    return GrammarSearch(compile_grammar(load_grammar(grammar), tokens, partial(normalise, settings=settings)), tokens)


def hear_manifest(
    decoder: Decoder, search: GrammarSearch, manifest: str | os.PathLike[str], progress: Progress = silent
) -> list[Heard]:
    """Return how the utterances of a manifest compare with a grammar.

    Raises:
        AudioError, ManifestError: the manifest or a recording cannot be read.
    """
    cuts, heard = load_manifest(Path(manifest)), list[Heard]()
    tokens, beam_size = decoder.bundle.tokens, decoder.bundle.config.decode.beam_size
    with progress("compare with the grammar", len(cuts)) as advance:
        for batch in run_network(decoder, cuts):
            matches = search.matches(*on_cpu(batch.log_posteriors, batch.lengths), beam_size)
            for reference, (hypotheses, evidence) in zip(batch.references, matches, strict=True):
                text = tokens.decode(hypotheses[0].tokens) if hypotheses else ""
                heard.append(Heard(search.allows(reference), text == reference, evidence))
            advance(len(matches))
    return heard


def threshold_for(heard: Sequence[Heard], rate: float) -> tuple[float, Rate]:
    """Return the threshold that accepts this share of other utterances, and the share that is to be expected.

    Args:
        heard: utterances of the grammar and others, at least one of each.
        rate: the share, above 0. If there are too few others for it, what is expected is a bound.
    """
    from scipy.special import betaincinv  # takes a third of a second to load

    others = np.sort([max(one.evidence, _LEAST_EVIDENCE) for one in heard if not one.is_inside])
    count = len(others)
    place = int((rate + _ROUNDING) * (count + 1))
    if place == 0:
        highest = float(others[-1])
        lowest = max(min(one.evidence for one in heard if one.is_inside), _LEAST_EVIDENCE)
        bound = float(betaincinv(1, count, _LEVEL))
        return max(highest, (highest + lowest) / 2), Rate(1 / (count + 1), 0.0, bound, count)
    low, high = betaincinv(place, count + 1 - place, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]).tolist()
    return float(others[-place]), Rate(place / (count + 1), low, high, count)


def measured(events: int, count: int) -> Rate:
    """Return the share of utterances with an event, and its exact interval."""
    from scipy.special import betaincinv

    low = float(betaincinv(events, count - events + 1, (1 - _LEVEL) / 2)) if events else 0.0
    high = float(betaincinv(events + 1, count - events, (1 + _LEVEL) / 2)) if events < count else 1.0
    return Rate(events / count, low, high, count)
