"""Text ↔ token ids: characters (`TokenTable`), sub-word pieces (`PieceTable`) or words (`WordTable`). Blank is token 0.

A piece is a run of characters that is frequent within words. sentencepiece learns the pieces from the training text.
Every character is a piece too, so any text of the same characters can be spelled. A space becomes the sign ▁ (U+2581)
and belongs to the word after it; the first word gets one too. So pieces that start a word start with ▁, and no piece
reaches over a space.

    ▁the  ▁c  at  ▁s  at        the cat sat

Sources: Sennrich et al. 2016, arXiv:1508.07909 (`bpe`: the most frequent pair of neighbours becomes a piece, again and
again); Kudo 2018, arXiv:1804.10959 (`unigram`: of many candidates, those that make the text most probable are kept).
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from asr.errors import ConfigError, TokenError
from asr.files import visible_json, write_text
from asr.paths import ReadablePath
from asr.reading import first_line, read_json, shown

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

    from asr.config import TextSettings

BLANK = 0
BLANK_SYMBOL = "<blank>"
SPACE = " "
WORD_START = "▁"

# Signs that sentencepiece reserves: the space, what it cannot spell, the end of a string.
_UNKNOWN = "▅"
_RESERVED = {WORD_START, _UNKNOWN, "\0"}
_LONGEST_WORD_BYTES = 1 << 20  # languages without spaces have "words" as long as an utterance


@dataclass(frozen=True)
class TokenTable:
    """The tokens of a model: `symbols[0]` is blank, the others are single characters in sorted order.

    `PieceTable` has sub-word pieces instead, `WordTable` words; both have the same methods.

    Raises:
        TokenError: the symbols are not of that form.
    """

    symbols: tuple[str, ...]
    kind: ClassVar[str] = "char"

    def __post_init__(self) -> None:
        """Refuse a table whose ids would not mean what its symbols say."""
        if not self.symbols or self.symbols[BLANK] != BLANK_SYMBOL:
            raise TokenError(f"a token table begins with {BLANK_SYMBOL!r}, not {shown(self.symbols[:1])}")
        characters = self.symbols[1:]
        if not characters:
            raise TokenError("a token table needs at least one character; are all transcripts empty?")
        if any(len(character) != 1 for character in characters):
            raise TokenError(f"tokens are single characters, not {shown([c for c in characters if len(c) != 1])}")
        if any("\ud800" <= character <= "\udfff" for character in characters):
            raise TokenError("tokens are characters, not halves of a surrogate pair")
        if list(characters) != sorted(set(characters)):
            raise TokenError("the characters of a token table are sorted and each occurs once")

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> TokenTable:
        """Return the table of all characters that occur in normalised transcripts."""
        return cls((BLANK_SYMBOL, *sorted(set().union(*map(set, texts)))))

    def __len__(self) -> int:
        """Return the number of tokens, blank included."""
        return len(self.symbols)

    @property
    def texts(self) -> tuple[str, ...]:
        """What each token adds to a text, by token id; a token that starts a word starts with a space, or is one."""
        return self.symbols

    @cached_property
    def characters(self) -> frozenset[str]:
        """The characters, without the space, that tokens hold."""
        return frozenset().union(*self.texts[BLANK + 1 :]) - {SPACE}

    def spellable(self, words: Iterable[str]) -> list[str]:
        """Return the words that can be written in the tokens' characters."""
        return [word for word in words if word and self.characters.issuperset(word)]

    @cached_property
    def _ids(self) -> dict[str, int]:
        """The token id of each character that is a token by itself."""
        return {text: index for index, text in enumerate(self.texts) if index != BLANK and len(text) == 1}

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a normalised transcript.

        Raises:
            TokenError: the text holds characters that are not in the table; they are named.
        """
        self._require_known(text)
        return [self._ids[character] for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids that hold no blanks, with white space collapsed.

        Raises:
            TokenError: an id is blank or outside the table.
        """
        wrong = sorted({int(i) for i in ids if not BLANK < i < len(self.symbols)})
        if wrong:
            raise TokenError(f"token ids {wrong}: the tokens of a text are between 1 and {len(self.symbols) - 1}")
        return " ".join("".join(self.texts[i] for i in ids).split())

    def save(self, path: str | Path) -> None:
        """Write the table as JSON: `{"kind": "char", "symbols": [...]}`, or as `PieceTable` says. See `load_tokens`."""
        write_text(Path(path), visible_json(json.dumps(self._content(), ensure_ascii=False, indent=1)) + "\n")

    def _require_known(self, text: str) -> None:
        unknown = sorted(set(text) - self._ids.keys())
        if unknown:
            names = ", ".join(repr(character) for character in unknown)
            raise TokenError(
                f"{text!r}: no token for {names}, because the model's training text has no such character; write "
                "the text as it is spoken, or leave it out"
            )

    def _content(self) -> dict[str, Any]:
        return {"kind": self.kind, "symbols": list(self.symbols)}


