"""A pretrained encoder in front: training, the model folder, what is frozen, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file
from small_encoder import write_encoder

import asr
from asr.bundle.bundle import ModelBundle
from asr.bundle.encoder_folder import load_encoder
from asr.errors import ConfigError, ModelError
from asr.features.batch import collate
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.training.reports import StepReport
from asr.training.trainer import training_reports

SETTINGS = (*TINY, "training.epochs=2", "training.batch_s=40", "augment.speeds=[1.0]")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoders") / "base")


def config_with(encoder: Path, *more: str):
    return load_config(None, [*SETTINGS, f"features.encoder={encoder}", *more])


@pytest.fixture(scope="module")
def trained(encoder, tone_corpus, tmp_path_factory):
    """A run with a frozen encoder, whole."""
    folder = tmp_path_factory.mktemp("runs") / "frozen"
    asr.train(config_with(encoder), tone_corpus, folder)
    return folder


def run_with_stop(config, corpus, out, *, steps):
    """Train until a checkpoint after some steps, then leave the run as a kill would."""
    reports = training_reports(config, corpus, out)
    taken = 0
    for report in reports:
        taken += isinstance(report, StepReport)
        if taken > steps:
            break
    reports.close()


def test_the_encoder_is_in_neither_weights_nor_checkpoints(trained):
    for name in ("model.safetensors", "checkpoints/last.safetensors"):
        assert not [key for key in load_file(trained / name) if "feature_extractor" in key or "attention" in key]
    assert "mix.logits" in load_file(trained / "model.safetensors")


def test_the_mix_of_layers_is_learnt(trained):
    logits = load_file(trained / "model.safetensors")["mix.logits"]
    assert logits.shape == (4,)
    assert logits.std() > 0


@pytest.mark.parametrize("more", [[], ["features.unfreeze_layers=2"]], ids=["frozen", "unfrozen"])
def test_a_run_that_is_killed_resumes_bit_for_bit(encoder, tone_corpus, tmp_path, more):
    config = config_with(encoder, "training.checkpoint_every_s=0", *more)
    asr.train(config, tone_corpus, tmp_path / "whole")
    run_with_stop(config, tone_corpus, tmp_path / "killed", steps=3)
    asr.train(config, tone_corpus, tmp_path / "killed", resume=True)
    for name in ("model.safetensors", "checkpoints/last.safetensors"):
        wanted, found = load_file(tmp_path / "whole" / name), load_file(tmp_path / "killed" / name)
        assert wanted.keys() == found.keys()
        assert all(torch.equal(tensor, found[key]) for key, tensor in wanted.items())


def test_only_the_last_layers_are_trained_and_at_a_rate_of_their_own(encoder, tone_corpus, tmp_path):
    before = load_file(encoder / "model.safetensors")
    for rate in ("1e-9", "1e-3"):
        settings = ["features.unfreeze_layers=1", f"training.encoder_learning_rate={rate}", "training.ema_decay=0"]
        asr.train(config_with(encoder, *settings), tone_corpus, tmp_path / rate)
        after = load_file(tmp_path / rate / "model.safetensors")
        layers = {key for key in after if key.startswith("encoder_layers.")}
        assert layers
        assert all(key.startswith("encoder_layers.0.") for key in layers)
        moved = max(
            float((after[key] - before[key.replace("encoder_layers.0.", "encoder.layers.2.")]).abs().max())
            for key in layers
        )
        assert (moved > 1e-4) is (rate == "1e-3")
    assert all(torch.equal(tensor, before[key]) for key, tensor in load_file(encoder / "model.safetensors").items())


def test_an_unfrozen_model_computes_the_same_after_saving(encoder, tmp_path):
    config = config_with(encoder, "features.unfreeze_layers=2")
    tokens = asr.text.tokens.TokenTable.from_texts(["abcd "])
    loaded, identity = load_encoder(str(encoder))
    model = AcousticModel(config, len(tokens), identity)
    model.attach(loaded, fresh=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    ModelBundle(config, tokens, model.eval()).save(tmp_path / "model")
    waveforms, lengths = 0.1 * torch.randn(2, 9000), torch.tensor([9000, 5000])
    again = ModelBundle.load(tmp_path / "model").model
    torch.testing.assert_close(again(waveforms, lengths), model(waveforms, lengths), atol=0, rtol=0)


def test_a_fresh_unfrozen_model_has_the_features_of_the_frozen_one(encoder):
    features = []
    for count in (0, 1, 3):
        loaded, identity = load_encoder(str(encoder))
        torch.manual_seed(4)  # the projection is the same
        model = AcousticModel(config_with(encoder, f"features.unfreeze_layers={count}"), 5, identity).eval()
        model.attach(loaded, fresh=True)
        torch.manual_seed(4)
        features.append(model.features(torch.randn(2, 8000), torch.tensor([8000, 3000]))[0])
    for other in features[1:]:
        torch.testing.assert_close(other, features[0], atol=1e-6, rtol=1e-5)


def test_gradients_of_unfrozen_layers_are_those_without_computing_again(encoder):
    """With neither dropout nor layer drop the training pass is the plain one."""
    quiet = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0}
    loaded, identity = load_encoder(str(encoder))
    identity = identity.model_copy(update={"form": loaded.form.model_copy(update=quiet)})
    loaded.form = identity.form
    model = AcousticModel(config_with(encoder, "features.unfreeze_layers=2"), 5, identity)
    model.attach(loaded, fresh=True)
    waveforms, lengths = torch.randn(2, 8000), torch.tensor([8000, 3000])
    gradients = []
    for mode in (True, False):
        model.encoder_layers.train(mode)
        features, _ = model.features(waveforms, lengths)
        gradients.append(
            torch.autograd.grad(features.square().sum() + features.sum(), model.encoder_layers.parameters())
        )
    for again, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, atol=1e-5, rtol=1e-4)


def test_one_utterance_alone_is_as_in_any_batch(trained):
    model = ModelBundle.load(trained).model
    rng = np.random.default_rng(0)
    waveforms = [torch.tensor(rng.normal(0, 0.1, size), dtype=torch.float32) for size in (16000, 3000, 8001)]
    batch = collate(waveforms, [[]] * 3, ["a", "b", "c"])
    together, frames = model(batch.waveforms, batch.lengths)
    for row, waveform in enumerate(waveforms):
        alone, count = model(waveform[None], batch.lengths[row : row + 1])
        assert count == frames[row]
        torch.testing.assert_close(together[row, : frames[row]], alone[0], atol=1e-4, rtol=0)


def test_it_transcribes_and_words_have_times_and_confidences(trained, tone_corpus):
    transcript = asr.load(trained).transcribe(str(tone_corpus / "audio" / "test-000.wav"), segment="none")
    for word in transcript.words:
        assert 0 <= word.start_s < word.end_s <= transcript.duration_s
        assert 0 <= word.confidence <= 1


def test_the_card_names_the_encoder(encoder, trained):
    assert (
        f"| pretrained encoder | `{encoder}`, which is no part of this folder |" in (trained / "README.md").read_text()
    )


def test_a_smaller_folder_transcribes_as_the_whole_one(trained, tone_corpus, tmp_path):
    asr.export(trained, tmp_path / "small", format="torch")
    audio = str(tone_corpus / "audio" / "test-001.wav")
    assert asr.load(tmp_path / "small").transcribe(audio).text == asr.load(trained).transcribe(audio).text


def test_another_encoder_in_its_place_is_refused_and_both_are_named(encoder, trained, tmp_path):
    other = write_encoder(tmp_path / "other", seed=1)
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.yaml", "tokens.json", "model.safetensors", "decoder.yaml", "encoder.json"):
        (folder / name).write_bytes((trained / name).read_bytes())
    settings = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(settings.replace(str(encoder), str(other)))
    sums = [load_encoder(str(path))[1].checksum for path in (encoder, other)]
    with pytest.raises(ModelError, match=rf"needs the encoder {encoder} .*{sums[0]}.*but there is {other} .*{sums[1]}"):
        ModelBundle.load(folder)


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b"[1]", b'{"name": "x", "form": {"model_type": "wav2vec2"}, "checksum": "0"}']
)
def test_a_damaged_file_that_names_the_encoder_is_an_error_that_names_the_file(trained, tmp_path, content):
    for name in ("config.yaml", "tokens.json", "model.safetensors", "decoder.yaml"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    if content is not None:
        (tmp_path / "encoder.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"encoder\.json"):
        ModelBundle.load(tmp_path)


def test_its_gradients_are_diagnosed_and_the_encoder_stays_as_it_is(trained):
    diagnosis = asr.diagnose(trained)
    assert all(gradients.whole > 0 for gradients in diagnosis.trained)
    bundle = ModelBundle.load(trained)
    assert bundle.model.encoder.on(torch.device("cpu")).feature_projection.projection.weight.dtype == torch.float32


def test_a_folder_is_named_so_that_it_is_found_from_elsewhere(encoder, tone_corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(encoder.parent)
    asr.train(config_with(Path("base"), "training.epochs=1"), tone_corpus, tmp_path / "whole")
    monkeypatch.chdir(tmp_path)
    assert ModelBundle.load(tmp_path / "whole").config.features.encoder == str(encoder)


def test_an_encoder_that_is_gone_is_an_error_that_names_it(tone_corpus, tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(ModelError, match=f"{gone}: no such folder"):
        asr.train(config_with(gone), tone_corpus, tmp_path / "out")


def test_a_pickle_is_refused_with_the_way_to_convert_it(encoder, tmp_path):
    (tmp_path / "config.json").write_bytes((encoder / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: a pickle.*convert it once.*save_pretrained"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "data2vec-audio"}, "model_type.*wav2vec 2.0, HuBERT, WavLM"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "only encoders with 400 and 320"),
        ({"adapter_attn_dim": 16}, "adapter_attn_dim"),
        ({"hidden_size": 28}, "has the shape"),
        ({"num_hidden_layers": 4}, r"lack encoder\.layers\.3"),
        ({"num_hidden_layers": 2}, r"encoder\.layers\.2.* is no weight"),
        ({"layer_norm_eps": 1e-3}, "layer_norm_eps"),
    ],
)
def test_an_encoder_of_another_kind_is_refused(encoder, tmp_path, changed, message):
    for file in encoder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((encoder / "config.json").read_text()) | changed
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=message):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["features.hop_ms=5"], "features.hop_ms"),
        (["features.cmvn=global"], "features.cmvn"),
        (["features.sample_rate_hz=8000"], "features.sample_rate_hz"),
    ],
)
def test_settings_of_log_mel_are_refused_with_an_encoder(settings, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, ["features.encoder=x/y", *settings])


def test_layers_cannot_be_unfrozen_without_an_encoder_or_beyond_its_own(encoder):
    with pytest.raises(ConfigError, match="unfreeze_layers"):
        load_config(None, ["features.unfreeze_layers=1"])
    _, identity = load_encoder(str(encoder))
    with pytest.raises(ModelError, match="has 3 layers"):
        AcousticModel(config_with(encoder, "features.unfreeze_layers=4"), 5, identity)
