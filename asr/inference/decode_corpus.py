"""A manifest → a decode folder: references, and what was recognised in the same way as in audio files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asr.corpus.manifest import cut_speaker, transcripts
from asr.errors import ManifestError
from asr.features.batching import evaluation_batches
from asr.files import write_text
from asr.inference.decoder import Decoder, Method, Search
from asr.scoring.decode_folder import HYPOTHESES, RECOGNISED, REFERENCES, REPORTS, RUN, write_trn
from asr.transcript.words import Decoded

if TYPE_CHECKING:
    from lhotse.cut import Cut


@dataclass(frozen=True)
class DecodedUtterance:
    """An utterance of a manifest, its normalised reference and what was recognised; `speaker` is None if unknown."""

    id: str
    speaker: str | None
    reference: str
    decoded: Decoded


def decode_cuts(decoder: Decoder, cuts: Iterable[Cut], search: Search) -> Iterator[DecodedUtterance]:
    """Yield the utterances of a manifest in its order.

    Raises:
        AudioError: a recording cannot be read; a word error rate over the others would not be the corpus'.
    """
    config = decoder.bundle.config
    references = transcripts(cuts, config.text)
    speakers = {cut.id: _speaker(cut) for cut in cuts}
    for batch in evaluation_batches(cuts, config):
        for utterance_id, decoded in zip(batch.ids, decoder.decode(batch, search), strict=True):
            yield DecodedUtterance(utterance_id, speakers[utterance_id], references[utterance_id], decoded)


def _speaker(cut: Cut) -> str | None:
    try:
        return cut_speaker(cut)
    except ManifestError:
        return None


def write_decode_folder(folder: Path, utterances: Iterable[DecodedUtterance], decoder: Decoder) -> None:
    """Write `ref.trn`, `hyp.trn` and `hyp.jsonl` (speaker, words with times, n-best hypotheses with scores).

    The reports that `asr score` wrote there about earlier hypotheses are removed.
    """
    tokens = decoder.bundle.tokens
    references, hypotheses, records = {}, {}, []
    for utterance in utterances:
        best, *_ = nbest = utterance.decoded.hypotheses
        text = tokens.decode(best.tokens)
        references[utterance.id], hypotheses[utterance.id] = utterance.reference, text
        record = {
            "id": utterance.id,
            "speaker": utterance.speaker,
            "text": text,
            "score": best.score,
            "words": [asdict(word) for word in decoder.words(utterance.decoded)],
            "nbest": [
                {
                    "text": tokens.decode(hypothesis.tokens),
                    "score": hypothesis.score,
                    "acoustic_score": hypothesis.acoustic_score,
                    "lm_score": hypothesis.lm_score,
                }
                for hypothesis in nbest
            ],
        }
        records.append(json.dumps(record, ensure_ascii=False))
    for name in REPORTS:
        (folder / name).unlink(missing_ok=True)
    write_text(folder / RECOGNISED, "".join(f"{record}\n" for record in records))
    write_trn(references, folder / REFERENCES)
    write_trn(hypotheses, folder / HYPOTHESES)


def write_run(folder: Path, manifest: Path, method: Method, audio_s: float, seconds: float) -> None:
    """Write how a folder was decoded into its `run.json`; decoding `audio_s` seconds of audio took `seconds`."""
    content = {"manifest": str(manifest), "method": method, "audio_s": audio_s, "seconds": seconds}
    write_text(folder / RUN, json.dumps(content, indent=2) + "\n")
