"""`asr.label`: what is kept, by laws and by hand; and by a trained model of tones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from conftest import LEARNS_FAST, TINY, tone_speech
from hypothesis import given
from hypothesis import strategies as st

import asr
from asr.corpus.manifest import cut_text, load_manifest, make_cut, read_manifest, write_manifest
from asr.labelling.guess import Guess
from asr.labelling.label import best_within
from asr.scoring.error_counts import count_errors
from asr.transcript.words import Word

figures = st.tuples(st.floats(0, 20), st.integers(1, 30))


def guesses_of(rows: list[tuple[float, int]]) -> list[Guess]:
    word = Word("a", 0.0, 1.0, 0.5)
    return [
        Guess(SimpleNamespace(id=str(place), duration=1.0), "a", (word,), errors, float(said))  # type: ignore[arg-type]
        for place, (errors, said) in enumerate(rows)
    ]


def test_the_best_are_kept_until_their_errors_together_reach_the_wanted_rate() -> None:
    guesses = guesses_of([(3.0, 10), (0.1, 10), (1.0, 10), (0.5, 5), (9.0, 10)])
    kept = [guess.cut.id for guess in best_within(guesses, 0.06)]
    # 0.1 of 10, then 1.0 and 0.5 of 15: 1.6 of 25 are 6.4 %, 1.1 of 20 are 5.5 %.
    assert kept == ["1", "2"]
    assert [guess.cut.id for guess in best_within(guesses, 0.064)] == ["1", "2", "3"]
    assert best_within(guesses, 0.005) == []
    assert best_within(guesses, 1.0) == guesses
    assert best_within([], 0.5) == []


@given(st.lists(figures, max_size=12), st.floats(0.001, 3), st.floats(0.001, 3))
def test_what_is_kept_grows_with_the_wanted_rate_and_stays_below_it(
    rows: list[tuple[float, int]], one: float, other: float
) -> None:
    guesses = guesses_of(rows)
    fewer, more = (best_within(guesses, wer) for wer in sorted((one, other)))
    assert {guess.cut.id for guess in fewer} <= {guess.cut.id for guess in more}
    for kept, wer in ((fewer, min(one, other)), (more, max(one, other))):
        assert sum(guess.errors for guess in kept) <= wer * sum(guess.reference_words for guess in kept) + 1e-9
        worst = max((guess.wer for guess in kept), default=0.0)
        assert all(guess in kept or guess.wer >= worst for guess in guesses)


@pytest.fixture(scope="module")
def model(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt the tones, and makes errors."""
    folder = tmp_path_factory.mktemp("label") / "model"
    config = asr.load_config(None, [*TINY, *LEARNS_FAST, "training.epochs=4"])
    asr.train(config, tone_corpus, folder)
    return folder


def test_what_is_kept_has_about_the_errors_that_are_expected_of_it(
    model: Path, tone_corpus: Path, tmp_path: Path
) -> None:
    """More utterances than the corpus has, of the same kind; half of them teach, half are labelled."""
    rng = np.random.default_rng(11)
    for split in ("dev", "rest"):
        cuts = []
        for place in range(80):
            text = " ".join("".join(rng.choice(list("abcd"), 2)) for _ in range(rng.integers(1, 5)))
            path = tmp_path / "audio" / f"{split}-{place}.wav"
            path.parent.mkdir(exist_ok=True)
            waveform = tone_speech(text, rng)
            noise = rng.choice([0.0, 0.1]) * rng.standard_normal(len(waveform))
            soundfile.write(path, 0.5 * (waveform + noise), 16000)
            cuts.append(make_cut(f"{split}-{place}", path, text, split))
        write_manifest(cuts, tmp_path / f"{split}.jsonl.gz")
    truth = {cut.id: cut_text(cut) for cut in read_manifest(tmp_path / "rest.jsonl.gz")}
    report = asr.label(
        model, tmp_path / "rest.jsonl.gz", tmp_path / "out", wer=0.3, dev=tmp_path / "dev.jsonl.gz", accelerator="cpu"
    )
    assert report.manifest is not None
    kept = list(load_manifest(report.manifest))
    assert 10 < len(kept) == report.kept.utterances < 80
    assert report.kept.wer <= 0.3 < report.heard.wer
    counts = [count_errors(truth[cut.id], cut_text(cut), unit="word") for cut in kept]
    true = sum(count.errors for count in counts) / sum(count.reference_length for count in counts)
    assert true == pytest.approx(report.kept.wer, rel=0.5), "80 utterances cannot say it better"
    for cut in kept:
        noted = cut.supervisions[0].custom
        assert len(noted["confidences"]) == len(cut_text(cut).split())
        assert 0 <= min(noted["confidences"]) <= max(noted["confidences"]) <= 1
    assert report.rest is not None
    rest = {cut.id: cut_text(cut) for cut in read_manifest(report.rest)}
    assert rest == {name: text for name, text in truth.items() if name not in {cut.id for cut in kept}}
    # The model folder knows it from now on, and an utterance's figures do not depend on its neighbours.
    few = list(read_manifest(tmp_path / "rest.jsonl.gz"))[:7]
    write_manifest(few, tmp_path / "few.jsonl")
    again = asr.label(model, tmp_path / "few.jsonl", tmp_path / "again", wer=9.0, accelerator="cpu")
    assert again.expected == report.expected
    assert again.manifest is not None
    noted = {cut.id: cut.supervisions[0] for cut in kept}
    alone = {cut.id: cut.supervisions[0] for cut in read_manifest(again.manifest)}
    assert noted.keys() & alone.keys()
    for name in noted.keys() & alone.keys():
        assert alone[name].text == noted[name].text
        assert alone[name].custom["expected_wer"] == pytest.approx(noted[name].custom["expected_wer"], abs=1e-3)


