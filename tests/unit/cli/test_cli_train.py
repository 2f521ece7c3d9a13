"""`asr train`, as a user calls it."""

import json
import shutil

import pytest
from conftest import TINY

import asr
from asr.corpus.manifest import read_manifest, write_manifest


def test_a_recording_that_is_gone_is_named_with_the_way_out(call, tone_corpus, tmp_path):
    cuts = list(read_manifest(tone_corpus / "train.jsonl.gz"))
    cuts[5].recording.sources[0].source = str(tmp_path / "gone.wav")
    write_manifest(cuts, tmp_path / "data" / "train.jsonl.gz")
    shutil.copy(tone_corpus / "dev.jsonl.gz", tmp_path / "data")
    settings = [part for setting in TINY for part in ("--set", setting)]
    status, _, err = call("train", "--data", tmp_path / "data", "--out", tmp_path / "out", *settings)
    assert status == 1
    message = err.replace("\n", "")
    assert "gone.wav: no such file" in message
    assert f"`asr check {tmp_path / 'data'} --out DIR`" in message


def test_a_run_that_is_finished_says_so_when_it_is_resumed(call, tone_corpus, tmp_path):
    settings = [part for setting in (*TINY, "training.epochs=1") for part in ("--set", setting)]
    arguments = ("train", "--data", tone_corpus, "--out", tmp_path, *settings)
    assert call(*arguments)[0] == 0
    status, out, _ = call(*arguments, "--resume")
    assert status == 0
    assert "finished  the run was trained before, 1 epoch\n" in out


def test_a_recording_of_noise_that_is_damaged_is_not_blamed_on_the_manifest(call, tone_corpus, tmp_path):
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "bad.wav").write_bytes(b"RIFF")
    noisy = ("augment.noise_share=1", f"augment.noise_dir={tmp_path / 'noise'}")
    settings = [part for setting in (*TINY, *noisy) for part in ("--set", setting)]
    status, _, err = call("train", "--data", tone_corpus, "--out", tmp_path / "out", *settings)
    assert status == 1
    assert "augment.noise_dir" in err
    assert "asr check" not in err


def test_hours_train_on_a_part_of_the_data_and_stand_in_the_model_s_settings(succeed, tone_corpus, tmp_path):
    settings = [part for setting in (*TINY, "training.epochs=1") for part in ("--set", setting)]
    succeed("train", "--data", tone_corpus, "--out", tmp_path / "out", "--hours", "0.01", *settings)
    facts = json.loads((tmp_path / "out/training.json").read_text())
    assert 0 < facts["train_utterances"] < 96
    assert 30 < facts["train_s"] <= 36
    assert asr.load_config(tmp_path / "out/config.yaml").training.hours == 0.01


@pytest.mark.parametrize(
    ("override", "command"), [("rnnlm.layers=1", "asr lm rnn"), ("pretraining.epochs=3", "asr pretrain")]
)
def test_settings_that_training_has_no_use_for_are_refused_by_name(call, tone_corpus, tmp_path, override, command):
    for arguments in (("train",), ("distill", "an4")):
        status, _, err = call(*arguments, "--data", tone_corpus, "--out", tmp_path / "out", "--set", override)
        assert status == 1
        assert override in err
        assert command in err
        assert not (tmp_path / "out").exists()


def test_a_table_in_place_of_a_data_folder_is_answered_with_the_next_command(call, tmp_path):
    (tmp_path / "my.csv").write_text("audio,text\na.wav,hello\n")
    status, _, err = call("train", "--data", tmp_path / "my.csv", "--out", tmp_path / "out")
    assert status == 1
    assert f"`asr import csv {tmp_path / 'my.csv'} --out DIR` makes one of a table" in err.replace("\n", "")
    (tmp_path / "kaldi").mkdir()
    (tmp_path / "kaldi" / "wav.scp").write_text("a a.wav\n")
    status, _, err = call("train", "--data", tmp_path / "kaldi", "--out", tmp_path / "out")
    assert f"`asr import kaldi {tmp_path / 'kaldi'} --out DIR`" in err.replace("\n", "")
    assert not (tmp_path / "out").exists()
