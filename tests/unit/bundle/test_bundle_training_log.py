"""The log of a training → records; a training test compares them with what the training reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.bundle.training_log import DevErrors, DevText, EpochLine, read_epochs
from asr.errors import ModelError

# A line as version 0.1 wrote it.
OLD = (
    '{"epoch": 0, "loss": 4.5, "dev": {"substitutions": 1, "deletions": 2, "insertions": 0, "reference_length": 6}, '
    '"best": true, "gradient_norms": {"subsampling": 12.5, "output": 8.0}, "clipped_share": 0.5, "spikes": 3, '
    '"skipped": 0, "audio_s": 60.0, "train_s": 2.0, "dev_s": 0.5, "dev_wer": 0.5, "dev_cer": 0.25, "dev_loss": null, '
    '"dev_empty": 1}\n'
)
NEW = {
    "dev_characters": {"substitutions": 1, "deletions": 0, "insertions": 0, "reference_length": 4},
    "dev_by_characters": True,
    "dev_texts": [{"id": "a", "reference": "eins", "hypothesis": ""}],
    "learning_rate": 0.001,
}


def written(folder: Path, text: str) -> list[EpochLine]:
    (folder / "log.jsonl").write_text(text, encoding="utf-8")
    return read_epochs(folder)


def test_a_line_of_an_older_log_is_read_and_the_main_figure_is_the_word_error_rate(tmp_path: Path) -> None:
    (record,) = written(tmp_path, OLD)
    assert record.dev == DevErrors(substitutions=1, deletions=2, insertions=0, reference_length=6)
    assert list(record.gradient_norms.items()) == [("subsampling", 12.5), ("output", 8.0)]
    assert (record.main_rate, record.dev_loss, record.learning_rate, record.dev_texts) == (0.5, None, None, ())


def test_where_characters_decide_their_rate_is_the_main_figure(tmp_path: Path) -> None:
    (record,) = written(tmp_path, json.dumps(json.loads(OLD) | NEW) + "\n")
    assert record.main_rate == 0.25
    assert record.dev_texts == (DevText(id="a", reference="eins", hypothesis=""),)
    assert record.learning_rate == 0.001


def test_a_run_without_dev_set_has_no_figures_of_dev(tmp_path: Path) -> None:
    (record,) = written(tmp_path, '{"epoch": 0, "loss": 4.5, "best": true, "dev": null, "dev_wer": null}\n')
    assert record.dev is record.main_rate is None


def test_a_folder_without_log_has_no_epochs(tmp_path: Path) -> None:
    assert read_epochs(tmp_path) == []


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    second = OLD.replace('"epoch": 0', '"epoch": 1')
    assert [record.epoch for record in written(tmp_path, OLD + second)] == [0, 1]
    assert [record.epoch for record in written(tmp_path, OLD + second[:-1])] == [0]
    assert [record.epoch for record in written(tmp_path, OLD + second[:40])] == [0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (OLD, "epoch 0 comes after epoch 0"),
        ("{}\n", "epoch is missing"),
        (OLD.replace('"epoch": 0', '"epoch": 1').replace("4.5", '"low"'), "loss: .low. is not a number"),
        (OLD.replace('"epoch": 0', '"epoch": -1'), "-1 is not at least 0"),
        ('{"epoch": 1,\n', "not JSON"),
        ("[1]\n", "log.jsonl:2"),
        ("\udcff\n", "not UTF-8"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "log.jsonl").write_bytes((OLD + line).encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=said) as raised:
        read_epochs(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path / 'log.jsonl'}:2: ")
