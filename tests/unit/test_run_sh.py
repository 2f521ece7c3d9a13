"""run.sh: which commands it calls, in which order, what it does again and what it says when one fails."""

import os
import pty
import subprocess
from pathlib import Path

import pytest
from run_sh_checkout import CUT, REPOSITORY, Checkout


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def commands(calls):
    return [call.split()[0] for call in calls]


EVERY_COMMAND = ["prepare", "train", "lm", "tune", "decode", "decode", "score", "score", "transcribe"]


def test_help_names_every_stage_option_and_recipe():
    result = subprocess.run([REPOSITORY / "run.sh", "--help"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    words = result.stdout.split()
    for word in (
        *("install", "prepare", "train", "lm", "tune", "decode", "score", "transcribe"),
        *("--corpus-dir", "--data", "--out", "--seed", "--stage", "--stop-stage"),
        *("an4", "yesno", "quickstart", "custom"),
    ):
        assert word in words
    assert "synthetic speech" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["timit"], "no recipe 'timit'; known: an4 custom quickstart"),
        (["an4/../quickstart"], "no recipe 'an4/../quickstart'"),
        (["an4", "--epochs", "3"], "unknown option --epochs"),
        (["an4", "epochs"], "'epochs' is neither an option nor KEY=VALUE"),
        (["an4", "--stage", "eight"], "--stage eight: a whole number is needed"),
        (["an4", "--stage", "8"], "--stage 8: at most 7"),
        (["an4", "--stage=3", "--stop-stage=2"], "--stage 3 is after --stop-stage 2"),
        (["an4", "--data"], "--data needs a value"),
        (["an4", "--set"], "--set needs a value"),
        (["custom"], "custom needs --data DIR"),
        (["an4", "--stage", "4", "model.layers=3"], "model.layers=3 is a setting of training, which --stage 4 leaves"),
    ],
)
def test_misuse_is_named_and_nothing_is_run(checkout, arguments, message):
    output, calls = checkout.run(*arguments, status=2)
    assert message in output
    assert "./run.sh --help" in output
    assert calls == []


def test_without_arguments_the_quickstart_runs_end_to_end(checkout):
    output, calls = checkout.run()
    assert calls == [
        "prepare quickstart --out data/quickstart",
        "train --config conf/quickstart.yaml --data data/quickstart --out exp/quickstart",
        "lm ngram data/quickstart/train.jsonl.gz --model exp/quickstart",
        "tune exp/quickstart data/quickstart/dev.jsonl.gz",
        "decode exp/quickstart data/quickstart/test.jsonl.gz --method greedy --out exp/quickstart/decode_test_greedy",
        "decode exp/quickstart data/quickstart/test.jsonl.gz --method beam --out exp/quickstart/decode_test",
        "score exp/quickstart/decode_test_greedy",
        "score exp/quickstart/decode_test",
        "transcribe exp/quickstart /audio/b.wav",
    ]
    lines = output.splitlines()
    stages = ("0 install", "1 prepare", "2 train", "3 lm", "4 tune", "5 decode", "6 score", "7 transcribe")
    assert [line for line in lines if line in stages] == list(stages)
    for name in ("prepare", "train", "lm", "tune", "decode", "score", "transcribe"):
        assert any(line.startswith(f"  {name}: ") and line.endswith(" s") for line in lines)
    assert "reference   call anna" in lines
    assert "transcript  turn on the light" in lines
    assert lines[-1].startswith("all: ")


def test_only_the_quickstart_calls_its_figures_synthetic(checkout):
    assert "This is synthetic speech" in checkout.run()[0]
    assert "synthetic" not in checkout.run("an4")[0]


def test_a_finished_run_only_shows_its_results_again(checkout):
    checkout.run()
    output, calls = checkout.run()
    assert commands(calls) == ["score", "score", "transcribe"]
    assert output.count("  stands") == 6


@pytest.mark.parametrize(
    ("lost", "again"),
    [
        ("exp/quickstart/.done-5", ["decode", "decode", "score", "score", "transcribe"]),
        ("exp/quickstart/decode_test/hyp.trn", ["decode", "decode", "score", "score", "transcribe"]),
        ("exp/quickstart/tune.json", ["tune", "decode", "decode", "score", "score", "transcribe"]),
        ("exp/quickstart/.done-3", ["lm", "tune", "decode", "decode", "score", "score", "transcribe"]),
        ("exp/quickstart/.done-1", ["prepare", "score", "score", "transcribe"]),
        ("data/quickstart/test.jsonl.gz", ["prepare", "score", "score", "transcribe"]),
    ],
)
def test_a_lost_output_is_made_again_with_all_that_follows_from_it(checkout, lost, again):
    checkout.run()
    checkout.path(lost).unlink()
    assert commands(checkout.run()[1]) == again


def test_new_data_redo_what_depends_on_them(checkout):
    checkout.run()
    checkout.path("data/quickstart/test.jsonl.gz").write_bytes(
        subprocess.run(["gzip", "-cn"], input=(CUT % ("c", 0, "x", "c")).encode(), capture_output=True).stdout
    )
    assert commands(checkout.run()[1]) == ["decode", "decode", "score", "score", "transcribe"]


def test_a_run_that_was_cut_off_is_resumed(checkout):
    checkout.run()
    checkout.path("exp/quickstart/.done-2").unlink()
    checkout.path("exp/quickstart/model.safetensors").unlink()
    _, calls = checkout.run()
    assert "train --config conf/quickstart.yaml --data data/quickstart --out exp/quickstart --resume" in calls


