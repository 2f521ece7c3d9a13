"""`asr.estimate_ngram`: its report agrees with the file that it wrote; what contradicts itself is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import asr
from asr.bundle.settings import save_settings
from asr.errors import ConfigError, LanguageModelError
from asr.lm.arpa import read_arpa
from asr.settings_file import parse_config
from asr.text.tokens import TokenTable


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("One two\nTWO three 4\none one\n", encoding="utf-8")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    save_settings(parse_config({"text": {"case": "upper"}, "decode": {"lm_order": 2}}, "test"), folder)
    TokenTable.from_texts(["ONE TWO THREE"]).save(folder / "tokens.json")
    return folder


def test_of_one_file_or_several_the_report_says_what_the_arpa_file_holds(text: Path, tmp_path: Path) -> None:
    one = asr.estimate_ngram(str(text), tmp_path / "lm.arpa", order=2, test=text)
    lm = read_arpa(tmp_path / "lm.arpa")
    assert (one.path, one.units, one.lexicon, one.left_out) == (tmp_path / "lm.arpa", "words", None, 0)
    assert one.counts == tuple(len(ngrams) for ngrams in lm.ngrams) == (9, 10)
    assert one.perplexity is not None
    sentences = [line.split() for line in text.read_text().splitlines()]
    assert one.perplexity.perplexity == pytest.approx(lm.perplexity(sentences).perplexity, rel=1e-5)
    assert asr.estimate_ngram([text, text], tmp_path / "lm.arpa", vocabulary=2).counts[0] == 5


def test_of_a_models_tokens_it_is_written_into_the_folder_without_what_they_cannot_spell(
    text: Path, model: Path
) -> None:
    report = asr.estimate_ngram(text, model=model)
    assert (report.path, report.units) == (model / "lm.arpa.gz", "tokens")
    assert len(report.counts) == 2  # of decode.lm_order
    assert report.left_out == 1
    assert report.left_out_reason.startswith("'TWO THREE 4': no token for '4'")
    words = asr.estimate_ngram(text, model=model, words=True)
    assert (words.path, words.lexicon, words.not_spelled) == (model / "lm.words.arpa.gz", 3, ("4",))


def test_what_contradicts_itself_is_refused(text: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="out: needed without a model"):
        asr.estimate_ngram(text)
    with pytest.raises(ConfigError, match="vocabulary"):
        asr.estimate_ngram(text, model=model, vocabulary=9)
    with pytest.raises(LanguageModelError, match="order"):
        asr.estimate_ngram(text, tmp_path / "lm.arpa", order=0)
    text.write_text("7\n8\n")
    with pytest.raises(LanguageModelError, match="at least one sentence; the text has none; left out 2 sentences; '7'"):
        asr.estimate_ngram(text, model=model)
    assert not (model / "lm.arpa.gz").exists()


def test_a_published_arpa_file_becomes_the_models(text: Path, model: Path, tmp_path: Path) -> None:
    upper = tmp_path / "upper.txt"
    upper.write_text(text.read_text().upper())
    for name in ("given.arpa", "given.arpa.gz"):
        asr.estimate_ngram(upper, tmp_path / name, order=2)
        taken = asr.estimate_ngram(tmp_path / name, model=model, words=True, test=upper)
        assert (taken.path, taken.units) == (model / "lm.words.arpa.gz", "words")
        assert (taken.lexicon, taken.not_spelled) == (3, ("4",))
        given, found = read_arpa(tmp_path / name), read_arpa(taken.path)
        assert [dict(ngrams) for ngrams in found.ngrams] == [dict(ngrams) for ngrams in given.ngrams]
        assert taken.counts == tuple(len(ngrams) for ngrams in given.ngrams)
        assert taken.perplexity is not None


def test_an_arpa_file_that_does_not_fit_is_refused(text: Path, model: Path, tmp_path: Path) -> None:
    lower = tmp_path / "lower.txt"
    lower.write_text(text.read_text().lower())
    given = tmp_path / "given.arpa"
    asr.estimate_ngram(lower, given)
    with pytest.raises(LanguageModelError, match=r"given\.arpa: none of its words, such as .*text\.case=upper"):
        asr.estimate_ngram(given, model=model, words=True)
    with pytest.raises(
        LanguageModelError, match=r"given\.arpa: its units .* are not tokens of the model; --words takes"
    ):
        asr.estimate_ngram(given, model=model)
    for further in ({"order": 2}, {"vocabulary": 3}, {"prune": (0, 1)}):
        with pytest.raises(ConfigError, match="taken as it is: name it alone"):
            asr.estimate_ngram(given, tmp_path / "out.arpa", **further)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="name it alone"):
        asr.estimate_ngram([given, text], tmp_path / "out.arpa")
