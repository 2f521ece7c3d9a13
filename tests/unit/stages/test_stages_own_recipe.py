"""`asr run NAME` of a recipe that `asr init` made: its manifests are checked, and the run goes on."""

import shutil

import pytest


@pytest.fixture
def mine(project, succeed):
    """The project with a recipe `mine` of manifests in `my data`; its folder is the working directory."""
    shutil.copytree(project.folder.parent / "manifests", project.path("my data"))
    succeed("init", "mine", "--data", "my data")
    return project


def test_the_recipe_runs_with_nothing_named_and_its_manifests_are_checked(mine):
    _, calls = mine.run("mine")
    assert calls == [
        "check my data --config conf/mine.yaml",
        "train --config conf/mine.yaml --data my data --out exp/mine",
        "lm ngram my data/train.jsonl.gz --model exp/mine",
        "tune exp/mine my data/dev.jsonl.gz",
        "decode exp/mine my data/test.jsonl.gz --method greedy --out exp/mine/decode_test_greedy",
        "decode exp/mine my data/test.jsonl.gz --method beam --out exp/mine/decode_test",
        "score exp/mine/decode_test_greedy",
        "score exp/mine/decode_test",
        "transcribe exp/mine /audio/b.wav",
    ]
    _, calls = mine.run("mine")
    assert [call.split()[0] for call in calls] == ["score", "score", "transcribe"]


def test_settings_data_and_folders_can_be_named_as_for_any_recipe(mine):
    shutil.copytree(mine.path("my data"), mine.path("others"))
    mine.path("x.yaml").write_text("", encoding="utf-8")
    arguments = ("--data", "others", "--config", "x.yaml", "--seed", "3", "--stop-stage", "train", "model.layers=1")
    _, calls = mine.run("mine", *arguments)
    options = "--config x.yaml --set training.seed=3 --set model.layers=1"
    assert calls == [f"check others {options}", f"train {options} --data others --out exp/mine-seed3"]


def test_faults_that_the_check_finds_are_shown_and_the_run_goes_on(mine):
    output, calls = mine.run("mine", "--stop-stage", "train", FAILING="check", STATUS="1")
    assert [call.split()[0] for call in calls] == ["check", "train"]
    assert "asr check my data --out DIR writes manifests without the faulty utterances." in output
    assert "The run goes on." in output


def test_a_check_that_ends_otherwise_ends_the_run(mine):
    output, calls = mine.run("mine", FAILING="check", status=3)
    assert [call.split()[0] for call in calls] == ["check"]
    assert "stage 1 (prepare) failed with status 3" in output


def test_another_home_has_other_recipes(mine, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    output, _ = mine.run("mine", "--home", elsewhere, status=2)
    assert "no recipe 'mine'; known: an4, custom, quickstart" in " ".join(output.replace("│", " ").split())
    output, _ = mine.run("yours", status=2)
    assert "known: an4, custom, mine, quickstart" in " ".join(output.replace("│", " ").split())
    mine.monkeypatch.chdir(elsewhere)
    _, calls = mine.run("mine", "--home", mine.folder, "--stop-stage", "train")
    assert calls[0] == f"check {mine.folder}/my data --config {mine.folder}/conf/mine.yaml"


def test_a_recipe_of_the_package_comes_before_one_of_the_same_name(mine):
    shutil.copytree(mine.path("recipes/mine"), mine.path("elsewhere/recipes/an4"))
    _, calls = mine.run("an4", "--home", "elsewhere", "--stop-stage", "prepare")
    assert calls == ["prepare an4 --out elsewhere/data/an4"]


def test_options_of_published_corpora_are_refused(mine):
    output, calls = mine.run("mine", "--corpus-dir", "x", status=2)
    assert "mine has no published corpus; leave --corpus-dir out" in " ".join(output.replace("│", " ").split())
    assert calls == []


def test_an_edited_setting_trains_anew(mine):
    mine.run("mine")
    settings = mine.path("conf/mine.yaml")
    settings.write_text(settings.read_text(encoding="utf-8").replace("epochs: 200", "epochs: 7"), encoding="utf-8")
    _, calls = mine.run("mine", "--stop-stage", "train")
    assert [call.split()[0] for call in calls] == ["check", "train"]
