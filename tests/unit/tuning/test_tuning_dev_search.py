"""Searches of a dev set by several processes, against those of one, and against errors counted another way."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from conftest import TINY

import asr
from asr.bundle.bundle import ModelBundle
from asr.bundle.files import LANGUAGE_MODEL
from asr.decoding.beam import BeamOptions, beam_search
from asr.decoding.ngram_scorer import TokenNgramScorer
from asr.decoding.scorers import WeightedScorer
from asr.errors import ModelError
from asr.inference.decoder import Decoder, Search
from asr.inference.recognizer import Recognizer
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.estimate import token_ngram
from asr.model.acoustic import AcousticModel
from asr.search_config import DecodeSettings
from asr.settings_file import load_config
from asr.text.normalise import normalise
from asr.text.tokens import TokenTable
from asr.transcript.confidence import Calibration
from asr.tuning.dev_search import (
    DevBatch,
    DevSearch,
    Task,
    require_language_models,
    usual_jobs,
    utterance_figures,
)

TEXTS = ["ab cd", "ab ab", "cd dc ab", "dc", "cd ab"]
SETTINGS = [
    DecodeSettings(lm_weight=lm_weight, insertion_bonus=bonus, beam_size=beam_size)
    for lm_weight, bonus, beam_size in [(0.0, 0.0, 8), (0.5, 0.5, 8), (1.0, -0.5, 4), (0.5, 1.5, 2)]
]


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """A model folder with a language model; its network is never asked."""
    folder = tmp_path_factory.mktemp("exp") / "model"
    config, tokens = load_config(None, TINY), TokenTable.from_texts(TEXTS)
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(folder)
    write_arpa(token_ngram(TEXTS, tokens, 3), folder / LANGUAGE_MODEL)
    return asr.load(folder)


@pytest.fixture(scope="module")
def batches(recognizer: Recognizer) -> list[DevBatch]:
    """Log-posteriors that lean towards the transcripts, but not enough to be right without help."""
    torch.manual_seed(5)
    tokens = recognizer.decoder.bundle.tokens
    found = []
    for texts in (TEXTS[:3], TEXTS[3:], TEXTS[1:4]):
        frames = [[frame for token in tokens.encode(text) for frame in (token, token, 0)] for text in texts]
        scores = torch.randn(len(texts), max(map(len, frames)), len(tokens))
        for row, path in enumerate(frames):
            scores[row, range(len(path)), path] += 1.6
        ids = [f"{len(found)}-{place}" for place in range(len(texts))]
        lengths = torch.tensor([len(path) for path in frames])
        found.append(DevBatch(ids, list(texts), scores.log_softmax(-1), lengths))
    return found


def distance(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein's, by his recursion."""
    if not reference or not hypothesis:
        return len(reference) + len(hypothesis)
    return min(
        distance(reference[1:], hypothesis) + 1,
        distance(reference, hypothesis[1:]) + 1,
        distance(reference[1:], hypothesis[1:]) + (reference[0] != hypothesis[0]),
    )


def test_errors_and_losses_are_those_found_another_way_over_each_utterance_alone(
    recognizer: Recognizer, batches: list[DevBatch]
) -> None:
    """The loss: minus the log-posterior of the transcript, at most 7, and a quarter for each expected error."""
    tokens, folder = recognizer.decoder.bundle.tokens, recognizer.decoder.bundle.folder
    assert folder is not None
    scorer = TokenNgramScorer(read_arpa(folder / LANGUAGE_MODEL), tokens)
    expected: list[list[tuple[int, float]]] = []
    for settings in SETTINGS:
        expected.append([])
        for _, references, log_posteriors, lengths in batches:
            for reference, frames, length in zip(references, log_posteriors.numpy(), lengths.numpy(), strict=True):
                (hypotheses,) = beam_search(
                    frames[None, :length],
                    length[None],
                    BeamOptions(beam_size=settings.beam_size, insertion_bonus=settings.insertion_bonus),
                    [WeightedScorer(scorer, settings.lm_weight)],
                )
                weight_of: dict[str, float] = {}
                for hypothesis in hypotheses:
                    text = tokens.decode(hypothesis.tokens)
                    weight_of[text] = weight_of.get(text, 0.0) + math.exp(hypothesis.score)
                whole = sum(weight_of.values())
                errors = {text: distance(reference.split(), text.split()) for text in weight_of}
                right = weight_of.get(reference, 0.0) / whole
                loss = -math.log(right) if right > math.exp(-7) else 7.0
                loss += 0.25 * sum(weight * errors[text] for text, weight in weight_of.items()) / whole
                expected[-1].append((errors[max(weight_of, key=lambda text: weight_of[text])], loss))
    advanced: list[int] = []
    with DevSearch(recognizer.decoder, batches, 1) as dev:
        found = dev.figures(SETTINGS, "word", advanced.append)
    for utterances, wanted in zip(found, expected, strict=True):
        assert [utterance.errors for utterance in utterances] == [errors for errors, _ in wanted]
        assert [utterance.loss for utterance in utterances] == pytest.approx([loss for _, loss in wanted])
    assert sum(advanced) == len(SETTINGS) * len(batches)
    sums = {sum(utterance.errors for utterance in utterances) for utterances in found}
    assert len(sums) > 1  # or the settings would make no difference


