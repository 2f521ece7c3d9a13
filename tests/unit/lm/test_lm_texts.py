"""Texts for language models, from text files and manifests."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from asr.config import TextSettings
from asr.corpus.manifest import make_cut, write_manifest
from asr.errors import LanguageModelError, ManifestError
from asr.lm.texts import normalised, read_texts

SENTENCES = "one two\n\n  three \r\nvier fünf"


def test_a_text_file_holds_a_sentence_a_line(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(SENTENCES.encode())
    (tmp_path / "text.txt.gz").write_bytes(gzip.compress(SENTENCES.encode()))
    for name in ("text.txt", "text.txt.gz"):
        assert read_texts(tmp_path / name) == ["one two", "three", "vier fünf"]


def test_a_manifest_gives_its_transcripts(tmp_path: Path, wav: Path) -> None:
    cuts = [make_cut(f"u{n}", wav, text, "anna") for n, text in enumerate(["one two", "three"])]
    write_manifest(cuts, tmp_path / "train.jsonl.gz")
    assert read_texts(tmp_path / "train.jsonl.gz") == ["one two", "three"]


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", [0.0, 0.1] * 800, 16000)
    return tmp_path / "a.wav"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(LanguageModelError, match=r"none\.txt: cannot read the text"):
        read_texts(tmp_path / "none.txt")
    with pytest.raises(ManifestError, match=r"none\.jsonl\.gz"):
        read_texts(tmp_path / "none.jsonl.gz")
    (tmp_path / "latin.txt").write_bytes("fünf".encode("latin-1"))
    with pytest.raises(LanguageModelError, match=r"latin\.txt:1: not UTF-8 .* save the text as UTF-8"):
        read_texts(tmp_path / "latin.txt")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(LanguageModelError, match=r"empty\.txt: there is no sentence in it"):
        read_texts(tmp_path / "empty.txt")


def test_texts_are_written_as_transcripts_are(tmp_path: Path) -> None:
    settings = TextSettings(replace={"colour": "color"}, numbers="en", space="-", remove="punctuation")
    assert list(normalised(["My Colour!", "42", "…"], settings)) == ["my color", "forty two"]
