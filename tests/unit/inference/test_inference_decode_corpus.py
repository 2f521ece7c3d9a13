"""A decode folder holds one run: what an earlier one left is not taken for this one's."""

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

import asr
from asr.audio.sound_file import read_audio
from asr.bundle.bundle import ModelBundle
from asr.corpus.cut_audio import audio_place, load_cut
from asr.corpus.manifest import make_cut, read_manifest, write_manifest
from asr.errors import ConfigError
from asr.features.batching import evaluation_batches
from asr.inference.decode_corpus import decode_cuts, write_decode_folder
from asr.inference.decoder import Decoder, Search
from asr.inference.recognizer import Recognizer
from asr.model.acoustic import AcousticModel
from asr.scoring.score import read_score
from asr.search_config import DecodeSettings
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.transcript.posteriors import read_posteriors
from tests.conftest import TINY


def test_decoding_again_removes_the_report_on_what_was_decoded_before(tmp_path):
    for name in ("wer.json", "wer.txt", "report.html", "notes.txt"):
        (tmp_path / name).write_text("earlier")
    tokens = TokenTable.from_texts(["ab"])
    write_decode_folder(
        tmp_path, [], SimpleNamespace(bundle=SimpleNamespace(tokens=tokens), model=SimpleNamespace(frame_shift_s=0.04))
    )
    written = {"hyp.jsonl", "hyp.trn", "ref.trn", "posteriors.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == {*written, "notes.txt"}


def test_each_utterance_keeps_its_speaker_and_null_where_the_manifest_names_none(tmp_path, tone_corpus):
    cuts = list(read_manifest(tone_corpus / "test.jsonl.gz"))[:3]
    cuts[1].supervisions[0].speaker = None
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["abcd "])
    decoder = Decoder(ModelBundle(config, tokens, AcousticModel(config, len(tokens)).eval()))
    write_decode_folder(tmp_path, decode_cuts(decoder, cuts, Search()), decoder)
    records = [json.loads(line) for line in (tmp_path / "hyp.jsonl").read_text(encoding="utf-8").splitlines()]
    speakers = {record["id"]: record["speaker"] for record in records}
    assert speakers == {"test-000": "test-speaker-0", "test-001": None, "test-002": "test-speaker-2"}
    assert read_score(tmp_path).speakers == {"test-000": "test-speaker-0", "test-002": "test-speaker-2"}


def tiny_decoder():
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["abcd "])
    return Decoder(ModelBundle(config, tokens, AcousticModel(config, len(tokens)).eval()))


def decoded_records(folder, decoder, cuts, search=None):
    write_decode_folder(folder, decode_cuts(decoder, cuts, search or Search()), decoder)
    return [json.loads(line) for line in (folder / "hyp.jsonl").read_text(encoding="utf-8").splitlines()]


def test_an_utterance_says_where_its_audio_is_and_what_the_manifest_says_of_it(tmp_path, tone_corpus, monkeypatch):
    """The audio that is read from that place is what the network heard."""
    left = np.arange(32000, dtype=np.float32) / 64000
    soundfile.write(tmp_path / "two.wav", np.stack([left, left**2], 1), 16000, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)  # the manifest has a relative path
    part = make_cut("part", Path("two.wav"), "ab", "anna", channel=1, start_s=0.5, duration_s=1.25, language="nl")
    part.custom = {"snr_db": 12.5, "clean": True, "tags": ["a list is no single value"]}
    both = make_cut("both", Path("two.wav"), "cd", "bob")
    records = {record["id"]: record for record in decoded_records(tmp_path / "out", tiny_decoder(), [part, both])}
    place = records["part"]["audio"]
    assert place == {"path": str(tmp_path / "two.wav"), "channels": [1], "start_s": 0.5, "duration_s": 1.25}
    samples, _ = read_audio(place["path"], start_s=place["start_s"], duration_s=place["duration_s"])
    np.testing.assert_array_equal(samples[place["channels"]].mean(0), load_cut(part))
    assert records["part"]["fields"] == {"snr_db": 12.5, "clean": True, "language": "nl"}
    assert records["both"]["audio"]["channels"] == [0, 1]
    assert (records["both"]["duration_s"], records["both"]["fields"]) == (2.0, {})


