"""Which epoch's weights are kept: histories worked by hand, laws, and the figures of dev against other ways to them."""

import itertools
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import LEARNS_FAST, TINY
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from pydantic import TypeAdapter

import asr
from asr.corpus.manifest import cut_text, load_manifest, read_manifest, write_manifest
from asr.decoding.greedy import greedy_search
from asr.features.batching import evaluation_batches
from asr.model.acoustic import AcousticModel, on_cpu
from asr.scoring.error_counts import ErrorCounts
from asr.scoring.score import read_score
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.training import trainer
from asr.training.dev_score import BestEpoch, DevScore, Evaluation, best_epoch, score_dev
from asr.training.reports import EpochReport, StepReport
from asr.training.trainer import training_reports

WORDS, CHARACTERS = 10, 50  # of each of five speakers


def score(errors: Sequence[int], cer: float, loss: float, *, by_characters: bool = False) -> DevScore:
    """Return the score of an epoch from the errors of each speaker in the main figure."""
    length = CHARACTERS if by_characters else WORDS
    return DevScore(
        words=ErrorCounts(sum(errors), 0, 0, WORDS * len(errors)),
        characters=ErrorCounts(round(1000 * cer), 0, 0, 1000),
        loss=loss,
        utterances=20,
        empty=0,
        by_characters=by_characters,
        unit_errors=list(errors),
        unit_lengths=[length] * len(errors),
    )


def kept(history: Sequence[DevScore]) -> int:
    """Return the number of the epoch that is kept at the end."""
    best, place = None, -1
    for number, new in enumerate(history):
        best = best_epoch(best, new)
        if best.kept is new:
            place = number
    return place


ALL = (10, 10, 10, 10, 10)  # WER 100 %
NEARLY_ALL = (10, 9, 9, 9, 9)  # 92 %


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        # All words are wrong, and nearly all characters: the loss decides.
        ([score(ALL, 0.958, 3.0), score(ALL, 1.0, 2.9), score(ALL, 0.99, 2.95)], 1),
        # All words are wrong: the characters decide, whatever the loss is and whatever else chance does to words.
        (
            [score(NEARLY_ALL, 0.958, 2.9), score(ALL, 0.8, 2.0), score(NEARLY_ALL, 0.85, 1.9), score(ALL, 0.664, 2.5)],
            3,
        ),
        # A rate below 90 % and beyond chance decides against characters and loss: 1 error less for each speaker.
        ([score(NEARLY_ALL, 0.5, 1.0), score((8, 8, 8, 8, 8), 0.6, 1.1)], 1),
        ([score((8, 8, 8, 8, 8), 0.5, 1.0), score((9, 9, 9, 9, 9), 0.4, 0.9)], 0),
        # Student's t of the speakers' differences (2, 2, 1, 0, 0) is 2.24, below 2.78: chance, so characters decide.
        ([score((2, 2, 2, 2, 2), 0.08, 0.5), score((0, 0, 1, 2, 2), 0.09, 0.4)], 0),
        ([score((2, 2, 2, 2, 2), 0.08, 0.5), score((4, 4, 3, 2, 2), 0.07, 0.6)], 1),
        # That of (2, 1, 1, 1, 0) is 3.16: beyond chance.
        ([score((2, 2, 2, 2, 2), 0.08, 0.5), score((0, 1, 1, 1, 2), 0.09, 0.6)], 1),
        ([score((2, 2, 2, 2, 2), 0.08, 0.5), score((4, 3, 3, 3, 2), 0.07, 0.4)], 0),
        # Words and characters are equal: the loss decides, and of equals the later epoch is kept.
        ([score((2, 2, 2, 2, 2), 0.08, 0.5), score((3, 2, 2, 2, 1), 0.08, 0.6)], 0),
        ([score((2, 2, 2, 2, 2), 0.08, 0.5), score((3, 2, 2, 2, 1), 0.08, 0.4)], 1),
        ([score((2, 2, 2, 2, 2), 0.08, 0.5), score((2, 2, 2, 2, 2), 0.08, 0.5)], 1),
        # Three steps, each within chance of the one before and with fewer wrong characters: the third is beyond chance
        # of the first, which has the fewest errors (differences 1, 1, 1, 1, 0), so the second stays.
        ([score((2, 2, 2, 2, 2), 0.08, 0.5), score((3, 3, 2, 2, 2), 0.07, 0.5), score((3, 3, 3, 3, 2), 0.06, 0.5)], 1),
        # The epoch with fewer wrong characters was kept; then comes one that beats it beyond chance.
        ([score((2, 2, 2, 2, 2), 0.08, 0.5), score((3, 3, 2, 2, 2), 0.07, 0.5), score((2, 2, 1, 1, 1), 0.08, 0.6)], 2),
    ],
)
def test_words_decide_and_where_they_say_nothing_characters_or_the_loss(history: list[DevScore], expected: int) -> None:
    assert kept(history) == expected


