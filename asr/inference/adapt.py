"""Minutes of a speaker's speech → his file in a model folder, kept only if it gains on utterances that it has not seen.

The utterances are dealt out among `FOLDS` parts. For each part, the network is fitted to all others, and after some
steps the part shows how well it does: by the CTC loss of its texts, and by word errors where they are transcripts. The
number of steps with the lowest loss is taken, of those with no more errors than before; 0 is among them. Then the
network is fitted to all utterances.

Without transcripts, the texts are what the model's own search finds, each weighted by the confidence of its words.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asr.bundle.card import write_card
from asr.bundle.speaker_names import speaker_file
from asr.bundle.speakers import Speaker, save_speaker
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import cut_text, known_speakers, load_manifest
from asr.corpus.untranscribed import find_untranscribed
from asr.errors import ManifestError, TokenError
from asr.features.batch import Batch
from asr.features.batching import Moments, evaluation_batches
from asr.inference.decoder import Decoder
from asr.machine import Accelerator, Progress, silent
from asr.model.adaptation import Spoken, adapted, fit, spoken_of, text_loss
from asr.model.logmel import moments_of
from asr.scoring.error_counts import count_errors, main_unit
from asr.sharing.names import own_folder
from asr.text.normalise import normalise, normalised_hypothesis
from asr.text.tokens import min_frames

if TYPE_CHECKING:
    from lhotse.cut import Cut

FOLDS = 4
MARKS = (0, 5, 10, 20, 40)  # numbers of steps to choose from
_MANIFESTS = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class AdaptReport:
    """What `adapt` found.

    Attributes:
        speaker: his name.
        path: his file; None if nothing was gained and nothing written.
        utterances: how many were used.
        audio_s: how long they are together.
        transcribed: how many of them have a transcript that the model can spell. Others have the model's own texts.
        steps: after how many the loss of held-out utterances was lowest; 0: nothing was gained.
        loss: CTC loss of held-out utterances in nats per token, without and with the speaker's weights.
        errors: errors in held-out utterances with transcripts, likewise; in characters if the script has no spaces.
        reference_length: words (or characters) of these transcripts.
    """

    speaker: str
    path: Path | None
    utterances: int
    audio_s: float
    transcribed: int
    steps: int
    loss: tuple[float, float]
    errors: tuple[int, int]
    reference_length: int


def adapt(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    speaker: str,
    *,
    transcripts: bool = True,
    accelerator: Accelerator = "auto",
    progress: Progress = silent,
) -> AdaptReport:
    """Fit a model to a speaker from minutes of his speech; write what gains into the model folder.

    `asr.load(model, speaker=…)` then takes it. Nothing else in the folder changes but the card, which lists speakers.

    Args:
        model: the model folder.
        data: a manifest, of which the speaker's utterances are taken, or all if it names no more than one speaker; or
            an audio file or a folder of audio, all of it his.
        speaker: his name; any text.
        transcripts: take the transcripts of the manifest. False takes the model's own texts, as for audio.
        accelerator: auto takes a GPU if there is one.
        progress: shows how far it is.

    Raises:
        AudioError: a recording cannot be read, or nobody speaks in it.
        ConfigError: the name cannot be one of a file.
        ManifestError: the manifest is malformed, names other speakers only, or holds less than two utterances of his.
        ModelError, LanguageModelError: the model folder cannot be used.
    """
    folder = own_folder(model)
    speaker_file(speaker)  # a name that cannot be used is refused before the work
    decoder = Decoder.load(folder, accelerator=accelerator, precision="fp32")
    with tempfile.TemporaryDirectory() as temporary:
        cuts = _utterances(Path(data), speaker, Path(temporary), progress)
        moments = _moments(decoder, cuts)
        parts = [_Part.of(decoder, cuts[fold::FOLDS], moments, transcripts) for fold in range(min(FOLDS, len(cuts)))]
    steps, scores = _held_out(decoder, parts, progress)
    weights: dict[str, Tensor] = {}
    if steps:
        *_, weights = fit(decoder.model, [some for part in parts for some in part.spoken], (steps,))
    path = None
    if weights or moments is not None:
        path = save_speaker(folder, Speaker(speaker, weights, moments), decoder.model)
        write_card(folder)
    return AdaptReport(
        speaker,
        path,
        len(cuts),
        sum(cut.duration for cut in cuts),
        sum(len(part.references) for part in parts),
        steps,
        (scores[0].loss, scores[steps].loss),
        (scores[0].errors, scores[steps].errors),
        scores[0].reference_length,
    )


def _utterances(data: Path, speaker: str, temporary: Path, progress: Progress) -> list[Cut]:
    """Return the speaker's utterances of a manifest, or what is said in recordings."""
    if data.name.endswith(_MANIFESTS) or next(data.glob("cuts*.jsonl*"), None):
        cuts = list(load_manifest(data))
        names = known_speakers(cuts)
        if speaker in names.values():
            cuts = [cut for cut in cuts if names.get(cut.id) == speaker]
        elif len(set(names.values())) > 1:
            some = ", ".join(sorted(set(names.values()))[:5])
            raise ManifestError(f"{data}: names no speaker {speaker!r}, but others: {some}")
    else:
        cuts = [
            cut
            for path in find_untranscribed(data, temporary, progress=progress).manifests
            for cut in load_manifest(path)
        ]
    if len(cuts) < 2:
        raise ManifestError(
            f"{data}: {len(cuts)} utterances of {speaker!r}; at least 2 are needed, one to fit, one to try"
        )
    return cuts


