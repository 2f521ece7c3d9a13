"""`asr transcribe --stream` with a recogniser that counts the blocks it hears."""

import os
import signal
import sys
import threading

import numpy as np
import pytest
import soundfile
import typer

from asr.cli.transcribe import print_stream as stream
from asr.decoding.streaming import Partial
from asr.errors import AudioError


class BlockCounter:
    """Says after each block how many there were; the loudest block, and the end, finish an utterance."""

    def __init__(self, on_block=lambda count: None):
        self.on_block = on_block
        self.samples = 0
        self.called = {}

    def stream(self, blocks, **options):
        self.called = options
        for count, block in enumerate(blocks, start=1):
            self.samples += len(block)
            self.on_block(count)
            loud = np.abs(block).max() > 0.9
            yield Partial(f"{count} blocks", (), bool(loud))
        yield Partial("the end", (), True)


@pytest.fixture
def speak(monkeypatch):
    """Put a pipe in place of standard input; return its writing end."""
    reading, writing = os.pipe()
    before = os.dup(0)
    os.dup2(reading, 0)
    yield writing
    os.dup2(before, 0)
    for descriptor in (reading, before):
        os.close(descriptor)


def raw(value: int) -> bytes:
    return np.full(1600, value, "<i2").tobytes()


def test_elsewhere_than_on_a_terminal_an_utterance_is_a_line(speak, capsys):
    os.write(speak, raw(1) + raw(32000) + raw(1))
    os.close(speak)
    recognizer = BlockCounter()
    stream(recognizer, "-", 16000, method="greedy", hotwords={"a": 1.0})
    wishes = {"method": "greedy", "hotwords": {"a": 1.0}, "grammar": None}
    assert recognizer.called == {"sample_rate_hz": 16000, **wishes}
    assert recognizer.samples == 4800
    assert capsys.readouterr().out == "2 blocks\nthe end\n"


def test_on_a_terminal_the_last_line_changes_until_its_utterance_is_final(speak, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "6")
    os.write(speak, raw(1) + raw(32000))
    os.close(speak)
    stream(BlockCounter(), "-", 16000)
    clear = "\r\x1b[K"
    assert capsys.readouterr().out == f"{clear}locks{clear}2 blocks\n{clear}the end\n"  # the end of a line that is full


def test_ctrl_c_prints_the_utterance_that_is_being_spoken_and_exits_with_130(speak, capsys):
    os.write(speak, raw(1))  # and no end: the next read waits
    before = signal.getsignal(signal.SIGINT)

    def interrupt(count):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(typer.Exit) as exit_:
        stream(BlockCounter(interrupt), "-", 16000)
    os.close(speak)
    assert exit_.value.exit_code == 130
    assert capsys.readouterr().out == "the end\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_file_is_streamed_too_and_its_channels_are_mixed(tmp_path, capsys):
    soundfile.write(tmp_path / "a.flac", np.zeros((9000, 2)), 44100)
    recognizer = BlockCounter()
    stream(recognizer, str(tmp_path / "a.flac"), None)
    assert recognizer.called["sample_rate_hz"] == 44100
    assert recognizer.samples == 9000
    assert capsys.readouterr().out == "the end\n"


def test_what_cannot_be_read_is_an_error(tmp_path, speak):
    with pytest.raises(AudioError, match="no such file"):
        stream(BlockCounter(), str(tmp_path / "none.wav"), None)
    with pytest.raises(typer.BadParameter, match="standard input"):
        stream(BlockCounter(), str(tmp_path / "none.wav"), 16000)
    os.write(speak, b"RIFF, but not for long")
    os.close(speak)
    with pytest.raises(AudioError, match="--rate"):
        stream(BlockCounter(), "-", None)
