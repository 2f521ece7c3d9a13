"""Commands whose output is shown at once and logged plainly; signals let them end in good order."""

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from asr.machine import LoggedCommands

REPOSITORY = Path(__file__).parents[2]


def logged(tmp_path, *texts):
    shown = []
    with LoggedCommands(tmp_path / "log" / "a.log", shown.append) as commands:
        for text in texts:
            commands.print(text)
    assert "".join(shown) == "".join(texts)
    return (tmp_path / "log" / "a.log").read_text(encoding="utf-8")


def test_a_log_has_no_colours_and_keeps_of_a_line_drawn_many_times_what_was_seen_last(tmp_path):
    assert logged(tmp_path, "\x1b[1mbold\x1b[0m 1\n") == "bold 1\n"
    assert logged(tmp_path, "10 %", "\r20 %\r", "\x1b[2K30 %", "\n", "next\n") == "30 %\nnext\n"
    assert logged(tmp_path, "from Windows\r\n", "\n", "after an empty line") == "from Windows\n\nafter an empty line\n"


def test_a_bar_that_was_removed_at_its_end_is_not_in_the_log(tmp_path):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=60)
    console.print("before")
    with Progress(console=console, transient=True) as progress:
        progress.update(progress.add_task("training", total=2), advance=2)
    assert "training" in screen.getvalue()
    assert logged(tmp_path, screen.getvalue(), "after\n") == "before\nafter\n"
    assert logged(tmp_path, screen.getvalue()) == "before\n"


def test_a_long_bar_needs_no_memory(tmp_path):
    shown = []
    with LoggedCommands(tmp_path / "a.log", shown.append) as commands:
        for step in range(5000):
            commands.print(f"\r{step:60}")
            assert len(commands._line) < 2**17
        commands.print("\n")
    assert (tmp_path / "a.log").read_text(encoding="utf-8") == f"{4999:60}\n"


def test_what_a_command_prints_is_shown_before_it_ends_on_both_channels_in_order(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    shown = []

    def show(text):
        shown.append(text)
        if "".join(shown).endswith("second\n"):
            fifo.write_text("go on")

    script = (
        f"import sys; print('first ä'); print('second', file=sys.stderr); open({str(fifo)!r}).read(); print('third')"
    )
    with LoggedCommands(tmp_path / "a.log", show) as commands:
        assert commands.run([sys.executable, "-c", script]) == 0
    assert "".join(shown) == "first ä\nsecond\nthird\n"
    assert (tmp_path / "a.log").read_text(encoding="utf-8") == "first ä\nsecond\nthird\n"


@pytest.mark.parametrize(("terminal", "wanted"), [(True, "1"), (False, "")])
def test_bars_and_colours_are_asked_for_on_a_terminal_only(tmp_path, monkeypatch, terminal, wanted):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    shown = []
    with LoggedCommands(tmp_path / "a.log", shown.append, terminal=terminal) as commands:
        commands.run(["bash", "-c", 'printf "%s" "$FORCE_COLOR"'])
    assert "".join(shown) == wanted


def test_a_command_that_a_signal_ended_has_the_status_that_shells_give_it(tmp_path):
    with LoggedCommands(tmp_path / "a.log", print) as commands:
        assert commands.run(["bash", "-c", "kill -KILL $$"]) == 137
        assert commands.run(["bash", "-c", "exit 3"]) == 3


def test_a_command_is_ended_when_its_output_cannot_be_shown(tmp_path):
    def show(text):
        raise BrokenPipeError

    with LoggedCommands(tmp_path / "a.log", show) as commands, pytest.raises(BrokenPipeError):
        commands.run(["bash", "-c", "echo; sleep 60"])


def test_commands_run_in_another_thread_as_well(tmp_path):
    with LoggedCommands(tmp_path / "a.log", lambda _: None) as commands:
        ended = []
        thread = threading.Thread(target=lambda: ended.append(commands.run(["bash", "-c", "exit 4"])))
        thread.start()
        thread.join()
    assert ended == [4]


# Runs a command that ends with the status `sys.argv[2]` once it gets a signal; prints how `run` ended.
RUNNER = """
import signal
import sys
from pathlib import Path
from asr.machine import LoggedCommands

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

script = f"trap 'echo checkpoint; exit {sys.argv[2]}' TERM INT; echo ready; while :; do sleep 0.02; done"

def show(text):
    print(text, end="", flush=True)

try:
    with LoggedCommands(Path(sys.argv[1]), show) as commands:
        print("ended with", commands.run(["bash", "-c", script]))
except KeyboardInterrupt:
    print("interrupted")
"""


def run_and_stop(tmp_path, status, stop):
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, tmp_path / "a.log", str(status)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        stop(process.pid)
        rest = process.stdout.read()
    assert "checkpoint" in (tmp_path / "a.log").read_text(encoding="utf-8")
    return rest, process.returncode


def terminate(pid):
    os.kill(pid, signal.SIGTERM)  # this process alone, not what it runs


def press_ctrl_c(pid):
    os.killpg(pid, signal.SIGINT)  # as a terminal does


@pytest.mark.parametrize("stop", [terminate, press_ctrl_c])
def test_a_signal_lets_the_command_stop_in_good_order(tmp_path, stop):
    assert run_and_stop(tmp_path, 75, stop) == ("checkpoint\nended with 75\n", 0)


def test_a_signal_that_ended_the_command_otherwise_ends_the_run_too(tmp_path):
    assert run_and_stop(tmp_path, 130, press_ctrl_c) == ("checkpoint\ninterrupted\n", 0)
    assert run_and_stop(tmp_path, 1, terminate) == ("checkpoint\n", -signal.SIGTERM)
