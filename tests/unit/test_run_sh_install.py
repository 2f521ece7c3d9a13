"""run.sh's first stage: it finds a Python, makes an environment and installs the package, once."""

import pytest
from run_sh_checkout import Checkout

PYTHON_STAND_IN = """#!/bin/bash
case $* in
    -c*) [ {new} = yes ] ;;
    --version) echo "Python stand-in" ;;
    "-m venv"*) echo "venv $4" >>"$CALLS"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
    "-m pip"*) echo "pip ${{@: -1}}" >>"$CALLS"; [ "$FAILING" = pip ] && {{ echo "no registry"; exit 1; }}
        touch "$(dirname "$0")/asr"; chmod +x "$(dirname "$0")/asr" ;;
    *) echo "python $*" >>"$CALLS" ;;
esac
"""


@pytest.fixture
def bare(tmp_path):
    """A checkout without an environment, where python3 is too old and python3.12 is not."""
    checkout = Checkout(tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("python3", *(f"python3.{minor}" for minor in range(10, 15))):
        (programs / name).write_text(PYTHON_STAND_IN.format(new="yes" if name == "python3.12" else "no"))
        (programs / name).chmod(0o755)
    checkout.variables["PATH"] = f"{programs}:{checkout.variables['PATH']}"
    checkout.variables["ASR_VENV"] = ""
    return checkout


def test_the_first_run_installs_into_an_environment_of_a_python_that_is_new_enough(bare):
    output, calls = bare.run("an4", "--stop-stage", "0")
    assert calls == ["venv .venv", f"pip {bare.folder}[quickstart,dev]"]
    assert "  install: " in output


def test_installation_is_repeated_only_when_the_project_file_changes(bare):
    bare.run("an4", "--stop-stage", "0")
    assert bare.run("quickstart", "--stop-stage", "0")[1] == []
    with bare.path("pyproject.toml").open("a") as file:
        file.write("\n")
    assert bare.run("an4", "--stop-stage", "0")[1] == [f"pip {bare.folder}[quickstart,dev]"]


def test_a_failed_installation_is_a_failed_stage_and_is_tried_again(bare):
    output, _ = bare.run("test", FAILING="pip", status=1)
    assert "stage 0 (install) failed with status 1; its log: exp/test/log/0-install.log" in output
    assert "no registry" in bare.path("exp/test/log/0-install.log").read_text(encoding="utf-8")
    _, calls = bare.run("test", "tests/unit")
    assert calls == [f"pip {bare.folder}[quickstart,dev]", "python -m pytest tests/unit"]


def test_without_a_python_that_is_new_enough_the_error_says_which_are_looked_for(bare, tmp_path):
    (tmp_path / "programs" / "python3.12").write_text(PYTHON_STAND_IN.format(new="no"))
    output, calls = bare.run(status=1)
    assert "no Python 3.10 or later among python3, python3.10" in output
    assert calls == []
