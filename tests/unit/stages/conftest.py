"""A project folder in which `asr run` calls a stand-in for `asr`, so that a whole run takes a moment."""

import gzip
import json

import pytest

# Writes down how it was called, and leaves the files that the real command would leave.
STAND_IN = """#!/bin/bash
echo "$*" >>"$CALLS"
[ "$1" = "$FAILING" ] && { echo "error: the reason" >&2; exit "${STATUS:-3}"; }
after() { while [ "$1" != "$flag" ]; do shift; done; echo "$2"; }
case $1 in
    prepare) flag=--out; data=$(after "$@"); mkdir -p "$data"; cp "$MANIFESTS"/* "$data" ;;
    train) flag=--out; out=$(after "$@"); mkdir -p "$out/checkpoints"
        touch "$out/model.safetensors" "$out/checkpoints/last.safetensors"
        printf 'bar 1\\r\\033[2Kbar 2\\r\\033[2K\\033[1mepoch 1\\033[0m\\n' ;;
    lm) flag=--model; touch "$(after "$@")/lm.arpa.gz" ;;
    tune) touch "$2/tune.json"; eval "$MEANWHILE" ;;
    decode) flag=--out; out=$(after "$@"); mkdir -p "$out"; touch "$out/hyp.trn" ;;
    score) echo "WER 0.00 %" ;;
    transcribe) echo "turn on the light" ;;
esac
exit 0
"""


def cut_line(name, start, text):
    """Return the line of a manifest that says: in /audio/NAME.wav, of 2 s, `text` is said from `start` on."""
    recording = {
        "id": name,
        "sources": [{"type": "file", "channels": [0], "source": f"/audio/{name}.wav"}],
        "sampling_rate": 16000,
        "num_samples": 32000,
        "duration": 2.0,
        "channel_ids": [0],
    }
    part = {"start": start, "duration": 2.0 - start, "channel": 0}
    supervision = {"id": name, "recording_id": name, "start": 0.0, "duration": 2.0 - start, "channel": 0, "text": text}
    return json.dumps({"id": name, **part, "supervisions": [supervision], "recording": recording, "type": "MonoCut"})


def write_lines(path, *lines):
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0))


class Project:
    """A folder with recipes and settings, where the stand-in is called in place of `asr`."""

    def __init__(self, folder, call, monkeypatch):
        self.folder = folder / "my project"  # a space, as in many a home folder
        self.folder.mkdir()
        self.call = call
        self.monkeypatch = monkeypatch
        for recipe in ("an4", "quickstart"):
            (self.folder / "recipes" / recipe).mkdir(parents=True)
            (self.folder / "recipes" / recipe / "prepare.py").write_text("", encoding="utf-8")
        (self.folder / "recipes" / "custom").mkdir()
        (self.folder / "conf").mkdir()
        for name in ("custom", "quickstart"):
            (self.folder / "conf" / f"{name}.yaml").write_text("model:\n  layers: 2\n", encoding="utf-8")
        manifests = folder / "manifests"
        manifests.mkdir()
        for split in ("train", "dev", "test"):
            write_lines(manifests / f"{split}.jsonl.gz", cut_line("a", 1.0, "a part"), cut_line("b", 0, "call anna"))
        stand_in = folder / "stand-in"
        stand_in.write_text(STAND_IN, encoding="utf-8")
        stand_in.chmod(0o755)
        self.calls = folder / "calls"
        self.calls.touch()
        monkeypatch.chdir(self.folder)
        monkeypatch.setattr("asr.preparing.recipes._PACKAGE", self.folder / "asr")
        monkeypatch.setattr("asr.stages._ASR", (str(stand_in),))
        for name in ("ASR_CORPORA", "NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"CALLS": self.calls, "MANIFESTS": manifests, "FAILING": "", "MEANWHILE": ""}.items():
            monkeypatch.setenv(name, str(value))

    def run(self, *arguments, status=0, **variables):
        """Call `asr run`; return what it prints and how it called `asr`."""
        self.calls.write_text("", encoding="utf-8")
        with self.monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            ended, out, err = self.call("run", *arguments)
        assert (ended or 0) == status, out + err
        return out + err, self.called()

    def called(self):
        return self.calls.read_text(encoding="utf-8").splitlines()

    def path(self, name):
        return self.folder / name


@pytest.fixture
def project(tmp_path, call, monkeypatch):
    return Project(tmp_path, call, monkeypatch)
