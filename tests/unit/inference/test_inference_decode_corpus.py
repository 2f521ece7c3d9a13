"""A decode folder holds one run: what an earlier one left is not taken for this one's."""

import json
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import asr
from asr.bundle.bundle import ModelBundle
from asr.corpus.manifest import read_manifest, write_manifest
from asr.errors import ConfigError
from asr.inference.decode_corpus import decode_cuts, write_decode_folder
from asr.inference.decoder import Decoder, Search
from asr.inference.recognizer import Recognizer
from asr.model.acoustic import AcousticModel
from asr.scoring.score import read_score
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from tests.conftest import TINY


def test_decoding_again_removes_the_report_on_what_was_decoded_before(tmp_path):
    for name in ("wer.json", "wer.txt", "report.html", "notes.txt"):
        (tmp_path / name).write_text("earlier")
    write_decode_folder(tmp_path, [], SimpleNamespace(bundle=SimpleNamespace(tokens=None)))
    assert {path.name for path in tmp_path.iterdir()} == {"hyp.jsonl", "hyp.trn", "ref.trn", "notes.txt"}


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
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["hyp.jsonl", "hyp.trn", "ref.trn", "run.json"]
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["manifest"], run["method"]) == (str(tmp_path / "test.jsonl.gz"), "beam")
    assert (run["audio_s"], run["seconds"]) == (report.audio_s, report.seconds)
    with pytest.raises(ConfigError, match="beam_sise: unknown key"):
        asr.decode(tmp_path / "model", tmp_path / "test.jsonl.gz", tmp_path / "out", decode={"beam_sise": 3})


def test_a_search_that_does_not_exist_and_hotwords_that_are_no_list_are_refused():
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["ab"])
    recognizer = Recognizer(Decoder(ModelBundle(config, tokens, AcousticModel(config, len(tokens)).eval())))
    with pytest.raises(ConfigError, match="method='viterbi': greedy or beam"):
        recognizer.transcribe(torch.zeros(16000), sample_rate_hz=16000, method="viterbi", segment="none")
    with pytest.raises(ConfigError, match=r"a list such as \['anna'\]"):
        recognizer.transcribe(torch.zeros(16000), sample_rate_hz=16000, hotwords="ab", segment="none")
