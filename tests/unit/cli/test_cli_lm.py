"""`asr lm ngram`: words by default, a model's tokens with --model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from asr.lm.arpa import read_arpa
from asr.settings_file import parse_config, save_config
from asr.text.tokens import TokenTable

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("One two\nTWO three\n\none one\n", encoding="utf-8")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    config = parse_config({"text": {"case": "upper"}, "decode": {"lm_order": 4}}, "test")
    save_config(config, folder / "config.yaml")
    TokenTable.from_texts(["ONE TWO THREE"]).save(folder / "tokens.json")
    return folder


def test_without_a_model_it_counts_words_as_they_are(call: Call, text: Path, tmp_path: Path) -> None:
    status, out, _ = call("lm", "ngram", text, text, "--order", "2", "--out", tmp_path / "lm.arpa")
    assert status == 0
    lm = read_arpa(tmp_path / "lm.arpa")
    assert {unit for (unit,) in lm.ngrams[0]} == {"<s>", "</s>", "<unk>", "One", "two", "TWO", "three", "one"}
    assert out.splitlines()[:2] == [f"1-grams  {len(lm.ngrams[0])}", f"2-grams  {len(lm.ngrams[1])}"]
    assert "perplexity" not in out


def test_with_a_model_it_counts_its_tokens_and_writes_into_its_folder(call: Call, text: Path, model: Path) -> None:
    status, out, _ = call("lm", "ngram", text, "--model", model)
    assert status == 0
    lm = read_arpa(model / "lm.arpa.gz")
    assert lm.order == 4
    assert {unit for (unit,) in lm.ngrams[0]} == {"<s>", "</s>", "▁", *"ONETWHR"}
    assert f"written  {model / 'lm.arpa.gz'}" in out


def test_test_prints_the_perplexity_of_another_text(call: Call, text: Path, tmp_path: Path) -> None:
    (tmp_path / "dev.txt").write_text("one four\n")
    _, out, _ = call("lm", "ngram", text, "--out", tmp_path / "lm.arpa", "--test", tmp_path / "dev.txt")
    lm = read_arpa(tmp_path / "lm.arpa")
    expected = lm.perplexity([["one", "four"]]).perplexity
    assert out.splitlines()[-1] == (
        f"{tmp_path / 'dev.txt'}: perplexity {expected:.2f} on 2 words, 1 OOV"  # "one" and the end
    )


def test_a_vocabulary_is_limited_and_n_grams_pruned(call: Call, text: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("one two\n")
    for vocabulary in ("2", tmp_path / "words.txt"):
        options = ["--vocabulary", vocabulary, "--prune", "0,1", "--out", tmp_path / "lm.arpa"]
        status, _, _ = call("lm", "ngram", text, text, *options)
        lm = read_arpa(tmp_path / "lm.arpa")
        assert status == 0
        assert len(lm.ngrams[0]) == 5  # <s>, </s>, <unk> and two words
    assert ("<s>", "<unk>") in lm.ngrams[1]
    assert call("lm", "ngram", text, "--prune", "0,x", "--out", tmp_path / "lm.arpa")[0] == 2


def test_a_models_vocabulary_is_its_tokens(call: Call, text: Path, model: Path) -> None:
    status, _, err = call("lm", "ngram", text, "--model", model, "--vocabulary", "9")
    assert status == 2
    assert "--vocabulary" in err


def test_words_of_a_model_become_its_lexicon_in_the_spelling_of_its_transcripts(
    call: Call, text: Path, model: Path, tmp_path: Path
) -> None:
    text.write_text("One two\nTWO three\none one 4you\n", encoding="utf-8")
    status, out, _ = call("lm", "ngram", text, "--model", model, "--words")
    lm = read_arpa(model / "lm.words.arpa.gz")
    assert (status, lm.order) == (0, 3)
    assert {unit for (unit,) in lm.ngrams[0]} == {"<s>", "</s>", "<unk>", "ONE", "TWO", "THREE", "4YOU"}
    assert "lexicon  3 words; 1 not in the model's characters (4YOU)" in out
    assert not (model / "lm.arpa.gz").exists()

    (tmp_path / "words.txt").write_text("one two\n")
    call("lm", "ngram", text, "--model", model, "--words", "--vocabulary", tmp_path / "words.txt", "--test", text)
    lm = read_arpa(model / "lm.words.arpa.gz")
    assert {unit for (unit,) in lm.ngrams[0]} == {"<s>", "</s>", "<unk>", "ONE", "TWO"}


def test_a_models_token_n_gram_is_pruned_as_one_of_words_is(call: Call, text: Path, model: Path) -> None:
    call("lm", "ngram", text, "--model", model, "--order", "2")
    whole = read_arpa(model / "lm.arpa.gz")
    call("lm", "ngram", text, "--model", model, "--order", "2", "--prune", "0,1")
    assert len(read_arpa(model / "lm.arpa.gz").ngrams[1]) < len(whole.ngrams[1])


def test_without_a_model_out_is_needed(call: Call, text: Path) -> None:
    status, _, err = call("lm", "ngram", text)
    assert status == 2
    assert "--out" in err


def test_sentences_with_characters_the_model_lacks_are_left_out_and_told(
    call: Call, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text("one 2\n3\n")
    status, out, err = call("lm", "ngram", tmp_path / "text.txt", "--model", model)
    assert status == 1
    assert "left out 2 sentences; 'ONE 2': no token for '2'," in " ".join(out.split()) + err
    assert not (model / "lm.arpa.gz").exists()
    (tmp_path / "more.txt").write_text("one two\none 2\ntwo\n")
    status, out, _ = call("lm", "ngram", tmp_path / "more.txt", "--model", model)
    assert status == 0
    assert "left out 1 sentence; 'ONE 2': no token for '2'," in " ".join(out.split())
    status, out, _ = call("lm", "ngram", tmp_path / "more.txt", "--model", model, "--test", tmp_path / "more.txt")
    assert status == 0
    assert "left out 2 sentences; 'ONE 2': no token for '2'," in " ".join(out.split())
    assert "perplexity" in out
    (tmp_path / "spelt.txt").write_text("one two\ntwo\n")
    found = (model / "lm.arpa.gz").read_bytes()
    call("lm", "ngram", tmp_path / "spelt.txt", "--model", model)
    assert (model / "lm.arpa.gz").read_bytes() == found


def test_a_byte_order_mark_is_no_character_of_the_text(call: Call, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes("\ufeffone two\n".encode())
    assert call("lm", "ngram", tmp_path / "text.txt", "--out", tmp_path / "lm.arpa")[0] == 0
    assert "\ufeff" not in (tmp_path / "lm.arpa").read_text(encoding="utf-8")


def test_a_folder_that_is_no_model_is_named(call: Call, text: Path, tmp_path: Path) -> None:
    status, _, err = call("lm", "ngram", text, "--model", tmp_path / "none")
    assert status == 1
    assert str(tmp_path / "none") in err