def test_in_scripts_without_spaces_characters_take_the_place_of_words() -> None:
    """A word is a sentence there: all are wrong, although every tenth character is."""
    first = score((5, 5, 5, 5, 5), 0.1, 0.5, by_characters=True)
    better = score((4, 4, 4, 4, 4), 0.08, 0.6, by_characters=True)
    assert first.rate == 0.1
    assert (kept([first, better]), kept([better, first])) == (1, 0)


def test_the_same_in_every_epoch_is_no_reason_to_keep_what_is_worse_with_one_utterance() -> None:
    assert kept([score((3,), 0.1, 0.5), score((1,), 0.2, 0.5)]) == 0  # one utterance: any difference may be chance
    assert kept([score((3,), 0.1, 0.5), score((1,), 0.1, 0.5)]) == 1


errors = st.lists(st.integers(0, 12), min_size=5, max_size=5)
histories = st.lists(
    st.builds(score, errors, st.integers(0, 1200).map(lambda n: n / 1000), st.floats(0, 4)), min_size=1, max_size=12
)


@given(histories)
def test_what_is_kept_is_within_chance_of_the_fewest_errors_and_the_choice_goes_on_from_a_checkpoint(
    history: list[DevScore],
) -> None:
    best = resumed = None
    for new in history:
        before = best
        best = best_epoch(before, new)
        resumed = best_epoch(resumed, new)
        assert best.kept in ((new,) if before is None else (new, before.kept))
        assert resumed == best
        resumed = TypeAdapter(BestEpoch).validate_json(json.dumps(asdict(resumed)), strict=True)
        if before is not None and new.rate < before.lowest.rate and new.rank <= before.kept.rank:
            assert best.kept is new  # better in everything
    fewest = min(new.rate for new in history)
    assert best is not None
    assert best.lowest.rate == fewest
    differences = np.subtract(best.kept.unit_errors, best.lowest.unit_errors)
    deviation = differences.std(ddof=1) / math.sqrt(5)
    assert fewest > 0.9 or abs(differences.mean()) <= 2.7765 * deviation  # Student's t, 4 degrees of freedom


def run(settings: list[str], corpus: Path, out: Path, *, resume: bool = False) -> list:
    return list(training_reports(load_config(None, settings), corpus, out, resume=resume))