def test_other_settings_train_anew_and_the_old_model_is_kept(checkout):
    checkout.run()
    checkout.path("exp/quickstart/model.safetensors").write_text("old", encoding="utf-8")
    output, calls = checkout.run("quickstart", "model.layers=3", "training.epochs=4")
    assert commands(calls) == EVERY_COMMAND[1:]
    assert calls[0] == (
        "train --config conf/quickstart.yaml --data data/quickstart --out exp/quickstart"
        " --set model.layers=3 --set training.epochs=4"
    )
    (aside,) = checkout.path("exp").glob("quickstart.2*")
    assert (aside / "model.safetensors").read_text(encoding="utf-8") == "old"
    assert f"it is now exp/{aside.name}" in output
    assert commands(checkout.run("quickstart", "model.layers=3", "training.epochs=4")[1]) == EVERY_COMMAND[6:]


def test_an_edited_comment_in_the_settings_redoes_nothing_and_an_edited_value_does(checkout):
    checkout.run()
    settings = checkout.path("conf/quickstart.yaml")
    settings.write_text("# Why two.\nmodel:\n\n  layers: 2\n", encoding="utf-8")
    assert "train" not in commands(checkout.run()[1])
    settings.write_text("model:\n  layers: 4\n", encoding="utf-8")
    assert "train" in commands(checkout.run()[1])


@pytest.mark.parametrize(("failing", "stage"), [("prepare", 1), ("train", 2), ("lm", 3), ("decode", 5), ("score", 6)])
def test_a_failed_stage_stops_the_script_with_its_name_its_log_and_its_status(checkout, failing, stage):
    output, calls = checkout.run("an4", FAILING=failing, status=3)
    log = f"exp/an4/log/{stage}-{failing}.log"
    assert f"stage {stage} ({failing}) failed with status 3; its log: {log}" in output
    assert checkout.path(log).read_text(encoding="utf-8") == "error: the reason\n"
    assert commands(calls)[-1] == failing
    assert commands(calls).count(failing) == 1
    again = commands(checkout.run("an4")[1])
    assert again[0] == failing, "it takes up where it failed"


def test_stages_can_be_left_out_at_both_ends(checkout):
    assert commands(checkout.run("an4", "--stop-stage", "2")[1]) == ["prepare", "train"]
    assert commands(checkout.run("an4", "--stage", "3", "--stop-stage=4")[1]) == ["lm", "tune"]


def test_the_corpus_and_other_places_are_taken_from_where_the_caller_stands(checkout, tmp_path):
    _, calls = checkout.run("an4", "--corpus-dir", "corpus", "--out=mine", "--stop-stage", "2", cwd=tmp_path)
    assert calls == [
        f"prepare an4 --out data/an4 --corpus-dir {tmp_path}/corpus",
        f"train --config conf/custom.yaml --data data/an4 --out {tmp_path}/mine",
    ]


def test_a_seed_gets_a_model_folder_of_its_own(checkout):
    _, calls = checkout.run("an4", "--seed", "2", "--stop-stage", "2")
    assert calls[1] == "train --config conf/custom.yaml --data data/an4 --out exp/an4-seed2 --set training.seed=2"


def test_ones_own_data_are_looked_through_instead_of_prepared(checkout):
    checkout.run("an4", "--stop-stage", "1")  # leaves manifests
    _, calls = checkout.run("custom", "--data", "data/an4", "--stop-stage", "2", "text.case=upper")
    assert calls == [
        "check data/an4 --config conf/custom.yaml --set text.case=upper",
        "train --config conf/custom.yaml --data data/an4 --out exp/custom --set text.case=upper",
    ]
    output, _ = checkout.run("custom", "--data", "data/an4", "--out", "exp/b", FAILING="check", status=1)
    assert "./run.sh custom --data data/an4 --out exp/b --stage 2\n" in output
    _, calls = checkout.run(
        *("custom", "--data", "data/an4", "--stage", "2", "--stop-stage", "2"),
        *("--set", "text.remove=., ", "--set=model.layers=2"),
    )
    assert calls == [
        "train --config conf/custom.yaml --data data/an4 --out exp/custom --set text.remove=.,  --set model.layers=2",
    ]


def test_an_environment_without_the_package_is_an_error(checkout, tmp_path):
    output, _ = checkout.run("an4", ASR_VENV=str(tmp_path), status=1)
    assert "there is no bin/asr in it" in output
    output, _ = checkout.run("an4", "--stage", "1", ASR_VENV=str(tmp_path), status=2)
    assert "start at stage 0" in output


def test_tests_are_run_with_the_arguments_given(checkout):
    environment = Path(checkout.variables["ASR_VENV"])
    (environment / "bin" / "python").unlink()
    (environment / "bin" / "python").write_text('#!/bin/bash\nprintf "<%s>" "$@"\n', encoding="utf-8")
    (environment / "bin" / "python").chmod(0o755)
    output, calls = checkout.run("test", "-k", "a name", "--lf")
    assert "<-m><pytest><-k><a name><--lf>" in output
    assert calls == []


def test_without_a_terminal_there_are_no_colours_and_logs_hold_what_was_seen_last(checkout):
    output, _ = checkout.run()
    assert "\x1b" not in output.replace("\x1b[2K", "").replace("\x1b[1mepoch 1\x1b[0m", "")
    assert checkout.path("exp/quickstart/log/2-train.log").read_text(encoding="utf-8") == "epoch 1\n"


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_on_a_terminal_stages_stand_out_unless_colour_is_unwanted(checkout, variables):
    master, slave = pty.openpty()
    subprocess.run(
        [str(checkout.path("run.sh")), "an4", "--stop-stage", "0"],
        env={**checkout.variables, **variables},
        stdout=slave,
        stderr=slave,
        timeout=60,
        check=True,
    )
    os.close(slave)
    output = os.read(master, 10000).decode()
    os.close(master)
    assert "0 install" in output
    assert ("\x1b[" in output) is ("NO_COLOR" not in variables)
