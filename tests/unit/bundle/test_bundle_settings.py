"""Each setting of a model folder is in one file; the calibration is read as it was written."""

import pytest
import yaml

from asr.bundle.bundle import ModelBundle
from asr.bundle.settings import load_calibration, load_settings, save_calibration, save_decode_settings, save_settings
from asr.errors import ConfigError, ModelError
from asr.model.acoustic import AcousticModel
from asr.search_config import DecodeSettings
from asr.settings_file import load_config, save_config
from asr.text.normalise import normalise
from asr.text.tokens import TokenTable
from asr.transcript.confidence import Calibration
from tests.conftest import TINY

CONFIG = load_config(None, [*TINY, "decode.beam_size=7", "decode.lm_order=3"])


def test_each_setting_is_in_one_file_and_all_are_read_back(tmp_path):
    save_settings(CONFIG, tmp_path)
    sections = yaml.safe_load((tmp_path / "config.yaml").read_text())
    search = yaml.safe_load((tmp_path / "decoder.yaml").read_text())
    assert "decode" not in sections
    assert sections["model"]["hidden_size"] == 32
    assert (search["beam_size"], search["lm_order"]) == (7, 3)
    assert load_settings(tmp_path) == CONFIG


def test_a_folder_from_before_the_rule_of_apostrophes_keeps_its_curly_ones(tmp_path):
    save_settings(CONFIG, tmp_path)
    assert load_settings(tmp_path).text.apostrophes == "straight"
    sections = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del sections["text"]["apostrophes"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections))
    assert load_settings(tmp_path).text.apostrophes == "keep"


def test_a_folder_from_before_characters_were_cleaned_keeps_what_cleaning_would_change(tmp_path):
    save_settings(CONFIG, tmp_path)
    assert load_settings(tmp_path).text.clean
    sections = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del sections["text"]["clean"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(sections))
    text = load_settings(tmp_path).text
    assert normalise("Ａ\u200bＢ don\u2019t", text) == "ａ\u200bｂ don't"


def folder_from_before_levels(folder, cmvn):
    save_settings(load_config(None, [*TINY, f"features.cmvn={cmvn}"]), folder)
    sections = yaml.safe_load((folder / "config.yaml").read_text())
    sections["augment"]["gain_db"] = [0.0, 0.0]
    (folder / "config.yaml").write_text(yaml.safe_dump(sections))


def test_an_older_folder_that_normalises_by_the_utterance_is_read(tmp_path):
    folder_from_before_levels(tmp_path, "utterance")
    assert load_settings(tmp_path) == load_config(None, TINY)


def test_an_older_folder_whose_features_depend_on_the_level_is_refused_by_name(tmp_path):
    folder_from_before_levels(tmp_path, "global")
    with pytest.raises(ModelError, match=r"config\.yaml: .*depend on the level.*train it again"):
        load_settings(tmp_path)


def test_in_a_folder_that_has_settings_of_the_search_in_both_files_those_of_decoder_yaml_hold(tmp_path):
    save_config(CONFIG, tmp_path / "config.yaml")
    assert load_settings(tmp_path) == CONFIG
    save_decode_settings(DecodeSettings(beam_size=9), tmp_path)
    assert load_settings(tmp_path).decode == DecodeSettings(beam_size=9)
    tokens = TokenTable.from_texts(["abc "])
    bundle = ModelBundle(CONFIG, tokens, AcousticModel(CONFIG, len(tokens)))
    bundle.save(tmp_path / "model")
    save_config(CONFIG, tmp_path / "model" / "config.yaml")
    save_decode_settings(DecodeSettings(beam_size=9), tmp_path / "model")
    assert ModelBundle.load(tmp_path / "model").config.decode.beam_size == 9
    assert ModelBundle.load(tmp_path / "model", {"beam_size": 2}).config.decode == DecodeSettings(beam_size=2)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("decoder.yaml", "beam_size: many\n", ModelError),
        ("decoder.yaml", "", ModelError),
        ("config.yaml", "model: [\n", ConfigError),
    ],
)
def test_a_damaged_settings_file_is_named(tmp_path, name, content, error):
    save_settings(CONFIG, tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=name.replace(".", r"\.")):
        load_settings(tmp_path)


def test_a_calibration_is_read_as_written_and_a_folder_without_has_the_defaults(tmp_path):
    assert load_calibration(tmp_path) == Calibration()
    save_calibration(Calibration(0.1, 0.2, 0.3), tmp_path)
    assert load_calibration(tmp_path) == Calibration(0.1, 0.2, 0.3)


@pytest.mark.parametrize("content", ["", "[]", '{"bias": 1}', '{"bias": NaN, "posterior": 1, "acoustic": 1}'])
def test_a_damaged_calibration_is_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(ModelError, match=r"calibration\.json"):
        load_calibration(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        '{"bias": true, "posterior": 1, "acoustic": 1}',
        '{"bias": "1", "posterior": 1, "acoustic": 1}',
        '{"bias": 1e300, "posterior": 1, "acoustic": 1}',
        '{"bias": 0, "bias": 1, "posterior": 1, "acoustic": 1}',
        *("null", "[" * 10_000, "1" * 10_000),
    ],
)
def test_a_calibration_of_other_types_or_sizes_is_refused(tmp_path, content):
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(ModelError, match=r"calibration\.json: .*asr tune"):
        load_calibration(tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("hop_ms: 0.00001", "is not at least 1"),
        ("window_ms: 0.00001", "is not at least 2"),
        ("hop_ms: 1:1:1", "'1:1:1' is not a number"),
        ("hop_ms: 2024-01-01", "'2024-01-01' is not a number"),
        ("hop_ms: [10, 10]", r"\[10, 10\] is not a number"),
        ("mel_bins: 9" + "9" * 90, "is not at most 256"),
        ("hop_ms: &a [*a]", "aliases"),
    ],
)
def test_absurd_settings_are_refused_with_file_key_and_value(tmp_path, setting, message):
    (tmp_path / "config.yaml").write_text(f"features:\n  {setting}\n")
    with pytest.raises(ConfigError, match=r"config\.yaml(.|\n)*" + message) as error:
        load_settings(tmp_path)
    assert len(str(error.value)) < 300 + len(str(tmp_path))