def test_the_figures_of_dev_are_those_that_decode_and_score_find_in_the_kept_model(
    tone_corpus: Path, tmp_path: Path
) -> None:
    shutil.copy(tone_corpus / "train.jsonl.gz", tmp_path)
    cuts = list(read_manifest(tone_corpus / "dev.jsonl.gz"))
    cuts[0].supervisions[0].text += " dd"  # an error at least
    write_manifest(cuts, tmp_path / "dev.jsonl.gz")
    reports = run([*TINY, *LEARNS_FAST, "training.epochs=6"], tmp_path, tmp_path)
    epochs = [report for report in reports if isinstance(report, EpochReport)]
    best = [epoch for epoch in epochs if epoch.best][-1].dev
    asr.decode(tmp_path, tmp_path / "dev.jsonl.gz", tmp_path / "decode_dev", method="greedy")
    found = read_score(tmp_path / "decode_dev")
    assert 0 < found.cer < 0.9  # or it would say nothing
    assert (best.words, best.characters) == (found.word_total, found.character_total)
    assert best.empty == sum(counts.deletions == counts.reference_length for counts in found.characters.values())
    facts = json.loads((tmp_path / "training.json").read_text())
    assert (facts["dev_wer"], facts["dev_cer"], facts["dev_loss"]) == (found.wer, found.cer, best.loss)
    assert f"{100 * found.wer:.2f} % WER and {100 * found.cer:.2f} % CER" in (tmp_path / "README.md").read_text()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["dev_cer"], line["dev_loss"], line["dev_empty"]) for line in lines] == [
        (epoch.dev.characters.rate, epoch.dev.loss, epoch.dev.empty) for epoch in epochs
    ]
    assert lines[-1]["dev"] == asdict(epochs[-1].dev.words)
    assert epochs[-1].curves == {
        **{"dev/wer": lines[-1]["dev_wer"], "dev/cer": lines[-1]["dev_cer"]},
        **{"dev/loss": lines[-1]["dev_loss"], "dev/empty": lines[-1]["dev_empty"]},
    }


def ctc(log_posteriors: np.ndarray, tokens: list[int]) -> float:
    """Return the negative log-probability of tokens, by the forward recursion over tokens with blanks between them."""
    labels = [0, *(label for token in tokens for label in (token, 0))]
    mass = np.full(len(labels) + 2, -np.inf)  # two impossible places in front
    mass[2:4] = log_posteriors[0, labels[:2]]
    for frame in log_posteriors[1:]:
        before, mass = mass, np.full_like(mass, -np.inf)
        for place, label in enumerate(labels):
            skip = label != 0 and (place < 2 or labels[place - 2] != label)
            ways = [before[place + 2], before[place + 1], before[place] if skip else -np.inf]
            mass[place + 2] = np.logaddexp.reduce(ways) + frame[label]
    return -float(np.logaddexp(mass[-1], mass[-2]))


def test_the_loss_is_that_of_each_utterance_alone_over_those_that_can_be_spelled(
    tone_corpus: Path, tmp_path: Path
) -> None:
    config = load_config(None, TINY)
    cuts = list(load_manifest(tone_corpus / "dev.jsonl.gz"))
    cuts[1].supervisions[0].text = "abcd zz"  # no token for z
    cuts[2].supervisions[0].text = "abcd" * 50  # more tokens than frames
    cuts[3].supervisions[0].text = ""
    tokens = TokenTable.from_texts(["ab cd"])
    torch.manual_seed(3)
    model = AcousticModel(config, len(tokens)).eval()
    expected, count = 0.0, 0
    for place, cut in enumerate(cuts):
        if place not in (1, 2, 3):
            (batch,) = evaluation_batches([cut], config)
            with torch.inference_mode():
                log_posteriors, _ = model(batch.waveforms, batch.lengths)
            expected += ctc(log_posteriors[0].double().numpy(), tokens.encode(cut_text(cut)))
            count += len(cut_text(cut))
    found = score_dev(model, cuts, Evaluation(tokens, config, Fabric(accelerator="cpu", devices=1)))
    assert found.loss == pytest.approx(expected / count, rel=1e-4)
    assert found.utterances == 12
    # Four speakers are too few to be the unit.
    assert len(found.unit_errors) == len(found.unit_lengths) == 12
    assert sum(found.unit_errors) == found.words.errors
    for place, cut in enumerate(cuts):
        cut.supervisions[0].speaker = str(place % 5)
    by_speaker = score_dev(model, cuts, Evaluation(tokens, config, Fabric(accelerator="cpu", devices=1)))
    assert len(by_speaker.unit_errors) == 5
    assert (by_speaker.words, by_speaker.loss) == (found.words, found.loss)
    assert sum(by_speaker.unit_lengths) == sum(len(cut_text(cut).split()) for cut in cuts)


