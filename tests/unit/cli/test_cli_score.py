import typer
from typer.testing import CliRunner

from asr.cli.score import score
from asr.errors import ScoringError
from asr.scoring.score import write_trn


def decode_folder(path, hypothesis):
    path.mkdir()
    write_trn({"u1": "one two three four", "u2": "five six"}, path / "ref.trn")
    write_trn({"u1": hypothesis, "u2": "five six"}, path / "hyp.trn")
    return path


def run(*arguments):
    app = typer.Typer()
    app.command()(score)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_rates_are_printed_and_the_reports_written(tmp_path):
    folder = decode_folder(tmp_path / "a", "one two three for")
    result = run(folder)
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if line.startswith("WER"))
    assert line.split()[1:3] == ["16.67", "%"]
    assert line.split()[-6:] == ["1", "1", "0", "0", "6", "words"]
    assert {"wer.json", "wer.txt"} <= {path.name for path in folder.iterdir()}


def test_against_another_folder_the_difference_is_printed_and_the_other_is_left_as_it_is(tmp_path):
    better = decode_folder(tmp_path / "better", "one two three four")
    worse = decode_folder(tmp_path / "worse", "one two for")
    result = run(better, "--against", worse)
    assert result.exit_code == 0
    assert "WER difference -33.33 % absolute" in result.stdout
    assert "p = 0.500 (randomisation test over 2 utterances): no more than chance" in result.stdout
    assert sorted(path.name for path in worse.iterdir()) == ["hyp.trn", "ref.trn"]


def test_a_folder_without_transcripts_is_an_error_that_names_the_file(tmp_path):
    result = run(tmp_path)
    assert isinstance(result.exception, ScoringError)
    assert str(tmp_path / "ref.trn") in str(result.exception)


def test_the_folder_one_stands_in_has_its_model_card_too(tmp_path, monkeypatch):
    folder = decode_folder(tmp_path / "a", "one two three for")
    monkeypatch.chdir(folder)
    asked = []
    monkeypatch.setattr("asr.scoring.report.is_model_folder", lambda path: asked.append(path.resolve()))
    result = run(".")
    assert result.exit_code == 0
    assert asked == [tmp_path]
    assert str(folder) in (folder / "report.html").read_text()
