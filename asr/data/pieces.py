"""Sub-word pieces ↔ token ids, learnt from the training text by sentencepiece.

A piece is a run of characters that is frequent within words. Whichever pieces there are, every character is one, so
that any text over the same characters can be spelled. A space becomes the sign ▁ (U+2581) and belongs to the word after
it; the first word gets one too. So pieces that open a word begin with ▁, and no piece reaches over a space.

    ▁the  ▁c  at  ▁s  at        the cat sat

Sources: Sennrich et al. 2016, arXiv:1508.07909 (`bpe`: the most frequent pair of neighbours becomes a piece, again and
again); Kudo 2018, arXiv:1804.10959 (`unigram`: of many candidates, those that make the text most probable stay).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from asr.config import TextSettings
from asr.data.tokens import BLANK_SYMBOL, TokenTable
from asr.errors import ConfigError, TokenError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

WORD_START = "▁"

# Signs of sentencepiece's own: the space, what it cannot spell, the end of a string.
_UNKNOWN = "▅"
_RESERVED = {WORD_START, _UNKNOWN, "\0"}
_LONGEST_WORD_BYTES = 1 << 20  # languages without spaces have "words" as long as an utterance


@dataclass(frozen=True)
class PieceTable(TokenTable):
    """Tokens that are pieces: `symbols[0]` is blank, the rest are the model's pieces in its order.

    `model` is the serialised sentencepiece model, whose piece 0, kept for what it cannot spell, is the blank's place.

    Raises:
        TokenError: the model is damaged, or its pieces are not the symbols.
    """

    model: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a table whose ids would mean something else than its symbols say."""
        if self.symbols != _symbols(self._processor):
            raise TokenError("the symbols are not the pieces of the sentencepiece model beside them")

    @classmethod
    def from_content(cls, symbols: tuple[str, ...], model: object) -> PieceTable:
        """Return the table of a file's symbols and model, which is in base64.

        Raises:
            TokenError: as for the class, or the model is not in base64.
        """
        if not isinstance(model, str):
            raise TokenError("a table of pieces holds its sentencepiece model, in base64")
        try:
            return cls(symbols, base64.b64decode(model, validate=True))
        except ValueError as error:
            raise TokenError(f"the sentencepiece model is not in base64 ({error})") from None

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """What each token adds to a text, by token id; a token that opens a word begins with a space, or is one."""
        return tuple(symbol.replace(WORD_START, " ") for symbol in self.symbols)

    @cached_property
    def _processor(self) -> SentencePieceProcessor:
        from sentencepiece import SentencePieceProcessor

        processor = SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(self.model)
        except RuntimeError as error:
            raise TokenError(f"the sentencepiece model is damaged ({error})") from None
        return processor

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a normalised transcript: its one segmentation into pieces.

        Raises:
            TokenError: the text holds characters that are not in the table; they are named.
        """
        self._require_known(text)
        return list(self._processor.encode(text))

    def _content(self) -> dict[str, Any]:
        """Return what is saved: `{"kind": "pieces", "symbols": [...], "model": base64}`."""
        return {"kind": "pieces", "symbols": list(self.symbols), "model": base64.b64encode(self.model).decode("ascii")}


def train_pieces(word_counts: Mapping[str, int], settings: TextSettings) -> PieceTable:
    """Learn `settings.pieces` pieces of kind `settings.tokens` from how often each word occurs in normalised texts.

    The same counts give the same table: they are sorted first, and one thread works.

    Raises:
        ConfigError: `settings.pieces` is more than the text has pieces for, or less than it has characters.
        TokenError: a word holds a character that sentencepiece keeps to itself.
    """
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    characters = set().union(*word_counts)
    if characters & _RESERVED:
        names = ", ".join(map(repr, sorted(characters & _RESERVED)))
        raise TokenError(f"the training text holds {names}, which cannot be in pieces; delete it with text.remove")
    if settings.pieces < len(characters) + 1:
        raise ConfigError(
            f"text.pieces = {settings.pieces} is too few: each of the training text's {len(characters)} characters "
            f"and the space is a piece, so {len(characters) + 1} at least"
        )
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=_lines(word_counts),
            input_format="tsv",
            model_writer=model,
            model_type=settings.tokens,
            vocab_size=settings.pieces + 1,
            hard_vocab_limit=False,  # else too many would be an error that names no way out
            unk_id=0,
            unk_piece=_UNKNOWN,  # a name that no text holds
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            character_coverage=1.0,
            normalization_rule_name="identity",  # `normalise` has done it
            max_sentence_length=_LONGEST_WORD_BYTES,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ConfigError(
            f"text.tokens = {settings.tokens}: sentencepiece fails on the training text ({error})"
        ) from None
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(model.getvalue())
    table = PieceTable(_symbols(processor), model.getvalue())
    if len(table) - 1 < settings.pieces:
        raise ConfigError(
            f"text.pieces = {settings.pieces} is more than the training text supports: "
            f"{len(table) - 1} {settings.tokens} pieces are the most"
        )
    return table


def _lines(word_counts: Mapping[str, int]) -> Iterator[str]:
    """Yield words and their counts as lines of sentencepiece's `tsv` format.

    Only what can be followed by different things is a candidate for a unigram piece. A word that occurs twice is
    therefore written twice on a line: once the space follows, once the end. A whole word could never be a piece else.
    """
    for word, count in sorted(word_counts.items()):
        if count > 1:
            yield f"{word} {word}\t{count // 2}"
        if count % 2:
            yield f"{word}\t1"


def _symbols(processor: SentencePieceProcessor) -> tuple[str, ...]:
    unknown, *pieces = processor.id_to_piece(list(range(len(processor))))
    if unknown != _UNKNOWN:
        raise TokenError(f"the first piece of the sentencepiece model is {unknown!r}, not the blank's place")
    return (BLANK_SYMBOL, *pieces)
