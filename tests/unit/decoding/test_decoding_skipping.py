"""The best path that may leave out words and sound, against a search through all paths."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from asr.decoding.skipping import Placed, place_words, states_of

BLANK, A, B, SPACE = range(4)
LEFT_OUT, ENTRY, UNEXPLAINED = 4.0, 4.0, 4.0


def best_score(log_posteriors: np.ndarray, words: list[list[int]], breaks: list[int]) -> float:
    """Return the best score of all ways through the frames: each is of silence, of a word, or of other sound."""
    below = log_posteriors - log_posteriors.max(axis=1, keepdims=True)
    silence = below[:, [BLANK, SPACE]].max(axis=1)
    sound = np.maximum(silence, -UNEXPLAINED)

    @cache
    def between(frame: int, word: int, in_sound: bool) -> float:
        """Return the best score of the frames from here on, in the gap before a word."""
        left_out = -np.inf
        if word < len(words):
            left_out = between(frame, word + 1, False) - LEFT_OUT * len(words[word])
        if frame == len(below):
            return max(left_out, 0.0 if word == len(words) else -np.inf)
        quiet = silence[frame] + between(frame + 1, word, False)
        loud = sound[frame] - (0.0 if in_sound else ENTRY)
        loud += max(between(frame + 1, word, True), between(frame + 1, word, False))
        begin = -np.inf
        if word < len(words):
            begin = below[frame, words[word][0]] + within(frame + 1, word, 1, True)
        return max(left_out, quiet, loud, begin)

    @cache
    def within(frame: int, word: int, token: int, on_token: bool) -> float:
        """Return the best score from here on, after `token` tokens of a word; `on_token`: the frame before was one."""
        tokens = words[word]
        done = token == len(tokens) and on_token
        if frame == len(below) or frame in breaks:
            return between(frame, word + 1, False) if done else -np.inf
        ways = [below[frame, tokens[token - 1] if on_token else BLANK] + within(frame + 1, word, token, on_token)]
        if done:
            ways.append(silence[frame] + between(frame + 1, word + 1, False))
            after = max(between(frame + 1, word + 1, True), between(frame + 1, word + 1, False))
            ways.append(sound[frame] - ENTRY + after)
            if word + 1 < len(words) and words[word + 1][0] != tokens[-1]:
                ways.append(below[frame, words[word + 1][0]] + within(frame + 1, word + 1, 1, True))
        else:
            if on_token:
                ways.append(below[frame, BLANK] + within(frame + 1, word, token, False))
            if not on_token or tokens[token] != tokens[token - 1]:
                ways.append(below[frame, tokens[token]] + within(frame + 1, word, token + 1, True))
        return max(ways)

    return between(0, 0, False)


def score_of(placed: list[Placed], log_posteriors: np.ndarray, words: list[list[int]]) -> float:
    """Return the score of what was found, with the best division of the rest into silence and sound."""
    below = log_posteriors - log_posteriors.max(axis=1, keepdims=True)
    silence = below[:, [BLANK, SPACE]].max(axis=1)
    there = {word.word for word in placed}
    score = -LEFT_OUT * sum(len(word) for number, word in enumerate(words) if number not in there)
    end = 0
    for start, stop in [*((word.start, word.end) for word in placed), (len(below), len(below))]:
        in_silence, in_sound = 0.0, -np.inf
        for frame in range(end, start):
            in_sound = max(in_sound, in_silence - ENTRY) + max(silence[frame], -UNEXPLAINED)
            in_silence = max(in_silence + silence[frame], in_sound)
        score += in_silence
        end = stop
    for word in placed:
        inside = below[word.start : word.end, BLANK].copy()
        for span in word.spans:
            frames = slice(span.start, span.end)
            inside[span.start - word.start : span.end - word.start] = below[frames, span.token]
        score += inside.sum()
    return float(score)


@pytest.mark.parametrize("seed", range(120))
def test_no_other_way_through_the_frames_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = int(rng.integers(1, 9))
    log_posteriors = np.log(rng.dirichlet(np.full(4, 0.3), frames) + 1e-6).astype(np.float32)
    words = [rng.choice([A, B], rng.integers(1, 4)).tolist() for _ in range(rng.integers(1, 4))]
    breaks = [frame for frame in range(1, frames) if rng.random() < 0.2]
    placed = place_words(log_posteriors, words, [BLANK, SPACE], breaks)
    assert score_of(placed, log_posteriors, words) == pytest.approx(best_score(log_posteriors, words, breaks), abs=1e-4)


@pytest.mark.parametrize("seed", range(40))
def test_words_are_in_order_with_all_their_tokens_and_none_reaches_over_a_break(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    log_posteriors = np.log(rng.dirichlet(np.full(4, 0.2), 60) + 1e-6).astype(np.float32)
    words = [rng.choice([A, B], rng.integers(1, 4)).tolist() for _ in range(10)]
    breaks = sorted(rng.choice(np.arange(1, 60), 5, replace=False).tolist())
    placed = place_words(log_posteriors, words, [BLANK, SPACE], breaks)
    assert placed
    end = before = -1
    for word in placed:
        assert word.word > before
        assert word.start >= end
        assert [span.token for span in word.spans] == words[word.word]
        assert not any(word.start < frame < word.end for frame in breaks)
        before, end = word.word, word.end


def test_what_was_said_together_stays_together_where_a_word_was_said_twice() -> None:
    other = 4
    heard = emitting(A, BLANK, A, SPACE, B, BLANK, B, SPACE, other, SPACE, B, BLANK, B, SPACE, other, BLANK)
    placed = place_words(heard, [[A, A], [B, B]], [BLANK, SPACE])
    assert [(word.word, word.start) for word in placed] == [(0, 0), (1, 4)]


def emitting(*tokens: int) -> np.ndarray:
    probabilities = np.full((len(tokens), 6), 0.01)
    probabilities[np.arange(len(tokens)), list(tokens)] = 0.95
    return np.log(probabilities).astype(np.float32)


def test_a_word_that_was_not_said_is_left_out_and_its_neighbours_stay() -> None:
    heard = emitting(A, BLANK, A, SPACE, BLANK, B, BLANK, B, BLANK)
    placed = place_words(heard, [[A, A], [A, B, A, B], [B, B]], [BLANK, SPACE])
    assert [(word.word, word.start, word.end) for word in placed] == [(0, 0, 3), (2, 5, 8)]
    assert [word.loss for word in placed] == [0.0, 0.0]


def test_sound_that_is_not_written_is_in_no_word() -> None:
    other, another = 4, 5
    heard = emitting(A, BLANK, A, SPACE, other, another, other, SPACE, B, BLANK, B)
    placed = place_words(heard, [[A, A], [B, B]], [BLANK, SPACE])
    assert [(word.word, word.start, word.end) for word in placed] == [(0, 0, 3), (1, 8, 11)]


def test_nothing_is_found_of_nothing() -> None:
    assert place_words(emitting(A), [], [BLANK]) == []
    assert place_words(emitting()[:0], [[A]], [BLANK]) == []
    assert states_of([[A], [A, B]]) == 7
