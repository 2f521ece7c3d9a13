"""Text files → an n-gram model in an ARPA file, over words or over an acoustic model's tokens."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from asr.bundle.files import LANGUAGE_MODEL, TOKENS, WORD_LANGUAGE_MODEL
from asr.bundle.settings import load_settings
from asr.config import Config
from asr.errors import ConfigError, LanguageModelError
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.kneser_ney import kneser_ney
from asr.lm.ngram import MARKS, UNKNOWN, NgramLm, Perplexity
from asr.lm.texts import LeftOut, normalised, read_texts, stream_texts, token_sentences, token_units
from asr.reading import shown
from asr.sharing.names import model_folder, own_folder
from asr.text.tokens import BLANK, TokenTable, load_tokens

WORD_ORDER = 3
_ARPA_SUFFIXES = (".arpa", ".arpa.gz")


@dataclass(frozen=True)
class NgramReport:
    """What `estimate_ngram` wrote.

    Attributes:
        path: the ARPA file.
        units: whether it counts words or tokens.
        counts: how many n-grams it has of order 1, 2, ….
        left_out: how many sentences were left out, because they hold characters that are no tokens of the model.
        left_out_reason: what is wrong with the first of them; empty if there is none.
        lexicon: how many of its words can be written in the model's tokens; None unless it is a model's word n-gram.
        not_spelled: its other words, sorted.
        perplexity: on the test text; None without one.
    """

    path: Path
    units: Literal["tokens", "words"]
    counts: tuple[int, ...]
    left_out: int
    left_out_reason: str
    lexicon: int | None
    not_spelled: tuple[str, ...]
    perplexity: Perplexity | None


def estimate_ngram(
    texts: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    words: bool = False,
    order: int | None = None,
    vocabulary: int | str | os.PathLike[str] | None = None,
    prune: Sequence[int] = (),
    test: str | os.PathLike[str] | None = None,
) -> NgramReport:
    """Estimate an n-gram with interpolated modified Kneser–Ney smoothing, and write it as an ARPA file.

    The text is read as a stream, so ten million words fit into the memory of a small machine. An ARPA file in place of
    texts is not estimated but taken as it is.

    Args:
        texts: one or several files: text with a sentence a line, or manifests, whose transcripts are read. Or one ARPA
            file, whose name ends in `.arpa` or `.arpa.gz`.
        out: the file to write, compressed if its name ends in `.gz`. Default: the model's own.
        model: a model folder. The n-gram is over its tokens, and texts are normalised as its transcripts were.
        words: with a model, count words instead of tokens. They are then the lexicon of its search.
        order: units in the longest n-gram. Default: 3 for words, the model's `decode.lm_order` for tokens.
        vocabulary: how many of the most frequent words to keep, or a file that lists the words. Others count as
            `<unk>`. Default: all words.
        prune: for each order from 1 on, drop n-grams seen at most this often; the last number holds for longer ones.
        test: a text or manifest to compute the perplexity on.

    Raises:
        ConfigError: there is neither `out` nor `model`, or a vocabulary for a model's tokens, or an ARPA file is not
            alone; the model's settings are damaged.
        LanguageModelError: a text or an ARPA file cannot be read, is empty or does not fit the model, or `order`,
            `vocabulary` or `prune` is out of range.
        ManifestError: a manifest cannot be read.
        ModelError: the model's settings or tokens are damaged.
    """
    sources = [texts] if isinstance(texts, str | os.PathLike) else list(texts)
    path = _target(None if out is None else Path(out), model, words)
    folder = None if model is None else model_folder(model)
    config = Config() if folder is None else load_settings(folder)
    tokens = None if folder is None else load_tokens(folder / TOKENS)
    spelled = iter if folder is None else partial(normalised, settings=config.text)

    left_out = LeftOut()
    test_texts = [] if test is None else list(spelled(read_texts(test)))
    train_texts = spelled(sentence for source in sources for sentence in stream_texts(source))
    test_sentences = (
        [sentence.split() for sentence in test_texts]
        if tokens is None or words
        else list(token_sentences(test_texts, tokens, left_out))
    )
    if any(str(source).endswith(_ARPA_SUFFIXES) for source in sources):
        if len(sources) > 1 or order is not None or vocabulary is not None or any(prune):
            raise ConfigError("an ARPA file is taken as it is: name it alone, without order, vocabulary or prune")
        lm = _given(Path(sources[0]), tokens, words)
    elif tokens is None or words:
        known = _known_words(vocabulary, spelled)
        train = (sentence.split() for sentence in train_texts)
        lm = kneser_ney(train, WORD_ORDER if order is None else order, known, prune)
    else:
        if vocabulary is not None:
            raise ConfigError("vocabulary: the model's tokens are the vocabulary; it is for words only")
        lm = token_ngram(train_texts, tokens, config.decode.lm_order if order is None else order, prune, left_out)
    write_arpa(lm, path)

    lexicon = [unit for (unit,) in lm.ngrams[0] if unit not in MARKS] if tokens is not None and words else None
    written = tokens.spellable(lexicon) if lexicon is not None and tokens is not None else []
    return NgramReport(
        path=path,
        units="words" if tokens is None or words else "tokens",
        counts=tuple(len(ngrams) for ngrams in lm.ngrams),
        left_out=left_out.count,
        left_out_reason=left_out.reason,
        lexicon=None if lexicon is None else len(written),
        not_spelled=tuple(sorted(set(lexicon or ()) - set(written))),
        perplexity=None if test is None else lm.perplexity(test_sentences),
    )


def token_ngram(
    texts: Iterable[str],
    tokens: TokenTable,
    order: int,
    prune: Sequence[int] = (),
    left_out: LeftOut | None = None,
) -> NgramLm:
    """Estimate an n-gram over tokens from normalised texts; every token has a probability, seen or not.

    Args:
        texts: read once, as a stream.
        tokens: their symbols are the units, see `token_units`.
        order: as in `kneser_ney`.
        prune: as in `kneser_ney`.
        left_out: as in `encoded`.

    Raises:
        TokenError: as `encoded`.
        LanguageModelError: there is no text, or order or prune is out of range.

    Source: see `kneser_ney.py`.
    """
    vocabulary = token_units(tokens)[BLANK + 1 :]
    try:
        return kneser_ney(token_sentences(texts, tokens, left_out), order, vocabulary, prune)
    except LanguageModelError as error:
        if left_out is None or not left_out.count:
            raise
        raise LanguageModelError(f"{error}; {left_out}") from None


def _target(out: Path | None, model: str | os.PathLike[str] | None, words: bool) -> Path:
    if out is not None:
        return out
    if model is None:
        raise ConfigError("out: needed without a model, which has a place for its n-gram")
    return own_folder(model) / (WORD_LANGUAGE_MODEL if words else LANGUAGE_MODEL)


def _given(path: Path, tokens: TokenTable | None, words: bool) -> NgramLm:
    """Return the n-gram of an ARPA file, which fits the model's tokens if there are any.

    Raises:
        LanguageModelError: the file is damaged, or the model cannot use it.
    """
    lm = read_arpa(path)
    units = [unit for (unit,) in lm.ngrams[0] if unit not in MARKS]
    if tokens is not None and words and not tokens.spellable(units):
        raise LanguageModelError(
            f"{path}: none of its words, such as {shown(units[:3])}, can be written in the model's tokens; is it of "
            "another case? A model that is trained with text.case=upper writes capitals"
        )
    if tokens is not None and not words and (strange := sorted(set(units) - set(token_units(tokens)))):
        raise LanguageModelError(
            f"{path}: its units {shown(strange[:3])} are not tokens of the model; --words takes an n-gram of words"
        )
    return lm


def _known_words(
    vocabulary: int | str | os.PathLike[str] | None, spelled: Callable[[Iterable[str]], Iterator[str]]
) -> int | list[str] | None:
    """Return the vocabulary as `kneser_ney` takes it; words of a file are spelled as the text is."""
    if vocabulary is None or isinstance(vocabulary, int):
        return vocabulary
    return [UNKNOWN, *(word for line in spelled(stream_texts(vocabulary)) for word in line.split())]
