"""`asr.train` and `asr.train_rnn_lm`, as a program calls them."""

import json
import os
import signal
from pathlib import Path

import pytest
from conftest import TINY

import asr
from asr.corpus.manifest import cut_text, read_manifest
from asr.lm.rnnlm import LmUnits, RnnLm
from asr.search_config import RnnLmSettings
from asr.settings_file import parse_config, save_config
from asr.text.tokens import TokenTable
from asr.training.lm_text import read_sentences
from asr.training.reports import EpochReport, LmEpoch, LmStart, LmStep, RunStart, RunStopped, StepReport

SMALL = RnnLmSettings(hidden_size=8, layers=1, epochs=2, batch=4, bptt_units=8, accelerator="cpu")


def dev_wers(out: Path) -> list[float]:
    return [json.loads(line)["dev_wer"] for line in (out / "log.jsonl").read_text().splitlines()]


def test_training_takes_a_settings_file_reports_and_says_how_it_ended(tone_corpus: Path, tmp_path: Path) -> None:
    settings, out, reports = tmp_path / "tiny.yaml", tmp_path / "out", []
    save_config(asr.load_config(None, [*TINY, "training.epochs=2"]), settings)
    result = asr.train(str(settings), str(tone_corpus), str(out), on_report=reports.append)
    assert (result.folder, result.epochs, result.stopped_by) == (out, 2, None)
    assert result.dev_score == min(dev_wers(out))
    assert isinstance(reports[0], RunStart)
    assert [report.epoch for report in reports if isinstance(report, EpochReport)] == [0, 1]
    total_s = sum(report.audio_s for report in reports if isinstance(report, StepReport))
    assert total_s == pytest.approx(2 * reports[0].survey.audio_s)
    assert asr.load(out, accelerator="cpu").sample_rate_hz == 16000


def test_a_signal_ends_the_training_and_it_can_be_resumed(tone_corpus: Path, tmp_path: Path) -> None:
    config = asr.load_config(None, [*TINY, "training.epochs=2"])
    reports = []

    def stop_in_the_second_epoch(report: object) -> None:
        reports.append(report)
        if isinstance(report, StepReport) and report.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    result = asr.train(config, tone_corpus, tmp_path, on_report=stop_in_the_second_epoch)
    assert (result.epochs, result.stopped_by) == (1, "SIGTERM")
    assert result.dev_score == dev_wers(tmp_path)[0]
    assert isinstance(reports[-1], RunStopped)
    result = asr.train(config, tone_corpus, tmp_path, resume=True)
    assert (result.epochs, result.stopped_by) == (2, None)
    result = asr.train(config, tone_corpus, tmp_path, resume=True)  # nothing is left to do
    assert (result.epochs, result.dev_score) == (2, min(dev_wers(tmp_path)))


def test_an_error_in_the_callers_code_leaves_the_folder_free(tone_corpus: Path, tmp_path: Path) -> None:
    config = asr.load_config(None, [*TINY, "training.epochs=1"])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError):
        asr.train(config, tone_corpus, tmp_path, on_report=lambda report: 1 / 0)
    assert signal.getsignal(signal.SIGTERM) == before
    assert asr.train(config, tone_corpus, tmp_path, with_dev=True).dev_score is None


def test_a_language_model_of_words_is_trained_on_texts_and_manifests(tone_corpus: Path, tmp_path: Path) -> None:
    text, out, reports = tmp_path / "text.txt", tmp_path / "lm", []
    text.write_text("ab cd\nzz ab\n" * 5, encoding="utf-8")
    dev = str(tone_corpus / "dev.jsonl.gz")
    result = asr.train_rnn_lm(
        [text, str(tone_corpus / "train.jsonl.gz")], out, dev=dev, settings=SMALL, on_report=reports.append
    )
    start, *rest = reports
    assert isinstance(start, LmStart)
    assert (start.kind, start.sentences, start.left_out) == ("words", 96 + 10, 0)
    assert len([report for report in rest if isinstance(report, LmStep)]) == start.steps
    perplexities = [report.dev.perplexity for report in rest if isinstance(report, LmEpoch)]
    assert (result.folder, result.epochs, result.stopped_by) == (out, 2, None)
    assert result.dev_score == min(perplexities)
    lm = RnnLm.load(out / "rnnlm.safetensors")
    sentences = [lm.units.encode_words(cut_text(cut)) for cut in read_manifest(dev)]
    assert lm.perplexity(sentences).perplexity == pytest.approx(result.dev_score)


def test_a_signal_ends_the_training_of_a_language_model_too(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("ab cd\ncd ab ab\n" * 20, encoding="utf-8")

    def stop(report: object) -> None:
        if isinstance(report, LmStep):
            os.kill(os.getpid(), signal.SIGINT)

    result = asr.train_rnn_lm(text, tmp_path / "lm", settings=SMALL, on_report=stop)
    assert (result.epochs, result.dev_score, result.stopped_by) == (0, None, "SIGINT")
    assert asr.train_rnn_lm(text, tmp_path / "lm", settings=SMALL, resume=True).epochs == 2


def model_of_tokens(folder: Path) -> Path:
    save_config(parse_config({"text": {"case": "upper", "remove": "."}}, "test"), folder / "config.yaml")
    TokenTable.from_texts(["AB"]).save(folder / "tokens.json")
    return folder


def test_sentences_are_spelled_as_a_models_transcripts_and_every_twentieth_is_for_dev(tmp_path: Path) -> None:
    text, model = tmp_path / "text.txt", model_of_tokens(tmp_path / "model")
    lines = [f"{'a' * number}b." for number in range(1, 41)]
    text.write_text("\n".join([*lines, "a2", "..", "a3"]), encoding="utf-8")
    found = read_sentences([text], None, model, words=False, min_count=1)
    assert found.units == LmUnits("tokens", ("</s>", "A", "B"))
    assert found.dev == [[1] * 20 + [2], [1] * 40 + [2]]
    assert found.train == [[1] * number + [2] for number in range(1, 41) if number not in (20, 40)]
    assert found.left_out.count == 2
    assert found.left_out.reason.startswith("'A2': no token for '2'")
    words = read_sentences([text], None, model, words=True, min_count=1)
    assert words.units.symbols[2:5] == ("A2", "A3", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB")


def test_errors_of_a_language_models_text_name_the_way_out(tmp_path: Path) -> None:
    text, model = tmp_path / "text.txt", model_of_tokens(tmp_path / "model")
    text.write_text("12\n34\n", encoding="utf-8")
    with pytest.raises(asr.LanguageModelError, match=r"no sentence is left; left out 4 sentences; '12': no token"):
        asr.train_rnn_lm(text, model=model, settings=SMALL)
    with pytest.raises(asr.ConfigError, match="out: needed without a model"):
        asr.train_rnn_lm(text, settings=SMALL)
