"""`asr init`: network, epochs, batches and tokens go by the hours and the speech, by the table that the docs show."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from text_manifests import cut_line, write_data, write_split

import asr
from asr.model.acoustic import AcousticModel
from asr.preparing.choices import NOISE_FROM_H, PIECES_FROM_H, SIZES, size_for, steps_of
from asr.settings_file import load_config

DOCS = Path(asr.__file__).parents[1] / "docs"


def reason(report, setting):
    return next(choice.rests_on for choice in report.choices if choice.setting == setting)


@given(st.floats(1 / 6, 1000))
def test_a_run_has_a_sensible_number_of_steps_from_ten_minutes_to_a_thousand_hours(hours):
    assert 5_000 <= steps_of(hours) <= 200_000


@given(st.floats(0.001, 2000), st.floats(0.001, 2000))
def test_more_hours_never_have_a_smaller_network_more_epochs_or_smaller_batches(one, other):
    less, more = map(size_for, sorted((one, other)))
    assert less.million_parameters <= more.million_parameters
    assert less.epochs >= more.epochs
    assert less.batch_s <= more.batch_s


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.layers}x{size.hidden_size}")
def test_the_table_states_the_parameters_of_its_networks(size):
    config = load_config(None, [f"model.layers={size.layers}", f"model.hidden_size={size.hidden_size}"])
    assert round(AcousticModel(config, 40).parameter_count / 1e6, 1) == size.million_parameters


def test_the_measured_rows_of_the_table_are_those_of_the_recipes():
    an4, custom = (load_config(DOCS.parent / "conf" / f"{name}.yaml") for name in ("an4", "custom"))
    for config, size in ((an4, size_for(38 / 60)), (custom, size_for(3))):
        assert (config.model.layers, config.model.hidden_size) == (size.layers, size.hidden_size)
        assert (config.training.epochs, config.training.batch_s) == (size.epochs, size.batch_s)


@pytest.mark.parametrize("source", ["asr/preparing/choices.py", "docs/choosing_settings.md"])
def test_the_table_is_the_same_in_the_code_and_wherever_it_is_shown(source):
    text = (DOCS.parent / source).read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d.]+|more) \| (\d) × (\d+) \|.*? (\d+) \| (\d+) s \| (yes|no) \|", text, re.MULTILINE)
    assert rows == [
        (
            "more" if size.up_to_h == math.inf else f"{size.up_to_h:g}",
            *map(str, (size.layers, size.hidden_size, size.epochs, size.batch_s)),
            "yes" if size.up_to_h > NOISE_FROM_H else "no",
        )
        for size in SIZES
    ]


def test_the_documents_state_parameters_and_steps():
    text = (DOCS / "choosing_settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:[\d.]+|more) \| .*? \| ([\d.]+) M \| .* \| ([\d,]+) \| [^|]* \|$", text, re.MULTILINE)
    assert rows == [(str(s.million_parameters), f"{steps_of(min(s.up_to_h, 1000)):,}") for s in SIZES]


@pytest.mark.parametrize(("utterances", "layers", "noise"), [(10, 2, 0.0), (700, 3, 0.0), (6000, 3, 0.3)])
def test_network_and_noise_go_by_the_hours(tmp_path, utterances, layers, noise):
    report = asr.init("mine", write_data(tmp_path, ["one two"] * utterances, seconds=3.0), home=tmp_path)
    assert report.config.model.layers == layers
    assert report.config.augment.noise_share == noise
    assert report.steps == report.config.training.epochs * round(3 * utterances / report.config.training.batch_s)


@pytest.mark.parametrize(("vocabulary", "tokens"), [(6000, "unigram"), (100, "characters")])
def test_pieces_need_many_hours_and_many_words(tmp_path, vocabulary, tokens):
    utterances = round(PIECES_FROM_H * 3600 / 60) + 1
    texts = [f"{'abcdefghijkl'[n % 12]}{n % vocabulary:x}".translate(DIGITS) for n in range(utterances)]
    report = asr.init("mine", write_data(tmp_path, texts, seconds=60.0), home=tmp_path)
    assert report.config.text.tokens == tokens
    assert report.config.training.max_utterance_s == 60.0


DIGITS = str.maketrans("0123456789", "ghijklmnop")


def test_a_script_without_spaces_keeps_its_characters_whatever_the_hours(tmp_path):
    signs = [chr(0x4E00 + n) for n in range(3000)]
    texts = ["".join(signs[(n + k) % 3000] for k in range(8)) for n in range(6001)]
    report = asr.init("mine", write_data(tmp_path, texts, seconds=60.0), home=tmp_path)
    assert report.config.text.tokens == "characters"
    assert len(report.characters) == 3000


def test_fast_speech_gets_more_frames(tmp_path):
    slow, fast = "abcd " * 10, "abcd " * 20  # 49 and 99 characters; 3 s have 75 frames at subsampling 4
    report = asr.init("slow", write_data(tmp_path / "slow", [slow]), home=tmp_path)
    assert report.config.model.subsampling == 4
    report = asr.init("fast", write_data(tmp_path / "fast", [slow, fast]), home=tmp_path)
    assert report.config.model.subsampling == 2
    assert "1 of 2 utterances" in reason(report, "model.subsampling")


def test_long_utterances_are_trained_on_if_there_are_many_of_them(tmp_path):
    write_data(tmp_path, ["one"])
    for name, longer in (("few", 1), ("many", 30)):
        seconds = [45.0] * longer + [5.0] * (200 - longer)
        write_split(tmp_path, "train", (cut_line(n, "one", seconds=length) for n, length in enumerate(seconds)))
        report = asr.init(name, tmp_path, home=tmp_path)
        assert report.config.training.max_utterance_s == {"few": 30.0, "many": 50.0}[name]
        assert ("1 are left out" in reason(report, "training.max_utterance_s")) == (name == "few")
