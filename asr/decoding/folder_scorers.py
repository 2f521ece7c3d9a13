"""The n-grams of a model folder or of an exported folder, hotwords, a grammar → the scorers of a search. No torch.

    lm = tokens    lm.arpa.gz, if the folder has it
    lm = words     lm.words.arpa.gz; its words are the lexicon
    hotwords       a bonus each; their words are added to the lexicon
    a grammar      in place of all others, see `grammar_search.py`

A file is read when a search first needs it, and kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache

from asr.bundle.files import LANGUAGE_MODEL, WORD_LANGUAGE_MODEL
from asr.bundle.rejection import load_rejection
from asr.decoding.grammar_automaton import compile_grammar
from asr.decoding.grammar_search import GrammarSearch
from asr.decoding.hotwords import HotwordScorer, require_writable
from asr.decoding.ngram_scorer import TokenNgramScorer
from asr.decoding.scorers import WeightedScorer
from asr.decoding.word_scorer import WordNgramScorer
from asr.errors import GrammarWarning, LanguageModelError, ModelError, TokenError
from asr.lm.arpa import read_arpa
from asr.lm.grammar import Grammar
from asr.paths import ReadablePath
from asr.text.tokens import TokenTable

Hotwords = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class NgramUse:
    """Which n-gram a search uses; `DecodeSettings` describes the same settings for users.

    Attributes:
        lm: `tokens` or `words`.
        lm_weight: of its log-probabilities; 0 searches without it.
        oov_penalty: subtracted for each word outside the lexicon; None: no such words.
    """

    lm: str
    lm_weight: float
    oov_penalty: float | None = None


class FolderScorers:
    """The n-grams of one folder, hotwords, and a grammar."""

    def __init__(self, folder: ReadablePath | None, tokens: TokenTable, normalise: Callable[[str], str]) -> None:
        """Read nothing yet.

        Args:
            folder: with the files; None if there is none, as of a model in memory.
            tokens: the acoustic model's.
            normalise: writes a text as the acoustic model's transcripts are written.
        """
        self._folder, self._tokens, self._normalise = folder, tokens, normalise
        # Usually a whole run has one set of hotwords. Another set takes its place.
        self._phrases = lru_cache(maxsize=1)(self._normalised)
        self._hotword_scorer = lru_cache(maxsize=1)(self._build_hotwords)
        self._word_scorer = lru_cache(maxsize=1)(self._read_words)
        self._widened_word_scorer = lru_cache(maxsize=1)(self._widen)
        self.grammar = lru_cache(maxsize=8)(self._search_in)

    def has_ngram(self, lm: str) -> bool:
        """Whether the folder has the n-gram, or must have it: a search over words cannot do without."""
        return lm == "words" or self._token_path is not None

    def scorers(self, use: NgramUse, hotwords: Mapping[str, float]) -> list[WeightedScorer]:
        """Return the scorers of a search, with their weights.

        Args:
            use: which n-gram, and its weight.
            hotwords: natural-log bonus of each word or phrase; they are normalised as the transcripts were.

        Raises:
            ModelError: the folder lacks the n-gram over words.
            LanguageModelError: an n-gram is damaged, or does not fit the acoustic model.
            TokenError: a hotword is empty or holds a character that the acoustic model lacks.
            ConfigError: a bonus is not above 0.
        """
        phrases = self._phrases(tuple(hotwords.items()))
        found = []
        if phrases:
            found.append(WeightedScorer(self._hotword_scorer(phrases), 1.0))
        if use.lm_weight > 0 and use.lm == "words":
            scorer = self._widened_word_scorer(use.oov_penalty, phrases)
            found.append(WeightedScorer(scorer, use.lm_weight))
        elif use.lm_weight > 0 and self._token_scorer is not None:
            found.append(WeightedScorer(self._token_scorer, use.lm_weight))
        return found

    def unwritable(self, phrases: Iterable[str]) -> dict[str, str]:
        """Return the phrases that `scorers` would refuse as hotwords, each with the reason."""
        reasons: dict[str, str] = {}
        for phrase in phrases:
            try:
                ((written, _),) = self._normalised(((phrase, 1.0),))
                require_writable(written, self._tokens)
            except TokenError as error:
                reasons[phrase] = str(error)
        return reasons

    def _search_in(self, grammar: Grammar) -> GrammarSearch:
        """Return the search for a grammar's texts, with the folder's threshold; several are kept.

        Raises:
            TokenError, LanguageModelError: as `compile_grammar`.
            ModelError: the file with the threshold is damaged.
        """
        arcs = compile_grammar(grammar, self._tokens, self._normalise)
        threshold = grammar_threshold(self._folder, grammar)
        return GrammarSearch(arcs, self._tokens) if threshold is None else GrammarSearch(arcs, self._tokens, threshold)

    @property
    def _token_path(self) -> ReadablePath | None:
        path = None if self._folder is None else self._folder / LANGUAGE_MODEL
        return path if path is not None and path.is_file() else None

    def _normalised(self, hotwords: Hotwords) -> Hotwords:
        """Return the phrases as the acoustic model's transcripts are written, sorted."""
        phrases: dict[str, float] = {}
        for given, bonus in hotwords:
            phrase = self._normalise(given)
            if not phrase:
                raise TokenError(f"the hotword {given!r} is empty when written as the model's transcripts are")
            phrases[phrase] = bonus
        return tuple(sorted(phrases.items()))

    def _build_hotwords(self, hotwords: Hotwords) -> HotwordScorer:
        return HotwordScorer(dict(hotwords), self._tokens)

    @cached_property
    def _token_scorer(self) -> TokenNgramScorer | None:
        path = self._token_path
        if path is None:
            return None
        lm = read_arpa(path)
        with named(path):
            return TokenNgramScorer(lm, self._tokens)

    def _read_words(self, oov_penalty: float | None) -> WordNgramScorer:
        path = required(self._folder, "lm is words", "ngram", WORD_LANGUAGE_MODEL, " --words")
        lm = read_arpa(path)
        with named(path):
            return WordNgramScorer(lm, self._tokens, oov_penalty=oov_penalty)

    def _widen(self, oov_penalty: float | None, hotwords: Hotwords) -> WordNgramScorer:
        scorer = self._word_scorer(oov_penalty)
        return scorer.with_words(self._hotword_scorer(hotwords).words) if hotwords else scorer


