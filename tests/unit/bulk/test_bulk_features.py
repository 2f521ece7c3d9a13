"""Features of a pretrained encoder on disk: the same as computed in place, resumed, and what training makes of them."""

import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY
from safetensors import safe_open
from safetensors.torch import load_file
from small_encoder import write_encoder

import asr
from asr.bulk import features
from asr.bundle.bundle import ModelBundle
from asr.bundle.encoder_folder import load_encoder
from asr.bundle.stored_features import StoredFeatures
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import read_manifest, write_manifest
from asr.errors import ConfigError, ManifestError, ModelError
from asr.features.augment import perturb_speed
from asr.model.encoder import normalised_states
from asr.settings_file import load_config

SETTINGS = (*TINY, "training.epochs=1", "training.batch_s=40")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoders") / "base")


@pytest.fixture
def corpus(tone_corpus, tmp_path):
    """Some of the tones: 24 utterances of train, 4 of dev, 2 of test."""
    for split, count in (("train", 24), ("dev", 4), ("test", 2)):
        write_manifest(
            list(read_manifest(tone_corpus / f"{split}.jsonl.gz"))[:count], tmp_path / "data" / f"{split}.jsonl.gz"
        )
    return tmp_path / "data"


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr("asr.bundle.stored_features._SHARD_S", 6.0)


def test_features_from_disk_are_those_computed_in_place_to_half_precision(encoder, corpus, tmp_path):
    report = asr.compute_features(corpus, tmp_path / "out", encoder=str(encoder), speeds=[1, 0.9])
    assert report.utterances == {"train": 24, "dev": 4}
    stored = StoredFeatures.load(tmp_path / "out")
    network, _ = load_encoder(str(encoder))
    for cut in read_manifest(tmp_path / "out" / "train.jsonl.gz"):
        for speed in (0.9, 1.0):
            waveform = torch.from_numpy(perturb_speed(load_cut(cut, 16000), speed))
            states, _ = network(waveform[None], torch.tensor([len(waveform)]))
            torch.testing.assert_close(
                stored.of(cut, speed).float(), normalised_states(states[0]), atol=2e-3, rtol=1e-3
            )


