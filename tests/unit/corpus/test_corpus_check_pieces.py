"""The check where tokens are sub-word pieces, which only training will know."""

import pytest
import soundfile

from asr.config import TextSettings
from asr.corpus.check import check_cuts
from asr.corpus.limits import Limits
from asr.corpus.manifest import make_cut


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_only_what_no_pieces_could_spell_in_time_is_too_short(tmp_path, rng, kind) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, rng.uniform(-0.5, 0.5, 1600), 8000)  # 5 frames of 40 ms
    texts = {
        "five words": "one two three four five",
        "two and a blank between": "one one two two",  # each word one piece: 4 pieces and 2 blanks
        "long word": "onetwothreefour",
    }
    cuts = [make_cut(name, path, text, "anna") for name, text in texts.items()]

    def problems(tokens: str) -> dict[str, str]:
        report = check_cuts({"train": cuts}, Limits(TextSettings(tokens=tokens), max_s=5.0, frame_shift_s=0.04))
        return {problem.name: problem.reason for problem in report.problems}

    assert problems(kind) == {
        "two and a blank between": "too short for its transcript: 5 output frames, CTC needs at least 6"
    }
    assert problems("characters").keys() == texts.keys()
