import itertools
import math

import pytest
import torch

from asr.model.ctc import CtcWeights, ctc_loss, teacher_divergence, view_divergence


def brute_force(log_posteriors: torch.Tensor, tokens: list[int]) -> float:
    """-log of the sum over every frame-by-frame path that collapses to `tokens`."""
    frames, size = log_posteriors.shape
    total = 0.0
    for path in itertools.product(range(size), repeat=frames):
        collapsed = [token for token, _ in itertools.groupby(path) if token != 0]
        if collapsed == tokens:
            total += math.exp(sum(log_posteriors[t, c].item() for t, c in enumerate(path)))
    return -math.log(total)


@pytest.mark.parametrize("tokens", [[1], [1, 2], [2, 2], [1, 2, 1]])
def test_ctc_equals_the_sum_over_all_paths(tokens: list[int]) -> None:
    log_posteriors = torch.randn(1, 5, 3).log_softmax(-1)
    loss = ctc_loss(log_posteriors, torch.tensor([5]), torch.tensor([tokens]), torch.tensor([len(tokens)]))
    assert loss.total.item() == pytest.approx(brute_force(log_posteriors[0], tokens) / len(tokens), rel=1e-4)


def test_four_frames_spell_at_in_15_ways() -> None:
    # The example of the docstring of ctc.py. With three equally probable tokens each path has 3⁻⁴.
    log_posteriors = torch.full((1, 4, 3), 1 / 3).log()
    loss = ctc_loss(log_posteriors, torch.tensor([4]), torch.tensor([[1, 2]]), torch.tensor([2]), token_count=1)
    assert loss.total.item() == pytest.approx(-math.log(15 / 3**4))


def test_two_views_average_their_ctc_and_add_the_weighted_divergence() -> None:
    views = torch.randn(4, 6, 5).log_softmax(-1)  # two utterances, two views
    lengths, tokens, token_lengths = (
        torch.tensor([6, 4, 6, 4]),
        torch.tensor([[1, 2, 3], [4, 1, 0]]),
        torch.tensor([3, 2]),
    )
    both = ctc_loss(views, lengths, tokens, token_lengths, views=2, weights=CtcWeights(consistency=0.3))
    single = [ctc_loss(part, lengths[:2], tokens, token_lengths).ctc for part in views.chunk(2)]
    torch.testing.assert_close(both.ctc, (single[0] + single[1]) / 2)
    p, q = views.exp()[:2], views.exp()[2:]
    kl = (p * (p.log() - q.log()) + q * (q.log() - p.log())).sum(-1) / 2
    expected = (kl[0, :6].sum() + kl[1, :4].sum()) / 5
    torch.testing.assert_close(both.consistency, expected)
    torch.testing.assert_close(both.total, both.ctc + 0.3 * both.consistency)


def test_equal_views_diverge_by_nothing_and_padding_does_not_count() -> None:
    view = torch.randn(1, 6, 5).log_softmax(-1)
    noisy_padding = view.clone()
    noisy_padding[:, 4:] = torch.randn(1, 2, 5).log_softmax(-1)
    assert view_divergence(torch.cat([view, noisy_padding]), torch.tensor([4, 4])).abs() < 1e-6


def test_no_gradient_flows_through_the_target_of_the_divergence() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    log_posteriors = logits.log_softmax(-1)
    view_divergence(log_posteriors, torch.tensor([3, 3])).backward()
    p = log_posteriors.detach().exp()
    # d KL(q‖p) / d logits of p, with q fixed, is p - q: the whole gradient where q carries none.
    torch.testing.assert_close(logits.grad[0], (p[0] - p[1]) / 2)


def test_an_utterance_too_short_for_its_transcript_gives_a_finite_loss_and_gradient() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    tokens = torch.tensor([[1, 1, 1, 1], [1, 2, 0, 0]])
    loss = ctc_loss(logits.log_softmax(-1), torch.tensor([3, 3]), tokens, torch.tensor([4, 2]))
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert torch.isfinite(logits.grad).all()


def test_the_middle_layers_loss_takes_its_share_of_the_total() -> None:
    last, middle = (torch.randn(4, 6, 5).log_softmax(-1) for _ in range(2))
    lengths, tokens, token_lengths = (
        torch.tensor([6, 4, 6, 4]),
        torch.tensor([[1, 2, 3], [4, 1, 0]]),
        torch.tensor([3, 2]),
    )
    plain = ctc_loss(last, lengths, tokens, token_lengths, views=2, weights=CtcWeights(consistency=0.3))
    below = ctc_loss(middle, lengths, tokens, token_lengths, views=2)
    both = ctc_loss(
        last,
        lengths,
        tokens,
        token_lengths,
        views=2,
        intermediate=middle,
        weights=CtcWeights(consistency=0.3, intermediate=0.25),
    )
    torch.testing.assert_close(both.total, 0.75 * plain.total + 0.25 * below.ctc)
    torch.testing.assert_close(both.intermediate, below.ctc)
    torch.testing.assert_close(both.ctc, plain.ctc)


def test_the_parts_of_a_batch_add_up_to_the_whole() -> None:
    log_posteriors = torch.randn(3, 6, 5).log_softmax(-1)
    lengths, tokens = torch.tensor([6, 5, 4]), torch.tensor([[1, 2, 3], [4, 1, 0], [2, 0, 0]])
    token_lengths = torch.tensor([3, 2, 1])
    whole = ctc_loss(log_posteriors, lengths, tokens, token_lengths).total
    parts = [
        ctc_loss(log_posteriors[rows], lengths[rows], tokens[rows], token_lengths[rows], token_count=6).total
        for rows in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(parts[0] + parts[1], whole)


def test_the_divergence_from_a_teacher_counts_valid_frames_of_all_views_and_moves_the_views_only() -> None:
    logits = torch.randn(4, 5, 3, requires_grad=True)  # two utterances, two views
    teacher = torch.randn(2, 5, 3, requires_grad=True)
    lengths = torch.tensor([5, 3, 5, 3])
    found = teacher_divergence(logits.log_softmax(-1), lengths, teacher.log_softmax(-1))
    p, q = teacher.softmax(-1).repeat(2, 1, 1), logits.softmax(-1)
    by_frame = (p * (p.log() - q.log())).sum(-1)
    expected = sum(by_frame[row, :length].sum() for row, length in enumerate(lengths.tolist())) / 2
    torch.testing.assert_close(found, expected)
    found.backward()
    assert teacher.grad is None
    torch.testing.assert_close(logits.grad[0], (q - p)[0] / 2)
    assert not logits.grad[1, 3:].any()
