"""Text files → the text that a recurrent language model is trained on: sentences of unit ids, cut into streams."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.bundle.files import TOKENS
from asr.bundle.settings import load_settings
from asr.errors import LanguageModelError
from asr.features.augment import Draw
from asr.lm.rnnlm import BOUNDARY, LmUnits
from asr.lm.texts import LeftOut, encoded, normalised, read_texts
from asr.paths import ReadablePath
from asr.text.tokens import load_tokens

DEV_EVERY = 20  # of the sentences, without a dev text


@dataclass(frozen=True)
class LmSentences:
    """The sentences to train on and those of dev, as unit ids, and what the ids mean.

    `left_out` counts the sentences with characters that are no tokens of the model.
    """

    units: LmUnits
    train: list[list[int]]
    dev: list[list[int]]
    left_out: LeftOut = field(default_factory=LeftOut)


def read_sentences(
    sources: Iterable[str | os.PathLike[str]],
    dev: str | os.PathLike[str] | None,
    model: ReadablePath | None,
    *,
    words: bool,
    min_count: int,
) -> LmSentences:
    """Read texts and encode their sentences.

    Args:
        sources: text files or manifests.
        dev: one more of them. Without it, every 20th sentence is taken for dev, or all if there are fewer.
        model: a model folder. Texts are normalised as its transcripts were.
        words: the units are words, although there is a model; without a model they always are.
        min_count: words that the text holds fewer times become `<unk>`.

    Raises:
        LanguageModelError: a text cannot be read or is empty, or holds no word `min_count` times.
        ManifestError: a manifest cannot be read.
        ConfigError, ModelError, TokenError: the model's settings or tokens cannot be read.
    """
    texts = [sentence for source in sources for sentence in read_texts(source)]
    if dev is not None:
        dev_texts = read_texts(dev)
    else:
        dev_texts = texts[DEV_EVERY - 1 :: DEV_EVERY] or texts
        texts = [sentence for number, sentence in enumerate(texts, 1) if number % DEV_EVERY]
    left_out = LeftOut()
    if model is not None:
        settings = load_settings(model).text
        texts, dev_texts = list(normalised(texts, settings)), list(normalised(dev_texts, settings))
        if not words:
            tokens = load_tokens(model / TOKENS)
            train, held_out = (list(encoded(part, tokens, left_out)) for part in (texts, dev_texts))
            if left_out.count and not (train and held_out):
                raise LanguageModelError(f"no sentence is left; {left_out}")
            return LmSentences(LmUnits.of_tokens(tokens), train, held_out, left_out)
    units = LmUnits.of_words(texts, min_count)
    train, held_out = ([units.encode_words(sentence) for sentence in part] for part in (texts, dev_texts))
    return LmSentences(units, train, held_out, left_out)


class LmText:
    """Sentences of unit ids, kept as one array."""

    def __init__(self, sentences: Sequence[Sequence[int]]) -> None:
        """Keep the sentences, each with the boundary at its end.

        Raises:
            LanguageModelError: there is none.
        """
        if not sentences:
            raise LanguageModelError("there is no sentence; one a line is expected")
        ends = np.cumsum([len(sentence) + 1 for sentence in sentences])
        units = np.full(ends[-1], BOUNDARY, dtype=np.int32)
        for sentence, end in zip(sentences, ends, strict=True):
            units[end - 1 - len(sentence) : end - 1] = sentence
        self._sentences: list[NDArray[np.int32]] = np.split(units, ends[:-1])
        self.units = len(units)
        self.checksum = zlib.crc32(units.tobytes())

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self._sentences)

    def streams(self, batch: int, window: int, draw: Draw) -> Tensor:
        """Return an epoch's text as parallel streams, `(stream, position)` int64.

        Each epoch has its own order of sentences. So what one sentence says of the next is chance, and the network
        learns to forget at the boundary, as it must where sentences are scored one by one. Neighbouring columns are a
        unit and its successor; each stream's first column is the unit before its first target. Less than one unit a
        stream is left over at the end.

        Args:
            batch: streams wanted; a text too short to give each a window has fewer.
            window: units read at a time.
            draw: of the epoch; it decides the order.
        """
        order = draw.rng("sentences").permutation(len(self._sentences))
        text = np.concatenate([[BOUNDARY], *(self._sentences[index] for index in order)])
        streams = self.stream_count(batch, window)
        length = self.units // streams
        # Stream k reads units k · length … (k + 1) · length; the last one is read by the next stream as its first.
        rows = np.arange(streams)[:, None] * length + np.arange(length + 1)
        return torch.from_numpy(text[rows].astype(np.int64))

    def stream_count(self, batch: int, window: int) -> int:
        """Return how many streams there are when `batch` are wanted."""
        return max(1, min(batch, self.units // window))

    def steps(self, batch: int, window: int) -> int:
        """Return the number of windows in an epoch, the last of which may be shorter."""
        return -(-(self.units // self.stream_count(batch, window)) // window)
