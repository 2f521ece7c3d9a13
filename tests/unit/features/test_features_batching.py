import gzip
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.config import Config
from asr.corpus.manifest import cut_text, read_manifest
from asr.errors import AsrError, AudioError
from asr.features import batching
from asr.features.batch import Batch, collate, group_by_padded_size
from asr.features.batching import Share, StepBatch, evaluation_batches, prefetch, training_batches
from asr.settings_file import load_config
from asr.text.tokens import TokenTable

TOKENS = TokenTable.from_texts([" abcd"])
ALONE = Share()


def epoch_of(corpus: Path, epoch: int, *, skip: int = 0) -> list[Batch]:
    config = load_config(None, ["training.batch_s=6"])
    return [piece for step in steps_of(corpus, config, epoch, skip=skip) for piece in step.pieces]


def steps_of(corpus: Path, config: Config, epoch: int, *, skip: int = 0, share: Share = ALONE) -> list[StepBatch]:
    cuts = read_manifest(corpus / "train.jsonl.gz")
    return list(training_batches(cuts, TOKENS, config, epoch=epoch, skip=skip, share=share))


def test_an_epoch_holds_every_utterance_once_with_its_tokens(tone_corpus: Path) -> None:
    texts = {cut.id: cut_text(cut) for cut in read_manifest(tone_corpus / "train.jsonl.gz")}
    for epoch in range(3):
        batches = epoch_of(tone_corpus, epoch)
        assert Counter(name for batch in batches for name in batch.ids) == Counter(list(texts))
        for batch in batches:
            for name, row, length in zip(batch.ids, batch.tokens, batch.token_lengths, strict=True):
                assert TOKENS.decode(row[:length].tolist()) == texts[name]
                assert row[length:].count_nonzero() == 0


def test_an_epoch_is_the_same_each_time_and_another_epoch_is_another(tone_corpus: Path) -> None:
    first, again, other = (epoch_of(tone_corpus, epoch) for epoch in (0, 0, 1))
    assert [batch.ids for batch in first] == [batch.ids for batch in again]
    assert all(torch.equal(a.waveforms, b.waveforms) for a, b in zip(first, again, strict=True))
    assert [batch.ids for batch in first] != [batch.ids for batch in other]


def test_skipping_leaves_the_other_batches_as_they_are(tone_corpus: Path) -> None:
    whole, rest = epoch_of(tone_corpus, 2), epoch_of(tone_corpus, 2, skip=5)
    assert [batch.ids for batch in whole[5:]] == [batch.ids for batch in rest]
    assert all(torch.equal(a.waveforms, b.waveforms) for a, b in zip(whole[5:], rest, strict=True))


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("micro_batch_s", [None, 2.5])
def test_shares_and_pieces_of_a_step_make_up_the_step(
    tone_corpus: Path, processes: int, micro_batch_s: float | None
) -> None:
    whole = steps_of(tone_corpus, load_config(None, ["training.batch_s=6"]), 0)
    config = load_config(None, ["training.batch_s=6", f"training.micro_batch_s={micro_batch_s or 'null'}"])
    shares = [steps_of(tone_corpus, config, 0, share=Share(process, processes)) for process in range(processes)]
    for step, *parts in zip(whole, *shares, strict=True):
        (batch,) = step.pieces
        pieces = [piece for part in parts for piece in part.pieces if not part.idle]
        assert sorted(name for piece in pieces for name in piece.ids) == sorted(batch.ids)
        assert {part.token_count for part in parts} == {int(batch.token_lengths.sum())}
        assert all(part.ids == batch.ids for part in parts)
        if micro_batch_s:
            assert len(pieces) > 1 or len(batch.ids) == 1


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("micro_batch_s", [3, 4, 100])
def test_no_forward_pass_has_more_audio_than_allowed(tone_corpus: Path, processes: int, micro_batch_s: float) -> None:
    settings = [f"training.micro_batch_s={micro_batch_s}", "training.batch_s=12"]
    longest_s = 0.0
    for process in range(processes):
        for step in steps_of(tone_corpus, load_config(None, settings), 0, share=Share(process, processes)):
            for piece in step.pieces:  # at 0.9 of their speed and 0.9 of their tempo at the slowest
                lengths_s = (piece.lengths / 16000 / piece.perturbation.tempos).tolist()
                assert len(piece.ids) * max(lengths_s) <= micro_batch_s
                longest_s = max(longest_s, *lengths_s)
            assert micro_batch_s != 100 or len(step.pieces) == 1
    assert longest_s > 1.5  # so in 3 s there is room for one


def test_a_process_without_an_utterance_takes_part_and_counts_nothing(tone_corpus: Path) -> None:
    config = load_config(None, ["training.batch_s=2"])
    shares = [steps_of(tone_corpus, config, 0, share=Share(process, 9)) for process in range(9)]
    assert any(part.idle for part in shares[8])
    for step in zip(*shares, strict=True):
        assert sum(len(piece.ids) for part in step if not part.idle for piece in part.pieces) == len(step[0].ids)
        assert all(len(part.pieces) == 1 for part in step)


