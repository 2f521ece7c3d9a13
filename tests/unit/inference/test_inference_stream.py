"""Streams: when utterances end, what is said of them, and that cutting into blocks changes nothing."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.segment import STREAM_RULE, EndRule, Segmenter, _Tape
from asr.bundle.bundle import ModelBundle
from asr.config import Config
from asr.decoding.streaming import AGAIN_S, HeardAgain, Partial
from asr.errors import AudioError, ConfigError
from asr.features.batch import collate
from asr.inference.decoder import Decoder, Search
from asr.inference.recognizer import Recognizer
from asr.inference.stream import CarriedState, hearing_of, stream_results
from asr.model.acoustic import AcousticModel
from asr.text.tokens import BLANK_SYMBOL, TokenTable
from tests.conftest import LoudnessDetector, voice_like

RATE_HZ = 16000
FRAME_SAMPLES = 640  # 40 ms
TOKENS = TokenTable((BLANK_SYMBOL, " ", "a", "b", "c"))
LOUDNESS = {"-": 0.0, " ": 0.05, "a": 0.2, "b": 0.3, "c": 0.4}  # speech is what is louder than 0.1


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


RECOGNIZER, ONE_WAY = recognizer(), recognizer(bidirectional=False, lookahead_frames=3)


class Reader:
    """Hears what is written: the loudness of each frame is a character, `-` for blank."""

    def __init__(self, decoder=None, again_s=None) -> None:
        self.longest = 0

    def more_of(self, waveform):
        self.longest = max(self.longest, len(waveform))
        levels = waveform[FRAME_SAMPLES // 2 :: FRAME_SAMPLES]
        if len(levels) == 0:
            return None
        characters = [min(LOUDNESS, key=lambda c: abs(LOUDNESS[c] - level)) for level in levels.tolist()]
        ids = [TOKENS.symbols.index(c) if c != "-" else 0 for c in characters]
        rows = np.full((len(ids), len(TOKENS)), 0.01, np.float32)
        rows[range(len(ids)), ids] = 0.96
        return np.log(rows)

    def all_of(self, waveform):
        return self.more_of(waveform)


def written(path: str):
    return np.repeat(np.array([LOUDNESS[character] for character in path], np.float32), FRAME_SAMPLES)


def read(path: str, cuts=(), *, pause_s: float = 0.2, longest_s: float = 20.0):
    """All results of a path whose audio comes in blocks that end at `cuts`."""
    waveform = written(path)
    blocks = np.split(waveform, sorted(min(cut, len(waveform)) for cut in cuts))
    rule = EndRule(pause_s, longest_s, STREAM_RULE.before_s, STREAM_RULE.after_s)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asr.audio.speech_detector.SpeechDetector", LoudnessDetector)
        patch.setattr("asr.inference.stream.hearing_of", Reader)
        return list(stream_results(RECOGNIZER.decoder, blocks, RATE_HZ, Search("greedy"), rule))


def test_an_utterance_ends_after_a_pause_and_its_words_have_times_from_the_start_of_the_stream() -> None:
    #        0         10        20        30        40
    path = "----a-b- --ca-------------------------b-- cc-c--"
    finals = [result for result in read(path) if result.is_final]
    assert [final.text for final in finals] == ["ab ca", "b cc"]
    frames = {"ab": (4, 6), "ca": (11, 12), "b": (38, 38), "cc": (42, 45)}
    words = [word for final in finals for word in final.words]
    assert [word.text for word in words] == list(frames)
    for word, (first, last) in zip(words, frames.values(), strict=True):
        assert word.start_s == pytest.approx(0.04 * first, abs=0.25)  # it may begin where its utterance does
        assert word.end_s == pytest.approx(0.04 * last, abs=0.2)
        assert 0 < word.confidence <= 1


def test_partial_results_grow_and_come_only_when_they_change() -> None:
    path = "--a----a----b------------c----"
    every_frame = [FRAME_SAMPLES * frame for frame in range(len(path))]
    shown = [(result.text, result.is_final) for result in read(path, every_frame)]
    assert shown == [("a", False), ("aa", False), ("aab", False), ("aab", True), ("c", False), ("c", True)]
    assert all(not result.words for result in read(path, every_frame) if not result.is_final)


def test_a_long_utterance_ends_at_the_quietest_place_of_its_second_half() -> None:
    #                 10        20        30        40        50
    path = "abcabcabcabcabcabcab----cabcabcabcabcabcabcabcabcabcabca"
    finals = [result.text for result in read(path, pause_s=0.5, longest_s=1.4) if result.is_final]
    assert finals[0] == path[:20]
    assert "".join(finals) == path.replace("-", "")


def test_silence_alone_gives_nothing_however_long_it_is() -> None:
    assert read("-" * 2000, longest_s=2.0) == []
    assert read("- " * 1000, longest_s=2.0) == []  # a space alone is no word
    assert read("") == []


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(st.sampled_from(["-", "-", "---", "-------", " ", "a-", "b-", "c-", "cc-"]), max_size=50),
    cuts=st.lists(st.integers(0, 60 * FRAME_SAMPLES), max_size=8),
)
def test_results_do_not_depend_on_the_blocks_and_lose_no_word(parts, cuts) -> None:
    path = "-" + "".join(parts)
    assert read(path, cuts, longest_s=1.0) == read(path, longest_s=1.0)
    results = read(path, cuts)
    assert results == read(path)
    finals = [result for result in results if result.is_final]
    collapsed = "".join(c for c, _ in itertools.groupby(path) if c != "-")
    assert "".join(final.text for final in finals).replace(" ", "") == collapsed.replace(" ", "")
    words = [word for final in finals for word in final.words]
    assert all(before.end_s <= after.start_s + 1e-9 for before, after in itertools.pairwise(words))


@pytest.mark.usefixtures("loud_is_speech")
@pytest.mark.parametrize("kind", [CarriedState, HeardAgain])
def test_what_is_kept_is_bounded_by_the_longest_utterance(kind, monkeypatch) -> None:
    held_s, frames = [], []
    append, more_of = _Tape.append, kind.more_of

    def noting_samples(tape, block):
        append(tape, block)
        held_s.append((tape.end - tape.start) / RATE_HZ)

    def noting_frames(hearing, waveform):
        found = more_of(hearing, waveform)
        frames.append(0 if found is None else len(found))
        return found

    monkeypatch.setattr(_Tape, "append", noting_samples)
    monkeypatch.setattr(kind, "more_of", noting_frames)
    waveform = written("a-b-c----" * 12 + "-" * 150 + "a-b-" * 25 + "-" * 100)
    it = ONE_WAY if kind is CarriedState else RECOGNIZER
    list(it.stream([waveform], sample_rate_hz=RATE_HZ, longest_s=1.6))
    assert 1.0 < max(held_s) <= 1.6 + 0.1  # and the piece that has just arrived
    assert held_s[-1] <= STREAM_RULE.before_s + 0.032 + 0.1
    assert 20 < max(frames) <= 1.6 / 0.04 + 1


def as_a_file(it: Recognizer, waveform):
    """The log-posteriors `(frame, token)` of a segment alone."""
    log_posteriors, _ = it.decoder.log_posteriors(collate([torch.from_numpy(waveform)], [[]], [""]))
    return log_posteriors[0]


@settings(max_examples=15, deadline=None)
@given(
    samples=st.integers(1, 40_000),
    heard=st.lists(st.floats(0, 1), max_size=6),
    beyond=st.integers(0, 10_000),
    seed=st.integers(0, 1000),
)
def test_a_carried_state_hears_an_ended_segment_as_a_file_is_heard_whenever_it_was_asked(samples, heard, beyond, seed):
    waveform = (0.1 * np.random.default_rng(seed).standard_normal(samples + beyond)).astype(np.float32)
    hearing = CarriedState(ONE_WAY.decoder)
    expected = hearing.all_of(waveform[:samples])
    for share in sorted(heard):  # it may be cut off before what was heard
        hearing.more_of(waveform[: round(share * (samples + beyond))])
    assert np.array_equal(hearing.all_of(waveform[:samples]), expected)
    np.testing.assert_allclose(expected, as_a_file(ONE_WAY, waveform[:samples]), rtol=0, atol=1e-5)


def test_a_bidirectional_model_hears_a_segment_again_after_half_a_second_and_at_its_end_as_a_file(rng) -> None:
    waveform = (0.1 * rng.standard_normal(30_000)).astype(np.float32)
    hearing = hearing_of(RECOGNIZER.decoder)
    assert hearing.more_of(waveform[:7999]) is None
    assert np.array_equal(hearing.more_of(waveform[:8000]), as_a_file(RECOGNIZER, waveform[:8000]))
    assert hearing.more_of(waveform[:15_999]) is None
    assert np.array_equal(hearing.more_of(waveform[:20_000]), as_a_file(RECOGNIZER, waveform[:20_000]))
    assert np.array_equal(hearing.all_of(waveform), as_a_file(RECOGNIZER, waveform))
    assert hearing.more_of(waveform[:7999]) is None  # of the next segment
    assert AGAIN_S == 0.5


@pytest.mark.usefixtures("loud_is_speech")
@pytest.mark.parametrize("known", [RECOGNIZER, ONE_WAY], ids=["again", "carried"])
def test_final_results_do_not_depend_on_how_often_one_asks_what_is_said_by_now(known, rng) -> None:
    speech = np.concatenate([voice_like(rng), np.zeros(16_000, np.float32), voice_like(rng)])
    expected = [one for one in known.stream([speech], sample_rate_hz=16000) if one.is_final]
    listening, found = known.listen(sample_rate_hz=16000, again_s=0.1), []
    for number, block in enumerate(np.array_split(speech, 30)):
        found += listening.hear(block)
        if number % 7 == 3:
            listening.so_far()
    assert found + listening.hear(np.zeros(0, np.float32), last=True) == expected
    assert expected


def test_a_model_that_can_carry_its_state_on_does() -> None:
    assert isinstance(hearing_of(ONE_WAY.decoder), CarriedState)
    assert isinstance(hearing_of(RECOGNIZER.decoder), HeardAgain)


SPEECH_S = [(0.5, 1.2), (2.0, 4.3), (5.4, 5.5), (6.3, 6.6)]  # the second one is cut for its length


def speech(rate_hz: int, seconds: float = 6.65, channels: int = 1):
    """Noise that is loud at `SPEECH_S`, `(channel, sample)`."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    loud = np.any([(start <= time_s) & (time_s < end) for start, end in SPEECH_S], axis=0)
    noise = np.random.default_rng(0).standard_normal((channels, len(time_s)))
    return (noise * np.where(loud, 0.2, 0.002)).astype(np.float32)


