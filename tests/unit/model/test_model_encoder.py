"""Hidden states of pretrained encoders against transformers, and their independence of neighbours."""

import json
import re
import shutil
import sys

import pytest
import torch
from pretend_gpu import on_gpu, pretend_gpu
from safetensors.torch import load_file, save_file
from small_encoder import BASE, LARGE, SHAPE, write_encoder

from asr.bundle.encoder_folder import load_encoder
from asr.errors import DependencyError, ModelError

KINDS = {
    "wav2vec2-base": ("Wav2Vec2", BASE),
    "wav2vec2-large": ("Wav2Vec2", LARGE),
    "hubert-base": ("Hubert", BASE),
    "hubert-large": ("Hubert", LARGE),
    "wavlm-base": ("WavLM", BASE),
    "wavlm-large": ("WavLM", LARGE),
}
LENGTHS = (16000, 7321, 400, 11111)


def published(kind, folder):
    """Write a random model of transformers as it would be published, and return it."""
    transformers = pytest.importorskip("transformers", reason="the oracle of pretrained encoders")
    name, shape = KINDS[kind]
    settings = SHAPE | shape
    if name == "WavLM":
        settings |= {"num_buckets": 32, "max_bucket_distance": 40}
    torch.manual_seed(3)
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**settings)).eval()
    with torch.no_grad():  # as training would: no weight is 0 or 1 any more
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True, "sampling_rate": 16000}))
    return model


def padded(lengths=LENGTHS):
    waveforms = [0.3 * torch.randn(length) + 0.05 for length in lengths]
    return waveforms, torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True), torch.tensor(lengths)


@torch.no_grad()
def hidden_states_of_transformers(model, samples, **mask):
    """Return all hidden states; the last is what the model returns, behind the norm that large models have there."""
    outputs = model(samples, output_hidden_states=True, **mask)
    return (*outputs.hidden_states[:-1], outputs.last_hidden_state)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_are_those_of_transformers_alone_and_padded_in_a_batch(kind, tmp_path):
    model = published(kind, tmp_path)
    encoder, _ = load_encoder(str(tmp_path))
    waveforms, batch, lengths = padded()
    states, frames = encoder.hidden_states(batch, lengths)
    for row, waveform in enumerate(waveforms):
        wanted = hidden_states_of_transformers(model, waveform[None])
        alone, _ = encoder.hidden_states(waveform[None], lengths[row : row + 1])
        assert len(states) == len(alone) == len(wanted) == SHAPE["num_hidden_layers"] + 1
        for layer, state in enumerate(wanted):
            assert frames[row] == state.shape[1]
            torch.testing.assert_close(alone[layer], state, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(states[layer][row : row + 1, : frames[row]], state, atol=1e-5, rtol=1e-5)


def test_the_encoder_of_a_fine_tuned_model_is_read_under_old_names_in_half_precision_and_several_files(tmp_path):
    """What is behind the encoder is left out; position weights had other names until transformers 4.36."""
    transformers = pytest.importorskip("transformers", reason="the oracle of pretrained encoders")
    torch.manual_seed(3)
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**SHAPE, **BASE, vocab_size=9)).eval().half()
    model.save_pretrained(tmp_path)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = load_file(tmp_path / "model.safetensors")
    assert any(key.startswith("lm_head") for key in tensors)
    for new, name in old.items():
        position = f"wav2vec2.encoder.pos_conv_embed.conv.{new}"
        tensors[position.replace(new, name)] = tensors.pop(position)
    (tmp_path / "model.safetensors").unlink()
    keys = sorted(tensors)
    for part, some in enumerate((keys[::2], keys[1::2])):
        save_file({key: tensors[key] for key in some}, tmp_path / f"model-0000{part + 1}-of-00002.safetensors")
    encoder, _ = load_encoder(str(tmp_path))
    waveform = torch.randn(1, 5000)
    wanted = hidden_states_of_transformers(model.float().wav2vec2, waveform)
    states, _ = encoder.hidden_states(waveform, torch.tensor([5000]))
    torch.testing.assert_close(states, list(wanted), atol=1e-5, rtol=1e-5)


def test_a_name_on_the_hub_is_downloaded_without_pickles(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="the hub's client")
    folder, asked = write_encoder(tmp_path / "encoder"), []

    kept = tmp_path / "kept"

    def snapshot_download(name, *, allow_patterns, local_files_only=False):
        if local_files_only:
            return str(kept)
        assert all(pattern.endswith((".json", ".safetensors")) for pattern in allow_patterns)
        asked.append(name)
        shutil.copytree(folder, kept, dirs_exist_ok=True)
        return str(kept)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    kept.mkdir()  # as an interrupted download leaves it
    shutil.copy(folder / "config.json", kept)
    for _ in range(2):
        _, identity = load_encoder("somebody/an-encoder")
        assert identity.name == "somebody/an-encoder"
        assert identity.checksum == load_encoder(str(folder))[1].checksum
    assert asked == ["somebody/an-encoder"], "the second time the network is not asked"


