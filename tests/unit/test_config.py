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
        ("training:\n  epochs: many\n", r"training\.epochs: 'many' is not a whole number"),
        ("model:\n  dropout: 1.5\n", r"model\.dropout: 1\.5 is not below 1"),
        ("model:\n  layers: 0\n", r"model\.layers: 0 is not at least 1"),
        ("model:\n  layers: true\n", r"model\.layers: true is no value of this setting"),
        ("augment:\n  speeds: []\n", r"augment\.speeds: \[\] needs at least 1 value$"),
        ("augment:\n  noise_snr_db: [1]\n", r"augment\.noise_snr_db\.1 is missing"),
        ("augment:\n  noise_snr_db: [2, 1]\n", r"augment\.noise_snr_db: the lower end of the range comes first"),
        ("augment:\n  noise_snr_db: [-1000, 5]\n", r"augment\.noise_snr_db\.0: -1000 is not at least -100"),
        ("augment:\n  noise_snr_db: [0, 4000]\n", r"augment\.noise_snr_db\.1: 4000 is not at most 100"),
        ("augment:\n  time_masks: 1000000\n", r"augment\.time_masks: 1000000 is not at most 1.?000$"),
        ("augment:\n  frequency_masks: 1000\n", r"augment\.frequency_masks: 1000 is not at most 100$"),
        ("model: 3\n", r"model: 3 is not a group of named values"),
        ("model:\n  rnn: transformer\n", r"model\.rnn: 'transformer' is not 'lstm', 'gru', 'tanh' or 'relu'"),
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
        ("=1", "key=value"),
        ("model.=1", "key=value"),
        ("..=1", "key=value"),
        ("a.b.c.d=1", "a: unknown key"),
        ("model.layers=" + "[" * 900, "not valid YAML"),
        ("model.layers=" + "9" * 90, r"model\.layers: 9+\.\.\.9+ is not at most 20"),
        ("model.layers=" + "9" * 900, r"'model\.layers=9+\.\.\.9+': not valid YAML \(a number of 900 digits\)"),
        ("model.layers=" + "9" * 10_000, "longer than 1000 characters"),
        ("text.remove=\udcff", r"text\.remove: \\udcff is half a surrogate pair"),
        ("augment.gain_db=[-6, 6]", "augment: .*gain_db has no effect any more"),
    ],
)
def test_a_bad_override_is_refused_with_its_text(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("hidden_size=3", r"did you mean model\.hidden_size or rnnlm\.hidden_size\?"),
        ("model.hiden_size=3", r"did you mean model\.hidden_size\?"),
        ("training.layers=3", r"did you mean model\.layers or rnnlm\.layers\?"),
        (
            "lerning_rate=3",
            r"did you mean training\.learning_rate or pretraining\.learning_rate or rnnlm\.learning_rate\?",
        ),
    ],
)
def test_an_unknown_setting_is_answered_with_the_one_that_was_meant(override: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=meant):
        load_config(None, [override])


@pytest.mark.parametrize("override", ["model.rnn=" + "x" * 900, "x" * 900 + "=1", "model.layers={a: " + "[1, " * 50])
def test_the_message_of_a_long_value_is_short(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert len(str(caught.value)) < 600


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


def test_many_faults_of_a_settings_file_are_told_shortly(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("training:\n" + "".join(f"  wrong{number}: 1\n" for number in range(30)))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [f"training.wrong{number}:" for number in range(8)]
    assert sum("known here: epochs, seed" in line for line in lines) == 1, "the list of a section is there once"
    assert lines[-1] == "  and 22 more"
    assert len(str(caught.value)) < 1500