def test_a_network_of_blanks_alone_is_empty_in_all_utterances_that_have_a_text(tone_corpus: Path) -> None:
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["ab cd"])
    cuts = list(load_manifest(tone_corpus / "dev.jsonl.gz"))
    cuts[0].supervisions[0].text = ""
    model = AcousticModel(config, len(tokens)).eval()
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(torch.tensor([5.0] + [0.0] * (len(tokens) - 1)))
    found = score_dev(model, cuts, Evaluation(tokens, config, Fabric(accelerator="cpu", devices=1)))
    assert (found.utterances, found.empty) == (12, 11)
    assert found.words.rate == found.characters.rate == 1.0


def test_the_table_of_replacements_holds_for_hypotheses_on_dev(tone_corpus: Path) -> None:
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["ab cd"])
    cuts = list(load_manifest(tone_corpus / "dev.jsonl.gz"))[:1]
    cuts[0].supervisions[0].text = "Yes"
    model, fabric = AcousticModel(config, len(tokens)).eval(), Fabric(accelerator="cpu", devices=1)
    (batch,) = evaluation_batches(cuts, config)
    with torch.inference_mode():
        recognised = tokens.decode(greedy_search(*on_cpu(*model(batch.waveforms, batch.lengths)))[0].tokens)
    assert recognised
    assert score_dev(model, cuts, Evaluation(tokens, config, fabric)).words.rate > 0
    text = config.text.model_copy(update={"replace": {recognised: "yes"}})
    found = score_dev(model, cuts, Evaluation(tokens, config.model_copy(update={"text": text}), fabric))
    assert found.words.rate == found.characters.rate == 0


def test_a_chinese_dev_set_is_judged_by_its_characters(tone_corpus: Path, tmp_path: Path) -> None:
    letters = str.maketrans({"a": "今", "b": "天", "c": "气", "d": "好", " ": ""})
    for split in ("train", "dev"):
        cuts = list(read_manifest(tone_corpus / f"{split}.jsonl.gz"))
        for cut in cuts:
            cut.supervisions[0].text = cut_text(cut).translate(letters)
        write_manifest(cuts, tmp_path / f"{split}.jsonl.gz")
    reports = run([*TINY, "training.epochs=1"], tmp_path, tmp_path / "out")
    (dev,) = [report.dev for report in reports if isinstance(report, EpochReport)]
    assert dev.by_characters
    assert dev.rate == dev.characters.rate
    assert sum(dev.unit_errors) == dev.characters.errors
    result = asr.train(load_config(None, [*TINY, "training.epochs=1"]), tmp_path, tmp_path / "out", resume=True)
    assert result.dev_score == dev.characters.rate


HISTORY = [
    score(ALL, 0.958, 2.9),
    score(ALL, 0.7, 2.5),
    score(NEARLY_ALL, 0.8, 2.0),
    score(ALL, 0.664, 1.9),
    score(ALL, 0.7, 1.8),
]


def test_a_run_keeps_the_epoch_of_the_rule_and_a_resumed_run_the_same_one(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WER says nothing in these epochs, and alone it would have kept the third."""
    settings = [*TINY, "training.epochs=5"]
    scores = iter(HISTORY)
    monkeypatch.setattr(trainer, "score_dev", lambda *_: next(scores))
    epochs = [report for report in run(settings, tone_corpus, tmp_path / "whole") if isinstance(report, EpochReport)]
    assert [epoch.best for epoch in epochs] == [True, True, False, True, False]
    facts = json.loads((tmp_path / "whole/training.json").read_text())
    assert (facts["epochs"], facts["dev_cer"]) == (4, 0.664)
    steps = 14  # of an epoch, at most
    for stop_after in (1 + steps, 1 + 3 * steps, 1 + 4 * steps + 5):
        parts = tmp_path / f"parts-{stop_after}"
        scores = iter(HISTORY)
        began = list(itertools.islice(training_reports(load_config(None, settings), tone_corpus, parts), stop_after))
        done = sum(isinstance(report, EpochReport) for report in began)
        assert isinstance(began[-1], StepReport | EpochReport)
        scores = iter(HISTORY[done:])
        run(settings, tone_corpus, parts, resume=True)
        for name in ("training.json", "model.safetensors"):
            assert (parts / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert asr.train(load_config(None, settings), tone_corpus, parts, resume=True).dev_score == 1.0
        shutil.rmtree(parts)
