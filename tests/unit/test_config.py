import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from asr.config import Config
from asr.errors import ConfigError
from asr.settings_file import load_config, save_config

CONF = Path(__file__).parents[2] / "conf"


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_file_and_overrides_are_applied_in_this_order(tmp_path: Path) -> None:
    path = written(tmp_path, "model:\n  layers: 5\n  hidden_size: 64\n")
    config = load_config(path, ["model.hidden_size=96", "model.hidden_size=128", "training.learning_rate=1.0e-4"])
    assert (config.model.layers, config.model.hidden_size) == (5, 128)
    assert config.training.learning_rate == 1e-4
    assert config.model.rnn == Config().model.rnn


def test_saved_settings_read_back_equal(tmp_path: Path) -> None:
    config = load_config(None, ["augment.speeds=[0.95, 1.05]", "text.remove=',.?'", "model.rnn=gru"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["text"]["remove"] == ",.?"


@pytest.mark.parametrize(
    "text", [".,?! #;", "|", ">", '.,?!":', "-", "'", '"', ",", ":", "@%&*", "null", "3", "{[", ""]
)
def test_a_setting_that_is_a_text_is_taken_as_it_stands(text: str) -> None:
    assert load_config(None, [f"text.remove={text}"]).text.remove == text
    assert load_config(None, [f"text.remove='{text}'"]).text.remove == text


def test_settings_are_written_as_people_read_them(tmp_path: Path) -> None:
    save_config(load_config(None, ["text.remove=“„،।"]), tmp_path / "config.yaml")
    assert "“„،।" in (tmp_path / "config.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_in_conf_is_valid(path: Path) -> None:
    load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model:\n  hiden_size: 3\n",
            r"settings\.yaml:\n  model\.hiden_size: unknown key; known here: encoder, rnn, .*hidden_size",
        ),
        ("modle: {}\n", r"modle: unknown key; known here: text, features"),
        ("training:\n  epochs: many\n", r"training\.epochs: .*integer.*'many'"),
        ("model:\n  dropout: 1.5\n", r"model\.dropout: .*less than 1.*1\.5"),
        ("model:\n  rnn: transformer\n", r"model\.rnn: .*'lstm'.*'transformer'"),
        ("training:\n  learning_rate: .nan\n", r"training\.learning_rate"),
        ("- a\n- b\n", "a settings file holds sections"),
        ("model: [\n", "not valid YAML"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_the_key_and_the_value(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, text))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.layers", "key=value"),
        ("model.layers=[", "not valid YAML"),
        ("model.layers.x=3", r"model\.layers"),
        ("model.layers=two", r"model\.layers: .*'two'"),
        ("nothing=1", "nothing: unknown key"),
    ],
)
def test_a_bad_override_is_refused_with_its_text(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


def test_every_setting_has_a_description_of_whole_sentences_and_every_section_a_title() -> None:
    for section in Config.model_fields:
        settings = type(getattr(Config(), section))
        assert re.fullmatch(r"[A-Z][^\n]{5,44}\.", (settings.__doc__ or "").partition("\n")[0]), section
        for name, field in settings.model_fields.items():
            assert re.fullmatch(r"\S.{20,150}\w\.", field.description or ""), f"{section}.{name}"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot read"):
        load_config(tmp_path / "absent.yaml")


@given(st.integers(1, 20), st.sampled_from(["lstm", "gru", "tanh", "relu"]), st.floats(0, 0.99))
def test_any_valid_override_arrives_as_it_was_given(layers: int, rnn: str, dropout: float) -> None:
    model = load_config(None, [f"model.layers={layers}", f"model.rnn={rnn}", f"model.dropout={dropout!r}"]).model
    assert (model.layers, model.rnn, model.dropout) == (layers, rnn, pytest.approx(dropout))