def test_in_characters_a_wrong_letter_is_one_error_of_many(recognizer: Recognizer, batches: list[DevBatch]) -> None:
    tokens = recognizer.decoder.bundle.tokens
    with DevSearch(recognizer.decoder, batches, 1) as dev:
        (found,) = dev.figures(SETTINGS[1:2], "character", int)
    searched = [
        tokens.decode(hypotheses[0].tokens)
        for batch in batches
        for hypotheses in recognizer.decoder.search(
            batch.log_posteriors, batch.lengths, Search("beam", settings=SETTINGS[1])
        )
    ]
    references = [reference for batch in batches for reference in batch.references]
    assert [utterance.errors for utterance in found] == [
        distance(list(reference), list(text)) for reference, text in zip(references, searched, strict=True)
    ]


def test_two_processes_find_what_one_does(recognizer: Recognizer, batches: list[DevBatch]) -> None:
    with DevSearch(recognizer.decoder, batches, 1) as alone, DevSearch(recognizer.decoder, batches, 2) as together:
        assert together.figures(SETTINGS, "word", int) == alone.figures(SETTINGS, "word", int)
        heard = together.evidence(SETTINGS[1])
        assert heard == alone.evidence(SETTINGS[1])
        evidence, right = (
            [item for one in heard for item in one.evidence],
            [item for one in heard for item in one.right],
        )
        assert len(evidence) == len(right) > 10
        assert 0 < sum(right) < len(right)
        # A complaint about the model folder comes from the process as it would come from here.
        with pytest.raises(ModelError, match="lm is words"):
            together.figures([SETTINGS[1].model_copy(update={"lm": "words"})], "word", int)


def test_the_signs_of_an_utterance_are_counted_in_its_words(recognizer: Recognizer, batches: list[DevBatch]) -> None:
    decoder, settings = recognizer.decoder, SETTINGS[1]
    with DevSearch(decoder, batches, 1) as dev:
        found = dev.evidence(settings)
    searched = [
        (hypotheses, reference, frames)
        for batch in batches
        for hypotheses, reference, frames in zip(
            decoder.search(batch.log_posteriors, batch.lengths, Search("beam", settings=settings)),
            batch.references,
            batch.lengths.tolist(),
            strict=True,
        )
    ]
    calibration = Calibration(0.1, 0.9, 0.8)
    for one, (hypotheses, reference, frames) in zip(found, searched, strict=True):
        texts = [decoder.bundle.tokens.decode(hypothesis.tokens).split() for hypothesis in hypotheses]
        total = sum(math.exp(hypothesis.score) for hypothesis in hypotheses)
        away = sum(
            math.exp(hypothesis.score) / total * distance(text, texts[0])
            for hypothesis, text in zip(hypotheses, texts, strict=True)
        )
        signs, errors, reference_words, duration_s = one.seen_by(calibration)
        assert signs.words == len(texts[0])
        assert signs.doubt == pytest.approx(sum(1 - calibration.confidence(item) for item in one.evidence))
        assert signs.rivalry == pytest.approx(away)
        assert errors == distance(reference.split(), texts[0])
        assert reference_words == len(reference.split())
        assert duration_s == pytest.approx(frames * decoder.model.frame_shift_s)


@pytest.mark.parametrize(
    ("decode", "missing"),
    [
        ({"lm": "words", "lm_weight": 0.0}, "lm is words, but there is no lm.words.arpa.gz"),
        ({"rnn_weight": 0.3}, "there is no rnnlm"),
        ({"rescore_weight": 0.3}, "there is no rnnlm"),
    ],
)
def test_a_language_model_that_the_settings_name_and_the_folder_lacks_is_an_error(
    recognizer: Recognizer, decode: dict[str, str | float], missing: str
) -> None:
    require_language_models(recognizer.decoder)
    assert recognizer.decoder.bundle.folder is not None
    with pytest.raises(ModelError, match=missing):
        require_language_models(asr.load(recognizer.decoder.bundle.folder, decode=decode).decoder)


@pytest.mark.parametrize(("audio_s", "jobs"), [(0.0, 1), (200.0, 1), (1e6, 7), (700.0, 4)])
def test_little_audio_is_not_worth_many_processes(monkeypatch: pytest.MonkeyPatch, audio_s: float, jobs: int) -> None:
    monkeypatch.setattr("asr.tuning.dev_search.cores", lambda: 7)
    assert usual_jobs(audio_s) == jobs


def test_hypotheses_are_replaced_as_references_are(recognizer: Recognizer, batches: list[DevBatch]) -> None:
    """Under the table, ab and cd are one word: what was taken for the other is right, and their posteriors add up."""
    bundle = recognizer.decoder.bundle
    text = bundle.config.text.model_copy(update={"replace": {"ab": "cd"}})
    decoder = Decoder(replace(bundle, config=bundle.config.model_copy(update={"text": text})))
    searched = Search("beam", settings=SETTINGS[0])
    for batch in batches:
        references = [normalise(reference, text) for reference in batch.references]
        found = utterance_figures(decoder, batch._replace(references=references), Task(SETTINGS[0]))
        for figures, reference, hypotheses in zip(
            found, references, recognizer.decoder.search(batch.log_posteriors, batch.lengths, searched), strict=True
        ):
            texts = [bundle.tokens.decode(hypothesis.tokens).replace("ab", "cd") for hypothesis in hypotheses]
            whole = sum(math.exp(hypothesis.score) for hypothesis in hypotheses)
            shares = [math.exp(hypothesis.score) / whole for hypothesis in hypotheses]
            errors = [distance(reference.split(), each.split()) for each in texts]
            right = sum(share for share, each in zip(shares, texts, strict=True) if each == reference)
            expected = sum(share * error for share, error in zip(shares, errors, strict=True))
            assert figures.errors == errors[0]
            missed = -math.log(right) if right > math.exp(-7) else 7
            assert figures.loss == pytest.approx(missed + 0.25 * expected)
