"""`asr.choose`: against brute force, by planted copies and speakers, and from audio to corrected texts."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import LEARNS_FAST, TINY

import asr
from asr.corpus.manifest import cut_text, read_manifest
from asr.labelling.choose import choose_within
from asr.labelling.guess import Guess


def guess_of(text: str, errors: float, duration_s: float = 4.0) -> Guess:
    return Guess(SimpleNamespace(id=text, duration=duration_s), text, (), errors, 1.0)  # type: ignore[arg-type]


def worth(chosen: list[tuple[Guess, str]], everything: list[tuple[Guess, str]]) -> float:
    """Return what a choice is worth, written down once more."""

    def roots(some: list[tuple[Guess, str]]) -> tuple[float, float]:
        speakers: Counter[str] = Counter()
        runs: Counter[str] = Counter()
        for guess, speaker in some:
            speakers[speaker] += guess.errors
            padded = f" {guess.text} "
            parts = [padded[place : place + 3] for place in range(len(padded) - 2)]
            for part in parts:
                runs[part] += guess.errors / len(parts)
        return sum(map(math.sqrt, speakers.values())), sum(map(math.sqrt, runs.values()))

    return sum(part / whole for part, whole in zip(roots(chosen), roots(everything), strict=True))


def test_each_utterance_is_the_one_that_adds_most_a_second(rng: np.random.Generator) -> None:
    texts = ["".join(rng.choice(list("ab c"), 6)).strip() or "a" for _ in range(40)]
    guesses = [guess_of(text, rng.gamma(1.0, 2.0), rng.uniform(1, 9)) for text in texts]
    speakers = [str(number) for number in rng.integers(0, 6, 40)]
    everything = list(zip(guesses, speakers, strict=True))
    chosen = choose_within(guesses, speakers, 60.0)
    left_s, taken = 60.0, list[int]()
    for place in chosen:  # brute force beside it
        now = worth([everything[one] for one in taken], everything)
        rates = {
            other: (worth([everything[one] for one in (*taken, other)], everything) - now) / guess.cut.duration
            for other, guess in enumerate(guesses)
            if other not in taken and guess.cut.duration <= left_s
        }
        assert rates[place] == pytest.approx(max(rates.values()))
        taken.append(place)
        left_s -= guesses[place].cut.duration
    assert left_s >= 0
    assert all(guess.cut.duration > left_s for place, guess in enumerate(guesses) if place not in taken)


def test_the_choice_is_not_far_from_the_best_one(rng: np.random.Generator) -> None:
    for _ in range(10):
        guesses = [guess_of("".join(rng.choice(list("abc"), 4)), rng.gamma(1.0, 2.0)) for _ in range(9)]
        everything = list(zip(guesses, rng.choice(list("xyz"), 9).tolist(), strict=True))
        found = choose_within(guesses, [speaker for _, speaker in everything], 12.0)
        best = max(worth([*three], everything) for three in itertools.combinations(everything, 3))
        assert len(found) == 3
        assert worth([everything[place] for place in found], everything) >= (1 - 1 / math.e) * best  # Nemhauser 1978


def test_neither_copies_nor_one_speaker_are_chosen() -> None:
    copies = [guess_of("the same again and again", 6.0) for _ in range(10)]
    others = [guess_of(text, 4.0) for text in ("quite another", "some more", "with words", "never heard")]
    speakers = ["loud"] * 10 + ["loud", "anna", "ben", "carla"]
    chosen = choose_within([*copies, *others], speakers, 20.0)
    assert len(chosen) == 5
    assert sum(place < 10 for place in chosen) == 1, "copies"
    assert {speakers[place] for place in chosen} == {"loud", "anna", "ben", "carla"}


def test_what_has_no_errors_is_not_chosen_before_what_has() -> None:
    guesses = [guess_of("right", 0.01), guess_of("wrong", 3.0), guess_of("", 8.0), guess_of("long", 30.0, 100.0)]
    assert sorted(choose_within(guesses, ["a", "b", "c", "d"], 8.0)) == [1, 2]
    assert choose_within(guesses, ["a", "b", "c", "d"], 3.0) == []


@pytest.fixture(scope="module")
def model(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choose") / "model"
    asr.train(asr.load_config(None, [*TINY, *LEARNS_FAST, "training.epochs=4"]), tone_corpus, folder)
    return folder


def test_the_corrected_texts_of_what_was_chosen_become_manifests(
    model: Path, tone_corpus: Path, tmp_path: Path, succeed: Callable[..., str]
) -> None:
    data, dev, out = tone_corpus / "train.jsonl.gz", tone_corpus / "dev.jsonl.gz", tmp_path / "out"
    shown = succeed("choose", model, data, "--out", out, "--minutes", "0.3", "--dev", dev)
    chosen = list(read_manifest(out / "chosen.jsonl.gz"))
    assert 0 < sum(cut.duration for cut in chosen) <= 18
    assert f"chosen {len(chosen)} of 96 utterances" in shown
    lines = [json.loads(line) for line in (out / "to_transcribe.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [cut.id for cut in chosen]
    truth = {cut.id: cut_text(cut) for cut in read_manifest(data)}
    corrected = [json.dumps(line | {"text": truth[line["id"]]}) + "\n" for line in lines]
    (tmp_path / "corrected.jsonl").write_text("".join(corrected))
    asr.import_jsonl(tmp_path / "corrected.jsonl", tmp_path / "more", split=asr.SplitRule("utterance", 0.0, 0.0))
    imported = {cut.id: cut for cut in read_manifest(tmp_path / "more" / "train.jsonl.gz")}
    assert {name: cut_text(cut) for name, cut in imported.items()} == {cut.id: truth[cut.id] for cut in chosen}
    for cut in chosen:
        assert imported[cut.id].duration == pytest.approx(cut.duration, abs=0.01)
        assert imported[cut.id].supervisions[0].speaker == cut.supervisions[0].speaker
    with pytest.raises(asr.ConfigError, match=r"minutes=0.001: no utterance is as short as that"):
        asr.choose(model, data, out, minutes=0.001)
