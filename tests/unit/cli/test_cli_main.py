"""The door: what every command has in common — help, version, errors, exit statuses."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from asr.cli.main import COMMANDS, app, run
from asr.errors import ConfigError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def failing(monkeypatch):
    """Make `asr transcribe` raise the given exception while it loads the model."""

    def failing(error: BaseException) -> None:
        def load(*arguments, **options):
            raise error

        monkeypatch.setattr("asr.bulk.transcriber.load", load)

    return failing


def pages():
    """Return the arguments that lead to each command and group of commands, and what click knows of it."""
    found = {(): typer.main.get_command(app)}
    for path, command in list(found.items()):
        waiting = [(path, command)]
        while waiting:
            path, command = waiting.pop()
            found[path] = command
            waiting += [((*path, name), inner) for name, inner in getattr(command, "commands", {}).items()]
    return found


PAGES = pages()


def test_help_lists_every_command_in_the_order_of_work(call):
    status, out, _ = call("--help")
    listed = re.findall(r"^  (\w+) +\S", out[out.index("Commands:") :], re.MULTILINE)
    assert status == 0
    assert listed == list(COMMANDS)
    assert {("lm", "rnn"), ("import", "kaldi"), ("transcribe",)} < PAGES.keys()


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_every_help_page_fits_a_terminal_and_is_written_for_users(call, path):
    status, out, err = call(*path, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"Usage: {' '.join(('asr', *path))} ")
    assert "{" not in out.splitlines()[0], "newer typer's mark of a needed argument"
    assert "Show this message and exit" in out
    assert [line for line in out.splitlines() if len(line) > 80] == []
    assert [line for line in out.splitlines() if line.endswith("...") and not line.startswith("Usage")] == [], "cut off"
    assert re.findall(r"<(?:path|str|int|float|list.*?)>", out) == [], "types of Python"
    assert re.search(r"\w-$", out, re.MULTILINE) is None, "a name is broken in two"


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_every_option_is_explained_in_sentences_and_named_alike_everywhere(path):
    options = {parameter.opts[-1]: parameter for parameter in PAGES[path].params}
    assert [name for name, option in options.items() if not (option.help or "").endswith(".")] == []
    for name, metavar in {
        "--data": "DIR",
        "--config": "FILE",
        "--set": "KEY=VALUE",
        "--jobs": "N",
        "--seed": "N",
    }.items():
        assert name not in options or options[name].metavar == metavar
    for name in ("--data", "--out", "--model", "--config"):
        assert name not in options or options[name].metavar in ("DIR", "FILE")


def test_help_loads_none_of_the_heavy_libraries():
    code = (
        "import sys\n"
        "from asr.cli.main import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'torchaudio', 'lhotse', 'librosa', 'soundfile', 'numpy', 'scipy', 'jiwer'}\n"
        "print('heavy:', *sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].rstrip() == "heavy:"


def test_the_version_is_that_of_the_package(call):
    declared = re.search(r'^__version__ = "(.+)"$', (ROOT / "asr" / "__init__.py").read_text("utf-8"), re.MULTILINE)
    assert call("--version") == (0, f"asr {declared[1]}\n", "")


def test_an_error_on_purpose_is_one_line_as_it_was_written_and_status_1(call, failing):
    message = f"{'long/' * 40}conf[1].yaml: model.layers: [bold] is not a number :smile:"
    failing(ConfigError(message))
    assert call("transcribe", "model", "a.wav") == (1, "", f"error: {message}\n")


def test_a_line_break_in_a_name_forges_no_line_of_a_message(call, tmp_path):
    name = "a\nerror: all is well\r\x1b[2K"
    shown = r"a\nerror: all is well\r\x1b[2K"
    (tmp_path / name).write_text("training:\n  epochz: 1\n  speedz: 2\n", encoding="utf-8")
    for command in (
        ("decode", tmp_path, tmp_path / f"{name}.jsonl.gz", "--out", tmp_path / "x"),  # an error of this package
        ("score", tmp_path / name / "x"),  # one of the file system
        ("transcribe", tmp_path, "a.wav", "--segment", name),  # one of the command line
        (name,),
        ("prepare", name, "--corpus-dir", tmp_path, "--out", tmp_path),
    ):
        status, _, err = call(*command)
        assert status in (1, 2)
        assert "\nerror: all" not in err, command
        assert not {"\r", "\x1b"} & set(err), command
        assert shown in err, command
    _, _, err = call("train", "--config", tmp_path / name, "--data", tmp_path, "--out", tmp_path / "x")
    lines = err.splitlines()
    assert lines[0] == f"error: {tmp_path}/{shown}:"  # only lines that a message itself has stay lines
    assert [line.split(":")[0] for line in lines[1:]] == ["  training.epochz", "  training.speedz"]


def test_an_error_of_several_lines_comes_whole_from_another_process():
    error = ConfigError("conf.yaml:", "  a: unknown", "  b\nc: unknown")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "conf.yaml:\n  a: unknown\n  b\\nc: unknown"


def test_an_error_of_the_file_system_names_the_file(call, failing):
    failing(PermissionError(13, "Permission denied", "out/a.txt"))
    assert call("transcribe", "model", "a.wav") == (1, "", "error: out/a.txt: Permission denied\n")


def test_an_interrupt_is_one_line_and_status_130(call, failing):
    failing(KeyboardInterrupt())
    assert call("transcribe", "model", "a.wav") == (130, "", "error: interrupted\n")


def test_debug_lets_the_traceback_through(monkeypatch, failing):
    failing(ConfigError("no"))
    monkeypatch.setattr(sys, "argv", ["asr", "--debug", "transcribe", "model", "a.wav"])
    with pytest.raises(ConfigError):
        run()


def test_a_mistake_in_this_package_is_not_dressed_up(monkeypatch, failing):
    failing(ZeroDivisionError())
    monkeypatch.setattr(sys, "argv", ["asr", "transcribe", "model", "a.wav"])
    with pytest.raises(ZeroDivisionError):
        run()


def test_an_unknown_command_is_a_usage_error(call):
    status, _, err = call("transcibe")
    assert status == 2
    assert "No such command 'transcibe'" in err


def test_what_is_given_in_place_of_a_model_folder_is_recognised(call, tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "model.onnx").touch()
    expected = f"error: {tmp_path / 'a.wav'}: a file, but the first argument is a model folder\n"
    assert call("transcribe", str(tmp_path / "a.wav"), str(tmp_path)) == (1, "", expected)
    expected = f"error: {tmp_path}: an ONNX export; use it with `python -m asr.runtime {tmp_path} FILE`\n"
    assert call("transcribe", str(tmp_path), str(tmp_path / "a.wav")) == (1, "", expected)


def test_a_folder_that_is_not_there_is_told_from_one_without_a_model(call, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "config.yaml").touch()
    for folder, reason in {
        "nowhere": "there is no such folder",
        "data": "tokens.json, model.safetensors, decoder.yaml missing",
    }.items():
        path = tmp_path / folder
        expected = f"error: {path}: not a model folder ({reason}); `asr train` writes one\n"
        assert call("transcribe", str(path), "a.wav") == (1, "", expected)


def test_a_pipe_gets_utf_8_whatever_the_locale(tmp_path):
    script = "from asr.cli.main import run; run()"
    command = [sys.executable, "-c", script, "settings", "--set", "text.remove=„имя“"]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "cp1252"}, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "„имя“" in done.stdout.decode("utf-8")


def test_lhotse_is_loaded_without_any_environment():
    script = f"import sys; sys.path[:0] = {sys.path!r}; import asr.corpus.manifest"
    done = subprocess.run([sys.executable, "-c", script], env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")  # lhotse asks for PATH when it is imported


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("train", "--data", "x", "--out", ""), "--out is empty"),
        (("train", "--data", "x", "--out="), "--out is empty"),
        (("import", "csv", "t.csv", "--out", ""), "--out is empty"),
        (("lm", "ngram", "a.txt", "--out", ""), "--out is empty"),
        (("score", ""), "an argument is empty"),
    ],
)
def test_an_empty_argument_is_not_the_current_folder(call, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    status, _, err = call(*arguments)
    assert status == 2
    assert named in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"), [(["--help"], 0, "Usage"), (["transcribe", "none", "x"], 1, "")]
)
def test_a_command_ends_with_its_status_after_all_that_was_to_be_done_at_the_end(arguments, status, said):
    code = (
        "import atexit, sys, threading, time\n"
        "from asr.__main__ import run\n"
        "atexit.register(print, 'after the libraries are taken down')\n"
        "def begin():\n"
        "    atexit.register(print, 'registered by a command')\n"
        "    threading.Thread(target=lambda: (time.sleep(0.5), print('a thread'))).start()\n"
        "import asr.cli.main as main\n"
        "commands = main.run\n"
        "main.run = lambda: (begin(), commands())\n"
        f"sys.argv = ['asr', *{arguments!r}]\n"
        "run()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stdout) == (status, True), done.stderr
    assert done.stdout.splitlines()[-2:] == ["a thread", "registered by a command"]


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("decode --out x", "MODEL"),
        ("decode model --out x", "MANIFEST"),
        ("label model --out x", "DATA"),
        ("transcribe model", "FILE"),
        ("adapt --speaker anna model", "DATA"),
    ],
)
def test_the_argument_that_is_missing_is_the_one_after_those_that_were_given(given, missing, call):
    status, _, err = call(*given.split())
    assert (status, f"Missing argument '{missing}'" in err) == (2, True), err
