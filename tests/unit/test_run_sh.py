"""run.sh: it finds a Python, makes an environment, installs the package once, and hands over to `asr run` or pytest."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

# Stands in for every Python; what pip installs is an `asr` that writes down its arguments and where it was called.
PYTHON = """#!/bin/bash
case $* in
    -c*) [ {new} = yes ] ;;
    --version) echo "Python stand-in" ;;
    "-m venv"*) echo "venv $4" >>"$CALLS"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
    "-m pip"*) echo "pip ${{@: -1}}" >>"$CALLS"; [ "$FAILING" = pip ] && {{ echo "no registry" >&2; exit 4; }}
        printf '#!/bin/bash\\nprintf "<%%s>" asr "$@" >>"$CALLS"\\necho " in $PWD" >>"$CALLS"\\nexit $STATUS\\n' \\
            >"$(dirname "$0")/asr"
        chmod +x "$(dirname "$0")/asr" ;;
    *) printf "<%s>" python "$@" >>"$CALLS"; echo " in $PWD" >>"$CALLS" ;;
esac
"""


class Checkout:
    """A copy of run.sh and pyproject.toml, where python3 is too old and python3.12 is not."""

    def __init__(self, folder):
        self.folder = folder / "check out"  # a space, as in many a home folder
        self.folder.mkdir()
        for name in ("run.sh", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, self.folder)
        self.programs = folder / "programs"
        self.programs.mkdir()
        for name in ("python3", *(f"python3.{minor}" for minor in range(10, 15))):
            self.make_python(name, "yes" if name == "python3.12" else "no")
        self.calls = folder / "calls"
        self.variables = {
            **{name: value for name, value in os.environ.items() if name != "ASR_VENV"},
            **{"PATH": f"{self.programs}:{os.environ['PATH']}", "CALLS": str(self.calls), "FAILING": "", "STATUS": "0"},
        }

    def make_python(self, name, new):
        (self.programs / name).write_text(PYTHON.format(new=new), encoding="utf-8")
        (self.programs / name).chmod(0o755)

    def run(self, *arguments, status=0, cwd=None, **variables):
        """Run it and return its output and the calls of programs."""
        self.calls.write_text("", encoding="utf-8")
        result = subprocess.run(
            [str(self.folder / "run.sh"), *arguments],
            cwd=cwd or self.folder,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == status, result.stdout + result.stderr
        return result.stdout + result.stderr, self.calls.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_the_first_run_installs_into_an_environment_of_a_python_that_is_new_enough_and_then_runs(checkout):
    root = checkout.folder
    output, calls = checkout.run("an4", "--corpus-dir", "my corpus", "model.layers=2")
    assert calls == [
        f"venv {root}/.venv",
        f"pip {root}[quickstart,dev]",
        f"<asr><run><an4><--corpus-dir><my corpus><model.layers=2> in {root}",
    ]
    assert "Python stand-in → " in output
    assert "installed in 0 min " in output
    escaped = str(root).replace(" ", r"\ ")
    assert f"to type asr in this shell: . {escaped}/.venv/bin/activate\n" in output


def test_installation_is_repeated_only_when_the_project_file_changes(checkout):
    checkout.run("an4")
    assert checkout.run("quickstart")[1] == [f"<asr><run><quickstart> in {checkout.folder}"]
    with (checkout.folder / "pyproject.toml").open("a") as file:
        file.write("\n")
    pip = f"pip {checkout.folder}[quickstart,dev]"
    assert checkout.run("an4")[1] == [pip, f"<asr><run><an4> in {checkout.folder}"]


def test_a_checkout_that_was_moved_is_installed_again(checkout):
    checkout.run("an4")
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    assert checkout.run("an4")[1][0] == f"pip {checkout.folder}[quickstart,dev]"


def test_a_failed_installation_is_a_failed_stage_and_is_tried_again(checkout):
    output, calls = checkout.run("test", FAILING="pip", status=1)
    assert "no registry" in output
    assert f"stage 0 (install) failed with status 4; its log: {checkout.folder}/.venv/pip.log" in output
    assert len(calls) == 2
    _, calls = checkout.run("test", "tests/unit")
    assert calls == [
        f"pip {checkout.folder}[quickstart,dev]",
        f"<python><-m><pytest><tests/unit> in {checkout.folder}",
    ]


def test_without_a_python_that_is_new_enough_the_error_says_which_are_looked_for(checkout):
    checkout.make_python("python3.12", "no")
    output, calls = checkout.run(status=1)
    assert "error: no Python 3.10 or later among python3, python3.10" in output
    assert calls == []


def test_help_without_an_installation_says_how_to_get_it_and_installs_nothing(checkout):
    for arguments in (["--help"], ["an4", "-h"]):
        output, calls = checkout.run(*arguments)
        assert "./run.sh --stop-stage 0" in output
        assert calls == []
    checkout.run("--stop-stage", "0")
    (checkout.folder / "pyproject.toml").write_text("", encoding="utf-8")
    assert checkout.run("--help")[1] == [f"<asr><run><--help> in {checkout.folder}"]


def test_tests_are_run_in_the_checkout_with_the_arguments_given(checkout, tmp_path):
    checkout.run("--stop-stage", "0")
    _, calls = checkout.run("test", "-k", "a name", "--help", cwd=tmp_path)
    assert calls == [f"<python><-m><pytest><-k><a name><--help> in {checkout.folder}"]


def test_data_and_models_are_kept_in_the_checkout_wherever_it_is_called_from(checkout, tmp_path):
    checkout.run("--stop-stage", "0")
    _, calls = checkout.run("an4", "--out=mine", cwd=tmp_path)
    assert calls == [f"<asr><run><--home><{checkout.folder}><an4><--out=mine> in {tmp_path}"]


def test_the_exit_status_is_that_of_the_run(checkout):
    checkout.run("an4", STATUS="75", status=75)


def test_another_environment_is_used_as_it_is(checkout, tmp_path):
    checkout.run("an4")
    (checkout.folder / ".venv").rename(tmp_path / "my venv")
    root = checkout.folder
    assert checkout.run("an4", ASR_VENV="../my venv")[1] == [f"<asr><run><an4> in {root}"]
    assert checkout.run("test", ASR_VENV=str(tmp_path / "my venv"))[1] == [f"<python><-m><pytest> in {root}"]
    assert not (root / ".venv").exists()


def test_an_environment_without_the_package_is_an_error(checkout, tmp_path):
    output, calls = checkout.run("an4", ASR_VENV=str(tmp_path), status=1)
    assert "there is no bin/asr in it" in output
    assert calls == []
