"""Streams: when utterances end, what is said of them, and that cutting into blocks changes nothing."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.bundle.bundle import ModelBundle
from asr.config import Config
from asr.errors import AudioError
from asr.features.batching import collate
from asr.inference.decoder import Decoder, Search
from asr.inference.recognizer import Recognizer
from asr.inference.stream import CarriedState, OverlappingChunks, _Utterance, end_point, listener, stream_results
from asr.model.acoustic import AcousticModel
from asr.text.tokens import BLANK_SYMBOL, TokenTable

RATE_HZ = 16000
FRAME_SAMPLES = 640  # 40 ms
TOKENS = TokenTable((BLANK_SYMBOL, " ", "a", "b", "c"))


def recognizer(**model: object) -> Recognizer:
    """An untrained recogniser; with `bidirectional=False`, one that carries its state on."""
    sections = {"model": {"layers": 1, "hidden_size": 16, "subsampling_channels": 4} | model}
    config = Config.model_validate(sections | {"features": {"cmvn": "global"}})
    torch.manual_seed(1)
    network = AcousticModel(config, len(TOKENS)).eval()
    network.cmvn.set_moments(torch.full((80,), -6.0), torch.full((80,), 3.0))
    with torch.no_grad():
        network.output.bias[:2] = -3.0  # or it might say nothing
    return Recognizer(Decoder(ModelBundle(config, TOKENS, network)))


class Reader:
    """A listener that hears what is written: a character a frame, `-` for blank, each `late` frames after its time."""

    renewal_s = 0.0

    def __init__(self, path: str, late: int = 3) -> None:
        self.path, self.late = path, late
        self.samples = self.given = self.forgotten = 0

    def hear(self, samples, *, last):
        self.samples += len(samples)
        known = len(self.path) if last else max(self.samples // FRAME_SAMPLES - self.late, self.given)
        told = [character not in "- " for character in self.path[self.given : known]]
        self.given = known
        return torch.tensor(told, dtype=torch.bool)

    def log_posteriors(self, waveform, frames):
        ids = [TOKENS.symbols.index(c) if c != "-" else 0 for c in self.path[self.forgotten :][:frames]]
        rows = torch.full((len(ids), len(TOKENS)), 0.01)
        rows[range(len(ids)), ids] = 0.96
        return rows.log()

    def forget(self, frames):
        self.forgotten += frames


def results(path: str, cuts=(), *, silence_frames: int = 5, longest_frames: int = 500):
    """All results of a path whose (silent) audio comes in blocks that end at `cuts`."""
    waveform = np.zeros(max(len(path) - 1, 0) * FRAME_SAMPLES, np.float32)
    blocks = np.split(waveform, sorted(min(cut, len(waveform)) for cut in cuts))
    return list(
        stream_results(
            RECOGNIZER.decoder,
            blocks,
            RATE_HZ,
            Reader(path),
            Search("greedy"),
            end_silence_s=silence_frames * 0.04,
            longest_s=longest_frames * 0.04,
        )
    )


RECOGNIZER, ONE_WAY = recognizer(), recognizer(bidirectional=False)


def test_an_utterance_ends_after_a_pause_and_its_words_have_times_from_the_start_of_the_stream() -> None:
    #        0         10        20        30        40
    path = "----a-b- --ca-------------------------b-- cc-c--"
    finals = [result for result in results(path) if result.is_final]
    assert [final.text for final in finals] == ["ab ca", "b cc"]
    frames = {"ab": (4, 6), "ca": (11, 12), "b": (38, 38), "cc": (42, 45)}
    words = [word for final in finals for word in final.words]
    assert [word.text for word in words] == list(frames)
    for word, (first, last) in zip(words, frames.values(), strict=True):
        assert word.start_s == pytest.approx(0.04 * first, abs=0.25)  # it may begin where its utterance does
        assert word.end_s == pytest.approx(0.04 * last, abs=0.2)
        assert 0 < word.confidence <= 1


def test_partial_results_grow_and_come_only_when_they_change() -> None:
    path = "--a-a---b--------c----"
    every_frame = [FRAME_SAMPLES * frame for frame in range(len(path))]
    shown = [(result.text, result.is_final) for result in results(path, every_frame)]
    assert shown == [("a", False), ("aa", False), ("aab", False), ("aab", True), ("c", False), ("c", True)]
    assert all(not result.words for result in results(path, every_frame) if not result.is_final)


def test_a_long_utterance_ends_in_the_middle_of_the_longest_pause_of_its_second_half() -> None:
    #                 10        20        30
    path = "a-b----c-a-b-c---b-a-b-c-a-b-c-a-b-"
    finals = [result.text for result in results(path, silence_frames=9, longest_frames=24) if result.is_final]
    assert finals == ["abcabc", "babcabcab"]


def test_silence_alone_gives_nothing_however_long_it_is() -> None:
    assert results("-" * 2000, longest_frames=50) == []
    assert results("- " * 1000, longest_frames=50) == []  # a space alone is no word
    assert results("") == []


@pytest.mark.parametrize(
    ("spoken", "silence", "longest", "expected"),
    [
        ("..x", 2, 100, None),
        ("..x.", 2, 100, None),
        ("..x..", 2, 100, 5),
        ("..x.x..xxxx", 2, 100, 7),
        ("x.x.x.x.x", 2, 9, 5),  # pauses of the second half are alike: the first one
        ("x.x.x.x..", 2, 9, 9),
        ("x.x.x.x..x", 3, 9, 8),
        ("xxxxxxxxxx", 3, 8, 4),
    ],
)
def test_end_points_as_worked_by_hand(spoken, silence, longest, expected) -> None:
    assert end_point(torch.tensor([c == "x" for c in spoken]), silence, longest) == expected


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(st.sampled_from(["-", "-", "---", "-------", " ", "a-", "b-", "c-", "cc-"]), max_size=30),
    cuts=st.lists(st.integers(0, 60 * FRAME_SAMPLES), max_size=8),
)
def test_results_do_not_depend_on_the_blocks_and_lose_no_word(parts, cuts) -> None:
    path = "-" + "".join(parts)

    def finals(cuts):
        return [result for result in results(path, cuts, longest_frames=20) if result.is_final]

    assert finals(cuts) == finals([])
    collapsed = "".join(c for c, _ in itertools.groupby(path) if c != "-")
    assert "".join(final.text for final in finals(cuts)).replace(" ", "") == collapsed.replace(" ", "")
    words = [word for final in finals(cuts) for word in final.words]
    assert all(before.end_s <= after.start_s + 1e-9 for before, after in itertools.pairwise(words))


def test_what_is_kept_is_bounded_by_the_longest_utterance() -> None:
    path = "a-b-c----" * 12 + "-" * 150 + "a-b-" * 25
    reader = Reader(path)
    utterance = _Utterance(RECOGNIZER.decoder, reader, end_silence_s=0.2, longest_s=1.6)
    for _ in path:
        utterance.hear(np.zeros(FRAME_SAMPLES, np.float32), last=False)
        assert max(len(utterance._waveform) // FRAME_SAMPLES, reader.given - reader.forgotten) <= 40 + reader.late
        if (frames := utterance.end_point(last=False)) is not None:
            utterance.finish(frames, Search("greedy"))


def told(listen, waveform, cuts):
    """In which frames of a waveform that comes in blocks something is said."""
    blocks = [listen.hear(block, last=False) for block in np.split(waveform, sorted(cuts))]
    return torch.cat([*blocks, listen.hear(np.zeros(0, np.float32), last=True)])


class Detector:
    """Stands for the detector of speech: its probabilities are written down."""

    probabilities: tuple[float, ...] = ()

    def __init__(self, rate_hz: int) -> None:
        self.samples = self.given = 0

    def __call__(self, samples, *, last=False):
        self.samples += len(samples)
        windows = -(-self.samples // 512) if last else self.samples // 512
        given, self.given = self.given, windows
        return np.array([*self.probabilities, *[0.0] * windows][given:windows], np.float32)


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> type[Detector]:
    monkeypatch.setattr("asr.inference.stream.SpeechDetector", Detector)
    return Detector


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    windows=st.lists(st.sampled_from([0.1, 0.4, 0.9]), max_size=60),
    samples=st.integers(0, 30000),
    cuts=st.lists(st.integers(0, 30000), max_size=10),
)
def test_a_frame_holds_speech_if_its_centre_lies_in_a_window_with_speech(detector, windows, samples, cuts) -> None:
    detector.probabilities = tuple(windows)
    model = RECOGNIZER.decoder.model
    spoken = told(OverlappingChunks(model), np.zeros(samples, np.float32), cuts)
    speech = [probability == 0.9 for probability in windows] + [False] * 60
    for place, probability in enumerate(windows):
        if probability == 0.4:  # neither begins nor ends it
            speech[place] = place > 0 and speech[place - 1]
    heard = -(-samples // 512)  # a last frame's centre may lie just behind all windows
    expected = [speech[min(frame * 640 // 512, heard - 1)] for frame in range(model.frame_count(torch.tensor(samples)))]
    assert spoken.tolist() == (expected if heard else [False])


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(samples=st.integers(0, 30000), cuts=st.lists(st.integers(0, 30000), max_size=5), before=st.integers(0, 40))
def test_a_carried_state_hears_of_an_utterance_what_is_heard_of_the_recording_from_there(
    detector, samples, cuts, before
) -> None:
    model = ONE_WAY.decoder.model
    waveform = (0.1 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
    before = min(before, int(model.frame_count(torch.tensor(samples))) - 1)  # frames that are forgotten
    with torch.inference_mode():
        rest = torch.from_numpy(waveform[before * FRAME_SAMPLES :])[None]
        whole, _ = model(rest, torch.tensor([rest.shape[1]]))
    listen, frames, arrived, forgotten = CarriedState(model), 0, 0, 0
    for block in [*np.split(waveform, sorted(cuts)), None]:
        if block is not None:
            arrived += len(block)
        frames += len(listen.hear(np.zeros(0, np.float32) if block is None else block, last=block is None))
        if not forgotten:
            heard = listen.log_posteriors(waveform[:arrived], frames)
            assert len(heard) == frames
            if frames >= before > 0:
                listen.forget(before)
                forgotten = before
        if forgotten == before:
            heard = listen.log_posteriors(waveform[before * FRAME_SAMPLES : arrived], frames - before)
            torch.testing.assert_close(heard, whole[0, : frames - before], rtol=0, atol=1e-5)
    assert frames - before == whole.shape[1]


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cuts", [(), (30001,), tuple(range(1000, 96000, 1000))])
def test_what_is_said_at_last_is_what_is_said_of_the_utterances_as_files(detector, cuts, bidirectional) -> None:
    it = RECOGNIZER if bidirectional else ONE_WAY
    speech_s = [(0.96, 2.24), (3.84, 4.8)]  # whole windows of 32 ms, hence whole frames after them
    detector.probabilities = tuple(
        float(any(start <= (window + 0.5) * 0.032 < end for start, end in speech_s)) for window in range(188)
    )
    waveform = (0.1 * np.random.default_rng(0).standard_normal(96000)).astype(np.float32)
    partials = list(it.stream(np.split(waveform, cuts), sample_rate_hz=16000, method="greedy"))
    finals = [result for result in partials if result.is_final]
    expected = []
    for start, end in speech_s:
        # A quarter of a second belongs to it on either side, in whole frames.
        first, last = math.ceil(start / 0.04) - round(0.25 / 0.04), math.ceil(end / 0.04) + round(0.25 / 0.04)
        # With one direction, what follows is heard too, as far as the network looks.
        part = waveform[first * FRAME_SAMPLES : last * FRAME_SAMPLES if bidirectional else None]
        # A file has one frame more: that centred on its end, where the stream's utterance has ended.
        heard, _ = it.decoder.log_posteriors(collate([torch.from_numpy(part)], [[]], [""]))
        [[best]] = it.decoder.search(heard, torch.tensor([last - first]), Search("greedy"))
        expected.append(TOKENS.decode(best.tokens).strip())
    assert [final.text for final in finals] == expected
    assert all(expected)
    assert len(partials) > (2 if len(cuts) > 1 else 1)
    for final, (start, end) in zip(finals, speech_s, strict=True):
        assert all(start - 0.3 <= word.start_s <= word.end_s <= end + 0.3 for word in final.words)


def test_a_model_that_can_carry_its_state_on_does() -> None:
    assert isinstance(listener(ONE_WAY.decoder.model), CarriedState)
    assert isinstance(listener(RECOGNIZER.decoder.model), OverlappingChunks)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_a_stream_of_any_blocks_rate_and_kind_is_recognised(detector, bidirectional: bool, rate_hz: int) -> None:
    detector.probabilities = (1.0,) * 100
    it = RECOGNIZER if bidirectional else ONE_WAY
    waveform = 0.1 * np.random.default_rng(0).standard_normal(2 * rate_hz)
    mono = [waveform[:5].astype(np.float32), waveform[5:5], torch.from_numpy(waveform[5:])]
    stereo = [np.stack([waveform, waveform])]
    streams = (it.stream(blocks, sample_rate_hz=rate_hz, method="beam") for blocks in (mono, stereo))
    finals = [[result for result in stream if result.is_final] for stream in streams]
    assert [final.text for final in finals[0]] == [final.text for final in finals[1]]
    assert finals[0]


def test_blocks_that_are_no_audio_and_a_rate_of_nothing_are_errors() -> None:
    with pytest.raises(AudioError, match="not finite"):
        list(RECOGNIZER.stream([np.array([np.nan])], sample_rate_hz=16000))
    with pytest.raises(AudioError, match="int16"):
        list(RECOGNIZER.stream([np.zeros(3, np.int16)], sample_rate_hz=16000))
    with pytest.raises(AudioError, match="sample_rate_hz=0"):
        RECOGNIZER.stream([], sample_rate_hz=0)
