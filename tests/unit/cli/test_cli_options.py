"""Options that several commands read alike: hotwords with their bonuses, settings of the search."""

from __future__ import annotations

import pytest
import typer

from asr.cli.options import decode_settings, hotword_bonuses
from asr.decoding.hotwords import DEFAULT_BONUS
from asr.errors import ConfigError


def test_a_hotword_has_the_bonus_after_its_equals_sign_or_the_usual_one() -> None:
    assert hotword_bonuses(["anna lee=2.5", "lee"]) == {"anna lee": 2.5, "lee": DEFAULT_BONUS}
    assert hotword_bonuses(["lee", "lee=3"]) == {"lee": 3.0}
    assert hotword_bonuses(None) == {}


@pytest.mark.parametrize("given", ["anna=lee", "anna="])
def test_a_bonus_that_is_no_number_is_refused_with_the_hotword(given: str) -> None:
    with pytest.raises(typer.BadParameter, match=given):
        hotword_bonuses([given])


def test_settings_of_the_search_are_values_of_yaml_with_or_without_their_section() -> None:
    assert decode_settings(["beam_size=50", "lm=words", "oov_penalty=null"]) == {
        "beam_size": 50,
        "lm": "words",
        "oov_penalty": None,
    }
    assert decode_settings(["decode.beam_size=50", "lm_weight=0.3"]) == {"beam_size": 50, "lm_weight": 0.3}
    assert decode_settings(None) == {}
    with pytest.raises(ConfigError, match="key=value"):
        decode_settings(["beam_size"])


def test_an_empty_text_to_align_is_named_by_its_file(call, tmp_path):
    (tmp_path / "said.txt").write_text(" \n")
    status, _, err = call("align", tmp_path, tmp_path / "a.wav", "--text-file", tmp_path / "said.txt")
    assert status == 1
    assert "said.txt: the text is empty" in " ".join(err.split())
