"""`asr settings` prints a settings file that is read back as the same settings, and says of each what it takes."""

import pytest

from asr.config import Config
from asr.settings_file import load_config


def test_what_is_printed_is_a_settings_file_of_the_same_settings(call, tmp_path):
    overrides = ["model.rnn=gru", "augment.speeds=[1]", "text.remove='#:,'", "training.bptt_frames=null"]
    status, out, err = call("settings", *(part for override in overrides for part in ("--set", override)))
    assert (status, err) == (0, "")
    assert all(len(line) <= 80 for line in out.splitlines())
    path = tmp_path / "mine.yaml"
    path.write_text(out)
    assert load_config(path) == load_config(None, overrides)
    status, again, _ = call("settings", "--config", path)
    assert again == out


def test_every_setting_is_there_with_what_it_takes(call):
    _, out, _ = call("settings")
    lines = {line.partition(":")[0].strip(): line for line in out.splitlines()}
    for name in Config.model_fields:
        assert lines.keys() >= {name, *type(getattr(Config(), name)).model_fields}
    assert lines["mel_bins"].startswith("  mel_bins: 80                    # Number of mel bands")
    whole = " ".join(out.replace("#", " ").split())
    assert "finer detail of the frequencies (8 to 256) encoder" in whole
    assert "epochs: 50 Number of passes over the training data (at least 1)" in whole
    assert "against overfitting; 0: off (at least 0, below 1)" in whole
    assert "if there is one (auto | cpu | cuda)" in whole
    assert "rnn: lstm Cell of the recurrent layers; tanh and relu are simple cells without gates " in whole
    assert "without gates (lstm | gru | tanh | relu)" in whole
    assert "first freeze_steps steps (subsampling | layers | output)" in whole
    assert "rnnlm: Recurrent language model of `asr lm rnn`." in whole


def test_a_value_that_cannot_be_is_refused_with_its_key(call):
    status, _, err = call("settings", "--set", "model.hidden_size=5")
    assert status == 1
    assert "model.hidden_size" in err


@pytest.mark.parametrize("recipe", ["an4", "quickstart", "yesno", "custom"])
def test_a_recipe_s_settings_are_shown(call, recipe):
    status, out, _ = call("settings", "--config", f"conf/{recipe}.yaml")
    assert status == 0
    assert "hidden_size: " in out