@dataclass(frozen=True)
class PieceTable(TokenTable):
    """Tokens that are pieces: `symbols[0]` is blank, the others are the pieces of a sentencepiece model in its order.

    `model` is that model, serialised. Its piece 0, reserved for what it cannot spell, is in the blank's place.

    Raises:
        TokenError: the model is damaged, or its pieces are not the symbols.
    """

    model: bytes = field(repr=False)
    kind: ClassVar[str] = "pieces"

    def __post_init__(self) -> None:
        """Refuse a table whose ids would not mean what its symbols say."""
        if self.symbols != _symbols(self._processor):
            raise TokenError("the symbols are not the pieces of the sentencepiece model beside them")

    @classmethod
    def from_content(cls, symbols: tuple[str, ...], model: object) -> PieceTable:
        """Return the table of a file's symbols and its model in base64.

        Raises:
            TokenError: as for the class, or the model is not in base64.
        """
        if not isinstance(model, str):
            raise TokenError("a table of pieces needs its sentencepiece model, in base64")
        try:
            return cls(symbols, base64.b64decode(model, validate=True))
        except ValueError as error:
            raise TokenError(f"the sentencepiece model is not in base64 ({error})") from None

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """What each token adds to a text, by token id; a token that starts a word starts with a space, or is one."""
        return tuple(symbol.replace(WORD_START, " ") for symbol in self.symbols)

    @cached_property
    def _processor(self) -> SentencePieceProcessor:
        from sentencepiece import SentencePieceProcessor

        processor = SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(self.model)
        except RuntimeError as error:
            raise TokenError(f"the sentencepiece model is damaged ({first_line(str(error))})") from None
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
        return {"kind": self.kind, "symbols": list(self.symbols), "model": base64.b64encode(self.model).decode("ascii")}