@pytest.mark.usefixtures("loud_is_speech")
@pytest.mark.parametrize("bidirectional", [True, False])
def test_what_is_said_at_last_is_what_is_said_of_the_utterances_as_files(bidirectional) -> None:
    it = RECOGNIZER if bidirectional else ONE_WAY
    (waveform,) = speech(RATE_HZ)
    results = list(it.stream([waveform], sample_rate_hz=RATE_HZ, method="beam", longest_s=2.0))
    finals = [result for result in results if result.is_final]
    rule = EndRule(STREAM_RULE.pause_s, 2.0, STREAM_RULE.before_s, STREAM_RULE.after_s)
    utterances = Segmenter(RATE_HZ, rule, LoudnessDetector(RATE_HZ)).hear(waveform, last=True)
    assert len(finals) == len(utterances) == 5
    for final, segment in zip(finals, utterances, strict=True):
        (decoded,) = it.decoder.decode(collate([torch.from_numpy(segment.waveform)], [[]], [""]), Search("beam"))
        words = it.decoder.words(decoded, segment.start / RATE_HZ)
        assert final.text == " ".join(word.text for word in words) != ""
        for word, expected in zip(final.words, words, strict=True):
            assert (word.start_s, word.end_s) == (expected.start_s, expected.end_s)
            assert word.confidence == pytest.approx(expected.confidence, abs=0 if bidirectional else 1e-4)
    assert sum(not result.is_final for result in results) > 4


