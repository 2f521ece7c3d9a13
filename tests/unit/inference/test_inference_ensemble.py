"""Several models as one, with networks that were never trained: they err often, and differently."""

import json
import pickle

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY, tone_speech

import asr
from asr.bundle.bundle import ModelBundle
from asr.corpus.manifest import make_cut, write_manifest
from asr.decoding.bayes_risk import join
from asr.errors import ConfigError, ModelError
from asr.features.batch import collate
from asr.inference.decoder import Decoder, Search
from asr.inference.ensemble import Ensemble
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable

BEAM = Search("beam")


def write_model(folder, seed, letters="abcd ", *settings):
    torch.manual_seed(seed)
    config, tokens = load_config(None, [*TINY, *settings]), TokenTable.from_texts([letters])
    model = AcousticModel(config, len(tokens))
    with torch.no_grad():
        model.output.weight *= 8  # surer than chance, so that lists differ
    ModelBundle(config, tokens, model).save(folder)
    return folder


@pytest.fixture
def models(tmp_path):
    return [write_model(tmp_path / f"m{seed}", seed) for seed in (1, 2, 3)]


def decoders(folders):
    return [Decoder.load(folder, accelerator="cpu") for folder in folders]


def batch_of(*texts):
    rng = np.random.default_rng(5)
    waveforms = [torch.from_numpy(tone_speech(text, rng)) for text in texts]
    return collate(waveforms, [[]] * len(texts), list(texts))


def test_a_model_with_itself_is_that_model(models):
    """Of one text each, no other can be chosen; of one list, joining it with itself changes no posterior."""
    batch = batch_of("ab cd", "cd", "a b c d")
    (alone,), twice = decoders(models[:1]), Ensemble(decoders(models[:1] * 2))
    for mine, joined in zip(alone.decode(batch, Search("greedy")), twice.decode(batch, Search("greedy")), strict=True):
        assert twice.texts(joined) == alone.texts(mine)
        pairs = zip(alone.words(mine), twice.words(joined), strict=True)
        assert all((a.text, a.start_s, a.end_s) == (b.text, b.start_s, b.end_s) for a, b in pairs)
    once = Ensemble(decoders(models[:1]))
    for mine, joined in zip(once.decode(batch, BEAM), twice.decode(batch, BEAM), strict=True):
        assert twice.texts(joined) == once.texts(mine)
        assert [found.score for found in joined.hypotheses] == pytest.approx([found.score for found in mine.hypotheses])


def test_the_lists_of_all_models_are_joined(models):
    batch, several = batch_of("ab cd", "cd"), decoders(models)
    found = Ensemble(several).decode(batch, BEAM)
    for row, decoded in enumerate(found):
        lists = [decoder.decode(batch, BEAM)[row] for decoder in several]
        pairs = [
            (decoder.texts(mine), [hypothesis.score for hypothesis in mine.hypotheses])
            for decoder, mine in zip(several, lists, strict=True)
        ]
        joined = join(pairs)
        assert list(decoded.texts) == [candidate.text for candidate in joined]
        assert len(decoded.texts) > max(len(texts) for texts, _ in pairs)
        assert np.exp([item.score for item in decoded.hypotheses]).sum() == pytest.approx(1)


def test_the_posteriors_are_those_of_the_model_whose_tokens_are_taken(models):
    batch, several = batch_of("ab cd", "cd"), decoders(models)
    for row, decoded in enumerate(Ensemble(several).decode(batch, Search("beam", keep_posteriors=True))):
        own = several[decoded.owner].decode(batch, Search("greedy", keep_posteriors=True))[row].posteriors
        assert decoded.posteriors.model == decoded.owner
        np.testing.assert_array_equal(decoded.posteriors.levels, own.levels)
        np.testing.assert_array_equal(decoded.posteriors.tokens, own.tokens)


def test_an_utterance_is_recognised_alike_alone_and_in_a_batch(models):
    texts, together = ["ab cd", "cd", "a b c d ab ab"], Ensemble(decoders(models))
    batch = batch_of(*texts)
    for row, decoded in enumerate(together.decode(batch, BEAM)):
        (alone,) = together.decode(batch.only(row), BEAM)
        assert alone.texts[0] == decoded.texts[0]
        assert alone.owner == decoded.owner
        scores = {text: item.score for text, item in zip(decoded.texts, decoded.hypotheses, strict=True)}
        for text, item in zip(alone.texts, alone.hypotheses, strict=True):
            assert np.exp(item.score) == pytest.approx(np.exp(scores.get(text, -np.inf)), abs=1e-4)


