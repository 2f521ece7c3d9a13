"""The model that comes with the package: `an4` by its name, the recording beside it, `asr demo`."""

from pathlib import Path

import pytest
import soundfile

import asr
from asr.errors import ModelError
from asr.sharing.names import model_folder, own_folder
from asr.sharing.packed import open_packed
from asr.sharing.shipped import shipped_model


@pytest.fixture(scope="module")
def recognizer():
    return asr.load("an4", precision="fp32")


def test_the_model_recognises_the_recording_beside_it(recognizer):
    sample = asr.sample_recording()
    assert recognizer.transcribe(sample.path).text == sample.text
    assert soundfile.info(sample.path).duration == pytest.approx(2.9)


def test_the_model_and_the_recording_are_small_and_their_licence_is_with_them():
    assert shipped_model().stat().st_size < 3_000_000
    assert asr.sample_recording().path.stat().st_size < 50_000
    terms = (shipped_model().parent / "an4.LICENSE").read_text(encoding="utf-8")
    assert "Carnegie Mellon University" in terms
    assert terms in (open_packed(shipped_model()) / "README.md").read_bytes().decode()


def test_its_card_says_how_well_it_does_and_what_it_is_not_for():
    card = (open_packed(shipped_model()) / "README.md").read_bytes().decode()
    for said in ("4.79 % (3.70–6.20)", "6.21 % (4.37–8.83)", "Use it for nothing else", "int8"):
        assert said in card


@pytest.mark.corpus
def test_of_an4_test_it_gets_as_many_words_wrong_as_its_card_says(an4_dir, tmp_path):
    asr.prepare("an4", tmp_path / "data", corpus_dir=an4_dir)
    asr.decode("an4", tmp_path / "data" / "test.jsonl.gz", out=tmp_path / "decoded")
    wer = asr.score(tmp_path / "decoded", audio=False).figures.wer
    assert wer == pytest.approx(37 / 773, abs=4 / 773)  # other processors round otherwise


def test_a_model_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(model_folder("an4")) == str(shipped_model())
    asr.pull("an4", "an4")
    assert model_folder("an4") == own_folder("an4") == Path("an4")
    assert repr(asr.load("an4")).startswith("<asr.Recognizer of an4: 3 × 144")


def test_a_folder_of_that_name_without_a_model_is_an_error_that_says_what_it_hides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "an4").mkdir()
    with pytest.raises(ModelError, match="a folder without a model, and it hides the model of this name"):
        asr.load("an4")


def test_nothing_is_written_into_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="asr pull an4 --out DIR"):
        own_folder("an4")


def test_the_demonstration_needs_no_argument(succeed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = dict(line.split(maxsplit=1) for line in succeed("demo").splitlines())
    assert lines["reference"] == lines["transcript"] == asr.sample_recording().text
    assert lines["model"].startswith("an4: it knows letters, numbers, dates")
    assert "asr demo FILE" in lines["next"]


def test_the_demonstration_takes_a_file(succeed, call, tmp_path):
    sample = asr.sample_recording()
    out = succeed("demo", sample.path)
    assert f"transcript  {sample.text}\n" in out
    assert "reference" not in out
    status, _, err = call("demo", tmp_path / "none.wav")
    assert status == 1
    assert str(tmp_path / "none.wav").split("/")[-1] in err
    assert call("demo", sample.path, "--microphone")[0] == 2


def test_an_installation_without_the_files_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("asr.sharing.shipped._FOLDER", tmp_path)
    monkeypatch.chdir(tmp_path)
    for use in (asr.sample_recording, lambda: asr.load("an4")):
        with pytest.raises(ModelError, match="install the package again"):
            use()
