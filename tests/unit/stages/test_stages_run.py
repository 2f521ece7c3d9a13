"""`asr run`: which commands it calls, in which order, what it repeats and what it says when one fails."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr.corpus.manifest import make_cut, read_manifest, write_manifest
from asr.corpus.pack import write_shar
from asr.settings_file import load_config
from asr.stages import STAGES
from asr.training.loop import only_run_in


def commands(calls):
    return [call.split()[0] for call in calls]


EVERY_COMMAND = ["prepare", "train", "lm", "tune", "decode", "decode", "score", "score", "transcribe"]
RESULTS = EVERY_COMMAND[6:]


def test_help_names_every_stage_option_and_recipe(call):
    status, out, _ = call("run", "--help")
    assert status == 0
    words = out.replace(",", "").split()
    for word in (
        *STAGES,
        *(
            "--corpus-dir",
            "--part",
            "--language",
            "--download",
            "--mirror",
            "--data",
            "--out",
            "--seed",
            "--config",
            "--set",
            "--stage",
            "--stop-stage",
        ),
        *("an4", "yesno", "quickstart", "custom"),
        *("ASR_VENV", "ASR_CORPORA", "NO_COLOR"),
    ):
        assert word in words
    assert [line.split()[:2] for line in out.splitlines() if line[:5].strip().isdigit()] == [
        [str(number), name] for number, name in enumerate(STAGES)
    ]
    assert "synthetic speech" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["timit"], "no recipe 'timit'; known: an4, custom, quickstart"),
        (["an4/../quickstart"], "no recipe 'an4/../quickstart'"),
        (["an4", "--epochs", "3"], "No such option: --epochs"),
        (["an4", "epochs"], "'epochs' is neither an option nor KEY=VALUE"),
        (["an4", "--stage", "eight"], "no stage 'eight'; the stages are 0 install, 1 prepare"),
        (["an4", "--stage", "8"], "no stage '8'"),
        (["an4", "--stage=3", "--stop-stage=train"], "the first stage, 3 (lm), is after the last, 2 (train)"),
        (["an4", "--data"], "'--data' requires an argument"),
        (["an4", "--set"], "'--set' requires an argument"),
        (["an4", "--seed", "one"], "Invalid value for '--seed'"),
        (["custom"], "custom needs --data DIR"),
        (["custom", "--data", "x", "--download"], "custom has no published corpus; leave --download out"),
        (["custom", "--data", "x", "--part", "a"], "custom has no published corpus; leave --part out"),
        (
            ["an4", "--stage", "4", "model.layers=3"],
            "model.layers=3 is a setting of training, but the first stage is 4",
        ),
        (["an4", "--stage", "4", "--config", "a.yaml"], "--config a.yaml is a setting of training, but the first"),
    ],
)
def test_misuse_is_named_and_nothing_is_run(project, monkeypatch, arguments, message):
    monkeypatch.setenv("COLUMNS", "500")
    output, calls = project.run(*arguments, status=2)
    assert message in output
    assert "asr run -h" in output or "requires an argument" in message
    assert calls == []


def test_without_arguments_the_quickstart_runs_end_to_end(project):
    output, calls = project.run()
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
    assert lines[1] == f"  exists: {sys.prefix}"
    for name in ("prepare", "train", "lm", "tune", "decode", "score", "transcribe"):
        assert any(line.startswith(f"  {name}: ") and line.endswith(" s") for line in lines)
    assert [line.removeprefix("$ asr ") for line in lines if line.startswith("$ ")] == calls
    assert "reference   call anna" in lines
    assert "transcript  turn on the light" in lines
    assert lines[-1].startswith("all: ")
    assert lines[-1].endswith(" s   model: exp/quickstart")


def test_a_run_that_trains_nothing_names_no_model(project):
    last = project.run("--stop-stage", "1")[0].splitlines()[-1]
    assert last.startswith("all: ")
    assert last.endswith(" s")


def test_only_the_quickstart_calls_its_figures_synthetic(project):
    assert "This is synthetic speech" in project.run()[0]
    assert "synthetic" not in project.run("an4")[0]


def test_a_finished_run_only_shows_its_results_again(project):
    project.run()
    output, calls = project.run()
    assert commands(calls) == RESULTS
    assert output.count("  exists") == 6


@pytest.mark.parametrize(
    ("lost", "again"),
    [
        ("exp/quickstart/.done-5", ["decode", "decode", *RESULTS]),
        ("exp/quickstart/decode_test/hyp.trn", ["decode", "decode", *RESULTS]),
        ("exp/quickstart/tune.json", ["tune", "decode", "decode", *RESULTS]),
        ("exp/quickstart/.done-3", ["lm", "tune", "decode", "decode", *RESULTS]),
        ("exp/quickstart/.done-1", ["prepare", *RESULTS]),
        ("data/quickstart/test.jsonl.gz", ["prepare", *RESULTS]),
    ],
)
def test_a_lost_output_is_made_again_with_all_that_follows_from_it(project, lost, again):
    project.run()
    project.path(lost).unlink()
    assert commands(project.run()[1]) == again


def test_new_data_redo_what_depends_on_them(project):
    project.run()
    manifest = project.path("data/quickstart/test.jsonl.gz")
    write_manifest(list(read_manifest(manifest))[1:], manifest)
    assert commands(project.run()[1]) == ["decode", "decode", *RESULTS]


def test_data_that_change_while_a_stage_runs_redo_it_the_next_time(project):
    project.run(MEANWHILE="cp data/quickstart/dev.jsonl.gz x; cat x >>data/quickstart/dev.jsonl.gz")
    # dev is also training's, but that was over
    assert commands(project.run("--stage", "tune")[1]) == ["tune", "decode", "decode", *RESULTS]
    assert commands(project.run("--stage", "tune")[1]) == RESULTS


def test_a_new_version_of_a_recipe_prepares_its_corpus_again(project):
    project.run("an4", "--stop-stage", "1")
    assert project.run("an4", "--stop-stage", "1")[1] == []
    project.path("recipes/an4/prepare.py").write_text("# other", encoding="utf-8")
    assert commands(project.run("an4", "--stop-stage", "1")[1]) == ["prepare"]
    assert commands(project.run("an4", "--stop-stage", "1", ASR_CORPORA="elsewhere")[1]) == ["prepare"]


def test_a_run_that_was_cut_off_is_resumed(project):
    project.run()
    project.path("exp/quickstart/.done-2").unlink()
    project.path("exp/quickstart/model.safetensors").unlink()
    _, calls = project.run()
    assert "train --config conf/quickstart.yaml --data data/quickstart --out exp/quickstart --resume" in calls
    log = project.path("exp/quickstart/log/2-train.log").read_text(encoding="utf-8")
    assert log.count("epoch 1\n") == 2, "the log of a resumed training goes on where it ended"


def test_a_stopped_training_is_no_failure_and_the_same_command_continues_it(project):
    project.run("--stop-stage", "train")
    project.path("exp/quickstart/.done-2").unlink()
    output, calls = project.run(FAILING="train", STATUS="75", status=75)
    assert commands(calls) == ["train"]
    assert output.endswith("stage train was stopped; the same command continues it\n")
    assert "fail" not in output
    assert commands(project.run()[1]) == EVERY_COMMAND[1:]


def test_other_settings_train_anew_and_the_old_model_is_kept(project):
    project.run()
    project.path("exp/quickstart/model.safetensors").write_text("old", encoding="utf-8")
    output, calls = project.run("quickstart", "model.layers=3", "training.epochs=4")
    assert commands(calls) == EVERY_COMMAND[1:]
    assert calls[0] == (
        "train --config conf/quickstart.yaml --set model.layers=3 --set training.epochs=4"
        " --data data/quickstart --out exp/quickstart"
    )
    (aside,) = project.path("exp").glob("quickstart.2*")
    assert (aside / "model.safetensors").read_text(encoding="utf-8") == "old"
    assert f"it is now exp/{aside.name}\n" in output
    assert commands(project.run("quickstart", "model.layers=3", "training.epochs=4")[1]) == RESULTS


def test_a_training_of_other_settings_that_was_cut_off_is_kept_as_well(project):
    project.run("--stop-stage", "train")
    for name in (".done-2", "model.safetensors"):
        project.path(f"exp/quickstart/{name}").unlink()
    _, calls = project.run("model.layers=3", "--stop-stage", "train")
    assert commands(calls) == ["train"]
    assert "--resume" not in calls[0]
    assert len(list(project.path("exp").glob("quickstart.2*/checkpoints/last.safetensors"))) == 1


def test_a_model_folder_in_which_a_training_is_at_work_is_not_moved(project):
    project.run("--stop-stage", "train")
    with only_run_in(project.path("exp/quickstart")):
        output, calls = project.run("model.layers=3", status=1)
    assert "another training run is at work there" in output
    assert calls == []
    assert project.path("exp/quickstart/model.safetensors").exists()


def test_an_edited_comment_in_the_settings_redoes_nothing_and_an_edited_value_does(project):
    project.run()
    settings = project.path("conf/quickstart.yaml")
    settings.write_text("# Why two.\nmodel:\n\n  layers: 2  # no more\n", encoding="utf-8")
    assert "train" not in commands(project.run()[1])
    settings.write_text("model:\n  layers: 4\n", encoding="utf-8")
    assert "train" in commands(project.run()[1])


def test_a_new_default_of_a_setting_in_a_later_version_does_not_train_a_finished_model_anew(project, monkeypatch):
    project.run("--stop-stage", "train")

    def with_a_new_default(path, overrides):
        config = load_config(path, overrides)
        vars(config.training)["epochs"] += 1
        return config

    monkeypatch.setattr("asr.settings_file.load_config", with_a_new_default)
    assert project.run("--stop-stage", "train")[1] == []


def test_another_settings_file_can_be_named(project):
    project.path("mine.yaml").write_text("model:\n  layers: 3\n", encoding="utf-8")
    _, calls = project.run("an4", "--config", "mine.yaml", "--stop-stage", "train")
    assert calls[1] == "train --config mine.yaml --data data/an4 --out exp/an4"
    assert project.run("an4", "--config", "mine.yaml", "--stop-stage", "train")[1] == []
    assert commands(project.run("an4", "--stop-stage", "train")[1]) == ["train"]


def test_a_mistake_in_the_settings_is_found_before_anything_is_run(project):
    output, calls = project.run("model.layer=3", status=1)
    assert "model.layer: unknown key" in output
    assert calls == []


@pytest.mark.parametrize(("failing", "stage"), [("prepare", 1), ("train", 2), ("lm", 3), ("decode", 5), ("score", 6)])
def test_a_failed_stage_ends_the_run_with_its_name_its_log_and_its_status(project, failing, stage):
    output, calls = project.run("an4", FAILING=failing, status=3)
    log = f"exp/an4/log/{stage}-{failing}.log"
    assert output.endswith(f"error: stage {stage} ({failing}) failed with status 3; its log: {log}\n")
    assert project.path(log).read_text(encoding="utf-8") == f"$ asr {calls[-1]}\nerror: the reason\n"
    assert commands(calls)[-1] == failing
    assert commands(calls).count(failing) == 1
    again = commands(project.run("an4")[1])
    assert again[0] == failing, "it takes up where it failed"


def test_stages_can_be_left_out_at_both_ends_by_number_or_name(project):
    assert commands(project.run("an4", "--stop-stage", "2")[1]) == ["prepare", "train"]
    assert commands(project.run("an4", "--stage", "lm", "--stop-stage=4")[1]) == ["lm", "tune"]


def test_paths_are_seen_from_where_the_caller_stands_and_defaults_from_home(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ("an4", "--home", project.folder, "--corpus-dir", "corpus", "--out=mine", "--stop-stage", "2")
    output, calls = project.run(*arguments)
    assert calls == [
        f"prepare an4 --out {project.folder}/data/an4 --corpus-dir corpus",
        f"train --config {Path('my project/conf/custom.yaml')} --data {project.folder}/data/an4 --out mine",
    ]
    assert f"$ asr prepare an4 --out '{project.folder}/data/an4' --corpus-dir corpus\n" in output, "as a shell takes it"


def test_an_installed_package_brings_recipes_and_settings_along(project, tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "asr"
    package.mkdir(parents=True)
    for name in ("recipes", "conf"):
        project.path(name).rename(package / f"_{name}")
    monkeypatch.setattr("asr.preparing.recipes._PACKAGE", package)
    _, calls = project.run("--stop-stage", "train")
    assert calls == [
        "prepare quickstart --out data/quickstart",
        f"train --config {package}/_conf/quickstart.yaml --data data/quickstart --out exp/quickstart",
    ]


def test_a_seed_gets_a_model_folder_of_its_own(project):
    _, calls = project.run("an4", "--seed", "2", "--stop-stage", "2")
    assert calls[1] == "train --config conf/custom.yaml --set training.seed=2 --data data/an4 --out exp/an4-seed2"


def test_ones_own_data_are_checked_instead_of_prepared(project):
    project.run("an4", "--stop-stage", "1")  # leaves manifests
    _, calls = project.run("custom", "--data", "data/an4", "--stop-stage", "2", "text.case=upper")
    assert calls == [
        "check data/an4 --config conf/custom.yaml --set text.case=upper",
        "train --config conf/custom.yaml --set text.case=upper --data data/an4 --out exp/custom",
    ]
    output, _ = project.run("custom", "--data", "data/an4", "--out", "exp/b", FAILING="check", status=3)
    assert "To train all the same, add --stage train.\n" in output
    _, calls = project.run(
        *("custom", "--data", "data/an4", "--stage", "train", "--stop-stage", "2"),
        *("--set", "text.remove=., ", "--set=model.layers=2"),
    )
    assert calls == [
        "train --config conf/custom.yaml --set text.remove=.,  --set model.layers=2 --data data/an4 --out exp/custom",
    ]


def test_data_that_are_not_there_are_named(project):
    output, calls = project.run("custom", "--data", "data/mine", status=1)
    assert "error: data/mine/train.jsonl.gz: no such manifest" in output
    assert calls == []


def test_data_may_be_packed_in_shar_folders(project, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(8000, 0.25), 16000)
    cuts = [make_cut("a", tmp_path / "a.wav", "one two", "anna")]
    for split in ("train", "dev", "test"):
        write_shar(cuts, project.path(f"data/packed/{split}"))
    output, calls = project.run("custom", "--data", "data/packed")
    assert calls[2:5] == [
        "lm ngram data/packed/train --model exp/custom",
        "tune exp/custom data/packed/dev",
        "decode exp/custom data/packed/test --method greedy --out exp/custom/decode_test_greedy",
    ]
    assert calls[-1] == "transcribe exp/custom exp/custom/example.flac"
    assert "reference   one two\n" in output
    samples, rate_hz = soundfile.read(project.path("exp/custom/example.flac"))
    assert (len(samples), rate_hz) == (8000, 16000)
    assert commands(project.run("custom", "--data", "data/packed")[1]) == RESULTS
    with project.path("data/packed/test/recording.000000.tar").open("ab") as file:
        file.write(b"more")
    # check looks at all of the data
    assert commands(project.run("custom", "--data", "data/packed")[1]) == ["check", "decode", "decode", *RESULTS]


def test_colours_of_commands_are_only_asked_for_on_a_terminal_and_logs_hold_what_was_seen_last(project):
    output, calls = project.run("--stop-stage", "train")
    assert "\x1b" not in output.replace("\x1b[2K", "").replace("\x1b[1mepoch 1\x1b[0m", "")
    log = project.path("exp/quickstart/log/2-train.log").read_text(encoding="utf-8")
    assert log == f"$ asr {calls[1]}\nepoch 1\n"


def test_from_python_events_are_reported_and_the_model_is_returned(project):
    events = []
    done = asr.run_recipe("an4", out=project.path("exp/b"), last_stage="prepare", on_event=events.append)
    assert (done.model, done.stopped) == (project.path("exp/b"), None)
    assert done.seconds > 0
    assert [event.kind for event in events if event.text] == ["stage", "exists", "stage", "command", "done"]
    assert project.called() == ["prepare an4 --out data/an4"]


def test_from_python_a_failed_stage_is_an_error_with_its_status(project, capsys, monkeypatch):
    monkeypatch.setenv("FAILING", "prepare")
    with pytest.raises(asr.StageError, match=r"stage 1 \(prepare\) failed") as failure:
        asr.run_recipe("an4")
    assert failure.value.status == 3
    with pytest.raises(asr.RecipeError, match="no recipe 'nothing'"):
        asr.run_recipe("nothing")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_on_a_terminal_stages_stand_out_unless_colour_is_unwanted(variables):
    master, slave = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    subprocess.run(
        [sys.executable, "-m", "asr", "run", "quickstart", "--stop-stage", "0"],
        cwd=Path(__file__).parents[3],
        env={**environment, "TERM": "xterm", **variables},
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
