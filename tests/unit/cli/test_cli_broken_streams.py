"""Every command with closed and full streams, a full disk, a full temporary folder, and a device as its output.

A command then either does its work, or says by name what is wrong and has the exit status that says so. It never shows
a traceback. Commands run in forked processes, which need not import everything again.
"""

from __future__ import annotations

import io
import os
import re
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import TINY

import asr.__main__
import asr.cli.main
import asr.inference.recognizer
import asr.runtime.__main__
import asr.training.trainer

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")

SMALL = [part for setting in (*TINY, "training.epochs=1") for part in ("--set", setting)]


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


def forked(
    arguments: list[str],
    *,
    closed: int | None = None,
    full: int | None = None,
    stdin: str = os.devnull,
    most: int = -1,
    unbuffered: bool = False,
) -> Ended:
    """Run a command in a fork of this process.

    Args:
        arguments: of `asr`, or of `python -m asr.runtime` after `runtime`.
        closed: the number of a stream that is closed, as a shell's `<&-` or `>&-` does.
        full: the number of a stream that is a full device.
        stdin: the file that is standard input.
        most: bytes that a file may have; for a write of more, the system reports an error as of a full disk.
        unbuffered: as with the environment variable PYTHONUNBUFFERED.
    """
    ends = {1: os.pipe(), 2: os.pipe()}
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.dup2(os.open(stdin, os.O_RDONLY), 0)
            for number, (_, writing) in ends.items():
                os.dup2(writing, number)
            if full is not None:
                os.dup2(os.open("/dev/full", os.O_WRONLY), full)
            names = ("stdin", "stdout", "stderr")
            for number, name in enumerate(names):
                buffering = 0 if unbuffered and number else -1
                stream = open(number, "wb" if number else "rb", buffering, closefd=False)  # noqa: SIM115
                wrapped = io.TextIOWrapper(stream, line_buffering=name == "stderr", write_through=buffering == 0)
                setattr(sys, name, wrapped)
            if closed is not None:
                os.close(closed)
                setattr(sys, names[closed], None)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            if most >= 0:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            status = _status(arguments)
        finally:
            os._exit(status)
    for _, writing in ends.values():
        os.close(writing)
    texts = []
    for reading, _ in ends.values():
        with open(reading, encoding="utf-8") as file:
            texts.append(file.read())
    return Ended(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *texts)


def _status(arguments: list[str]) -> int:
    """Return the exit status that Python would end with."""
    try:
        if arguments[0] == "runtime":
            sys.argv = ["asr.runtime", *arguments[1:]]
            sys.exit(asr.runtime.__main__.main())
        sys.argv = ["asr", *arguments]
        asr.__main__.run()
        status = 0
    except SystemExit as end:
        status = 0 if end.code is None else int(end.code)
    except BaseException:
        traceback.print_exc()
        status = 1
    try:
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        status = 120
    return status


@pytest.fixture(scope="module")
def world(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory, succeed: Callable[..., str]) -> Path:
    """A folder with what commands read: a model, an export, a decode folder, a text, tables, a recording."""
    folder = tmp_path_factory.mktemp("world")
    model = folder / "model"
    succeed("train", "--data", tone_corpus, "--out", model, *SMALL)
    succeed("lm", "ngram", tone_corpus / "train.jsonl.gz", "--model", model, "--order", 2)
    succeed("decode", model, tone_corpus / "test.jsonl.gz", "--out", model / "decoded")
    pytest.importorskip("onnx")
    succeed("export", model, "--out", folder / "onnx")
    shutil.copy(tone_corpus / "audio" / "test-000.wav", folder / "a.wav")
    (folder / "text.txt").write_text("ab cd\ncd ab\n" * 20)
    (folder / "table.csv").write_text("path,text,speaker\n" + "".join(f"a.wav,ab,s{n}\n" for n in range(1)))
    (folder / "rows.jsonl").write_text('{"audio_filepath": "a.wav", "text": "ab"}\n')
    (folder / "kaldi").mkdir()
    (folder / "kaldi" / "wav.scp").write_text(f"u {folder / 'a.wav'}\n")
    (folder / "kaldi" / "text").write_text("u ab\n")
    return folder


# Each command's arguments: WORLD, DATA and OUT are replaced. Those of READING read standard input.
SPLIT = "--dev-share 0 --test-share 0"
WRITING = {
    "import csv": f"WORLD/table.csv --out OUT {SPLIT}",
    "import jsonl": f"WORLD/rows.jsonl --out OUT {SPLIT}",
    "import kaldi": f"WORLD/kaldi --out OUT {SPLIT}",
    "check": "DATA --out OUT",
    "pack": "DATA --out OUT",
    "train": " ".join(["--data DATA --out OUT", *SMALL]),
    "diagnose": "WORLD/model --out OUT",
    "lm ngram": "WORLD/text.txt --out OUT/lm.arpa",
    "lm rnn": "WORLD/text.txt --out OUT --set epochs=1 --set hidden_size=8",
    "tune": "OUT/model DATA/dev.jsonl.gz --jobs 1",
    "decode": "WORLD/model DATA/test.jsonl.gz --out OUT",
    "score": "OUT/model/decoded",
    "transcribe": "WORLD/model WORLD/a.wav --out OUT",
    "plot": "WORLD/a.wav --out OUT/a.png",
    "export": "WORLD/model --out OUT/exported",
    "export --format torch": "WORLD/model --out OUT/exported",
}
PRINTING = {
    **{name: arguments for name, arguments in WRITING.items() if name not in ("plot", "transcribe")},
    "--help": "",
    "--version": "",
    "train --help": "",
    "settings": "",
    "transcribe": "WORLD/model WORLD/a.wav",
    "transcribe --stream": "WORLD/model WORLD/a.wav",
    "align": "WORLD/model WORLD/a.wav ab",
    "runtime": "WORLD/onnx WORLD/a.wav",
    "runtime --help": "",
}
READING = {
    "transcribe": "WORLD/model -",
    "transcribe --stream": "WORLD/model -",
    "plot": "- --out OUT/a.png",
    "align": "WORLD/model - ab",
    "runtime": "WORLD/onnx -",
}


