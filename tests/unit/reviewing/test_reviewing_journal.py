"""The journal of corrections: what is in it is what was kept, wherever the file was cut."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import AsrError, ManifestError
from asr.reviewing.journal import (
    Correction,
    History,
    Journal,
    State,
    changed,
    histories,
    hold,
    journal_of,
    read_journal,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TIMES = st.floats(0, 1e6, allow_nan=False)
STATES = st.builds(State, text=TEXTS, start_s=TIMES, end_s=TIMES, bad=st.booleans())
WAS = {name: State(text=f"text of {name}", start_s=0.0, end_s=1.5) for name in ("a", "b", "\u202eü")}
# What is done to which utterance; None undoes.
DEEDS = st.lists(st.tuples(st.sampled_from(sorted(WAS)), st.none() | STATES), max_size=12)


def do(journal, deeds):
    """Do what can be done, and yield what the utterances are after each step, from before the first."""
    yield {}
    for name, state in deeds:
        history = journal.histories.get(name)
        if state is None and not (history and history.kept):
            continue
        journal.add(name, WAS[name], state)
        yield dict(journal.histories)


@given(deeds=DEEDS, data=st.data())
def test_a_journal_cut_anywhere_holds_the_first_of_its_corrections(tmp_path_factory, deeds, data):
    path = tmp_path_factory.mktemp("journal") / "review.jsonl"
    steps = list(do(Journal(path), deeds))
    content = path.read_bytes() if path.exists() else b""
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")
    assert read_journal(path) == steps[whole]
    journal = Journal.open(path)
    assert journal.histories == steps[whole]
    assert journal.dropped == cut - (content[:cut].rfind(b"\n") + 1)
    journal.add("a", WAS["a"], WAS["b"])  # what follows a line that was cut short is not part of it
    assert read_journal(path)["a"].now == WAS["b"]


@given(states=st.lists(STATES, max_size=5), more=st.lists(STATES, max_size=5))
def test_taking_back_as_many_corrections_as_were_made_gives_what_was_before(states, more):
    history = History(WAS["a"])
    for state in states:
        history = history.then(state)
    after = history
    for state in more:
        after = after.then(state)
    assert after.now == (more or states or [WAS["a"]])[-1]
    for _ in more:
        after = after.then(None)
    assert (after.now, after.kept) == (history.now, history.kept)
    assert after.version == len(states) + 2 * len(more), "a version is never used twice"


def line(version, now, id="a", was=WAS["a"]):
    return Correction(id=id, version=version, was=was, now=now).model_dump_json() + "\n"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line(1, WAS["b"]), line(3, WAS["b"])], "correction 3 does not follow"),
        ([line(1, WAS["b"]), line(1, WAS["b"])], "correction 1 does not follow"),
        ([line(1, WAS["b"]), line(2, WAS["a"], was=WAS["b"])], "correction 2 does not follow"),
        ([line(1, None)], "takes back what is not there"),
        (["{}\n"], ":1: id is missing"),
        (["nonsense\n", line(1, WAS["b"])], ":1: not JSON"),
        ([line(1, WAS["b"]).replace("1.5", '"1.5"')], ":1: was.end_s"),
    ],
)
def test_a_damaged_line_is_named_with_a_way_out(tmp_path, lines, said):
    path = tmp_path / "review.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(ManifestError) as error:
        read_journal(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)
    assert "move the file away" in str(error.value)


def test_a_correction_that_the_disk_refuses_leaves_the_journal_as_it_was(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "review.jsonl")
    journal.add("a", WAS["a"], WAS["b"])
    before = journal.path.read_bytes()

    def half_a_line(path, text):
        with path.open("a", encoding="utf-8") as file:
            file.write(text[: len(text) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("asr.reviewing.journal.append_line", half_a_line)
        with pytest.raises(OSError, match="No space"):
            journal.add("a", WAS["a"], WAS["a"])
    assert journal.path.read_bytes() == before
    assert journal.histories["a"].now == WAS["b"]
    journal.add("a", WAS["a"], None)
    assert read_journal(journal.path)["a"].now == WAS["a"]


def test_the_journal_is_beside_the_manifest_and_is_no_shard_of_a_folder(tmp_path):
    assert journal_of(tmp_path / "train.jsonl.gz") == tmp_path / "review.train.jsonl"
    assert not journal_of(tmp_path / "cuts.000.jsonl").match("cuts*.jsonl*")


def test_utterances_of_which_the_manifest_says_something_else_now_are_named():
    found = histories([Correction(id=name, version=1, was=was, now=was) for name, was in WAS.items()])
    said = {**WAS, "b": WAS["a"], "new": WAS["a"]}
    del said["\u202eü"]
    assert sorted(changed(found, said)) == ["b", "\u202eü"]
    assert changed(found, WAS) == []


def test_only_one_process_corrects_a_manifest_at_a_time_and_one_that_was_killed_locks_nobody_out(tmp_path):
    journal = tmp_path / "review.train.jsonl"
    code = (
        "import sys; from pathlib import Path; from asr.reviewing.journal import hold\n"
        "with hold(Path(sys.argv[1])): print(1, flush=True); input()"
    )
    other = subprocess.Popen([sys.executable, "-c", code, journal], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"1\n"
    with pytest.raises(AsrError, match="another asr review has these utterances open"):
        hold(journal)
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()
    with hold(journal):
        pass
