import itertools
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from conftest import LEARNS_FAST, TINY
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import asr
from asr.bundle.training_log import read_epochs
from asr.corpus.manifest import read_manifest, write_manifest
from asr.errors import ConfigError, DeviceError, ModelError, TrainingError
from asr.settings_file import load_config
from asr.training.checkpoint import read_facts
from asr.training.engine import loading_processes
from asr.training.reports import EpochReport, RunStart, StepReport, StepSkipped
from asr.training.survey import is_usable, survey_training_cuts
from asr.training.trainer import training_reports


def run(config, corpus: Path, out: Path, *, resume: bool = False) -> list:
    return list(training_reports(config, corpus, out, resume=resume))


def saved(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors") | load_file(out / "checkpoints" / "last.safetensors")


def assert_read_back(epochs: list[EpochReport], folder: Path) -> None:
    """Compare the records that are read from the log with the reports of the run, and with the curves of its steps."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    rates = events.Scalars("train/learning_rate")
    for epoch, record in zip(epochs, read_epochs(folder), strict=True):
        assert record.dev is not None
        assert record.dev.model_dump() == asdict(epoch.dev.words)
        assert record.dev_characters.model_dump() == asdict(epoch.dev.characters)
        assert record.main_rate == record.dev_wer == epoch.dev.words.rate
        assert (record.dev_cer, record.dev_empty) == (epoch.dev.characters.rate, epoch.dev.empty)
        assert record.gradient_norms == epoch.gradient_norms
        assert (record.epoch, record.loss, record.best, record.train_s) == (
            epoch.epoch,
            epoch.loss,
            epoch.best,
            epoch.train_s,
        )
        assert record.audio_s > 0
    # With one-cycle the rate falls from step to step at last: that of an epoch's end is between two steps.
    last = len(rates) // len(epochs)
    assert rates[-last].value < record_rate(folder, -2) < rates[-last - 1].value
    assert record_rate(folder, -1) == pytest.approx(0.0)


def record_rate(folder: Path, epoch: int) -> float:
    """Return the learning rate at the end of an epoch."""
    return read_epochs(folder)[epoch].learning_rate


def test_training_learns_and_leaves_a_model_a_checkpoint_and_a_log(tone_corpus: Path, tmp_path: Path) -> None:
    config = load_config(None, [*TINY, *LEARNS_FAST, "training.epochs=5"])
    reports = run(config, tone_corpus, tmp_path)
    start, *rest = reports
    assert isinstance(start, RunStart)
    assert start.survey.utterances == 96
    losses = [report.ctc for report in rest if isinstance(report, StepReport)]
    steps = len(losses) // 5
    assert sum(losses[-steps:]) < 0.75 * sum(losses[:steps])
    epochs = [report for report in rest if isinstance(report, EpochReport)]
    assert [epoch.epoch for epoch in epochs] == [0, 1, 2, 3, 4]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["dev_wer"] for line in lines] == [epoch.dev.rate for epoch in epochs]
    assert_read_back(epochs, tmp_path)
    facts = json.loads((tmp_path / "training.json").read_text())
    best = [epoch for epoch in epochs if epoch.best][-1]
    assert (facts["train_utterances"], facts["dev_utterances"]) == (96, 12)
    assert (facts["epochs"], facts["dev_wer"]) == (best.epoch + 1, best.dev.rate)
    assert {path.name for path in tmp_path.iterdir()} >= {
        "config.yaml",
        "tokens.json",
        "model.safetensors",
        "decoder.yaml",
        "README.md",
        "training.json",
        "checkpoints",
        "tensorboard",
    }


@pytest.mark.parametrize("stop_after", [1, 13, 14, 20])
def test_a_run_that_was_stopped_resumes_to_the_same_weights_bit_for_bit(
    tone_corpus: Path, tmp_path: Path, stop_after: int
) -> None:
    config = load_config(None, [*TINY, "training.epochs=2"])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(config, tone_corpus, whole)
    list(itertools.islice(training_reports(config, tone_corpus, parts), 1 + stop_after))
    run(config, tone_corpus, parts, resume=True)
    expected, actual = saved(whole), saved(parts)
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, actual[name]), name

    def without_times(out: Path) -> list[dict]:
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if not key.endswith("_s")} for line in lines]

    assert without_times(whole) == without_times(parts)


@pytest.mark.parametrize("clock_set_back_s", [0, 86400])
def test_tensorboard_shows_each_step_once_also_of_a_run_that_was_stopped_and_resumed(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock_set_back_s: int
) -> None:
    config = load_config(None, [*TINY, "training.epochs=2"])
    stopped = list(itertools.islice(training_reports(config, tone_corpus, tmp_path), 1 + 14))
    clock = time.time
    monkeypatch.setattr("time.time", lambda: clock() - clock_set_back_s)
    resumed = run(config, tone_corpus, tmp_path, resume=True)
    steps = {report.step: report for report in (*stopped, *resumed) if isinstance(report, StepReport)}
    assert len(steps) < len([*stopped, *resumed])  # those after the last checkpoint came twice
    curves = EventAccumulator(str(tmp_path / "tensorboard"), {"scalars": 0}).Reload()
    shown = {
        "train/loss": lambda report: report.loss,
        "train/learning_rate": lambda report: report.learning_rate,
        "gradient_norm/layers.0": lambda report: report.gradient_norms["layers.0"],
    }
    for curve, value in shown.items():
        points = [(point.step, point.value) for point in curves.Scalars(curve)]
        assert points == [(step, pytest.approx(value(report), rel=1e-6)) for step, report in sorted(steps.items())]
    wers = [report.dev.rate for report in resumed if isinstance(report, EpochReport)]
    assert [point.value for point in curves.Scalars("dev/wer")][-len(wers) :] == pytest.approx(wers)


def test_a_folder_with_a_run_is_not_overwritten(tone_corpus: Path, tmp_path: Path) -> None:
    config = load_config(None, [*TINY, "training.epochs=1"])
    run(config, tone_corpus, tmp_path)
    with pytest.raises(TrainingError, match=r"--resume"):
        next(training_reports(config, tone_corpus, tmp_path))
    other = load_config(None, [*TINY, "training.epochs=2"])
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        next(training_reports(other, tone_corpus, tmp_path, resume=True))


@pytest.mark.parametrize("resume", [False, True])
def test_a_finished_model_is_not_overwritten(tone_corpus: Path, tmp_path: Path, resume: bool) -> None:
    config = load_config(None, [*TINY, "training.epochs=1"])
    run(config, tone_corpus, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")  # as in a folder that `asr export` wrote
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(TrainingError, match=r"holds a finished model; .*--init-from"):
        next(training_reports(config, tone_corpus, tmp_path, resume=resume))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_truncated_checkpoint_is_named(tone_corpus: Path, tmp_path: Path) -> None:
    config = load_config(None, [*TINY, "training.epochs=1"])
    run(config, tone_corpus, tmp_path)
    checkpoint = tmp_path / "checkpoints" / "last.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"last\.safetensors: not a readable checkpoint"):
        read_facts(checkpoint)
    with pytest.raises(ModelError, match=r"last\.safetensors"):
        next(training_reports(config, tone_corpus, tmp_path, resume=True))


def test_a_gpu_gets_the_cores_but_one_to_load_audio_and_a_cpu_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, found in ((1, 1), (2, 1), (8, 7), (16, 15), (64, 16)):
        monkeypatch.setattr("asr.training.engine.cores", lambda cores=cores: cores)
        assert [loading_processes(None, device) for device in ("cuda", "cpu")] == [found, 0]
    assert [loading_processes(wished, device) for wished in (0, 3) for device in ("cuda", "cpu")] == [0, 0, 3, 3]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr("asr.training.engine.cores", lambda: 16)
    assert loading_processes(None, "cuda") == 3
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    assert [loading_processes(wished, "cuda") for wished in (None, 3)] == [0, 0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so asking for one is no error")
def test_asking_for_a_gpu_that_is_not_there_is_an_error(tone_corpus: Path, tmp_path: Path) -> None:
    config = load_config(None, [*TINY, "training.accelerator=cuda"])
    with pytest.raises(DeviceError, match="no CUDA device"):
        next(training_reports(config, tone_corpus, tmp_path))


def test_utterances_that_are_spoken_too_fast_for_a_faster_tempo_are_trained_on(
    tone_corpus: Path, tmp_path: Path
) -> None:
    settings = [*TINY, "training.epochs=3", "augment.speeds=[0.9, 1.0, 1.1]", "augment.tempos=[0.9, 1.0, 1.1]"]
    cuts = list(read_manifest(tone_corpus / "train.jsonl.gz"))[:24]
    for cut in cuts:
        frames = int(cut.duration / 0.04)
        cut.supervisions[0].text = ("abcd" * frames)[:frames]  # a token in each frame of 40 ms: just enough
    write_manifest(cuts, tmp_path / "train.jsonl.gz")
    shutil.copy(tone_corpus / "dev.jsonl.gz", tmp_path)
    start, *rest = run(load_config(None, settings), tmp_path, tmp_path / "out")
    assert (start.survey.utterances, start.survey.skipped) == (24, {})
    assert not [report for report in rest if isinstance(report, StepSkipped)]
    assert all(report.skipped == 0 and report.loss < 1e3 for report in rest if isinstance(report, EpochReport))


def test_the_survey_leaves_out_what_cannot_be_trained_on_and_says_why(tone_corpus: Path, tmp_path: Path) -> None:
    cuts = list(read_manifest(tone_corpus / "train.jsonl.gz"))[:4]
    cuts[0].supervisions[0].text = "  "
    cuts[1].supervisions[0].text = "abcd" * 50
    config = load_config(None, ["training.max_utterance_s=1.2"])
    long = [cut.id for cut in cuts[2:] if cut.duration > 1.2]
    survey = survey_training_cuts(cuts, config)
    assert survey.skipped[cuts[0].id] == "its transcript is empty"
    assert "too short" in survey.skipped[cuts[1].id] or "max_utterance_s" in survey.skipped[cuts[1].id]
    assert all("max_utterance_s" in survey.skipped[name] for name in long)
    assert survey.utterances == 4 - len(survey.skipped)
    cuts[3].duration, cuts[3].supervisions[0].text = 0.08, "a"  # `asr check` names it too
    assert survey_training_cuts(cuts, config).skipped[cuts[3].id] == "too short: 0.08 s, at least 0.1 s are needed"
    with pytest.raises(TrainingError, match="no usable training utterance"):
        survey_training_cuts(cuts[:2], config)


def test_a_manifest_whose_audio_is_missing_stops_the_run_with_its_name(tone_corpus: Path, tmp_path: Path) -> None:
    from asr.errors import AudioError

    cuts = list(read_manifest(tone_corpus / "train.jsonl.gz"))
    cuts[5].recording.sources[0].source = str(tmp_path / "gone.wav")
    write_manifest(cuts, tmp_path / "train.jsonl.gz")
    write_manifest(read_manifest(tone_corpus / "dev.jsonl.gz"), tmp_path / "dev.jsonl.gz")
    with pytest.raises(AudioError, match=r"gone\.wav"):
        run(load_config(None, [*TINY, "training.epochs=1"]), tmp_path, tmp_path / "out")


def test_with_dev_trains_on_both_and_keeps_the_last_weights(tone_corpus: Path, tmp_path: Path) -> None:
    config = load_config(None, [*TINY, "training.epochs=3"])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    reports = list(training_reports(config, tone_corpus, whole, with_dev=True))
    assert reports[0].survey.utterances == 96 + 12
    epochs = [report for report in reports if isinstance(report, EpochReport)]
    assert [(epoch.dev, epoch.best) for epoch in epochs] == [(None, True)] * 3
    lines = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [line["dev_wer"] for line in lines] == [None] * 3
    facts = json.loads((whole / "training.json").read_text())
    assert (facts["train_utterances"], facts["dev_utterances"], facts["dev_wer"]) == (108, 0, None)
    card = (whole / "README.md").read_text()
    assert "| train | 108 |" in card
    assert "epoch 3. The dev set was trained on too" in card
    last = load_file(whole / "checkpoints" / "last.safetensors")
    kept = load_file(whole / "model.safetensors")
    assert all(torch.equal(last[f"average.{name}"], tensor) for name, tensor in kept.items())

    list(itertools.islice(training_reports(config, tone_corpus, parts, with_dev=True), 20))  # in the second epoch
    list(training_reports(config, tone_corpus, parts, with_dev=True, resume=True))
    assert all(torch.equal(saved(parts)[name], tensor) for name, tensor in saved(whole).items())
    with pytest.raises(ConfigError, match="dev_utterances"):
        next(training_reports(config, tone_corpus, parts, resume=True))


def test_a_schedule_that_goes_by_dev_needs_dev(tone_corpus: Path, tmp_path: Path) -> None:
    config = load_config(None, [*TINY, "training.schedule=plateau"])
    with pytest.raises(ConfigError, match=r"plateau goes by the dev WER, and --with-dev leaves none"):
        next(training_reports(config, tone_corpus, tmp_path / "out", with_dev=True))
    assert not (tmp_path / "out").exists()


def test_a_dev_set_without_a_word_is_refused_by_name(tone_corpus: Path, tmp_path: Path) -> None:
    shutil.copy(tone_corpus / "train.jsonl.gz", tmp_path)
    cuts = list(read_manifest(tone_corpus / "dev.jsonl.gz"))
    for cut in cuts:
        cut.supervisions[0].text = " "
    write_manifest(cuts, tmp_path / "dev.jsonl.gz")
    with pytest.raises(TrainingError, match=r"dev\.jsonl\.gz: no transcript holds a word.*--with-dev"):
        run(load_config(None, TINY), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out" / "training.json").exists()


def test_a_dev_set_whose_recordings_are_missing_is_refused_before_the_first_epoch(
    tone_corpus: Path, tmp_path: Path
) -> None:
    shutil.copy(tone_corpus / "train.jsonl.gz", tmp_path)
    cuts = list(read_manifest(tone_corpus / "dev.jsonl.gz"))
    cuts[3].recording.sources[0].source = str(tmp_path / "gone.wav")
    write_manifest(cuts, tmp_path / "dev.jsonl.gz")
    with pytest.raises(TrainingError, match=rf"recordings of 1 of 12 utterances are missing.* {cuts[3].id};"):
        next(training_reports(load_config(None, TINY), tmp_path, tmp_path / "out"))


def test_a_dev_set_whose_recordings_are_damaged_is_refused_before_the_first_epoch(
    tone_corpus: Path, tmp_path: Path
) -> None:
    shutil.copy(tone_corpus / "train.jsonl.gz", tmp_path)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    cuts = list(read_manifest(tone_corpus / "dev.jsonl.gz"))
    cuts[3].recording.sources[0].source = str(tmp_path / "bad.wav")
    write_manifest(cuts, tmp_path / "dev.jsonl.gz")
    with pytest.raises(
        TrainingError, match=rf"the recording of {cuts[3].id} cannot be read: .*bad\.wav.*asr check --out"
    ):
        next(training_reports(load_config(None, TINY), tmp_path, tmp_path / "out"))


def test_languages_and_the_first_weights_are_in_the_facts_and_the_card_also_after_a_resumption(
    tone_corpus: Path, tmp_path: Path
) -> None:
    for split in ("train", "dev"):
        cuts = list(read_manifest(tone_corpus / f"{split}.jsonl.gz"))
        for cut in cuts:
            cut.supervisions[0].language = "tlh"
        write_manifest(cuts, tmp_path / f"data/{split}.jsonl.gz")
    config = load_config(None, [*TINY, "training.epochs=1", "training.checkpoint_every_s=0"])
    first, second = tmp_path / "first", tmp_path / "second"
    run(config, tmp_path / "data", first)
    facts = json.loads((first / "training.json").read_text())
    assert (facts["languages"], facts["init_from"]) == (["tlh"], None)
    assert "Training started from" not in (first / "README.md").read_text()
    list(itertools.islice(training_reports(config, tmp_path / "data", second, init_from=first), 4))
    list(training_reports(config, tmp_path / "data", second, resume=True))
    assert json.loads((second / "training.json").read_text())["init_from"] == str(first)
    card = (second / "README.md").read_text()
    assert f"Training started from the weights of `{first}`." in card
    assert "Language, as the training manifest notes it: tlh." in card


def test_hours_draw_utterances_and_fewer_are_part_of_more(tone_corpus: Path) -> None:
    cuts = read_manifest(tone_corpus / "train.jsonl.gz")
    whole = survey_training_cuts(cuts, load_config(None, TINY))
    drawn = []
    for share in (0.25, 0.5, 2.0):
        hours = share * whole.audio_s / 3600
        config = load_config(None, [*TINY, f"training.hours={hours}"])
        survey = survey_training_cuts(cuts, config)
        used = [cut for cut in cuts if is_usable(survey, cut)]
        assert survey.utterances == len(used)
        assert survey.audio_s == pytest.approx(sum(cut.duration for cut in used))
        wanted_s = min(share, 1.0) * whole.audio_s
        assert wanted_s - max(cut.duration for cut in cuts) <= survey.audio_s <= wanted_s + 1e-6
        assert survey.checksum == whole.checksum  # the data are the same
        assert survey.skipped_utterances == 0
        drawn.append({cut.id for cut in used})
    assert drawn[0] < drawn[1] < drawn[2]
    other_seed = load_config(None, [*TINY, f"training.hours={0.25 * whole.audio_s / 3600}", "training.seed=5"])
    assert {cut.id for cut in cuts if is_usable(survey_training_cuts(cuts, other_seed), cut)} == drawn[0]


def test_a_run_that_normalises_by_the_speaker_resumes_bit_for_bit_and_scores_dev_as_decoding_does(
    tone_corpus: Path, tmp_path: Path
) -> None:
    config = load_config(None, [*TINY, *LEARNS_FAST, "training.epochs=2", "features.cmvn=speaker"])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(config, tone_corpus, whole)
    list(itertools.islice(training_reports(config, tone_corpus, parts), 1 + 14))
    run(config, tone_corpus, parts, resume=True)
    expected, actual = saved(whole), saved(parts)
    assert all(torch.equal(tensor, actual[name]) for name, tensor in expected.items())
    asr.decode(whole, tone_corpus / "dev.jsonl.gz", tmp_path / "decoded", method="greedy", accelerator="cpu")
    facts = json.loads((whole / "training.json").read_text())
    assert facts["dev_wer"] == pytest.approx(asr.score(tmp_path / "decoded").figures.wer)