def test_a_training_from_disk_gives_the_model_of_a_training_in_place(encoder, corpus, tmp_path):
    """With the same order, tempos and masks, only the rounding to half precision differs."""
    asr.compute_features(corpus, tmp_path / "out", encoder=str(encoder), speeds=[0.9, 1, 1.1])
    asr.train(load_config(None, [*SETTINGS, f"features.encoder={encoder}"]), corpus, tmp_path / "in_place")
    asr.train(load_config(None, SETTINGS), tmp_path / "out", tmp_path / "from_disk")
    wanted, found = (load_file(tmp_path / run / "model.safetensors") for run in ("in_place", "from_disk"))
    assert wanted.keys() == found.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(
            found[name], tensor, atol=3e-3, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
    config = ModelBundle.load(tmp_path / "from_disk").config  # the encoder is found by its name
    assert config.features.encoder == str(encoder)


def test_a_training_from_disk_reads_neither_audio_nor_encoder(encoder, corpus, tmp_path, monkeypatch):
    asr.compute_features(corpus, tmp_path / "out", encoder=str(encoder))

    def refuse(*_):
        raise AssertionError("read")

    monkeypatch.setattr("asr.features.batching.load_cut", refuse)
    monkeypatch.setattr("asr.training.run.load_encoder", refuse)
    monkeypatch.setattr("asr.training.survey.audio_info", refuse)
    settings = [*SETTINGS, "augment.speeds=[1.0]", "training.precision=auto"]  # steps are timed, too
    asr.train(load_config(None, settings), tmp_path / "out", tmp_path / "model")


def test_work_that_was_interrupted_goes_on_and_whole_files_stay(encoder, corpus, tmp_path, small_shards, monkeypatch):
    asr.compute_features(corpus, tmp_path / "whole", encoder=str(encoder))
    write, written = features._write, []

    def fail_at_the_third(path, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *rest)

    monkeypatch.setattr(features, "_write", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        asr.compute_features(corpus, tmp_path / "out", encoder=str(encoder))
    assert not (tmp_path / "out" / "train.jsonl.gz").exists()
    times = [path.stat().st_mtime_ns for path in written]
    monkeypatch.setattr(features, "_write", write)
    asr.compute_features(corpus, tmp_path / "out", encoder=str(encoder))
    assert [path.stat().st_mtime_ns for path in written] == times
    whole = sorted((tmp_path / "whole" / "features").iterdir())
    assert len(whole) > 3
    for path in whole:
        assert (tmp_path / "out" / "features" / path.name).read_bytes() == path.read_bytes()
    for name in ("train.jsonl.gz", "dev.jsonl.gz", "test.jsonl.gz"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_several_processes_write_what_one_writes(encoder, corpus, tmp_path, small_shards, monkeypatch):
    monkeypatch.setattr("asr.bundle.stored_features._SHARD_S", 120.0)  # that of the other processes
    asr.compute_features(corpus, tmp_path / "one", encoder=str(encoder))
    asr.compute_features(corpus, tmp_path / "two", encoder=str(encoder), jobs=2)
    for path in sorted((tmp_path / "one" / "features").iterdir()):
        assert (tmp_path / "two" / "features" / path.name).read_bytes() == path.read_bytes()


def test_an_unreadable_recording_is_left_out_and_listed(encoder, corpus, tmp_path, call):
    cuts = list(read_manifest(corpus / "train.jsonl.gz"))
    audio = tmp_path / "bad.wav"
    soundfile.write(audio, np.zeros(100), 16000)
    cuts[5].recording.sources[0].source = str(audio)
    (corpus / "train.jsonl.gz").unlink()
    write_manifest(cuts, corpus / "train.jsonl.gz")
    status, out, err = call("features", corpus, "--encoder", encoder, "--out", tmp_path / "out")
    assert status == 2
    assert "23 utterances" in out
    assert cuts[5].id in err
    assert cuts[5].id not in {cut.id for cut in read_manifest(tmp_path / "out" / "train.jsonl.gz")}


def test_features_take_the_space_that_the_page_says(encoder, corpus, tmp_path):
    """Two bytes for each value: states × width, 50 times a second."""
    report = asr.compute_features(corpus, tmp_path / "out", encoder=str(encoder))
    values = 0
    for split in ("train", "dev"):
        for cut in read_manifest(corpus / f"{split}.jsonl.gz"):
            values += (round(cut.duration * 16000) // 320 + 1) * 4 * 24
    assert 2 * values < report.size_bytes < 2 * values + 20_000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["augment.speeds=[0.9,1.0]"], r"augment\.speeds.*--speed 0\.9 --speed 1"),
        (["augment.speeds=[1.0]", "augment.noise_share=0.1"], r"augment\.noise_share=0\.1"),
        (["augment.speeds=[1.0]", "augment.reverb_share=0.1"], r"augment\.reverb_share=0\.1"),
        (["augment.speeds=[1.0]", "features.encoder=x/y", "features.unfreeze_layers=1"], "unfreeze_layers=1"),
        (["augment.speeds=[1.0]", "features.hop_ms=5"], r"features\.hop_ms"),
    ],
)
def test_what_stored_features_cannot_give_is_refused(encoder, corpus, tmp_path, settings, message):
    asr.compute_features(corpus, tmp_path / "out", encoder=str(encoder))
    with pytest.raises(ConfigError, match=message):
        asr.train(load_config(None, [*SETTINGS, *settings]), tmp_path / "out", tmp_path / "model")


def test_audio_without_transcripts_has_no_stored_features(encoder, corpus, tmp_path):
    asr.compute_features(corpus, tmp_path / "out", encoder=str(encoder))
    config = load_config(None, [*SETTINGS, "augment.speeds=[1.0]"])
    with pytest.raises(ConfigError, match="without transcripts has no stored features"):
        asr.train(config, tmp_path / "out", tmp_path / "model", unlabelled=corpus / "test.jsonl.gz")


def test_other_data_another_encoder_or_other_speeds_are_refused(encoder, corpus, tmp_path):
    out = tmp_path / "out"
    asr.compute_features(corpus, out, encoder=str(encoder))
    other = write_encoder(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match=f"needs the encoder {encoder}.*there is {other}"):
        asr.compute_features(corpus, out, encoder=str(other))
    with pytest.raises(ManifestError, match="other speeds"):
        asr.compute_features(corpus, out, encoder=str(encoder), speeds=[1, 1.1])
    cuts = list(read_manifest(corpus / "train.jsonl.gz"))
    write_manifest(cuts[1:], corpus / "train.jsonl.gz")
    with pytest.raises(ManifestError, match="other manifests"):
        asr.compute_features(corpus, out, encoder=str(encoder))


def test_a_damaged_file_is_an_error_that_names_it(encoder, corpus, tmp_path):
    asr.compute_features(corpus, tmp_path / "out", encoder=str(encoder))
    path = tmp_path / "out" / "features" / "train-000000.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ManifestError, match=r"train-000000\.safetensors.*run `asr features` again"):
        asr.train(load_config(None, [*SETTINGS, "augment.speeds=[1.0]"]), tmp_path / "out", tmp_path / "model")


def test_the_files_hold_half_precision_and_the_folder_names_the_encoder(encoder, corpus, tmp_path):
    asr.compute_features(corpus, tmp_path / "out", encoder=str(encoder))
    with safe_open(tmp_path / "out" / "features" / "dev-000000.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118 (no mapping)
    content = json.loads((tmp_path / "out" / "features.json").read_text())
    assert content["encoder"]["checksum"] == load_encoder(str(encoder))[1].checksum
