"""What a training run keeps of a manifest does not grow with it; Shar trains as the manifest it was made of."""

import json
import tracemalloc
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.corpus.manifest import make_cut, read_manifest
from asr.corpus.pack import write_shar
from asr.features.batching import training_batches
from asr.settings_file import load_config
from asr.training import survey as survey_module
from asr.training.survey import MOST_NAMED, is_usable, survey_training_cuts


def write_lines(path: Path, corpus: Path, count: int) -> Path:
    """Write `count` utterances of one recording, every third without words."""
    recording = next((corpus / "audio").iterdir())
    cut = make_cut("u", recording, "abcd", "s1").to_dict()
    with path.open("w") as lines:
        for number in range(count):
            cut["id"] = f"utterance-{number:08d}"
            cut["supervisions"][0]["text"] = "" if number % 3 == 0 else f"ab cd {chr(97 + number % 26)}"
            lines.write(json.dumps(cut) + "\n")
    return path


def test_the_survey_of_ten_times_the_lines_takes_no_more_memory(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey_module, "MOST_NAMED", 100)
    config = load_config(None)

    def peak_bytes(count: int) -> int:
        cuts = read_manifest(write_lines(tmp_path / f"{count}.jsonl", tone_corpus, count))
        tracemalloc.start()
        try:
            survey = survey_training_cuts(cuts, config)
            assert survey.utterances + survey.skipped_utterances == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_bytes(10)  # what is imported or cached once
    assert peak_bytes(20_000) < 1.2 * peak_bytes(2_000)


def test_all_that_is_left_out_is_counted_and_the_first_are_named(tone_corpus: Path, tmp_path: Path) -> None:
    cuts = read_manifest(write_lines(tmp_path / "train.jsonl", tone_corpus, 3 * MOST_NAMED + 60))
    survey = survey_training_cuts(cuts, load_config(None))
    assert survey.skipped_utterances == MOST_NAMED + 20
    assert survey.utterances == 2 * (MOST_NAMED + 20)
    assert list(survey.skipped) == [f"utterance-{number:08d}" for number in range(0, 3 * MOST_NAMED, 3)]
    usable = [cut.id for cut in cuts.filter(partial(is_usable, survey))]
    assert usable == [f"utterance-{number:08d}" for number in range(3 * MOST_NAMED + 60) if number % 3]


@given(st.lists(st.text(max_size=6) | st.text("abé\ud800", max_size=2)))
def test_the_characters_of_texts_are_the_union_of_their_sets(texts: list[str]) -> None:
    characters = survey_module._Characters()
    for text in texts:
        characters.learn(text)
    assert characters.seen == set().union(*texts)


@pytest.fixture(scope="module")
def shar(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shar") / "train"
    write_shar(read_manifest(tone_corpus / "train.jsonl.gz"), folder, shard_utterances=10)
    return folder


def test_shar_gives_the_survey_and_the_batches_of_its_manifest(tone_corpus: Path, shar: Path) -> None:
    config = load_config(None, ["training.batch_s=6", "training.max_utterance_s=1.3"])
    sources = [read_manifest(tone_corpus / "train.jsonl.gz"), read_manifest(shar)]
    surveys = [survey_training_cuts(cuts, config) for cuts in sources]
    assert surveys[0] == surveys[1]
    assert surveys[0].skipped
    ours, theirs = (
        list(training_batches(cuts.filter(partial(is_usable, survey)), survey.tokens, config, epoch=1))
        for cuts, survey in zip(sources, surveys, strict=True)
    )
    assert len(ours) > 5
    for a, b in zip(ours, theirs, strict=True):
        assert a.pieces[0].ids == b.pieces[0].ids
        assert torch.equal(a.pieces[0].waveforms, b.pieces[0].waveforms)
        assert torch.equal(a.pieces[0].tokens, b.pieces[0].tokens)


def test_steps_that_are_skipped_read_no_audio(shar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from asr.corpus import shar as reader

    read: list[str] = []
    original = reader.read_member
    monkeypatch.setattr(reader, "read_member", lambda tar, name: read.append(name) or original(tar, name))
    config = load_config(None, ["training.batch_s=6"])
    cuts = read_manifest(shar)
    tokens = survey_training_cuts(cuts, config).tokens
    steps = list(training_batches(cuts, tokens, config, epoch=0))
    read.clear()
    step = next(training_batches(cuts, tokens, config, epoch=0, skip=4))
    assert read == step.pieces[0].ids == steps[4].pieces[0].ids