def _moments(decoder: Decoder, cuts: Sequence[Cut]) -> Tensor | None:
    """Return mean and deviation of each mel band over all that the speaker says, if the model takes them."""
    if decoder.model.cmvn.mode != "speaker":
        return None
    waveforms = (torch.from_numpy(load_cut(cut, decoder.sample_rate_hz)) for cut in cuts)
    return moments_of(decoder.model.logmel, waveforms).cpu()


@dataclass(frozen=True)
class _Part:
    """Utterances that are held out together; `references` are the transcripts of those that have one, by id."""

    batches: list[Batch]
    spoken: list[Spoken]
    references: dict[str, str]

    @classmethod
    def of(cls, decoder: Decoder, cuts: Sequence[Cut], moments: Tensor | None, transcripts: bool) -> _Part:
        config = decoder.bundle.config
        given: Moments | None = None if moments is None else lambda cut, speed: moments
        said = {cut.id: normalise(cut_text(cut), config.text) for cut in cuts} if transcripts else {}
        batches = list(evaluation_batches(cuts, config, given))
        texts = [_texts(decoder, batch, said) for batch in batches]
        references = {name: said[name] for some in texts for name, (_, _, is_given) in some.items() if is_given}
        spoken = [
            spoken_of(decoder.model, batch, [(tokens, weight) for tokens, weight, _ in some.values()])
            for batch, some in zip(batches, texts, strict=True)
        ]
        return cls(batches, spoken, references)


def _texts(decoder: Decoder, batch: Batch, said: dict[str, str]) -> dict[str, tuple[Sequence[int], float, bool]]:
    """Return the tokens that are fitted to, how much they count, and whether they are a transcript, by utterance id."""
    texts: dict[str, tuple[Sequence[int], float, bool]] = {}
    for name, frames in zip(batch.ids, decoder.model.frame_count(batch.lengths).tolist(), strict=True):
        try:
            tokens = decoder.bundle.tokens.encode(said.get(name, ""))
        except TokenError:
            tokens = []
        texts[name] = tokens, 1.0, bool(tokens) and min_frames(tokens) <= frames
    if all(is_given for _, _, is_given in texts.values()):
        return texts
    for name, decoded in zip(batch.ids, decoder.decode(batch), strict=True):
        if not texts[name][2]:
            words = decoder.words(decoded)
            confidence = sum(word.confidence for word in words) / max(1, len(words))
            texts[name] = decoded.hypotheses[0].tokens, confidence, False
    return texts


@dataclass
class _Score:
    loss: float = 0.0
    errors: int = 0
    reference_length: int = 0


def _held_out(decoder: Decoder, parts: Sequence[_Part], progress: Progress) -> tuple[int, dict[int, _Score]]:
    """Return the number of steps that does best on utterances that were not fitted to, and the score of each."""
    scores = {mark: _Score() for mark in MARKS}
    with progress("adapt", len(parts) * len(MARKS)) as advance:
        for part in parts:
            others = [some for other in parts if other is not part for some in other.spoken]
            for mark, weights in zip(MARKS, fit(decoder.model, others, MARKS), strict=True):
                with adapted(decoder.model, weights):
                    _count(decoder, part, scores[mark])
                advance(1)
    token_count = max(1, sum(int(some.token_lengths.sum()) for part in parts for some in part.spoken))
    for score in scores.values():
        score.loss /= token_count
    allowed = [mark for mark in MARKS if scores[mark].errors <= scores[0].errors]
    return min(allowed, key=lambda mark: scores[mark].loss), scores


@torch.inference_mode()
def _count(decoder: Decoder, part: _Part, score: _Score) -> None:
    """Add the loss of a part, in nats, and its errors."""
    text = decoder.bundle.config.text
    unit = main_unit(part.references.values())
    for batch, spoken in zip(part.batches, part.spoken, strict=True):
        log_posteriors, lengths = decoder.model.encode(spoken.features, spoken.frames)
        score.loss += float(text_loss(log_posteriors, lengths, spoken))
        if not part.references.keys() & set(batch.ids):
            continue
        for name, (best, *_) in zip(batch.ids, decoder.search(log_posteriors, lengths), strict=True):
            if name in part.references:
                heard = normalised_hypothesis(decoder.bundle.tokens.decode(best.tokens), text)
                counts = count_errors(part.references[name], heard, unit=unit)
                score.errors += counts.errors
                score.reference_length += counts.reference_length
