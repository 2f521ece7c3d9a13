"""A model folder's language models and the hotwords → the scorers of a search.

    decode.lm = tokens           lm.arpa.gz, if the folder has it
    decode.lm = words            lm.words.arpa.gz; its words are the lexicon
    decode.rnn_weight > 0        rnnlm/, during the search
    decode.rescore_weight > 0    rnnlm/, over the hypotheses that the search returns
    hotwords                     a bonus each; their words are added to the lexicon

The search sums the weighted scores. A model is read when a search first needs it, and kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path

import torch

from asr.bundle.bundle import ModelBundle
from asr.bundle.files import RNN_LM, WORD_LANGUAGE_MODEL
from asr.decoding.hotwords import HotwordScorer
from asr.decoding.ngram_scorer import TokenNgramScorer
from asr.decoding.scorers import WeightedScorer
from asr.decoding.word_scorer import WordNgramScorer
from asr.errors import LanguageModelError, ModelError, TokenError
from asr.lm.arpa import read_arpa
from asr.lm.rnn_scorer import RnnScorer, rescore
from asr.lm.rnnlm import RnnLm
from asr.search_config import DecodeSettings
from asr.text.normalise import normalise
from asr.transcript.words import Hypothesis

Hotwords = tuple[tuple[str, float], ...]


class LanguageModels:
    """The language models of one model folder."""

    def __init__(self, bundle: ModelBundle, device: torch.device) -> None:
        """Read nothing yet."""
        self._bundle, self._device = bundle, device
        # Usually a whole run has one set of hotwords. Another set takes its place.
        self._phrases = lru_cache(maxsize=1)(self._normalised)
        self._hotword_scorer = lru_cache(maxsize=1)(self._build_hotwords)
        self._word_scorer = lru_cache(maxsize=1)(self._read_words)
        self._widened_word_scorer = lru_cache(maxsize=1)(self._widen)

    def are_used(self, settings: DecodeSettings) -> bool:
        """Whether the settings name a language model that the folder may have; an n-gram of weight 0 counts too.

        `asr tune` may have chosen the weight 0: then the other settings that it chose are for the beam search as well.
        """
        has_ngram = settings.lm == "words" or self._bundle.lm_path is not None
        return has_ngram or settings.rnn_weight > 0 or settings.rescore_weight > 0

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
        phrases = self._phrases(tuple(hotwords.items()))
        found = []
        if phrases:
            found.append(WeightedScorer(self._hotword_scorer(phrases), 1.0))
        if settings.lm_weight > 0 and settings.lm == "words":
            scorer = self._widened_word_scorer(settings.oov_penalty, phrases)
            found.append(WeightedScorer(scorer, settings.lm_weight))
        elif settings.lm_weight > 0 and self._token_scorer is not None:
            found.append(WeightedScorer(self._token_scorer, settings.lm_weight))
        if settings.rnn_weight > 0:
            found.append(WeightedScorer(self._rnn_scorer, settings.rnn_weight))
        return found

    def rescored(self, nbest: list[list[Hypothesis]], settings: DecodeSettings) -> list[list[Hypothesis]]:
        """Return each utterance's hypotheses, ranked anew by the recurrent model if the settings give it a weight.

        Raises:
            ModelError, LanguageModelError: as for `scorers`.
        """
        if settings.rescore_weight == 0:
            return nbest
        return rescore(nbest, self._recurrent, self._bundle.tokens, settings.rescore_weight)

    def _normalised(self, hotwords: Hotwords) -> Hotwords:
        """Return the phrases as the acoustic model's transcripts are written, sorted."""
        phrases: dict[str, float] = {}
        for given, bonus in hotwords:
            phrase = normalise(given, self._bundle.config.text)
            if not phrase:
                raise TokenError(f"the hotword {given!r} is empty when written as the model's transcripts are")
            phrases[phrase] = bonus
        return tuple(sorted(phrases.items()))

    def _build_hotwords(self, hotwords: Hotwords) -> HotwordScorer:
        return HotwordScorer(dict(hotwords), self._bundle.tokens)

    @cached_property
    def _token_scorer(self) -> TokenNgramScorer | None:
        path = self._bundle.lm_path
        if path is None:
            return None
        lm = read_arpa(path)
        with _named(path):
            return TokenNgramScorer(lm, self._bundle.tokens)

    def _read_words(self, oov_penalty: float | None) -> WordNgramScorer:
        path = self._file("lm is words", "ngram", WORD_LANGUAGE_MODEL, " --words")
        lm = read_arpa(path)
        with _named(path):
            return WordNgramScorer(lm, self._bundle.tokens, oov_penalty=oov_penalty)

    def _widen(self, oov_penalty: float | None, hotwords: Hotwords) -> WordNgramScorer:
        scorer = self._word_scorer(oov_penalty)
        return scorer.with_words(self._hotword_scorer(hotwords).words) if hotwords else scorer

    @cached_property
    def _rnn_scorer(self) -> RnnScorer:
        return RnnScorer(self._recurrent, self._bundle.tokens, self._device)

    @cached_property
    def _recurrent(self) -> RnnLm:
        path = self._file("rnn_weight or rescore_weight is above 0", "rnn", RNN_LM, "")
        lm = RnnLm.load(path)
        if lm.units.kind == "tokens":  # one of words can rank hypotheses
            with _named(path):
                lm.units.require_tokens(self._bundle.tokens)
        return lm.to(self._device)

    def _file(self, wanted_by: str, command: str, name: str, option: str) -> Path:
        folder = self._bundle.folder
        if folder is None or not (folder / name).is_file():
            raise ModelError(
                f"{folder or 'the model'}: decode.{wanted_by}, but there is no {name}; "
                f"`asr lm {command} TEXT --model {folder or 'DIR'}{option}` writes it"
            )
        return folder / name


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let errors name the file of a language model that does not fit the acoustic model."""
    try:
        yield
    except LanguageModelError as error:
        raise LanguageModelError(f"{path}: {error}") from None