def cuttings(waveform, rate_hz: int, count: int):
    """Ways to cut `(channel, sample)` into blocks of 1 sample to 2 s; some have no samples."""
    rng = np.random.default_rng(5)
    for _ in range(count):
        least, cuts = rng.choice([1, 100, 10_000]), [0]
        while cuts[-1] < waveform.shape[1]:
            cuts.append(cuts[-1] + int(np.exp(rng.uniform(np.log(least), np.log(2 * rate_hz)))))
        yield np.split(waveform, cuts[1:], axis=1)


def results_and_scores(it: Recognizer, blocks, rate_hz: int):
    """All that a stream says, and what its searches found, scores and frames included."""
    found, understand = [], it.decoder.understand

    def noting(*arguments):
        found.extend(understand(*arguments))
        return found[-1:]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(it.decoder, "understand", noting)
        results = list(it.stream(blocks, sample_rate_hz=rate_hz, method="beam", longest_s=2.0))
    return results, found


@pytest.mark.usefixtures("loud_is_speech")
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("rate_hz", "channels", "count"), [(16000, 1, 20), (44100, 1, 20), (11025, 9, 5)])
def test_no_digit_of_a_result_depends_on_how_the_audio_was_cut(bidirectional, rate_hz, channels, count) -> None:
    it = RECOGNIZER if bidirectional else ONE_WAY
    waveform = speech(rate_hz, channels=channels) * np.float32(channels**0.5)
    expected = results_and_scores(it, [waveform], rate_hz)
    assert sum(result.is_final for result in expected[0]) == 5
    head, rest = np.split(waveform, [100], axis=1)  # the first block tells the number of channels
    for blocks in cuttings(rest, rate_hz, count):
        assert results_and_scores(it, [head, *blocks], rate_hz) == expected


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (0.01, 0.3)])
def test_nor_does_one_depend_on_it_with_the_speech_detector(bidirectional, scale, offset, rng) -> None:
    it = RECOGNIZER if bidirectional else ONE_WAY
    silence = 1e-3 * rng.standard_normal(16000)
    waveform = np.concatenate([silence, voice_like(rng), silence, voice_like(rng), silence])[None]
    waveform = (scale * waveform + offset).astype(np.float32)
    expected = results_and_scores(it, [waveform], 22050)
    assert any(result.is_final for result in expected[0])
    for blocks in cuttings(waveform, 22050, 4):
        assert results_and_scores(it, blocks, 22050) == expected


