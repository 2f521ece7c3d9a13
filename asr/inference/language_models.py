"""A model folder's language models and the hotwords → the scorers of a search, and the ranking of its results.

    decode.lm, hotwords          see `asr/decoding/folder_scorers.py`
    decode.rnn_weight > 0        rnnlm/, during the search
    decode.rescore_weight > 0    rnnlm/, over the hypotheses that the search returns

The search sums the weighted scores. A model is read when a search first needs it, and kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, partial

import torch

from asr.bundle.bundle import ModelBundle
from asr.bundle.files import RNN_LM
from asr.decoding.folder_scorers import FolderScorers, NgramUse, named, required
from asr.decoding.grammar_search import GrammarSearch
from asr.decoding.scorers import WeightedScorer
from asr.lm.grammar import Grammar
from asr.lm.rnn_scorer import RnnScorer, rescore
from asr.lm.rnnlm import RnnLm
from asr.search_config import DecodeSettings
from asr.text.normalise import normalise
from asr.transcript.words import Hypothesis


class LanguageModels:
    """The language models of one model folder."""

    def __init__(self, bundle: ModelBundle, device: torch.device) -> None:
        """Read nothing yet."""
        self._bundle, self._device = bundle, device
        self._ngrams = FolderScorers(bundle.folder, bundle.tokens, partial(normalise, settings=bundle.config.text))

    def are_used(self, settings: DecodeSettings) -> bool:
        """Whether the settings name a language model that the folder may have; an n-gram of weight 0 counts too.

        `asr tune` may have chosen the weight 0: then the other settings that it chose are for the beam search as well.
        """
        return self._ngrams.has_ngram(settings.lm) or settings.rnn_weight > 0 or settings.rescore_weight > 0

    def scorers(self, settings: DecodeSettings, hotwords: Mapping[str, float]) -> list[WeightedScorer]:
        """Return the scorers of a search, with their weights.

        Args:
            settings: which models, and their weights.
            hotwords: natural-log bonus of each word or phrase; they are normalised as the transcripts were.

        Raises:
            ModelError: the folder lacks a model that the settings name.
            LanguageModelError: a model is damaged, or does not fit the acoustic model.
            TokenError: a hotword is empty or holds a character that the acoustic model lacks.
            ConfigError: a bonus is not above 0.
        """
        found = self._ngrams.scorers(NgramUse(settings.lm, settings.lm_weight, settings.oov_penalty), hotwords)
        if settings.rnn_weight > 0:
            found.append(WeightedScorer(self._rnn_scorer, settings.rnn_weight))
        return found

    def unwritable(self, phrases: Iterable[str]) -> dict[str, str]:
        """Return the phrases that `scorers` would refuse as hotwords, each with the reason."""
        return self._ngrams.unwritable(phrases)

    def grammar(self, grammar: Grammar) -> GrammarSearch:
        """Return the search for a grammar's texts; no language model takes part.

        Raises:
            TokenError, LanguageModelError, ModelError: the grammar does not fit the model, or the folder's threshold is
                damaged.
        """
        return self._ngrams.grammar(grammar)

    def rescored(self, nbest: list[list[Hypothesis]], settings: DecodeSettings) -> list[list[Hypothesis]]:
        """Return each utterance's hypotheses, ranked anew by the recurrent model if the settings give it a weight.

        Raises:
            ModelError, LanguageModelError: as for `scorers`.
        """
        if settings.rescore_weight == 0:
            return nbest
        return rescore(nbest, self._recurrent, self._bundle.tokens, settings.rescore_weight)

    @cached_property
    def _rnn_scorer(self) -> RnnScorer:
        return RnnScorer(self._recurrent, self._bundle.tokens, self._device)

    @cached_property
    def _recurrent(self) -> RnnLm:
        path = required(self._bundle.folder, "rnn_weight or rescore_weight is above 0", "rnn", RNN_LM)
        lm = RnnLm.load(path)
        if lm.units.kind == "tokens":  # one of words can rank hypotheses
            with named(path):
                lm.units.require_tokens(self._bundle.tokens)
        return lm.to(self._device)
