"""A stand-in for `asr` that writes down how it was called and leaves the files that the real one would leave."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

STAND_IN = """#!/bin/bash
echo "$*" >>"$CALLS"
[ "$1" = "$FAILING" ] && { echo "error: the reason" >&2; exit 3; }
after() { while [ "$1" != "$flag" ]; do shift; done; echo "$2"; }
case $1 in
    prepare) flag=--out; data=$(after "$@"); mkdir -p "$data"
        for split in train dev test; do gzip -cn "$MANIFEST" >"$data/$split.jsonl.gz"; done ;;
    train) flag=--out; out=$(after "$@"); mkdir -p "$out/checkpoints"
        touch "$out/model.safetensors" "$out/checkpoints/last.safetensors"
        [ -t 1 ] || printf 'bar 1\\r\\033[2Kbar 2\\r\\033[2K\\033[1mepoch 1\\033[0m\\n' ;;
    lm) flag=--model; touch "$(after "$@")/lm.arpa.gz" ;;
    tune) touch "$2/tune.json" ;;
    decode) flag=--out; out=$(after "$@"); mkdir -p "$out"; touch "$out/hyp.trn" ;;
    score) echo "WER 0.00 %" ;;
    transcribe) echo "turn on the light" ;;
esac
exit 0
"""
CUT = (
    '{"id": "%s", "start": %s, "duration": 2.0, "supervisions": [{"text": "%s"}], '
    '"recording": {"duration": 2.0, "sources": [{"source": "/audio/%s.wav"}]}, "type": "MonoCut"}\n'
)


class Checkout:
    """A copy of run.sh and what it reads, beside an environment whose `asr` is the stand-in."""

    def __init__(self, folder):
        self.folder = folder / "check out"  # a space, as in many a home folder
        self.folder.mkdir()
        for name in ("run.sh", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, self.folder)
        for recipe in ("an4", "quickstart"):
            (self.folder / "recipes" / recipe).mkdir(parents=True)
            (self.folder / "recipes" / recipe / "prepare.py").write_text("", encoding="utf-8")
        (self.folder / "recipes" / "custom").mkdir()
        (self.folder / "conf").mkdir()
        for name in ("custom", "quickstart"):
            (self.folder / "conf" / f"{name}.yaml").write_text("model:\n  layers: 2\n", encoding="utf-8")
        manifest = folder / "manifest.jsonl"
        manifest.write_text(CUT % ("a", 1.0, "a part", "a") + CUT % ("b", 0, "call anna", "b"), encoding="utf-8")
        environment = folder / "environment"
        (environment / "bin").mkdir(parents=True)
        (environment / "bin" / "python").symlink_to(sys.executable)
        stand_in = environment / "bin" / "asr"
        stand_in.write_text(STAND_IN, encoding="utf-8")
        stand_in.chmod(0o755)
        self.calls = folder / "calls"
        self.variables = {
            **{name: value for name, value in os.environ.items() if name not in ("ASR_CORPORA", "NO_COLOR")},
            **{"ASR_VENV": str(environment), "CALLS": str(self.calls), "MANIFEST": str(manifest), "FAILING": ""},
        }

    def run(self, *arguments, status=0, cwd=None, **variables):
        """Run it and return its output and the calls of `asr`."""
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

    def path(self, name):
        return self.folder / name