@pytest.fixture
def arguments_of(world: Path, tone_corpus: Path, tmp_path: Path) -> Callable[[str, str], list[str]]:
    out = tmp_path / "out"
    shutil.copytree(world / "model", out / "model")

    def arguments_of(name: str, arguments: str, out: Path = out) -> list[str]:
        filled = arguments.replace("WORLD", str(world)).replace("DATA", str(tone_corpus)).replace("OUT", str(out))
        return [*name.split(), *filled.split()]

    return arguments_of


def assert_explained(ended: Ended, message: str, status: int = 1) -> None:
    """One line of standard error says what is wrong; there is no traceback."""
    assert "Traceback" not in ended.err
    assert "Error" not in ended.err
    assert re.search(rf"^(error|skipped): {message}", ended.err, re.MULTILINE), ended.err
    assert ended.status == status


@pytest.mark.parametrize("name", [*READING])
def test_a_closed_standard_input_is_named_by_what_reads_it(name: str, arguments_of) -> None:
    skips = name in ("transcribe", "runtime")
    ended = forked(arguments_of(name, READING[name]), closed=0)
    assert_explained(ended, "standard input is closed$", 2 if skips else 1)


@pytest.mark.parametrize("name", [name for name in PRINTING if "--help" not in name])
def test_a_closed_standard_input_does_no_harm_to_what_does_not_read_it(name: str, arguments_of) -> None:
    ended = forked(arguments_of(name, PRINTING[name]), closed=0)
    assert (ended.status, "Traceback" in ended.err) == (0, False), ended.err
    assert ended.out or name == "transcribe --stream"  # the network has learnt nothing


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("name", [*PRINTING])
def test_a_full_standard_output_is_named(name: str, unbuffered: bool, arguments_of) -> None:
    ended = forked(arguments_of(name, PRINTING[name]), full=1, unbuffered=unbuffered)
    assert_explained(ended, r"standard output cannot be written \(No space left on device\)$")


@pytest.mark.parametrize("name", [*PRINTING])
def test_a_closed_standard_output_is_named(name: str, arguments_of) -> None:
    assert_explained(forked(arguments_of(name, PRINTING[name]), closed=1), "standard output is closed$")


@pytest.mark.parametrize("stream", ["closed", "full"])
@pytest.mark.parametrize("name", ["transcribe", "settings", "align", "runtime"])
def test_nothing_depends_on_standard_errors(name: str, stream: str, arguments_of) -> None:
    arguments = arguments_of(name, PRINTING[name])
    ended, plain = forked(arguments, **{stream: 2}), forked(arguments)
    assert (ended.status, ended.out) == (0, plain.out)


@pytest.mark.parametrize("name", [*WRITING])
def test_a_full_disk_is_named_with_the_file(name: str, arguments_of, tmp_path: Path) -> None:
    ended = forked(arguments_of(name, WRITING[name]), most=0)
    assert_explained(ended, rf"{re.escape(str(tmp_path / 'out'))}\S*: .*File too large")


@pytest.mark.parametrize("name", [name for name in WRITING if name not in ("tune", "score")])
def test_a_device_as_output_is_refused_by_name_and_stays(name: str, arguments_of, tmp_path: Path) -> None:
    device = tmp_path / "full"
    device.symlink_to("/dev/full")
    arguments = WRITING[name].replace("OUT/lm.arpa", "OUT").replace("OUT/a.png", "OUT").replace("OUT/exported", "OUT")
    if name == "plot":
        device = device.rename(tmp_path / "full.png")
    ended = forked(arguments_of(name, arguments, device))
    assert_explained(ended, rf"{re.escape(str(device))}\S*: ")
    assert device.is_char_device()


@pytest.mark.parametrize("name", [*READING])
def test_a_full_temporary_folder_is_named(name: str, arguments_of, world: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = forked(arguments_of(name, READING[name]), stdin=str(world / "a.wav"), most=100)
    if name == "transcribe --stream":  # needs none
        assert (ended.status, ended.err) == (0, "")
        return
    message = rf"standard input: does not fit into the temporary folder {re.escape(str(tmp_path))} \(File too large\); "
    assert_explained(ended, message, 2 if name in ("transcribe", "runtime") else 1)
