"""Progress: a bar on a terminal, lines elsewhere, nothing for short work."""

import io
import sys
import time

import pytest
from rich.console import Console

from asr.cli import console


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand: `clock[0]` in seconds."""
    now = [100.0]
    monkeypatch.setattr(console, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal of 80 columns receives on stderr."""
    screen = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=screen, force_terminal=True, width=80))
    return screen


def test_without_a_terminal_a_line_comes_every_ten_seconds_and_at_the_end(clock, capsys):
    with console.progress("decode", total=40) as advance:
        for _ in range(4):
            clock[0] += 6
            advance(10)
    assert capsys.readouterr() == ("", "decode: 20/40 (50 %), 0:12, 0:12 left\ndecode: 40/40, 0:24\n")


def test_hours_are_shown_as_hours(clock, capsys):
    with console.progress("decode", total=4) as advance:
        clock[0] += 3661
        advance(1)
    assert capsys.readouterr().err == "decode: 1/4 (25 %), 1:01:01, 3:03:03 left\ndecode: 1/4, 1:01:01\n"


def test_seconds_of_audio_are_shown_as_on_a_clock(clock, capsys):
    with console.progress("listen", total=427.814875) as advance:
        clock[0] += 12
        advance(100.3)
        advance(327.514875)
    assert capsys.readouterr().err == "listen: 1:40/7:08 (23 %), 0:12, 0:39 left\nlisten: 7:08/7:08, 0:12\n"


def test_short_work_shows_nothing(clock, capsys):
    with console.progress("decode", total=2) as advance:
        clock[0] += 1.9
        advance(2)
    assert capsys.readouterr() == ("", "")


def test_a_loop_that_fails_still_says_how_far_it_came(clock, capsys):
    def fail() -> None:
        with console.progress("decode", total=2) as advance:
            clock[0] += 3
            advance(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert capsys.readouterr().err == "decode: 1/2, 0:03\n"


def test_on_a_terminal_a_bar_appears_once_the_quiet_time_is_over(monkeypatch, terminal):
    monkeypatch.setattr(console, "QUIET_S", 0.0)
    with console.progress("de[cod]e", total=40) as advance:
        advance(10)
        deadline = time.monotonic() + 10
        while "10/40" not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "de[cod]e" in terminal.getvalue()
    assert "10/40" in terminal.getvalue()


def test_on_a_terminal_short_work_shows_no_bar(terminal):
    with console.progress("decode", total=40) as advance:
        advance(40)
    assert "decode" not in terminal.getvalue()


def test_the_bar_leaves_results_on_stdout_alone(monkeypatch, terminal, capsys):
    monkeypatch.setattr(console, "QUIET_S", 0.0)
    with console.progress("decode", total=1) as advance:
        deadline = time.monotonic() + 10
        while "decode" not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        sys.stdout.write("result\n")
        advance(1)
    assert capsys.readouterr().out == "result\n"
    assert "result" not in terminal.getvalue()


def test_text_is_printed_as_it_is(capsys):
    line = f"{'a b ' * 60}talk[1].wav :smile: [red]x[/red]"
    console.out.print(line)
    console.err.print(line)
    assert capsys.readouterr() == (f"{line}\n", f"{line}\n")
