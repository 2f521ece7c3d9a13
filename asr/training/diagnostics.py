"""Vanishing and exploding gradients, measured: a model → how much of the loss's gradient reaches its hidden states.

By the chain rule ∂L/∂h_{t-k} is ∂L/∂h_t times k Jacobians ∂h_s/∂h_{s-1}. If these shrink vectors, the gradient vanishes
exponentially in k, and the network does not learn from what it heard k frames ago. If they stretch them, it explodes.

The gradient of the loss enters the network through the log-posteriors of all frames. To see how far it travels, only
the part of one frame t is kept, and the norm is measured at the hidden state k frames away: at t - k in the forward
direction of a layer, at t + k in the backward one. The gradient takes the layer's own recurrence and also the ways
through the layers above, as in training.

Source: Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063.

`draw_diagnosis` plots them over the distance in frames, and by layer.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import torch
from torch import Tensor

from asr.bundle.bundle import ModelBundle
from asr.bundle.files import DIAGNOSIS, DIAGNOSIS_PLOT
from asr.config import Config
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import cut_text, find_split, read_manifest
from asr.errors import ModelError, TrainingError
from asr.features.batch import Batch, collate
from asr.files import to_json, write_text
from asr.model.acoustic import AcousticModel
from asr.model.cells import hidden_states
from asr.model.ctc import ctc_loss
from asr.model.logmel import valid_frames
from asr.model.rnn import RecurrentLayer, reversal_index, reverse
from asr.model.speaker_moments import speaker_moments
from asr.plotting import RED, save_figure, styled_figure
from asr.sharing.names import model_folder, own_folder
from asr.text.normalise import normalise
from asr.text.tokens import TokenTable

if TYPE_CHECKING:
    from lhotse.cut import Cut
    from matplotlib.axes import Axes

UTTERANCES = 16
# Long enough to look far back, short enough to be computed frame by frame in seconds.
UTTERANCE_S = 8.0
# Frames of each utterance whose part of the gradient is followed. They are in the quarter that a direction reads last.
ENTRIES = 2
LATE_SHARE = 0.25


AnyPath: TypeAlias = str | os.PathLike[str]
LayerDirection: TypeAlias = tuple[int, Literal["forward", "backward"]]  # layer (from 1) and direction
States: TypeAlias = dict[LayerDirection, list[Tensor]]


@dataclass(frozen=True)
class StateGradients:
    """Gradients at the hidden states of one direction of one layer; layers count from 1, the lowest.

    `by_distance[k]` is the norm k frames from the frame where the gradient enters, as a share of the norm at that frame
    itself: a mean over utterances and frames of entry. `whole` is the mean norm at a frame if the gradient enters at
    all frames.
    """

    layer: int
    direction: Literal["forward", "backward"]
    by_distance: tuple[float, ...]
    whole: float

    @property
    def half_life_frames(self) -> float:
        """Frames over which the norm halves, by a least-squares line through its logarithm; negative if it doubles.

        Distance 0 is left out: there the gradient has not passed through the recurrence yet.
        """
        points = [(k, math.log(norm)) for k, norm in enumerate(self.by_distance) if k > 0 and norm > 0]
        if len(points) < 2:
            return 0.0
        mean_k, mean_log = (sum(values) / len(points) for values in zip(*points, strict=True))
        slope = sum((k - mean_k) * (log - mean_log) for k, log in points) / sum((k - mean_k) ** 2 for k, _ in points)
        return -math.log(2) / slope if slope else math.inf


@dataclass(frozen=True)
class Diagnosis:
    """The gradients of a trained model, and of a fresh one with the same settings, over the same utterances."""

    trained: tuple[StateGradients, ...]
    fresh: tuple[StateGradients, ...]
    cell: str
    frame_shift_s: float
    utterances: tuple[str, ...]

    @property
    def distance_frames(self) -> int:
        """The largest distance measured."""
        return len(self.trained[0].by_distance) - 1

    def to_json(self) -> dict[str, object]:
        """Return everything as JSON values, with half-lives; null if the norm neither falls nor rises."""

        def record(item: StateGradients) -> dict[str, object]:
            half_life = item.half_life_frames
            return asdict(item) | {"half_life_frames": half_life if math.isfinite(half_life) else None}

        return {
            "cell": self.cell,
            "frame_shift_s": self.frame_shift_s,
            "utterances": list(self.utterances),
            "trained": [record(item) for item in self.trained],
            "fresh": [record(item) for item in self.fresh],
        }


def diagnose(model: AnyPath, data: AnyPath | None = None, out: AnyPath | None = None) -> Diagnosis:
    """Measure where gradients vanish or explode in a trained model, and in a fresh one with the same settings.

    Args:
        model: a model folder.
        data: a data folder; the utterances of its dev split are used whose length is nearest to 8 s. Without it the
            network hears noise.
        out: the folder to write `diagnosis.json` and the plot `diagnosis.png` to. Default: the model folder.

    Raises:
        AudioError: a recording cannot be read.
        ManifestError: the dev split is missing or malformed.
        ModelError: the model cannot be read, or has no hidden state.
        TokenError: a transcript holds a character that the model does not know.
        TrainingError: there is no utterance, or the loss has no gradient on the utterances.
    """
    folder = own_folder(model) if out is None else Path(out)
    bundle = ModelBundle.load(model_folder(model))
    if data is None:
        batch = noise_batch(len(bundle.tokens), bundle.model.sample_rate_hz)
    else:
        cuts = list(read_manifest(find_split(Path(data), "dev")).to_eager())
        batch = diagnostic_batch(cuts, bundle.tokens, bundle.config)
    diagnosis = compare_with_fresh(bundle, batch)
    draw_diagnosis(diagnosis, folder / DIAGNOSIS_PLOT)
    write_text(folder / DIAGNOSIS, to_json(diagnosis.to_json(), indent=1) + "\n")
    return diagnosis


def compare_with_fresh(bundle: ModelBundle, batch: Batch) -> Diagnosis:
    """Measure a trained model and a fresh one on a batch, from `diagnostic_batch` or `noise_batch`.

    Raises:
        ModelError: the network has no hidden state.
        TrainingError: the loss has no gradient on these utterances.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(bundle.config.training.seed)
        fresh = AcousticModel(bundle.config, len(bundle.tokens), bundle.model.encoder_identity)
    fresh.encoder = bundle.model.encoder
    fresh.cmvn.load_state_dict(bundle.model.cmvn.state_dict())
    return Diagnosis(
        trained=state_gradients(bundle.model, batch),
        fresh=state_gradients(fresh, batch),
        cell=bundle.config.model.rnn,
        frame_shift_s=bundle.model.frame_shift_s,
        utterances=tuple(batch.ids),
    )