@dataclass(frozen=True)
class WordTable(TokenTable):
    """Tokens that are whole words, such as phones or commands: `symbols[0]` is blank, the others are sorted.

    Raises:
        TokenError: the symbols are not of that form.
    """

    kind: ClassVar[str] = "words"

    def __post_init__(self) -> None:
        """Refuse a table whose ids would not mean what its symbols say."""
        if not self.symbols or self.symbols[BLANK] != BLANK_SYMBOL:
            raise TokenError(f"a token table begins with {BLANK_SYMBOL!r}, not {shown(self.symbols[:1])}")
        words = self.symbols[1:]
        if not words:
            raise TokenError("a token table needs at least one word; are all transcripts empty?")
        if any(word.split() != [word] for word in words):
            raise TokenError(f"tokens are words without spaces, not {shown([w for w in words if w.split() != [w]])}")
        if any("\ud800" <= character <= "\udfff" for word in words for character in word):
            raise TokenError("tokens are characters, not halves of a surrogate pair")
        if list(words) != sorted(set(words)):
            raise TokenError("the words of a token table are sorted and each occurs once")

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> WordTable:
        """Return the table of all words that occur in normalised transcripts."""
        return cls((BLANK_SYMBOL, *sorted(set().union(*(text.split() for text in texts)))))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """What each token adds to a text, by token id: a space and the word."""
        return (BLANK_SYMBOL, *(SPACE + word for word in self.symbols[1:]))

    def spellable(self, words: Iterable[str]) -> list[str]:
        """Return the words that are tokens."""
        return [word for word in words if word in self._ids]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.symbols) if index != BLANK}

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a normalised transcript.

        Raises:
            TokenError: the text holds words that are not in the table; they are named.
        """
        words = text.split()
        unknown = sorted(set(words) - self._ids.keys())
        if unknown:
            raise TokenError(
                f"{text!r}: no token for {shown(unknown)}, because the model's training text has no such word, and its "
                "tokens are words"
            )
        return [self._ids[word] for word in words]


def train_pieces(word_counts: Mapping[str, int], settings: TextSettings) -> PieceTable:
    """Return `settings.pieces` pieces of kind `settings.tokens`, learnt from the counts of words in normalised texts.

    The same counts give the same table: they are sorted first, and only one thread works.

    Raises:
        ConfigError: `settings.pieces` is more than the text has pieces for, or less than it has characters.
        TokenError: a word holds a character that sentencepiece reserves.
    """
    from sentencepiece import SentencePieceProcessor

    characters = set().union(*word_counts)
    if characters & _RESERVED:
        names = ", ".join(map(repr, sorted(characters & _RESERVED)))
        raise TokenError(f"the training text holds {names}, which pieces cannot hold; delete it with text.remove")
    if settings.pieces < len(characters) + 1:
        raise ConfigError(
            f"text.pieces = {settings.pieces} is too few: the training text's {len(characters)} characters and the "
            f"space are pieces, so at least {len(characters) + 1} are needed"
        )
    model = _train(word_counts, settings)
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    table = PieceTable(_symbols(processor), model)
    if len(table) - 1 < settings.pieces:
        raise ConfigError(
            f"text.pieces = {settings.pieces} is more than the training text supports: "
            f"it has at most {len(table) - 1} {settings.tokens} pieces"
        )
    return table


def _train(word_counts: Mapping[str, int], settings: TextSettings) -> bytes:
    """Return a serialised sentencepiece model; of fewer pieces than asked for if the text has no more."""
    from sentencepiece import SentencePieceTrainer

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
    return model.getvalue()


def _lines(word_counts: Mapping[str, int]) -> Iterator[str]:
    """Yield words and their counts as lines of sentencepiece's `tsv` format.

    A unigram piece must be followed by different characters. So a word that occurs twice is written twice on a line:
    once a space follows, once the end. Otherwise a whole word could never be a piece.
    """
    for word, count in sorted(word_counts.items()):
        if count > 1:
            yield f"{word} {word}\t{count // 2}"
        if count % 2:
            yield f"{word}\t1"


def _symbols(processor: SentencePieceProcessor) -> tuple[str, ...]:
    unknown, *pieces = processor.id_to_piece(list(range(len(processor))))
    if unknown != _UNKNOWN:
        raise TokenError(f"the first piece of the sentencepiece model is {shown(unknown)}, not the blank's place")
    return (BLANK_SYMBOL, *pieces)


def load_tokens(path: str | ReadablePath) -> TokenTable:
    """Read a table that `TokenTable.save` wrote.

    Raises:
        TokenError: the file is missing or is not a token table.
    """
    content = read_json(Path(path) if isinstance(path, str) else path, TokenError, "the token table")
    try:
        return _table(content)
    except TokenError as error:
        raise TokenError(f"{path}: {error}") from None


def _table(content: Any) -> TokenTable:
    symbols = content.get("symbols") if isinstance(content, dict) else None
    if isinstance(symbols, list) and all(isinstance(symbol, str) for symbol in symbols):
        if content.get("kind") == "char":
            return TokenTable(tuple(symbols))
        if content.get("kind") == "words":
            return WordTable(tuple(symbols))
        if content.get("kind") == "pieces":
            return PieceTable.from_content(tuple(symbols), content.get("model"))
    raise TokenError('not a token table; expected {"kind": "char", "words" or "pieces", "symbols": [...]}')


def min_frames(tokens: Sequence[object]) -> int:
    """Return the fewest output frames in which CTC can emit `tokens`: one each, and a blank between equal neighbours.

    Source: Graves et al. 2006, "Connectionist temporal classification", section 3.
    """
    return len(tokens) + _repeats(tokens)


def _repeats(tokens: Sequence[object]) -> int:
    """Count the tokens that are equal to the one before."""
    if isinstance(tokens, str) and tokens.isascii() and len(tokens) > 1:
        # The zero bytes of the text XORed with itself moved by one: ten times faster, for surveys of big corpora.
        text = tokens.encode("ascii")
        pairs = int.from_bytes(text[1:], "big") ^ int.from_bytes(text[:-1], "big")
        return pairs.to_bytes(len(text) - 1, "big").count(0)
    return sum(a == b for a, b in pairwise(tokens))


def fewest_tokens(text: str, settings: TextSettings) -> Sequence[str]:
    """Return a normalised transcript as the tokens that need the fewest frames, before the token table is known.

    If tokens are characters, these are its characters. Otherwise they are its words: no piece reaches over a space.
    """
    return text if settings.tokens == "characters" else text.split()