def test_models_may_differ_in_tokens_and_frames(tmp_path):
    folders = [
        write_model(tmp_path / "a", 1),
        write_model(tmp_path / "b", 2, "abxyz "),
        write_model(tmp_path / "c", 3, "abcd ", "model.subsampling=2", "features.hop_ms=8", "model.rnn=gru"),
    ]
    together, batch = Ensemble(decoders(folders)), batch_of("ab cd", "cd", "abab abab")
    duration_s = batch.lengths.numpy() / 16000
    owners = set()
    for decoded, length_s in zip(together.decode(batch, BEAM), duration_s, strict=True):
        words = together.words(decoded)
        owners.add(decoded.owner)
        assert " ".join(word.text for word in words) == decoded.texts[0]
        assert all(0 <= word.start_s <= word.end_s <= length_s + 0.1 for word in words)
        assert all(0 <= word.confidence <= 1 for word in words)
    assert owners <= {0, 1, 2}


@pytest.mark.parametrize("setting", ["features.sample_rate_hz=8000", "text.case=upper", "features.cmvn=speaker"])
def test_models_of_another_rate_or_spelling_are_refused_by_name(models, tmp_path, setting):
    name, _, value = setting.partition("=")
    other = write_model(tmp_path / "other", 4, "ABCD " if value == "upper" else "abcd ", setting)
    with pytest.raises(ModelError, match=rf"other: {name} is '?{value}'?, that of .*m1"):
        asr.load([models[0], other], accelerator="cpu")
    with pytest.raises(ModelError, match="no model folder is given"):
        asr.load([])


def test_a_recogniser_of_several_models_transcribes_and_refuses_what_takes_one(models, rng):
    audio = tone_speech("ab cd", rng)
    recognizer = asr.load(models, accelerator="cpu")
    assert "m1 and 2 more" in repr(recognizer)
    found = recognizer.transcribe(audio, sample_rate_hz=16000, method="beam", segment="none", n_best=4)
    assert found.n_best[0].text == found.text
    assert len(found.n_best) == 4
    assert len({item.text for item in found.n_best}) == 4
    for what in (lambda: recognizer.align(audio, "ab"), lambda: next(recognizer.stream([audio], sample_rate_hz=16000))):
        with pytest.raises(ConfigError, match="takes one model, not 3"):
            what()
    assert repr(asr.load(models[:1], accelerator="cpu")) == repr(asr.load(models[0], accelerator="cpu"))


def test_commands_take_several_models(models, tmp_path, succeed, rng):
    audio = tmp_path / "a.wav"
    soundfile.write(audio, tone_speech("ab cd", rng), 16000)
    write_manifest([make_cut("a", audio, "ab cd", None)], tmp_path / "test.jsonl.gz")
    folder = tmp_path / "decoded"
    succeed("decode", *models, tmp_path / "test.jsonl.gz", "--out", folder, "--method", "beam", "--accelerator", "cpu")
    record = json.loads((folder / "hyp.jsonl").read_text(encoding="utf-8"))
    expected = asr.load(models, accelerator="cpu").transcribe(audio, method="beam", segment="none")
    assert record["text"] == record["nbest"][0]["text"] == expected.text
    options = ["--method", "beam", "--segment", "none", "--accelerator", "cpu"]
    options += ["--with", models[1], "--with", models[2]]
    assert succeed("transcribe", models[0], audio, *options) == f"{expected.text}\n"
    succeed("transcribe", models[0], audio, "--out", tmp_path / "o", *options)
    assert (tmp_path / "o" / "a.txt").read_text(encoding="utf-8") == f"{expected.text}\n"


def test_another_process_loads_the_same_models(models):
    together, batch = Ensemble(decoders(models)), batch_of("ab cd", "cd")
    again = pickle.loads(pickle.dumps(together))
    assert [decoder.bundle.folder for decoder in again.decoders] == [folder.absolute() for folder in models]
    texts = [[found.texts for found in ensemble.decode(batch, BEAM)] for ensemble in (together, again)]
    assert texts[0] == texts[1]