def test_what_the_hub_has_as_a_pickle_only_is_refused_with_the_way_to_convert_it(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="the hub's client")
    (write_encoder(tmp_path / "encoder") / "model.safetensors").unlink()
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(tmp_path / "encoder"))
    with pytest.raises(ModelError, match=r"only a pickle.*from_pretrained\('a/b'\)\.save_pretrained\('encoders/b'\)"):
        load_encoder("a/b")


def test_the_command_that_converts_a_pickle_gives_a_folder_that_is_read(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers", reason="the oracle of pretrained encoders")
    model = published("wav2vec2-base", tmp_path)
    wanted = load_encoder(str(tmp_path))[1]
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True, sampling_rate=16000).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError) as refused:
        load_encoder(str(tmp_path))
    exec(re.search(r'python -c "(.*?)"', str(refused.value))[1])
    assert load_encoder(str(tmp_path))[1].checksum == wanted.checksum


def test_a_hub_that_gives_nothing_is_an_error_and_so_is_its_missing_client(monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="the hub's client")

    def snapshot_download(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    with pytest.raises(ModelError, match=r"somebody/an-encoder: no such folder, and the .* hub .*\(no network\)"):
        load_encoder("somebody/an-encoder")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyError, match=r"pip install 'asr\[hub\]'"):
        load_encoder("somebody/an-encoder")


@pytest.mark.parametrize("kind", ["wav2vec2-large", "hubert-large", "wavlm-large"])
def test_with_an_attention_mask_transformers_agrees_on_a_batch_as_a_whole(kind, tmp_path):
    model = published(kind, tmp_path)
    encoder, _ = load_encoder(str(tmp_path))
    _, batch, lengths = padded()
    mask = torch.arange(batch.shape[1]) < lengths[:, None]
    wanted = hidden_states_of_transformers(model, batch, attention_mask=mask.long())
    states, frames = encoder.hidden_states(batch, lengths)
    valid = torch.arange(states[0].shape[1]) < frames[:, None]
    for state, expected in zip(states, wanted, strict=True):
        torch.testing.assert_close(state[valid], expected[valid], atol=1e-5, rtol=1e-5)


def test_the_waveform_is_normalised_as_transformers_does_over_its_own_samples(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the oracle of pretrained encoders")
    encoder, _ = load_encoder(str(write_encoder(tmp_path / "encoder")))
    waveforms, batch, lengths = padded()
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, sampling_rate=16000)
    wanted = extractor([waveform.numpy() for waveform in waveforms], sampling_rate=16000)["input_values"]
    normalised = encoder._normalised(batch, lengths)
    for row, samples in enumerate(wanted):
        torch.testing.assert_close(normalised[row, : lengths[row]], torch.tensor(samples), atol=1e-5, rtol=1e-5)
        assert not normalised[row, lengths[row] :].any()


@pytest.mark.parametrize("changed", [BASE, LARGE, {"model_type": "wavlm"}], ids=["base", "large", "wavlm"])
@pytest.mark.parametrize("do_normalize", [True, False])
def test_one_utterance_alone_is_as_in_any_batch(changed, do_normalize, tmp_path):
    encoder, _ = load_encoder(str(write_encoder(tmp_path / "encoder", do_normalize=do_normalize, **changed)))
    waveforms, batch, lengths = padded((12000, 5000, 1, 0, 9999))
    states, frames = encoder(batch + 3.0 * (torch.arange(batch.shape[1]) >= lengths[:, None]), lengths)
    assert frames.tolist() == [length // 320 + 1 for length in (12000, 5000, 1, 0, 9999)]
    for row, waveform in enumerate(waveforms):
        alone, _ = encoder(waveform[None], lengths[row : row + 1])
        torch.testing.assert_close(states[row, : frames[row]], alone[0], atol=1e-5, rtol=1e-4)


def test_a_frame_is_centred_on_a_multiple_of_320_samples(tmp_path):
    """Where the convolutions' input matters: 200 samples on either side of the centre and no others."""
    encoder, _ = load_encoder(str(write_encoder(tmp_path / "encoder", do_normalize=False, **LARGE)))
    samples = torch.nn.functional.pad(torch.randn(1, 3200), (200, 200)).requires_grad_()
    convolved, _ = encoder._convolved(samples, torch.tensor([3600]))
    convolved[0, 5].square().sum().backward()
    seen = samples.grad[0].nonzero() - 200
    assert (seen.min(), seen.max()) == (5 * 320 - 200, 5 * 320 + 199)


@pytest.mark.parametrize("changed", [BASE, LARGE, {"model_type": "wavlm"}], ids=["base", "large", "wavlm"])
@pytest.mark.parametrize("training", [True, False])
def test_nothing_waits_for_a_gpu(changed, training, tmp_path, monkeypatch):
    encoder, _ = load_encoder(str(write_encoder(tmp_path / "encoder", **changed)))
    with pretend_gpu(monkeypatch) as waits:
        on_gpu(encoder)
        layers = encoder.encoder.layers[-2:].train(training)
        samples = torch.empty(2, 9000, device="cuda")
        lengths = torch.empty(2, dtype=torch.int64, device="cuda")
        waits.clear()
        states, _ = encoder(samples, lengths, layers)
        assert states.shape == (2, 29, 4, 24)
        assert not waits
