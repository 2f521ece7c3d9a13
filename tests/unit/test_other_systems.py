"""What other systems lack or do otherwise, simulated: no fcntl, no fork, no SIGKILL, few characters."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.bundle.bundle import ModelBundle
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from tests.conftest import TINY, tone_speech

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = sorted(path for folder in ("asr", "recipes") for path in (REPOSITORY / folder).rglob("*.py"))

# Takes away what Windows' Python does not have. Modules that libraries load for themselves are loaded before.
WITHOUT_POSIX = """
import importlib, os, pkgutil, signal, sys
import filelock, multiprocessing, subprocess, tempfile, torch  # these know both kinds of systems
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty"):
    sys.modules[name] = None  # importing it raises ImportError
for name in ("fork", "forkpty", "geteuid", "getuid", "killpg", "memfd_create", "mkfifo", "sched_getaffinity", "setsid",
             "sysconf", "uname", "getloadavg", "register_at_fork"):
    vars(os).pop(name, None)
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGQUIT", "SIGCHLD"):
    vars(signal).pop(name, None)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["abcd "])
    torch.manual_seed(0)
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(folder)
    soundfile.write(folder / "a.wav", tone_speech("ab cd", np.random.default_rng(1)), 16000)
    return folder


def run_python(code, **variables):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=os.environ | variables,
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # a console's encoding is another
        timeout=240,
    )


def test_every_module_is_imported_without_what_only_posix_has():
    done = run_python(
        WITHOUT_POSIX + "import asr\n"
        "for module in pkgutil.walk_packages(asr.__path__, 'asr.'):\n"
        "    if not module.name.endswith('__main__') and module.name != 'asr.serving.ray':\n"  # that one needs Ray
        "        importlib.import_module(module.name)\n"
    )
    assert done.returncode == 0, done.stderr


def test_files_are_transcribed_without_what_only_posix_has(model, tmp_path):
    arguments = ["asr", "transcribe", str(model), str(model / "a.wav"), "--segment", "none"]
    arguments += ["--out", str(tmp_path), "--format", "json"]
    run = f"\nsys.argv = {arguments!r}\nfrom asr.cli.main import run\nrun()\n"
    done = run_python(WITHOUT_POSIX + run)
    assert done.returncode == 0, done.stderr
    expected = run_python("import sys" + run.replace(str(tmp_path), str(tmp_path / "usual")))
    assert expected.returncode == 0, expected.stderr
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "usual" / "a.json").read_bytes()


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
def test_a_console_of_few_characters_gets_escapes_for_others_and_no_traceback(encoding, tmp_path):
    """Messages go to stderr, which keeps the console's encoding; results in a pipe are UTF-8."""
    missing = tmp_path / "имя „ж“ 語.wav"
    run = f"import sys\nsys.argv = ['asr', 'score', {str(missing)!r}]\nfrom asr.cli.main import run\nrun()\n"
    done = run_python(run, PYTHONIOENCODING=encoding, PYTHONUTF8="0", COLUMNS="500")
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert r"\u0438\u043c\u044f" in done.stderr


def texts_without_an_encoding(tree):
    """Yield the lines where a text is read or written in whatever encoding the system has."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        keywords = {keyword.arg for keyword in node.keywords}
        modes = " ".join(ast.unparse(argument) for argument in node.args[:2])
        texts = name in {"read_text", "write_text"} and isinstance(node.func, ast.Attribute)
        module = ast.unparse(node.func).partition(".")[0]
        opens = name == "open" and module not in {"os", "tarfile", "archive", "opener", "Journal", "webbrowser"}
        opens = opens and not re.search("'([rwax]b|[rwax][+]b|[rwa]b[+])'", modes)
        processes = name in {"run", "Popen", "check_output"} and keywords & {"text", "universal_newlines"}
        is_named = "encoding" in keywords or (texts and any(ast.unparse(given) == "'utf-8'" for given in node.args))
        if (texts or opens or processes) and not is_named:
            yield f"{node.lineno}: {ast.unparse(node)[:80]}"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_text_names_its_encoding(path):
    """Without one it is cp1252 on most Windows machines."""
    assert list(texts_without_an_encoding(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    ["path.read_text()", "path.write_text(text)", "open(path)", "open(path, 'w')", "subprocess.run(['a'], text=True)"],
)
def test_the_rule_of_encodings_itself_holds(code):
    assert list(texts_without_an_encoding(ast.parse(code))) != []