def diagnostic_batch(cuts: Sequence[Cut], tokens: TokenTable, config: Config) -> Batch:
    """Load the utterances whose length is nearest to 8 s, with their transcripts.

    Raises:
        AudioError: a recording cannot be read.
        TokenError: a transcript has an unknown character.
        TrainingError: there is no utterance.
    """
    if not cuts:
        raise TrainingError("the manifest holds no utterance")
    chosen = sorted(cuts, key=lambda cut: abs(cut.duration - UTTERANCE_S))[:UTTERANCES]
    moments = speaker_moments(cuts, config)
    return collate(
        [torch.from_numpy(load_cut(cut, config.features.sample_rate_hz)) for cut in chosen],
        [tokens.encode(normalise(cut_text(cut), config.text)) for cut in chosen],
        [cut.id for cut in chosen],
        moments=None if moments is None else [moments(cut, 1.0) for cut in chosen],
    )


def noise_batch(token_count: int, sample_rate_hz: int) -> Batch:
    """Return white noise with random transcripts, to diagnose a network without data."""
    generator = torch.Generator().manual_seed(0)
    samples, tokens = round(UTTERANCE_S * sample_rate_hz), round(4 * UTTERANCE_S)
    return collate(
        list(0.1 * torch.randn(UTTERANCES, samples, generator=generator)),
        torch.randint(1, token_count, (UTTERANCES, tokens), generator=generator).tolist(),
        [f"noise-{number}" for number in range(UTTERANCES)],
    )


