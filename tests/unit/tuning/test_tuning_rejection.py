"""The threshold of a grammar: what it promises holds, it goes into the folder, and all searches keep to it."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, tone_speech

import asr
from asr.bundle.bundle import ModelBundle
from asr.bundle.rejection import Rate, Rejection, load_rejection
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.sharing.pack import pack_model
from asr.text.tokens import TokenTable
from asr.tuning.dev_search import DevBatch
from asr.tuning.rejection import Heard, measured, threshold_for

INSIDE, OUTSIDE = ["ab", "cd"], ["dd", "bb a", "c"]


def utterances(others: list[float], inside: Sequence[float] = (0.0,)) -> list[Heard]:
    return [*(Heard(False, False, one) for one in others), *(Heard(True, True, one) for one in inside)]


def binomial(count: int, events: int, share: float) -> float:
    return math.comb(count, events) * share**events * (1 - share) ** (count - events)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder that was never trained but has strong opinions."""
    torch.manual_seed(3)
    config, tokens = load_config(None, [*TINY, "decode.beam_size=32"]), TokenTable.from_texts(["abcd "])
    network = AcousticModel(config, len(tokens)).eval()
    with torch.no_grad():
        network.output.weight.normal_(std=3.0)
    ModelBundle(config, tokens, network).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def heard(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network hear the transcripts clearly, in place of any audio."""
    texts = [*INSIDE * 20, *OUTSIDE * 50]
    tokens = TokenTable.from_texts(["abcd "])
    scores = torch.randn(len(texts), 8, len(tokens), generator=torch.Generator().manual_seed(5))
    for row, text in enumerate(texts):
        path = [frame for token in tokens.encode(text) for frame in (token, 0)]
        scores[row, range(len(path)), path] += 4.0
        scores[row, len(path) :, 0] += 6.0
    batch = DevBatch(
        [str(row) for row in range(len(texts))], texts, scores.log_softmax(-1), torch.full((len(texts),), 8)
    )
    monkeypatch.setattr("asr.tuning.rejection.run_network", lambda *_: iter([batch]))


@pytest.fixture
def grammar(tmp_path: Path) -> Path:
    path = tmp_path / "commands.txt"
    path.write_text("\n".join(INSIDE))
    return path


@pytest.mark.parametrize(("count", "rate", "place"), [(99, 0.01, 1), (199, 0.01, 2), (299, 0.01, 3), (50, 0.1, 5)])
def test_the_share_that_is_expected_is_the_share_of_further_utterances_that_come_in(
    count: int, rate: float, place: int
) -> None:
    rng = np.random.default_rng(count)
    accepted = []
    for _ in range(4000):
        others = -rng.standard_exponential(count + 1)  # whatever the distribution
        threshold, stated = threshold_for(utterances(others[:-1].tolist()), rate)
        accepted.append(others[-1] > threshold)
    assert stated.rate == place / (count + 1) <= rate + 1e-12
    assert np.mean(accepted) == pytest.approx(stated.rate, abs=4 * math.sqrt(stated.rate / len(accepted)))


def test_the_interval_holds_the_share_of_a_fixed_threshold_19_times_in_20() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(2000):
        threshold, stated = threshold_for(utterances((rng.uniform(size=200) - 1).tolist()), 0.02)
        held += stated.low <= -threshold <= stated.high  # the share of a uniform variable above the threshold
    assert held / 2000 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("others", "inside", "threshold"),
    [
        ([-9.0, -3.0, -math.inf], [-1.0, -2.0], -2.5),
        ([-9.0, -3.0, -math.inf], [-1.0, -5.0], -3.0),
        ([-math.inf] * 3, [-math.inf, -1.0], -1e6),
    ],
    ids=["apart", "mixed", "nothing fits"],
)
def test_with_too_few_others_none_comes_in_and_what_is_expected_is_a_bound(
    others: list[float], inside: list[float], threshold: float
) -> None:
    found, stated = threshold_for(utterances(others, inside), 0.01)
    assert found == threshold
    assert (stated.rate, stated.low, stated.count) == (0.25, 0.0, 3)
    assert (1 - stated.high) ** 3 == pytest.approx(0.05)  # by chance, none of three


def test_a_threshold_that_too_few_others_give_lets_in_no_more_than_the_bound() -> None:
    rng, accepted = np.random.default_rng(4), []
    for _ in range(4000):
        evidence = -rng.standard_exponential(25)
        threshold, stated = threshold_for(utterances(evidence[:20].tolist(), evidence[21:].tolist()), 0.01)
        accepted.append(evidence[20] > threshold)
    assert np.mean(accepted) < stated.rate + 3 * math.sqrt(stated.rate / len(accepted))


@pytest.mark.parametrize(("events", "count"), [(0, 30), (3, 100), (7, 7), (1, 2)])
def test_the_interval_of_what_was_counted_is_the_exact_one(events: int, count: int) -> None:
    rate = measured(events, count)
    assert (rate.rate, rate.count) == (events / count, count)
    at_least = sum(binomial(count, one, rate.low) for one in range(events, count + 1))
    at_most = sum(binomial(count, one, rate.high) for one in range(events + 1))
    assert at_least == pytest.approx(1.0 if events == 0 else 0.025)
    assert at_most == pytest.approx(1.0 if events == count else 0.025)


@pytest.mark.usefixtures("heard")
def test_the_threshold_goes_into_the_folder_with_what_it_promises(
    model: Path, grammar: Path, tone_corpus: Path
) -> None:
    report = asr.tune_rejection(model, tone_corpus / "dev.jsonl.gz", grammar, false_alarms=0.02)
    rejection = report.rejection
    assert load_rejection(model) == rejection
    assert rejection.grammar == asr.load_grammar(grammar).checksum
    assert (rejection.false_alarms.count, rejection.misses.count) == (150, 40)
    assert rejection.false_alarms.rate == pytest.approx(3 / 151)
    assert rejection.misses.rate < 0.1
    assert not report.is_too_small
    assert report.wrong == 0


@pytest.mark.usefixtures("heard")
def test_the_command_says_what_is_to_be_expected(
    call: Callable[..., tuple[object, str, str]], model: Path, grammar: Path, tone_corpus: Path
) -> None:
    dev = tone_corpus / "dev.jsonl.gz"
    status, out, err = call("tune", model, dev, "--grammar", grammar, "--false-alarms", "0.001")
    assert status == 0, err
    assert "40 utterances of the grammar, 150 others" in out
    assert "150 others are too few for a share of 0.001, which takes 999" in " ".join(out.split())
    assert "false alarms  0.66 % (95 % interval 0.00 … 1.98 %)" in out
    assert call("tune", model, dev, "--false-alarms", "0.1")[0] == 2
    assert call("tune", model, dev, "--grammar", grammar, "--jobs", "2")[0] == 2


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(
    ("phrases", "found"), [(INSIDE + OUTSIDE, "all transcripts are"), (["aaa"], "no transcript is")]
)
def test_a_dev_set_needs_utterances_of_the_grammar_and_others(
    phrases: list[str], found: str, model: Path, tone_corpus: Path
) -> None:
    with pytest.raises(asr.ScoringError, match=f"{found} of the grammar; a threshold needs"):
        asr.tune_rejection(model, tone_corpus / "dev.jsonl.gz", phrases)
    with pytest.raises(asr.ConfigError, match="false_alarms=0"):
        asr.tune_rejection(model, tone_corpus / "dev.jsonl.gz", phrases, false_alarms=0)
    assert load_rejection(model) is None


def saved(model: Path, grammar: Path, threshold: float) -> None:
    rate = Rate(0.01, 0.0, 0.1, 99)
    Rejection(threshold, asr.load_grammar(grammar).checksum, "commands.txt", rate, rate).save(model)


@pytest.mark.parametrize("rejects", [False, True])
@pytest.mark.usefixtures("loud_is_speech")
def test_files_manifests_streams_and_exports_keep_to_it(
    rejects: bool, model: Path, grammar: Path, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    from conftest import LoudnessDetector

    from asr.exporting.export import export_onnx
    from asr.runtime import load

    monkeypatch.setattr("asr.runtime.recognizer.SpeechDetector", LoudnessDetector)
    saved(model, grammar, 0.0 if rejects else -1e6)
    rng = np.random.default_rng(0)
    waveform = np.concatenate([tone_speech("ab", rng), np.zeros(32000), tone_speech("cd", rng)]).astype(np.float32)
    recognizer = asr.load(model, accelerator="cpu")
    transcript = recognizer.transcribe(waveform, sample_rate_hz=16000, grammar=grammar, n_best=2)
    assert transcript.rejected is not None
    assert len(transcript.rejected) == (2 if rejects else 0)
    assert all(text in INSIDE for text in transcript.text.split())
    assert len(transcript.text.split()) == (0 if rejects else 2)
    assert json.loads(transcript.to_json())["rejected"] == [
        {"start_s": round(extent.start_s, 3), "end_s": round(extent.end_s, 3)} for extent in transcript.rejected
    ]
    without = recognizer.transcribe(waveform, sample_rate_hz=16000)
    assert without.rejected is None
    assert "rejected" not in json.loads(without.to_json())

    finals = [one for one in recognizer.stream([waveform], sample_rate_hz=16000, grammar=grammar) if one.is_final]
    assert " ".join(one.text for one in finals).split() == transcript.text.split()

    report = asr.decode(model, tone_corpus / "dev.jsonl.gz", tmp_path / "out", grammar=grammar, accelerator="cpu")
    lines = [json.loads(line) for line in (report.folder / "hyp.jsonl").read_text().splitlines()]
    assert {line["rejected"] for line in lines} == {rejects}
    assert all((line["text"] == "") == rejects for line in lines)

    packed = pack_model(model, tmp_path / "model.asr").path
    of_packed = asr.load(packed, accelerator="cpu").transcribe(waveform, sample_rate_hz=16000, grammar=grammar)
    assert (of_packed.text, of_packed.rejected) == (transcript.text, transcript.rejected)

    export_onnx(model, tmp_path / "onnx")
    exported = load(tmp_path / "onnx").transcribe(waveform, sample_rate_hz=16000, grammar=grammar, n_best=2)
    assert (exported.text, exported.rejected) == (transcript.text, transcript.rejected)
    assert [one.text for one in exported.n_best] == [one.text for one in transcript.n_best]


@pytest.mark.usefixtures("loud_is_speech")
def test_a_grammar_without_a_threshold_of_its_own_is_noted(model: Path, grammar: Path) -> None:
    rate = 16000
    recognizer = asr.load(model, accelerator="cpu")
    loud = tone_speech("ab", np.random.default_rng(0)).astype(np.float32)
    with pytest.warns(asr.GrammarWarning, match=r"commands.txt: no threshold is set, so nearly all speech"):
        recognizer.transcribe(loud, sample_rate_hz=rate, grammar=grammar)
    saved(model, grammar, -10.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asr.load(model, accelerator="cpu").transcribe(loud, sample_rate_hz=rate, grammar=grammar)
    with pytest.warns(asr.GrammarWarning, match="the threshold was set for another grammar, commands.txt; its rates"):
        asr.load(model, accelerator="cpu").transcribe(loud, sample_rate_hz=rate, grammar=["a"])


def test_what_does_not_go_with_a_grammar_is_refused(model: Path, grammar: Path) -> None:
    recognizer = asr.load(model, accelerator="cpu")
    loud = tone_speech("ab", np.random.default_rng(0)).astype(np.float32)
    with pytest.raises(asr.ConfigError, match=r"grammar \(.*commands.txt\): it goes without hotwords"):
        recognizer.transcribe(loud, sample_rate_hz=16000, grammar=grammar, hotwords=["ab"])
    with pytest.raises(asr.ConfigError, match="it goes without greedy search"):
        recognizer.transcribe(loud, sample_rate_hz=16000, grammar=grammar, method="greedy")
    with pytest.raises(asr.ConfigError, match="a grammar takes one model, not 2"):
        asr.load([model, model], accelerator="cpu").transcribe(
            loud, sample_rate_hz=16000, grammar=grammar, segment="none"
        )


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"threshold": -1}',
        '{"threshold": -1, "grammar": "", "name": "", "false_alarms": 0, "misses": 0}',
        '{"threshold": 1, "grammar": "", "name": "", "false_alarms": RATE, "misses": RATE}',
        '{"threshold": -1, "grammar": 1, "name": "", "false_alarms": RATE, "misses": RATE}',
        '{"threshold": true, "grammar": "", "name": "", "false_alarms": RATE, "misses": RATE}',
    ],
)
def test_a_damaged_threshold_is_refused_with_the_way_out(content: str, model: Path) -> None:
    (model / "rejection.json").write_text(content.replace("RATE", '{"rate": 0.1, "low": 0, "high": 1, "count": 9}'))
    with pytest.raises(
        asr.ModelError, match=r"rejection.json: not what .*; delete it or run `asr tune --grammar` again"
    ):
        load_rejection(model)
