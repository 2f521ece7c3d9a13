"""Threads that share one pass through the network get what each would get alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from asr.bundle.bundle import ModelBundle
from asr.errors import ModelError
from asr.features.batch import collate
from asr.inference.decoder import Decoder
from asr.inference.joining import JoiningDecoder
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from tests.conftest import TINY

TOKENS = TokenTable.from_texts(["abcd "])


def bundle(*settings: str) -> ModelBundle:
    torch.manual_seed(3)
    config = load_config(None, [*TINY, *settings])
    return ModelBundle(config, TOKENS, AcousticModel(config, len(TOKENS)).eval())


def batch_of(*seconds: float, moments=None):
    waveforms = [0.1 * torch.randn(round(16000 * one)) for one in seconds]
    count = len(seconds)
    return collate(waveforms, [[]] * count, [""] * count, moments=None if moments is None else [moments] * count)


class Counted(JoiningDecoder):
    """One that waits before its first pass until all have asked, and counts rows and samples of each pass."""

    def __init__(self, *arguments, asking: int) -> None:
        self.passes: list[tuple[int, int]] = []
        self._together_now = threading.Barrier(asking + 1)
        super().__init__(*arguments)

    def ask(self, batch):
        self._together_now.wait(60)
        return self.log_posteriors(batch)

    def _compute(self) -> None:
        self._together_now.wait(60)
        while self._asked.qsize() < self._together_now.parties - 1:
            pass
        super()._compute()

    def _together(self, group):
        self.passes.append((sum(one.rows for one in group), max(one.samples for one in group)))
        return super()._together(group)


def all_at_once(decoder: Counted, batches):
    with ThreadPoolExecutor(len(batches)) as threads:
        return list(threads.map(decoder.ask, batches))


@pytest.mark.parametrize("mode", ["utterance", "speaker"])
def test_each_gets_what_it_gets_alone_and_one_pass_is_enough(mode):
    torch.manual_seed(0)
    model = bundle(f"features.cmvn={mode}")
    mels = model.config.features.mel_bins
    moments = torch.stack([torch.zeros(mels), torch.ones(mels)]) if mode == "speaker" else None
    batches = [batch_of(*seconds, moments=moments) for seconds in ((1.0,), (2.5, 0.4), (0.3, 0.3, 3.0), (1.7,))]
    decoder = Counted(model, asking=len(batches))
    alone = Decoder(model)
    for batch, (found, frames) in zip(batches, all_at_once(decoder, batches), strict=True):
        expected, expected_frames = alone.log_posteriors(batch)
        assert torch.equal(frames, expected_frames)
        assert found.shape == expected.shape
        for own, same, length in zip(found, expected, frames, strict=True):
            torch.testing.assert_close(own[:length], same[:length], atol=1e-5, rtol=0)
    assert decoder.passes == [(7, 48000)]


def test_a_pass_has_at_most_a_minute_of_padded_audio():
    batches = [batch_of(seconds) for seconds in (25.0, 1.0, 20.0, 1.0, 25.0)]
    decoder = Counted(bundle(), asking=len(batches))
    all_at_once(decoder, batches)
    assert decoder.passes == [(3, 320000), (2, 400000)]
    assert all(rows * samples <= 60 * 16000 for rows, samples in decoder.passes)


def test_a_fault_of_one_reaches_no_other():
    good, bad = batch_of(1.0), batch_of(1.0)
    bad.waveforms[0, 5] = float("nan")
    decoder = Counted(bundle(), asking=2)

    def ask(batch):
        try:
            return decoder.ask(batch)
        except ModelError as error:
            return error

    with ThreadPoolExecutor(2) as threads:
        (found, _), error = threads.map(ask, [good, bad])
    torch.testing.assert_close(found, Decoder(decoder.bundle).log_posteriors(good)[0], atol=1e-5, rtol=0)
    assert isinstance(error, ModelError)