@pytest.mark.usefixtures("loud_is_speech")
@pytest.mark.parametrize("bidirectional", [True, False])
def test_an_utterance_is_heard_the_same_wherever_it_is_in_the_stream(bidirectional) -> None:
    it = RECOGNIZER if bidirectional else ONE_WAY
    loud = (0.1 * np.random.default_rng(3).standard_normal(39 * 512)).astype(np.float32)
    # Whole windows of the detector, and no whole pieces.
    before, after = (np.zeros(windows * 512, np.float32) for windows in (40, 77))
    _, (first, second) = results_and_scores(it, [before, loud, after, loud, after], RATE_HZ)
    assert first == second


@pytest.mark.usefixtures("loud_is_speech")
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_a_stream_of_any_blocks_rate_and_kind_is_recognised(bidirectional: bool, rate_hz: int) -> None:
    it = RECOGNIZER if bidirectional else ONE_WAY
    waveform = 0.1 * np.random.default_rng(0).standard_normal(2 * rate_hz)
    mono = [waveform[:5].astype(np.float32), waveform[5:5], torch.from_numpy(waveform[5:])]
    stereo = [np.stack([waveform, waveform])]
    streams = (it.stream(blocks, sample_rate_hz=rate_hz, method="beam") for blocks in (mono, stereo))
    finals = [[result for result in stream if result.is_final] for stream in streams]
    assert finals[0] == finals[1]
    assert finals[0]


