"""N-best rescoring: a recurrent language model reads whole hypotheses and ranks them anew.

Against shallow fusion it may be a model over words, and each hypothesis is read once; but what the first pass pruned
stays lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from asr.data.tokens import TokenTable
from asr.decode.hypothesis import Hypothesis
from asr.lm.rnnlm_bundle import RnnLmBundle


class Rescored(NamedTuple):
    """A hypothesis of the first pass, with its acoustic and LM scores, and what the second pass says of it.

    Attributes:
        hypothesis: as the search returned it.
        log_prob: the recurrent model's natural-log probability of its sentence, the end included, without weight.
        score: what the list is ranked by now.
    """

    hypothesis: Hypothesis
    log_prob: float
    score: float


def rescore(
    nbest: Sequence[Sequence[Hypothesis]],
    bundle: RnnLmBundle,
    tokens: TokenTable,
    *,
    weight: float,
    first_pass_share: float = 1.0,
) -> list[list[Rescored]]:
    """Rank each utterance's hypotheses by

        score + weight · log_prob − (1 − first_pass_share) · lm_score.

    Among equals the first pass's order stands.

    Args:
        nbest: each utterance's hypotheses.
        bundle: a model over `tokens`, or over words. A word it does not know has the probability of `<unk>`.
        tokens: the acoustic model's tokens.
        weight: of the recurrent model's log-probability.
        first_pass_share: how much of the first pass's `lm_score` stays; 0 puts the recurrent model in its place.

    Raises:
        LanguageModelError: the model's tokens are others.
    """
    if bundle.units.kind == "tokens":
        bundle.units.require_tokens(tokens)
    sequences = [
        list(hypothesis.tokens)
        if bundle.units.kind == "tokens"
        else bundle.units.encode_words(tokens.decode(hypothesis.tokens))
        for hypotheses in nbest
        for hypothesis in hypotheses
    ]
    log_probs = iter([float(scores.double().sum()) for scores in bundle.lm.eval().unit_log_probs(sequences)])
    result = []
    for hypotheses in nbest:
        rescored = []
        for hypothesis in hypotheses:
            log_prob = next(log_probs)
            first_pass = hypothesis.score - (1 - first_pass_share) * hypothesis.lm_score
            rescored.append(Rescored(hypothesis, log_prob, first_pass + weight * log_prob))
        result.append(sorted(rescored, key=lambda item: -item.score))
    return result
