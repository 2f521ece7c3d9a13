"""Audio that is still arriving → what has been said so far, and each utterance's final words at its end.

A partial result is the best path through the log-posteriors up to now. Where an utterance ends, a rule decides: a pause
after something was said, or its length. Then the search that files go through, with the language model if there is
one, goes over the utterance's log-posteriors once more, and its words are final. So the last word has a say in what the
first one was, and memory is bounded, since an utterance has a greatest length.

Neither the results nor the ends depend on how the audio was cut into blocks.

Source of the rule: that of Kaldi's online decoding (online2/online-endpoint.h), reduced to its second and last case.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.data.resample import StreamResampler
from asr.data.tokens import BLANK, TokenTable
from asr.decode.align import align
from asr.decode.greedy import greedy_search
from asr.inference.listening import Listener
from asr.inference.transcript import Word
from asr.inference.words import Decoded, speech_extent

if TYPE_CHECKING:
    from asr.inference.recognizer import Method, Recognizer

END_SILENCE_S = 0.8
LONGEST_S = 20.0


@dataclass(frozen=True)
class Partial:
    """What has been understood of an utterance.

    Attributes:
        text: its words so far, which may still change; all of them once it is final.
        words: with times from the start of the stream and confidences; none before it is final.
        is_final: whether the utterance has ended. The next result is about another one.
    """

    text: str
    words: tuple[Word, ...]
    is_final: bool


def stream_results(
    recognizer: Recognizer,
    blocks: Iterable[NDArray[np.float32]],
    sample_rate_hz: int,
    listen: Listener,
    *,
    method: Method,
    hotwords: Mapping[str, float] | None = None,
    end_silence_s: float = END_SILENCE_S,
    longest_s: float = LONGEST_S,
) -> Iterator[Partial]:
    """Yield a partial result whenever it has changed, and a final one at the end of each utterance.

    Args:
        recognizer: searches, and knows what tokens mean.
        blocks: mono `(sample,)`, the next ones each.
        sample_rate_hz: of the blocks.
        listen: turns samples into log-posteriors; nothing was heard by it yet.
        method: of the final results' search; partial ones are greedy.
        hotwords: see `Recognizer.transcribe`.
        end_silence_s: an utterance ends once so long nothing was said.
        longest_s: or when it gets longer than this, at the longest pause in its second half.
    """
    utterance = _Utterance(recognizer, end_silence_s, longest_s)
    resample = StreamResampler(sample_rate_hz, recognizer.sample_rate_hz)
    shown = ""
    for block in _with_end(blocks):
        last = block is None
        samples = resample(np.zeros(0, np.float32) if block is None else block, last=last)
        utterance.hear(samples, listen(samples, last=last))
        while (frames := utterance.end_point(last=last)) is not None:
            shown = ""
            yield utterance.finish(frames, method, hotwords)
        if utterance.text != shown:
            shown = utterance.text
            yield Partial(shown, (), False)


def _with_end(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32] | None]:
    yield from blocks
    yield None


class _Utterance:
    """What was heard since the last utterance ended."""

    def __init__(self, recognizer: Recognizer, end_silence_s: float, longest_s: float) -> None:
        model = recognizer.model
        self._recognizer = recognizer
        self._silence = max(1, round(end_silence_s / model.frame_shift_s))
        self._longest = max(2, round(longest_s / model.frame_shift_s))
        self._frame_samples = model.subsampling.factor * model.logmel.hop_samples
        self._start = 0  # frames of the recording before this utterance
        self._samples = np.zeros(0, np.float32)
        self._log_posteriors = torch.zeros(0, model.output.out_features)
        self.text = ""

    def hear(self, samples: NDArray[np.float32], log_posteriors: Tensor) -> None:
        """Take in the next samples `(sample,)`, and log-posteriors `(frame, token)`, which lag behind them."""
        self._samples = np.concatenate([self._samples, samples])
        self._log_posteriors = torch.cat([self._log_posteriors, log_posteriors])
        self._understand()

    def end_point(self, *, last: bool) -> int | None:
        """Return the frame before which the utterance ends; None if it goes on, or if nothing was said."""
        spoken = self._spoken
        if not spoken.any():
            return None
        end = end_point(spoken, self._silence, self._longest)
        return len(spoken) if end is None and last else end

    def finish(self, frames: int, method: Method, hotwords: Mapping[str, float] | None) -> Partial:
        """End the utterance before a frame; the next one begins there."""
        log_posteriors = self._log_posteriors[:frames]
        hypotheses = self._recognizer.search(
            log_posteriors[None].to(self._recognizer.device), torch.tensor([frames]), method, hotwords=hotwords
        )[0]
        decoded = Decoded(
            tuple(hypotheses),
            tuple(align(log_posteriors, hypotheses[0].tokens)),
            speech_extent(self._samples[: frames * self._frame_samples], self._recognizer.sample_rate_hz),
        )
        words = self._recognizer.words(decoded, self._start * self._recognizer.model.frame_shift_s)
        self._drop(frames)
        self._understand()
        return Partial(" ".join(word.text for word in words), tuple(words), True)

    def _drop(self, frames: int) -> None:
        self._start += frames
        self._samples = self._samples[frames * self._frame_samples :]
        self._log_posteriors = self._log_posteriors[frames:]

    def _understand(self) -> None:
        # What is quiet before an utterance belongs to none, and may last for hours.
        spoken = self._spoken
        first = int(spoken.int().argmax()) if spoken.any() else len(spoken)
        self._drop(max(first - self._silence, 0))
        (best,) = greedy_search(self._log_posteriors[None], torch.tensor([len(self._log_posteriors)]))
        self.text = self._recognizer.bundle.tokens.decode(best.tokens)

    @property
    def _spoken(self) -> Tensor:
        return spoken_frames(self._log_posteriors, self._recognizer.bundle.tokens)


def spoken_frames(log_posteriors: Tensor, tokens: TokenTable) -> Tensor:
    """Return `(frame,)`, true where the most probable token is neither blank nor a space alone."""
    silent = torch.tensor([index == BLANK or text == " " for index, text in enumerate(tokens.texts)])
    return ~silent[log_posteriors.argmax(-1)]


def end_point(spoken: Tensor, silence_frames: int, longest_frames: int) -> int | None:
    """Return how many frames of what was heard an utterance takes; None if it goes on.

    Args:
        spoken: `(frame,)`, whether a token is recognised; somewhere one is.
        silence_frames: it ends after so many frames without one that follow a token.
        longest_frames: it takes no more than these; otherwise it ends in the middle of the longest run of frames
            without a token within the second half of them.
    """
    places = [*spoken.nonzero()[:, 0].tolist(), len(spoken)]
    for place, following in pairwise(places):
        end: int = place + 1 + silence_frames
        if end > longest_frames:
            break
        if following >= end:
            return end
    if len(spoken) < longest_frames:
        return None
    half = longest_frames // 2
    quiet = [half - 1, *(place for place in places if half <= place < longest_frames), longest_frames]
    length, before = max((after - before, -before) for before, after in pairwise(quiet))
    return -before + (length + 1) // 2
