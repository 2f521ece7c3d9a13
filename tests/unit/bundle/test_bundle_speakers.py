"""The file of a speaker in a model folder: its name, what it holds, and what is refused."""

import os
from pathlib import Path
from unicodedata import normalize

import pytest
import torch
from conftest import TINY
from hypothesis import assume, example, given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from asr.bundle.speaker_names import speaker_file, speaker_names
from asr.bundle.speakers import Speaker, load_speaker, save_speaker
from asr.config import Config
from asr.errors import ConfigError, ModelError
from asr.model.acoustic import AcousticModel
from asr.model.adaptation import own_weights
from asr.settings_file import load_config
from asr.text.tokens import TokenTable

DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))}
TOKENS = TokenTable.from_texts(["abcd "])


def config_of(*settings: str) -> Config:
    return load_config(None, [*TINY, *settings])


def model_of(config: Config) -> AcousticModel:
    torch.manual_seed(3)
    return AcousticModel(config, len(TOKENS)).eval()


def other_weights(model: AcousticModel) -> dict[str, torch.Tensor]:
    return {name: tensor + 0.3 * torch.randn(tensor.shape) for name, tensor in own_weights(model).items()}


@pytest.mark.parametrize("name", ["anna", "Ånna / ../é", "..", "a.b", "50 %", "名前"])
def test_a_name_is_text_and_its_file_stays_in_the_folder(tmp_path: Path, name: str) -> None:
    model = model_of(config_of())
    path = save_speaker(tmp_path, Speaker(name, other_weights(model)), model)
    assert path.parent == tmp_path / "speakers"
    assert [file.resolve().parent for file in tmp_path.rglob("*.safetensors")] == [(tmp_path / "speakers").resolve()]
    assert not path.name.startswith(".")
    assert speaker_names(tmp_path) == [name]
    assert load_speaker(tmp_path, name, model).name == name


@pytest.mark.parametrize("name", ["CON", "nul", "Aux", "com1", "LPT9", "con.", "prn.txt"])
def test_a_name_that_windows_keeps_for_a_device_makes_a_file_all_the_same(tmp_path: Path, name: str) -> None:
    model = model_of(config_of())
    path = save_speaker(tmp_path, Speaker(name, other_weights(model)), model)
    assert os.path.splitext(path.name)[0].split(".")[0].upper().rstrip() not in DEVICES
    assert not set(path.name) & set('<>:"/\\|?*')
    assert speaker_names(tmp_path) == [name]
    assert load_speaker(tmp_path, name, model).name == name


NAMES = st.text(st.sampled_from("aAbBcCnNoOuU0%=~._- éÉıİſK")) | st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(NAMES.filter(str.strip), min_size=2, max_size=2, unique_by=lambda name: normalize("NFC", name)))
@example(["Anna", "anna"])
@example(["anna", "anna=1"])
@example(["Anna", "Anna=1"])
@example(["con", "CON"])
def test_no_two_names_have_one_file_where_case_and_the_form_of_accents_count_for_nothing(names: list[str]) -> None:
    assume(all(len(name) < 20 for name in names))
    files = [speaker_file(name) for name in names]
    assert len({normalize(form, file).casefold() for file in files for form in ("NFC", "NFKD")}) == 2


def test_a_plain_name_is_read_in_the_name_of_its_file() -> None:
    assert [speaker_file(name) for name in ("anna", "Anna", "McKay")] == [
        "speakers/anna.safetensors",
        "speakers/Anna=1.safetensors",
        "speakers/McKay=5.safetensors",
    ]


def test_a_file_of_an_older_version_is_found_and_is_not_taken_for_that_of_another_speaker(tmp_path: Path) -> None:
    model = model_of(config_of())
    path = save_speaker(tmp_path, Speaker("Anna", other_weights(model)), model)
    path.rename(path.with_name("Anna.safetensors"))
    assert load_speaker(tmp_path, "Anna", model).name == "Anna"
    assert speaker_names(tmp_path) == ["Anna"]
    with pytest.raises(ConfigError, match="knows no speaker 'anna'"):
        load_speaker(tmp_path, "anna", model)
    save_speaker(tmp_path, Speaker("anna", other_weights(model)), model)
    assert {file.name for file in path.parent.iterdir()} == {"Anna=1.safetensors", "anna.safetensors"}
    assert [load_speaker(tmp_path, name, model).name for name in ("Anna", "anna")] == ["Anna", "anna"]


@pytest.mark.parametrize("name", ["", " ", "x" * 300, "\ud800"])
def test_a_name_that_can_be_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="speaker"):
        speaker_file(name)


def test_a_speaker_comes_back_to_half_precision_and_other_models_and_damage_are_refused(tmp_path: Path) -> None:
    config = config_of("features.cmvn=speaker")
    model = model_of(config)
    weights, moments = other_weights(model), torch.rand(2, 40)
    path = save_speaker(tmp_path, Speaker("anna", weights, moments), model)
    again = load_speaker(tmp_path, "anna", model)
    assert torch.equal(again.moments, moments)
    for name, tensor in weights.items():
        torch.testing.assert_close(again.weights[name], tensor, rtol=0, atol=1e-3)
    assert path.stat().st_size < 4000
    torch.manual_seed(4)
    other = AcousticModel(config, len(TOKENS))
    with torch.no_grad():
        other.norm.bias.add_(1)
    with pytest.raises(ModelError, match="other weights"):
        load_speaker(tmp_path, "anna", other)
    with pytest.raises(ConfigError, match="known: 'anna'"):
        load_speaker(tmp_path, "bert", model)
    path.rename(tmp_path / speaker_file("bert"))
    with pytest.raises(ModelError, match="is of the speaker"):
        load_speaker(tmp_path, "bert", model)
    bert = tmp_path / speaker_file("bert")
    bert.write_bytes(bert.read_bytes()[:-100])
    bert.rename(path)
    with pytest.raises(ModelError, match="anna"):
        load_speaker(tmp_path, "anna", model)


def test_numbers_that_are_not_finite_and_tensors_of_others_are_refused(tmp_path: Path) -> None:
    model = model_of(config_of())
    path = save_speaker(tmp_path, Speaker("anna", other_weights(model)), model)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    save_file({**tensors, "layers.0.scale": tensors["layers.0.scale"] * torch.inf}, path, metadata)
    with pytest.raises(ModelError, match="not finite"):
        load_speaker(tmp_path, "anna", model)
    save_file({**tensors, "output.bias": torch.zeros(6).half()}, path, metadata)
    with pytest.raises(ModelError, match="does not fit"):
        load_speaker(tmp_path, "anna", model)
