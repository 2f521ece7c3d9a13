from asr.scoring.score import write_trn
from tests.unit.reporting.report_folder import Spoken, write_folder


def decode_folder(path, hypothesis):
    path.mkdir()
    write_trn({"u1": "one two three four", "u2": "five six"}, path / "ref.trn")
    write_trn({"u1": hypothesis, "u2": "five six"}, path / "hyp.trn")
    return path


def test_the_rates_are_printed_and_the_reports_written(succeed, tmp_path):
    folder = decode_folder(tmp_path / "a", "one two three for")
    line = next(line for line in succeed("score", folder).splitlines() if line.startswith("WER"))
    assert line.split()[1:3] == ["16.67", "%"]
    assert line.split()[-6:] == ["1", "1", "0", "0", "6", "words"]
    assert {"wer.json", "wer.txt"} <= {path.name for path in folder.iterdir()}


def test_a_folder_without_transcripts_is_an_error_that_names_the_file(call, tmp_path):
    status, out, err = call("score", tmp_path)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert str(tmp_path / "ref.trn") in err


def test_the_folder_one_stands_in_has_its_model_card_too(succeed, tmp_path, monkeypatch):
    folder = decode_folder(tmp_path / "a", "one two three for")
    monkeypatch.chdir(folder)
    asked = []
    monkeypatch.setattr("asr.reporting.report.is_model_folder", lambda path: asked.append(path.resolve()))
    succeed("score", ".")
    assert asked == [tmp_path]
    assert str(folder) in (folder / "report.html").read_text()


def test_a_model_folder_in_place_of_a_decode_folder_is_answered_with_the_next_command(call, tmp_path):
    (tmp_path / "model.safetensors").touch()
    status, _, err = call("score", tmp_path)
    assert status == 1
    assert f"`asr decode {tmp_path} MANIFEST --out {tmp_path / 'decode'}` writes one" in err.replace("\n", "")
    (tmp_path / "decode_test").mkdir()
    (tmp_path / "decode_test" / "ref.trn").touch()
    status, _, err = call("score", tmp_path)
    assert status == 1
    assert f"`asr score {tmp_path / 'decode_test'}` scores one" in err.replace("\n", "")


def test_the_audio_is_part_of_the_page_unless_it_is_not_wanted(succeed, tmp_path):
    write_folder(tmp_path / "decode", {"u": Spoken("ab", "ab")})
    page = tmp_path / "decode" / "report.html"
    succeed("score", tmp_path / "decode")
    assert 'id="audio-0"' in page.read_text(encoding="utf-8")
    succeed("score", tmp_path / "decode", "--no-audio")
    assert 'id="audio-0"' not in page.read_text(encoding="utf-8")