def grammar_threshold(folder: ReadablePath | None, grammar: Grammar) -> float | None:
    """Return up to which evidence for a grammar speech is none of its texts; None if the folder does not say.

    It warns if the folder does not say it for this grammar.

    Raises:
        ModelError: the file with the threshold is damaged.
    """
    rejection = load_rejection(folder)
    if rejection is None:
        _warn(grammar, "no threshold is set, so nearly all speech is taken for one of its texts")
        return None
    if rejection.grammar != grammar.checksum:
        _warn(grammar, f"the threshold was set for another grammar, {rejection.name}; its rates do not hold")
    return rejection.threshold


def _warn(grammar: Grammar, reason: str) -> None:
    way_out = "`asr tune MODEL DEV --grammar FILE` sets it"
    warnings.warn(f"{grammar.name}: {reason}; {way_out}", GrammarWarning, stacklevel=2)


def required(folder: ReadablePath | None, wanted_by: str, command: str, name: str, option: str = "") -> ReadablePath:
    """Return a language model's file.

    Raises:
        ModelError: it does not exist; the error names the command that writes it.
    """
    if folder is None or not (folder / name).is_file():
        raise ModelError(
            f"{folder or 'the model'}: decode.{wanted_by}, but there is no {name}; "
            f"`asr lm {command} TEXT --model {folder or 'DIR'}{option}` writes it"
        )
    return folder / name


@contextmanager
def named(path: ReadablePath) -> Iterator[None]:
    """Let errors name the file of a language model that does not fit the acoustic model."""
    try:
        yield
    except LanguageModelError as error:
        raise LanguageModelError(f"{path}: {error}") from None