def state_gradients(model: AcousticModel, batch: Batch) -> tuple[StateGradients, ...]:
    """Measure the gradients at all hidden states of a copy of the model, on the CPU and without dropout.

    Raises:
        ModelError: the network has no hidden state.
        TrainingError: the loss has no gradient on these utterances.
    """
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    with torch.no_grad():
        features, frames = model.features(batch.waveforms, batch.lengths, batch.moments)
    # float64: what has vanished after a hundred frames would be 0 in float32.
    log_posteriors, lengths, states = encode_with_states(model.double(), features.double(), frames)
    loss = ctc_loss(log_posteriors, lengths, batch.tokens, batch.token_lengths).total
    (entering,) = torch.autograd.grad(loss, log_posteriors, retain_graph=True)
    every_state = [state for sequence in states.values() for state in sequence]

    def norms(entering: Tensor) -> Tensor:
        """Return the norms `(layer and direction, frame, batch)` of what arrives at the states."""
        arriving = torch.autograd.grad(
            log_posteriors, every_state, entering, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        norms: Tensor = torch.linalg.vector_norm(torch.stack(arriving), dim=-1)
        return norms.view(len(states), -1, len(lengths))

    valid = valid_frames(lengths, log_posteriors.shape[1])
    whole = (norms(entering) * valid.T).sum((1, 2)) / valid.sum()
    sums = _shares_by_distance(entering, lengths, list(states), norms)
    if not sums[:, 0].gt(0).all():
        raise TrainingError("these utterances give the loss no gradient; their transcripts do not fit in their frames")
    curves = (sums / sums[:, :1]).tolist()  # sums[:, 0] counts the entries
    return tuple(
        StateGradients(layer, direction, tuple(curve), norm)
        for (layer, direction), curve, norm in zip(states, curves, whole.tolist(), strict=True)
    )


def _shares_by_distance(
    entering: Tensor, lengths: Tensor, states: Sequence[LayerDirection], norms: Callable[[Tensor], Tensor]
) -> Tensor:
    """Follow the gradient from single frames; return `(layer and direction, distance)`, summed over the entries.

    Args:
        entering: the loss's gradient at the log-posteriors, `(batch, frame, token)`.
        lengths: `(batch,)` frames.
        states: layer and direction of each sequence of hidden states.
        norms: gradient at the log-posteriors → norms at the states, `(layer and direction, frame, batch)`.
    """
    distances = torch.arange(max(1, int((1 - LATE_SHARE) * int(lengths.min()))))
    sums = torch.zeros(len(states), len(distances), dtype=torch.float64)
    for entry in range(ENTRIES):
        late = lengths - 1 - (LATE_SHARE * lengths * entry / ENTRIES).long()  # counted along the direction
        frame = {"forward": late, "backward": lengths - 1 - late}
        arrived = {
            direction: norms(entering * at_frames(frame[direction], entering))
            for direction in {direction for _, direction in states}
        }
        for index, (_, direction) in enumerate(states):
            norm = arrived[direction][index].gather(0, late - distances[:, None])
            sums[index] += (norm / norm[0]).where(norm[0] > 0, 0.0).sum(1)
    return sums


def at_frames(frames: Tensor, like: Tensor) -> Tensor:
    """Return `(batch, frame, 1)`, 1 at each utterance's frame of `frames` `(batch,)` and 0 elsewhere."""
    return (torch.arange(like.shape[1]) == frames[:, None])[..., None].to(like.dtype)


def encode_with_states(model: AcousticModel, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, States]:
    """Do what `AcousticModel.encode` does in evaluation, frame by frame.

    Returns:
        Log-posteriors, lengths, and by layer (from 1) and direction the hidden state at each frame, `(batch, unit)`
        each. Frames of the backward direction are counted from each utterance's last one.

    Raises:
        ModelError: a layer has no hidden state.
    """
    x, lengths = model.subsampling(features, lengths)
    x.requires_grad_()
    reversal = reversal_index(lengths, x.shape[1])
    states: States = {}
    for number, module in enumerate(model.layers, start=1):
        if not isinstance(module, RecurrentLayer):
            raise ModelError("a conformer carries no hidden state from frame to frame; only recurrent models have one")
        y = module.norm(x)
        states[number, "forward"] = forward = hidden_states(module.rnn, module.cell, y)
        outputs = [torch.stack(forward, 1)]
        if module.bidirectional:
            backward = hidden_states(module.rnn, module.cell, reverse(y, reversal), "_reverse")
            states[number, "backward"] = backward
            outputs.append(reverse(torch.stack(backward, 1), reversal))
        x = (x + torch.cat(outputs, -1)) * valid_frames(lengths, x.shape[1])[..., None]
    if model.lookahead is not None:
        x = model.lookahead(x)
    log_posteriors = cast(Tensor, model.output(model.norm(x)).log_softmax(-1))
    return log_posteriors, lengths, states


# A gradient that has shrunk below this has no effect. The axis ends here, or earlier if all curves do.
LOWEST_SHARE = 1e-12
LINES = {"forward": "-", "backward": "--"}
MARKERS = {"forward": ">", "backward": "<"}
ARROWS = {"forward": "→", "backward": "←"}


def draw_diagnosis(diagnosis: Diagnosis, path: Path) -> None:
    """Write a plot of the gradients in a fresh model, in the trained one, and in both by layer.

    Args:
        diagnosis: what was measured.
        path: where to write, e.g. `diagnosis.png`.
    """
    with styled_figure(14, 4.5) as figure:
        fresh, trained, layers = figure.subplots(1, 3, width_ratios=(5, 5, 3.4))
        trained.sharey(fresh)
        _draw_distances(fresh, diagnosis.fresh, diagnosis.frame_shift_s)
        fresh.set_title("freshly initialised")
        fresh.set_ylabel("norm of ∂loss / ∂(hidden state), relative to distance 0")
        _draw_distances(trained, diagnosis.trained, diagnosis.frame_shift_s)
        trained.set_title("trained")
        fresh.legend(title="layer (1 is the lowest)", ncols=2 if len(diagnosis.fresh) > 3 else 1, fontsize="small")
        shares = [share for item in diagnosis.fresh + diagnosis.trained for share in item.by_distance if share > 0]
        fresh.set_ylim(max(LOWEST_SHARE, 0.5 * min(shares)), 2 * max(shares))
        _draw_layers(layers, diagnosis)
        figure.suptitle(f"{diagnosis.cell}: how far the loss's gradient reaches", fontsize="large")
        save_figure(figure, path)


def _draw_distances(axes: Axes, gradients: Sequence[StateGradients], frame_shift_s: float) -> None:
    from matplotlib import colormaps

    colours = colormaps["viridis"]
    top = max(item.layer for item in gradients)
    for item in gradients:
        axes.semilogy(
            item.by_distance,
            LINES[item.direction],
            color=colours(0.85 * (item.layer - 1) / max(1, top - 1)),
            label=f"{item.layer} {ARROWS[item.direction]}",
        )
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set_xlim(left=0, right=max(1, len(gradients[0].by_distance) - 1))
    axes.set_xlabel(f"distance in frames of {1000 * frame_shift_s:g} ms")
    axes.grid()


def _draw_layers(axes: Axes, diagnosis: Diagnosis) -> None:
    for name, side, colour in (("fresh", diagnosis.fresh, "tab:grey"), ("trained", diagnosis.trained, RED)):
        for direction in dict.fromkeys(item.direction for item in side):
            items = [item for item in side if item.direction == direction]
            axes.semilogy(
                [item.layer for item in items],
                [item.whole for item in items],
                LINES[direction],
                marker=MARKERS[direction],
                color=colour,
                label=f"{name} {ARROWS[direction]}",
            )
    axes.set_xticks(sorted({item.layer for item in diagnosis.trained}))
    axes.set_xlabel("layer (1 is the lowest)")
    axes.set_ylabel("norm of ∂loss / ∂(hidden state), mean of frames")
    axes.set_title("by layer")
    axes.grid()
    axes.legend(fontsize="small")