def test_audio_that_is_no_part_of_a_file_as_it_is_has_no_place(tmp_path, tone_corpus):
    cut, other, *_ = read_manifest(tone_corpus / "test.jsonl.gz")
    faster, joined = cut.perturb_speed(1.1), cut.append(other)
    assert [audio_place(one) for one in (faster, joined)] == [None, None]
    joined.id = "joined"
    records = decoded_records(tmp_path, tiny_decoder(), [joined])
    assert (records[0]["audio"], records[0]["duration_s"]) == (None, joined.duration)


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_the_folder_has_the_posteriors_that_were_decoded(tmp_path, tone_corpus, method):
    decoder, cuts = tiny_decoder(), list(read_manifest(tone_corpus / "test.jsonl.gz"))[:3]
    decoded_records(tmp_path, decoder, cuts, Search(method, keep_posteriors=True))
    found = read_posteriors(tmp_path / "posteriors.safetensors")
    assert found.models[0].tokens == list(decoder.bundle.tokens.texts)
    assert found.models[0].frame_shift_s == decoder.model.frame_shift_s
    for cut in cuts:
        (batch,) = evaluation_batches([cut], decoder.bundle.config)
        (expected,), _ = decoder.log_posteriors(batch)
        sparse = found.utterances[cut.id]
        assert len(sparse.counts) == len(expected)
        frames = np.repeat(np.arange(len(sparse.counts)), sparse.counts)
        probabilities = expected.exp().numpy()[frames, sparse.tokens.astype(int)]
        np.testing.assert_allclose(sparse.levels / 255, probabilities, atol=0.003)
        assert expected.exp().numpy().sum() - probabilities.sum() < 0.01 * expected.numel()


def test_without_posteriors_asked_for_none_are_kept(tmp_path, tone_corpus):
    decoded_records(tmp_path, tiny_decoder(), list(read_manifest(tone_corpus / "test.jsonl.gz"))[:1])
    assert read_posteriors(tmp_path / "posteriors.safetensors").utterances == {}


def test_hypotheses_are_replaced_where_they_are_compared_and_kept_as_they_were_recognised(tmp_path, tone_corpus):
    """The table turns whatever is recognised into the reference, in another number of words."""
    cuts = list(read_manifest(tone_corpus / "test.jsonl.gz"))[:1]
    cuts[0].supervisions[0].text = "Yes Indeed"
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["abcd "])
    model = AcousticModel(config, len(tokens)).eval()
    bundle = ModelBundle(config, tokens, model)
    (plain,) = decode_cuts(Decoder(bundle), cuts, Search())
    recognised = tokens.decode(plain.decoded.hypotheses[0].tokens)
    assert len(recognised.split()) != 2
    text = config.text.model_copy(update={"replace": {recognised: "yes indeed"}})
    replaced = Decoder(replace(bundle, config=config.model_copy(update={"text": text})))
    write_decode_folder(tmp_path, decode_cuts(replaced, cuts, Search()), replaced)
    score = read_score(tmp_path)
    assert (score.wer, score.word_total.reference_length) == (0.0, 2)
    record = json.loads((tmp_path / "hyp.jsonl").read_text(encoding="utf-8"))
    assert record["text"] == " ".join(word["text"] for word in record["words"]) == recognised
    assert score.calibration is None  # its words are not those that have confidences


def test_a_manifest_is_decoded_into_a_folder_and_the_report_says_how(tmp_path, tone_corpus):
    cuts = list(read_manifest(tone_corpus / "test.jsonl.gz"))[:3]
    write_manifest(cuts, tmp_path / "test.jsonl.gz")
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["abcd "])
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(tmp_path / "model")
    shown = []

    @contextmanager
    def progress(description, total):
        shown.append((description, total))
        yield shown.append

    report = asr.decode(
        tmp_path / "model", str(tmp_path / "test.jsonl.gz"), tmp_path / "out", hotwords=["ab"], progress=progress
    )
    assert (report.folder, report.method, report.utterances) == (tmp_path / "out", "beam", 3)
    assert report.audio_s == pytest.approx(sum(cut.duration for cut in cuts))
    assert report.rtf == report.seconds / report.audio_s
    assert shown == [("decode", 3), 1, 1, 1]
    written = ["hyp.jsonl", "hyp.trn", "posteriors.safetensors", "ref.trn", "run.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == written
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["manifest"], run["method"]) == (str(tmp_path / "test.jsonl.gz"), "beam")
    assert (run["audio_s"], run["seconds"]) == (report.audio_s, report.seconds)
    assert (run["models"], run["hotwords"], run["speaker"]) == ([str(tmp_path / "model")], 1, None)
    assert run["decode"]["beam_size"] == DecodeSettings().beam_size
    with pytest.raises(ConfigError, match="beam_sise: unknown key"):
        asr.decode(tmp_path / "model", tmp_path / "test.jsonl.gz", tmp_path / "out", decode={"beam_sise": 3})


def test_a_search_that_does_not_exist_and_hotwords_that_are_no_list_are_refused():
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["ab"])
    recognizer = Recognizer(Decoder(ModelBundle(config, tokens, AcousticModel(config, len(tokens)).eval())))
    with pytest.raises(ConfigError, match="method='viterbi': greedy or beam"):
        recognizer.transcribe(torch.zeros(16000), sample_rate_hz=16000, method="viterbi", segment="none")
    with pytest.raises(ConfigError, match=r"a list such as \['anna'\]"):
        recognizer.transcribe(torch.zeros(16000), sample_rate_hz=16000, hotwords="ab", segment="none")
