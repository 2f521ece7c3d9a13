"""`features.cmvn=speaker`: the moments are over all that a speaker says, and nothing else changes a result."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY

from asr.audio.segment import Segment
from asr.bundle.bundle import ModelBundle
from asr.config import Config
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import known_speakers, read_manifest
from asr.errors import ModelError
from asr.features.augment import Draw, draw_pace, perturb_speed
from asr.features.batching import evaluation_batches, training_batches
from asr.inference.decode_corpus import decode_cuts
from asr.inference.decoder import Decoder, Search
from asr.inference.recognizer import Recognizer
from asr.model.acoustic import AcousticModel
from asr.model.logmel import Cmvn, LogMel, moments_of
from asr.model.speaker_moments import speaker_moments
from asr.settings_file import load_config
from asr.text.tokens import TokenTable

TOKENS = TokenTable.from_texts(["abcd "])


def config_of(*settings: str) -> Config:
    return load_config(None, [*TINY, "features.cmvn=speaker", *settings])


def decoder_of(config: Config) -> Decoder:
    torch.manual_seed(1)
    return Decoder(ModelBundle(config, TOKENS, AcousticModel(config, len(TOKENS)).eval()))


def test_moments_are_those_of_all_frames_of_a_speaker_in_one_array(tone_corpus: Path) -> None:
    config = config_of()
    cuts = list(read_manifest(tone_corpus / "test.jsonl.gz"))
    moments = speaker_moments(cuts, config)
    for speaker in set(known_speakers(cuts).values()):
        said = [cut for cut in cuts if cut.supervisions[0].speaker == speaker]
        assert len(said) > 1
        logmel = LogMel(config.features)
        frames = [logmel(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))[0][0] for wave in map(load_cut, said)]
        together = torch.cat(frames).double().numpy()
        for cut in said:
            mean, std = moments(cut, 1.0).numpy()
            np.testing.assert_allclose(mean, together.mean(0), rtol=0, atol=1e-5)
            np.testing.assert_allclose(std, together.std(0), rtol=0, atol=1e-5)


def test_of_a_single_utterance_speaker_and_utterance_normalise_alike(rng: np.random.Generator) -> None:
    waveform = torch.from_numpy((0.1 * rng.standard_normal(16000)).astype(np.float32))
    config = config_of()
    logmel = LogMel(config.features)
    features, lengths = logmel(waveform[None], torch.tensor([16000]))
    expected = Cmvn(40, "utterance")(features, lengths)
    by_speaker = Cmvn(40, "speaker")
    moments = moments_of(logmel, [waveform])
    torch.testing.assert_close(by_speaker(features, lengths, moments[None]), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(by_speaker(features, lengths), expected, rtol=0, atol=0)


def test_an_utterance_with_given_moments_is_the_same_alone_and_in_a_batch(tone_corpus: Path) -> None:
    config = config_of()
    decoder = decoder_of(config)
    cuts = list(read_manifest(tone_corpus / "test.jsonl.gz"))
    moments = speaker_moments(cuts, config)
    (together,) = evaluation_batches(cuts, config, moments)
    log_posteriors, lengths = decoder.log_posteriors(together)
    for row, cut in enumerate(cuts):
        (alone,) = evaluation_batches([cut], config, moments)
        expected, _ = decoder.log_posteriors(alone)
        torch.testing.assert_close(log_posteriors[row, : lengths[row]], expected[0], rtol=0, atol=1e-4)
        assert torch.equal(together.only(row).moments, alone.moments)


def test_what_the_speaker_says_elsewhere_counts_and_what_others_say_does_not(tone_corpus: Path) -> None:
    config = config_of()
    decoder = decoder_of(config)
    cuts = list(read_manifest(tone_corpus / "test.jsonl.gz"))
    own = [cut for cut in cuts if cut.supervisions[0].speaker == cuts[0].supervisions[0].speaker]

    def score(some: list) -> float:
        return next(u.decoded.hypotheses[0].score for u in decode_cuts(decoder, some, Search()) if u.id == cuts[0].id)

    assert score(own) == pytest.approx(score(cuts), abs=1e-3)
    assert abs(score(cuts[:1]) - score(cuts)) > 1e-2


def test_an_utterance_without_a_speaker_is_all_that_is_known_of_him(tone_corpus: Path) -> None:
    cuts = list(read_manifest(tone_corpus / "test.jsonl.gz"))
    for cut in cuts[:2]:
        cut.supervisions[0].speaker = None
    config = config_of()
    moments = speaker_moments(cuts, config)
    for cut in cuts[:2]:
        expected = moments_of(LogMel(config.features), [torch.from_numpy(load_cut(cut, 16000))])
        assert torch.equal(moments(cut, 1.0), expected)


def test_a_speaker_at_another_speed_has_the_moments_of_that_speed(tone_corpus: Path) -> None:
    config = config_of("augment.tempos=[1]")
    cuts = list(read_manifest(tone_corpus / "train.jsonl.gz"))
    moments = speaker_moments(cuts, config, config.augment.speeds)
    by_id = {cut.id: cut for cut in cuts}
    speeds = set()
    for step in training_batches(cuts, TOKENS, config, epoch=0, moments=moments):
        for piece in step.pieces:
            for name, given in zip(piece.ids, piece.moments, strict=True):
                speed, _ = draw_pace(config.augment, 10.0, Draw(config.training.seed, 0).of(name))
                said = [c for c in cuts if c.supervisions[0].speaker == by_id[name].supervisions[0].speaker]
                waveforms = (torch.from_numpy(perturb_speed(load_cut(cut, 16000), speed)) for cut in said[:200])
                if speed not in speeds:
                    assert torch.equal(given, moments_of(LogMel(config.features), waveforms))
                assert torch.equal(given, moments(by_id[name], speed))
                speeds.add(speed)
    assert speeds == {0.9, 1.0, 1.1}


def test_a_recording_is_all_that_its_speaker_says(rng: np.random.Generator) -> None:
    decoder = decoder_of(config_of())
    waves = [(scale * rng.standard_normal(16000)).astype(np.float32) for scale in (0.1, 0.3)]
    waves[1] = np.cumsum(waves[1]).astype(np.float32) / 100
    segments, moments = decoder.of_one_speaker(iter([Segment(0, waves[0], 0), Segment(16000, waves[1], 0)]))
    assert [segment.start for segment in segments] == [0, 16000]
    expected = moments_of(decoder.model.logmel, map(torch.from_numpy, waves))
    assert torch.equal(moments, expected)
    whole = np.concatenate(waves)
    transcript = Recognizer(decoder).transcribe(whole, sample_rate_hz=16000, segment="none")
    assert transcript.duration_s == 2.0


def test_a_stream_and_an_onnx_export_are_refused_with_the_way_out(tmp_path: Path) -> None:
    from asr.exporting.onnx_graph import acoustic_graph

    decoder = decoder_of(config_of())
    with pytest.raises(ModelError, match=r"hears a stream only of a speaker whom"):
        list(Recognizer(decoder).stream([np.zeros(1600, np.float32)], sample_rate_hz=16000))
    with pytest.raises(ModelError, match="--format torch"):
        acoustic_graph(decoder.model, int8=False)
    assert not decoder.model.streams