@pytest.mark.usefixtures("loud_is_speech")
def test_a_folder_of_recordings_is_cut_transcribed_and_listed(
    model: Path, tone_corpus: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    rng = np.random.default_rng(3)
    folder = tmp_path / "calls"
    folder.mkdir()
    pause = 0.003 * rng.standard_normal(16000)
    soundfile.write(
        folder / "one.wav", np.concatenate([tone_speech("ab cd", rng), pause, tone_speech("bb", rng)]), 16000
    )
    (folder / "broken.wav").write_bytes(b"RIFF")
    dev = tone_corpus / "dev.jsonl.gz"
    status, out, err = call("label", model, folder, "--out", tmp_path / "out", "--wer", "400", "--dev", dev)
    assert status == 0, err
    kept = list(load_manifest(tmp_path / "out" / "train.jsonl.gz"))
    assert [cut.id.rsplit("-", 2)[0] for cut in kept] == ["one"] * len(kept)
    assert "broken.wav" in out
    assert not (tmp_path / "out" / "rest.jsonl.gz").exists()


def test_if_nothing_is_good_enough_nothing_is_kept_and_it_says_so(
    model: Path, tone_corpus: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    data, out = tone_corpus / "test.jsonl.gz", tmp_path / "out"
    call("label", model, data, "--out", out, "--wer", "900", "--dev", tone_corpus / "dev.jsonl.gz")
    assert (out / "train.jsonl.gz").exists()
    status, shown, _ = call("label", model, data, "--out", out, "--wer", "0.01")
    assert status == 1
    assert "kept nothing: no utterance has an expected WER of 0.01 % or less, the best has " in shown
    assert not (out / "train.jsonl.gz").exists(), "that of an earlier run"
    assert len(list(read_manifest(out / "rest.jsonl.gz"))) == 12


def test_transcripts_of_somebody_else_are_not_replaced(model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    for manifest in tone_corpus.glob("*.jsonl.gz"):
        shutil.copy(manifest, tmp_path)
    before = (tmp_path / "train.jsonl.gz").read_bytes()
    with pytest.raises(asr.ManifestError, match=r"train\.jsonl\.gz: has transcripts that asr label did not write"):
        asr.label(model, tone_corpus / "test.jsonl.gz", tmp_path, wer=9.0, dev=tone_corpus / "dev.jsonl.gz")
    assert (tmp_path / "train.jsonl.gz").read_bytes() == before


def test_a_model_of_whose_errors_nothing_is_known_is_refused(model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    stranger = shutil.copytree(model, tmp_path / "stranger")
    (stranger / "expected_errors.json").unlink(missing_ok=True)
    with pytest.raises(asr.ModelError, match=r"not known how many errors this model makes; give --dev"):
        asr.label(stranger, tone_corpus / "test.jsonl.gz", tmp_path / "out")
    with pytest.raises(asr.ConfigError, match=r"a share above 0, e.g. 0.05 for 5 %"):
        asr.label(stranger, tone_corpus / "test.jsonl.gz", tmp_path / "out", wer=0.0)
    asr.label(stranger, tone_corpus / "test.jsonl.gz", tmp_path / "out", wer=9.0, dev=tone_corpus / "dev.jsonl.gz")
    learnt = json.loads((stranger / "expected_errors.json").read_text())
    assert learnt["dev_words"] == sum(len(cut_text(cut).split()) for cut in read_manifest(tone_corpus / "dev.jsonl.gz"))
    assert (stranger / "calibration.json").exists()