@pytest.mark.usefixtures("loud_is_speech")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_width_are_heard_as_float32(dtype) -> None:
    samples = torch.from_numpy(speech(RATE_HZ, 2.5)[0]).to(dtype)
    exact = list(RECOGNIZER.stream([samples.float().numpy()], sample_rate_hz=RATE_HZ))
    assert list(RECOGNIZER.stream([samples], sample_rate_hz=RATE_HZ)) == exact != []
    transcript = RECOGNIZER.transcribe(samples, sample_rate_hz=RATE_HZ)
    assert transcript == RECOGNIZER.transcribe(samples.float(), sample_rate_hz=RATE_HZ)


def test_blocks_that_are_no_audio_are_errors() -> None:
    with pytest.raises(AudioError, match="not finite"):
        list(RECOGNIZER.stream([np.array([np.nan])], sample_rate_hz=16000))
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        with pytest.raises(AudioError, match="not finite"):
            list(RECOGNIZER.stream([torch.tensor([torch.inf], dtype=dtype)], sample_rate_hz=16000))
    with pytest.raises(AudioError, match="int16"):
        list(RECOGNIZER.stream([np.zeros(3, np.int16)], sample_rate_hz=16000))


def test_a_block_of_fewer_samples_than_channels_needs_one_before_it_that_tells_the_channels() -> None:
    stereo, short = np.zeros((2, 100), np.float32), np.zeros((2, 1), np.float32)
    assert list(RECOGNIZER.stream([stereo, short, stereo, short], sample_rate_hz=16000)) == []
    for blocks in ([short, stereo], [stereo, stereo.T], [stereo[:1], short]):
        with pytest.raises(AudioError, match="more channels than samples"):
            list(RECOGNIZER.stream(blocks, sample_rate_hz=16000))


@pytest.mark.parametrize("rate_hz", [0, -1, 0.5, 1, 999, 1_000_001, 1e30, np.nan, np.inf, "16000", True, 16000.5])
def test_a_sample_rate_that_is_none_is_refused_at_once(rate_hz) -> None:
    with pytest.raises(AudioError, match=r"sample_rate_hz=.* an integer from 1,000 to 1,000,000"):
        RECOGNIZER.stream([], sample_rate_hz=rate_hz)
    with pytest.raises(AudioError, match=r"sample_rate_hz=.* an integer from 1,000 to 1,000,000"):
        RECOGNIZER.transcribe(np.zeros(100, np.float32), sample_rate_hz=rate_hz)
    assert list(RECOGNIZER.stream([], sample_rate_hz=np.int64(16000))) == []


@pytest.mark.parametrize("segment", ["foo", "", None, "VAD"])
def test_a_segmentation_that_is_none_is_refused_with_the_choices(segment) -> None:
    with pytest.raises(ConfigError, match=f"segment={segment!r}: .* vad, fixed, none"):
        RECOGNIZER.transcribe(np.zeros(100, np.float32), sample_rate_hz=16000, segment=segment)


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_a_pause_or_length_that_no_utterance_can_have_is_refused_at_once(value) -> None:
    for name in ("end_silence_s", "longest_s"):
        with pytest.raises(ConfigError, match=f"utterance is {value!r} s"):
            RECOGNIZER.stream([], sample_rate_hz=16000, **{name: value})


def test_a_partial_result_shows_whether_it_is_final() -> None:
    assert repr(Partial("zwei", (), False)) == "<asr.Partial 'zwei': may change>"
    assert repr(Partial("ab " * 1000, (), True)) == f"<asr.Partial 'ab{' ab' * 12}…': final, 0 words>"