def test_evaluation_keeps_the_manifests_order_and_the_recordings_length(tone_corpus: Path) -> None:
    cuts = list(read_manifest(tone_corpus / "dev.jsonl.gz"))
    batches = list(evaluation_batches(cuts, load_config(None), batch_s=5))
    assert [name for batch in batches for name in batch.ids] == [cut.id for cut in cuts]
    assert [length for batch in batches for length in batch.lengths.tolist()] == [
        round(cut.duration * 16000) for cut in cuts
    ]
    assert all(batch.waveforms.shape[0] * batch.waveforms.shape[1] <= 5 * 16000 for batch in batches)


@given(st.lists(st.floats(0.1, 40), max_size=40))
def test_groups_keep_the_order_and_the_limit_unless_one_item_exceeds_it(sizes: list[float]) -> None:
    groups = list(group_by_padded_size(sizes, lambda size: size, 30))
    assert [size for group in groups for size in group] == sizes
    assert all(len(group) == 1 or max(group) * len(group) <= 30 for group in groups)
    for group, following in pairwise(groups):
        assert max([*group, following[0]]) * (len(group) + 1) > 30  # it would not have fitted


def test_collate_pads_with_zeros() -> None:
    batch = collate([torch.ones(2), torch.ones(3)], [[1], [2, 3]], ["a", "b"])
    assert batch.waveforms.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.tokens.tolist() == [[1, 0], [2, 3]]
    assert (batch.lengths.tolist(), batch.token_lengths.tolist()) == ([2, 3], [1, 2])


def test_processes_load_the_steps_that_one_process_loads(tone_corpus: Path) -> None:
    config = load_config(None, ["training.batch_s=6", "training.micro_batch_s=4", "augment.noise_share=0.5"])
    torch.manual_seed(5)
    state = torch.get_rng_state()
    here, there = (steps_of(tone_corpus, config, 1, skip=3, share=Share(loaders=loaders)) for loaders in (0, 2))
    assert torch.equal(torch.get_rng_state(), state)  # of which dropout draws
    for ours, theirs in zip(here, there, strict=True):
        assert (ours.ids, ours.idle, ours.token_count, ours.audio_s) == (
            theirs.ids,
            theirs.idle,
            theirs.token_count,
            theirs.audio_s,
        )
        for piece, same in zip(ours.pieces, theirs.pieces, strict=True):
            assert piece.perturbation is not None
            assert same.perturbation is not None
            assert piece.perturbation.frames == same.perturbation.frames
            for part in ("waveforms", "lengths", "tokens", "token_lengths"):
                assert torch.equal(getattr(piece, part), getattr(same, part))
            for part in ("times", "bands"):
                assert torch.equal(getattr(piece.perturbation.masks, part), getattr(same.perturbation.masks, part))


def test_an_error_in_a_process_that_loads_is_the_error_of_one_that_does_not(tone_corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(tone_corpus / "audio", tmp_path / "audio")
    manifest = gzip.decompress((tone_corpus / "train.jsonl.gz").read_bytes()).decode()
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(manifest.replace(str(tone_corpus), str(tmp_path)).encode()))
    (tmp_path / "audio" / "train-050.wav").write_bytes(b"no sound")
    config = load_config(None, ["training.batch_s=6"])
    errors = []
    for loaders in (0, 2):
        with pytest.raises(AudioError, match="train-050") as caught:
            steps_of(tmp_path, config, 0, share=Share(loaders=loaders))
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


def test_a_process_that_dies_while_it_loads_is_an_error_that_says_what_to_do(
    tone_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "load_cut", lambda *_: os._exit(9))
    with pytest.raises(AsrError, match=r"training\.loading_processes=0"):
        steps_of(tone_corpus, load_config(None), 0, share=Share(loaders=1))


@pytest.mark.parametrize("ahead", [False, True])
def test_processes_that_load_end_when_nobody_wants_more_and_leave_signals_to_the_first(
    ahead: bool, tone_corpus: Path
) -> None:
    cuts, config = read_manifest(tone_corpus / "train.jsonl.gz"), load_config(None, ["training.batch_s=6"])
    steps = training_batches(cuts, TOKENS, config, epoch=0, share=Share(loaders=2))
    steps = prefetch(steps) if ahead else steps
    for _ in range(2):
        next(steps)  # one of each process, in turn: both have begun
    children = multiprocessing.active_children()
    assert len(children) == 2
    for child in children:
        os.kill(child.pid, signal.SIGINT)
        os.kill(child.pid, signal.SIGTERM)
    next(steps)
    assert all(child.is_alive() for child in children)
    steps.close()
    del steps
    for child in children:
        child.join(20)
        assert not child.is_alive()


def test_prefetch_keeps_order_and_passes_errors_on() -> None:
    def numbers():
        yield from range(10)
        raise ValueError("broken")

    stream = prefetch(numbers(), ahead=2)
    assert [next(stream) for _ in range(10)] == list(range(10))
    with pytest.raises(ValueError, match="broken"):
        next(stream)


def test_a_prefetch_that_is_left_early_stops_its_thread() -> None:
    stream = prefetch(iter(range(1000)), ahead=2)
    next(stream)
    stream.close()
    deadline = time.monotonic() + 5
    while any(thread.name == "prefetch" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
