"""Three utterances of dev in the log of a training, in TensorBoard and in trackers."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import LEARNS_FAST, TINY
from tensorboard.backend.event_processing.event_accumulator import AUDIO, EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

import asr
from asr.bundle.training_log import read_epochs
from asr.config import TextSettings
from asr.corpus.manifest import make_cut, read_manifest
from asr.errors import DependencyError
from asr.settings_file import load_config
from asr.training.examples import example_cuts
from asr.training.reports import EpochReport, StepReport, TrackerFailed
from asr.training.trainer import training_reports


def cuts_of(tmp_path: Path, texts: list[str]) -> list[Any]:
    """Return utterances that last as long as their place in the list, plus one second."""
    made = []
    for place, text in enumerate(texts):
        path = tmp_path / f"{place}.wav"
        soundfile.write(path, np.zeros(8000 * (place + 1)), 8000)
        made.append(make_cut(f"u{place}", path, text, "speaker"))
    return made


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        (["a"] * 9, ["u1", "u4", "u7"]),
        (["a"] * 4, ["u0", "u2", "u3"]),
        (["a"] * 2, ["u0", "u1"]),
        (["", "a", " ", "b"], ["u1", "u3"]),  # nothing is to be recognised in the others
        ([""], []),
    ],
)
def test_a_short_a_middle_and_a_long_utterance_are_chosen_in_whatever_order(
    tmp_path: Path, texts: list[str], chosen: list[str]
) -> None:
    cuts = cuts_of(tmp_path, texts)
    assert [cut.id for cut in example_cuts(cuts, TextSettings())] == chosen
    assert [cut.id for cut in example_cuts(cuts[::-1], TextSettings())] == chosen


def test_the_log_has_what_the_kept_model_recognises_in_the_same_three_utterances_each_epoch(
    tone_corpus: Path, tmp_path: Path
) -> None:
    config = load_config(None, [*TINY, *LEARNS_FAST, "training.epochs=4", "training.precision=fp32"])
    reports = list(training_reports(config, tone_corpus, tmp_path))
    epochs = read_epochs(tmp_path)
    assert {tuple(text.id for text in epoch.dev_texts) for epoch in epochs} == {
        tuple(cut.id for cut in example_cuts(list(read_manifest(tone_corpus / "dev.jsonl.gz")), config.text))
    }
    assert [list(epoch.dev_texts) for epoch in epochs] == [
        list(report.dev_texts) for report in reports if isinstance(report, EpochReport)
    ]
    best = [epoch for epoch in epochs if epoch.best][-1]
    asr.decode(tmp_path, tone_corpus / "dev.jsonl.gz", tmp_path / "decode", method="greedy")
    lines = (tmp_path / "decode" / "hyp.trn").read_text().splitlines()
    for text in best.dev_texts:
        assert f"{text.hypothesis} ({text.id})".strip() in lines


def test_tensorboard_has_their_sound_once_and_their_texts_each_epoch(tone_corpus: Path, tmp_path: Path) -> None:
    config = load_config(None, [*TINY, "training.epochs=2"])
    list(training_reports(config, tone_corpus, tmp_path))
    curves = EventAccumulator(str(tmp_path / "tensorboard"), {"tensors": 0, AUDIO: 0}).Reload()
    cuts = {cut.id: cut for cut in read_manifest(tone_corpus / "dev.jsonl.gz")}
    for number in (1, 2, 3):
        texts = [epoch.dev_texts[number - 1] for epoch in read_epochs(tmp_path)]
        (sound,) = curves.Audio(f"dev/audio {number}")
        samples, rate_hz = soundfile.read(io.BytesIO(sound.encoded_audio_string))
        np.testing.assert_allclose(samples, cuts[texts[0].id].load_audio()[0], atol=1e-4)
        assert rate_hz == 16000
        written = curves.Tensors(f"dev/text {number}/text_summary")
        assert [event.step for event in written] == [0, 1]
        for event, text in zip(written, texts, strict=True):
            (shown,) = make_ndarray(event.tensor_proto)
            lines = [line.split(maxsplit=1) for line in shown.decode().splitlines()]
            assert lines[0] == ["id", text.id]
            assert lines[1] == ["reference", text.reference]
            assert all(line.startswith("    ") for line in shown.decode().splitlines())  # Markdown leaves it as it is


class FakeTracker(ModuleType):
    """A package with the functions of wandb, which keeps their arguments; `fail_at` is the call that fails."""

    def __init__(self, fail_at: str = "") -> None:
        super().__init__("fake")
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fail_at = fail_at
        self.Audio = lambda samples, **more: SimpleNamespace(samples=samples, **more)
        self.Table = lambda **more: SimpleNamespace(**more)

    def note(self, name: str, arguments: Mapping[str, Any]) -> None:
        if name == self.fail_at:
            raise OSError(f"no \x1b[31mnetwork for {name}")
        self.calls.append((name, dict(arguments)))

    def init(self, **arguments: Any) -> None:
        self.note("init", arguments)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        self.note("log", {"values": values, "step": step})

    def finish(self) -> None:
        self.note("finish", {})

    @property
    def logged(self) -> Iterator[tuple[str, Any, int]]:
        """Each value with its name and step."""
        for name, arguments in self.calls:
            if name == "log":
                for key, value in arguments["values"].items():
                    yield key, value, arguments["step"]


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_tracker_gets_settings_curves_sound_and_texts(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fake = FakeTracker()
    monkeypatch.setitem(sys.modules, name, fake)
    settings = [*TINY, "training.epochs=2", f"training.tracker={name}", "training.tracker_project=tones"]
    reports = list(training_reports(load_config(None, settings), tone_corpus, tmp_path / "mine"))
    (kind, begun), *_ = fake.calls
    assert (kind, begun["project"], begun["resume"]) == ("init", "tones", "never")
    assert begun["name"].startswith("mine-2")
    assert begun["config"]["training"]["epochs"] == 2
    assert fake.calls[-1][0] == "finish"
    points = [(key, value, step) for key, value, step in fake.logged if isinstance(value, float)]
    losses = [(report.loss, report.step) for report in reports if isinstance(report, StepReport)]
    assert [(value, step) for key, value, step in points if key == "train/loss"] == losses
    epochs = read_epochs(tmp_path / "mine")
    assert [value for key, value, _ in points if key == "dev/wer"] == [epoch.dev_wer for epoch in epochs]
    last = [losses[len(losses) // 2 - 1][1], losses[-1][1]]
    tables = [(value.data, step) for key, value, step in fake.logged if key == "dev/texts"]
    assert tables == [
        ([[one.id, one.reference, one.hypothesis] for one in epoch.dev_texts], step)
        for epoch, step in zip(epochs, last, strict=True)
    ]
    sounds = [value for key, value, step in fake.logged if key.startswith("dev/audio") and step == 0]
    assert [sound.caption for sound in sounds] == [one.reference for one in epochs[0].dev_texts]
    assert all(sound.samples.dtype == np.int16 and sound.sample_rate == 16000 for sound in sounds)


def test_a_tracker_gets_an_epoch_only_when_its_line_is_in_the_log(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTracker()
    known: list[int] = []
    monkeypatch.setattr(
        fake, "log", lambda values, step: known.append(len(read_epochs(tmp_path))) if "epoch" in values else None
    )
    monkeypatch.setitem(sys.modules, "trackio", fake)
    config = load_config(None, [*TINY, "training.epochs=2", "training.tracker=trackio"])
    list(training_reports(config, tone_corpus, tmp_path))
    assert known == [1, 2]


def test_a_resumed_run_continues_the_tracker_s_run_also_under_another_setting(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTracker()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    settings = [*TINY, "training.epochs=2", "training.checkpoint_every_s=0"]
    reports = training_reports(load_config(None, [*settings, "training.tracker=wandb"]), tone_corpus, tmp_path)
    assert [isinstance(next(reports), StepReport) for _ in range(3)] == [False, True, True]
    reports.close()
    tracked = load_config(None, [*settings, "training.tracker=wandb", "training.tracker_project=other"])
    list(training_reports(tracked, tone_corpus, tmp_path, resume=True))
    first, second = (arguments for name, arguments in fake.calls if name == "init")
    assert (first["resume"], second["resume"]) == ("never", "allow")
    assert first["name"] == second["name"]
    assert first["id"] == second["id"]
    assert len([key for key, _, _ in fake.logged if key.startswith("dev/audio")]) == 3


@pytest.mark.parametrize("fail_at", ["init", "log", "finish"])
def test_a_tracker_that_fails_is_reported_once_and_changes_nothing(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: str
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", FakeTracker(fail_at))
    settings = [*TINY, "training.epochs=2"]
    list(training_reports(load_config(None, settings), tone_corpus, tmp_path / "without"))
    tracked = load_config(None, [*settings, "training.tracker=trackio"])
    reports = list(training_reports(tracked, tone_corpus, tmp_path / "with"))
    assert [report for report in reports if isinstance(report, TrackerFailed)] == [
        TrackerFailed("trackio", f"OSError: no \\x1b[31mnetwork for {fail_at}")
    ]

    def figures(out: Path) -> list[tuple[Any, ...]]:
        return [(line.loss, line.dev_loss, line.gradient_norms, line.dev_texts) for line in read_epochs(out)]

    assert figures(tmp_path / "with") == figures(tmp_path / "without")


@pytest.mark.parametrize(("name", "way_out"), [("trackio", r"asr\[track\]"), ("wandb", "pip install wandb")])
def test_a_tracker_that_is_not_installed_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, way_out: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    config = load_config(None, [*TINY, f"training.tracker={name}"])
    with pytest.raises(DependencyError, match=rf"training\.tracker={name} needs the package {name} .*{way_out}"):
        next(training_reports(config, tmp_path / "no data", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
