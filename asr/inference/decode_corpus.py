"""A manifest → a decode folder: its references, and what is recognised, in the same way as in audio files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.bundle.files import DECODE_RUN, HYPOTHESES, POSTERIORS, RECOGNISED, REFERENCES, SCORE_REPORTS
from asr.corpus.cut_audio import AudioPlace, audio_place
from asr.corpus.manifest import FieldValue, cut_fields, known_speakers, load_manifest, transcripts
from asr.decoding.hotwords import hotword_bonuses
from asr.features.batching import evaluation_batches
from asr.files import to_json, write_text
from asr.inference.decoder import Decoder, Method, Search
from asr.inference.ensemble import Ensemble, Models, load_decoder, model_folders
from asr.lm.grammar import GrammarSource, load_grammar
from asr.machine import Accelerator, Progress, silent
from asr.model.computation import Precision
from asr.model.speaker_moments import speaker_moments
from asr.scoring.score import check_ids, write_trn
from asr.text.normalise import normalised_hypothesis
from asr.transcript.posteriors import TokenFrames, write_posteriors
from asr.transcript.words import Decoded

if TYPE_CHECKING:
    from lhotse.cut import Cut


@dataclass(frozen=True)
class DecodeReport:
    """What `decode` did.

    Attributes:
        folder: the decode folder.
        method: the search.
        precision: the number format of the network.
        utterances: how many there are.
        audio_s: how long they are together.
        seconds: how long it took to recognise them, without loading the model.
    """

    folder: Path
    method: Method
    precision: Precision
    utterances: int
    audio_s: float
    seconds: float

    @property
    def rtf(self) -> float:
        """The real-time factor: computing time per time of audio."""
        return self.seconds / self.audio_s


def decode(
    model: Models,
    manifest: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    method: Method | None = None,
    hotwords: Mapping[str, float] | Iterable[str] = (),
    grammar: GrammarSource | None = None,
    decode: Mapping[str, Any] | None = None,
    speaker: str | None = None,
    accelerator: Accelerator = "auto",
    progress: Progress = silent,
) -> DecodeReport:
    """Recognise the utterances of a manifest and write a decode folder, which `asr.score` reads.

    Args:
        model: a model folder, or several that work as one, as for `asr.load`.
        manifest: the utterances.
        out: the decode folder. It gets `ref.trn`, `hyp.trn`, `hyp.jsonl`, `posteriors.safetensors` and `run.json`.
        method: greedy or beam search; by default beam if the model has a language model, or with hotwords.
        hotwords: expected words and phrases, as for `Recognizer.transcribe`.
        grammar: what may be said, as for `Recognizer.transcribe`. An utterance that is none of it has an empty text,
            and `hyp.jsonl` says that it is rejected.
        decode: settings of the search in place of the model folder's, e.g. `{"beam_size": 50}`.
        speaker: as for `asr.load`.
        accelerator: auto takes a GPU if there is one.
        progress: shows how far it is.

    Raises:
        AudioError: a recording cannot be read.
        ConfigError: a setting, method or hotword bonus cannot be used.
        LanguageModelError, ModelError: the model folder or a language model in it cannot be used.
        ManifestError: the manifest is missing, malformed or empty.
        ScoringError: an utterance id cannot be written to a decode folder.
        TokenError: a hotword or a grammar holds a character that is in none of the model's tokens.
    """
    folder = Path(out)
    cuts = load_manifest(Path(manifest))
    check_ids([cut.id for cut in cuts], folder)
    decoder = load_decoder(model, accelerator=accelerator, decode=decode, speaker=speaker)
    folder.mkdir(parents=True, exist_ok=True)  # before the work, which would be lost if it failed
    loaded = None if grammar is None else load_grammar(grammar)
    search = Search(method, hotword_bonuses(hotwords), keep_posteriors=True, grammar=loaded)
    folders = model_folders(model)
    how = {
        "manifest": str(manifest),
        "models": list(map(str, folders)),
        "speaker": speaker,
        "hotwords": len(search.hotwords),
        "grammar": None if loaded is None else loaded.name,
        # Several models each have their own.
        "decode": decoder.bundle.config.decode.model_dump(mode="json") if len(folders) == 1 else dict(decode or {}),
    }
    began, utterances = time.perf_counter(), []
    with progress("decode", len(cuts)) as advance:
        for utterance in decode_cuts(decoder, cuts, search):
            utterances.append(utterance)
            advance(1)
    seconds = time.perf_counter() - began
    audio_s = sum(cut.duration for cut in cuts)
    report = DecodeReport(folder, decoder.method_of(search), decoder.precision, len(utterances), audio_s, seconds)
    write_decode_folder(folder, utterances, decoder, rejecting=loaded is not None)
    write_run(report, how)
    return report


@dataclass(frozen=True)
class DecodedUtterance:
    """An utterance of a manifest and what was recognised in it.

    Attributes:
        id: its id.
        speaker: None if unknown.
        reference: its text, normalised.
        decoded: what was recognised.
        duration_s: its length.
        audio: where its audio is; None if it is not a part of one file as it is.
        fields: what else the manifest says of it, by name.
    """

    id: str
    speaker: str | None
    reference: str
    decoded: Decoded
    duration_s: float
    audio: AudioPlace | None = None
    fields: Mapping[str, FieldValue] = field(default_factory=dict)


def decode_cuts(decoder: Decoder | Ensemble, cuts: Iterable[Cut], search: Search) -> Iterator[DecodedUtterance]:
    """Yield the utterances of a manifest in its order.

    Raises:
        AudioError: a recording cannot be read. It is not skipped, because the error rate of the others is another one.
    """
    config = decoder.bundle.config
    by_id = {cut.id: cut for cut in cuts}
    references = transcripts(cuts, config.text)
    speakers = known_speakers(cuts)
    for batch in evaluation_batches(cuts, config, speaker_moments(cuts, config)):
        for name, found in zip(batch.ids, decoder.decode(batch, search), strict=True):
            cut = by_id[name]
            about = cut.duration, audio_place(cut), cut_fields(cut)
            yield DecodedUtterance(name, speakers.get(name), references[name], found, *about)


def write_decode_folder(
    folder: Path, utterances: Iterable[DecodedUtterance], decoder: Decoder | Ensemble, *, rejecting: bool = False
) -> None:
    """Write `ref.trn`, `hyp.trn`, `posteriors.safetensors` and `hyp.jsonl`.

    A line of `hyp.jsonl` has an utterance's speaker, where its audio is, the manifest's fields, the words with times
    from its start, and the n-best hypotheses with scores; with `rejecting`, whether it is none of a grammar's texts.

    With `text.replace`, `hyp.trn` has the texts after the replacements, as they are compared with references, and
    `hyp.jsonl` as they were recognised. The reports that `asr score` wrote there about earlier hypotheses are removed.
    """
    references, hypotheses, records, posteriors = {}, {}, [], {}
    for utterance in utterances:
        nbest, texts = utterance.decoded.hypotheses, decoder.texts(utterance.decoded)
        references[utterance.id] = utterance.reference
        hypotheses[utterance.id] = normalised_hypothesis(texts[0], decoder.bundle.config.text)
        record = {
            "id": utterance.id,
            "speaker": utterance.speaker,
            "duration_s": utterance.duration_s,
            "audio": None if utterance.audio is None else asdict(utterance.audio),
            "fields": dict(utterance.fields),
            "text": texts[0],
            "score": nbest[0].score,
            "words": [word.to_json() for word in decoder.words(utterance.decoded)],
            "nbest": [
                {
                    "text": text,
                    "score": hypothesis.score,
                    "acoustic_score": hypothesis.acoustic_score,
                    "lm_score": hypothesis.lm_score,
                }
                for text, hypothesis in zip(texts, nbest, strict=True)
            ],
        }
        if rejecting:
            record["rejected"] = not nbest[0].tokens
        records.append(to_json(record))
        if utterance.decoded.posteriors is not None:
            posteriors[utterance.id] = utterance.decoded.posteriors
    for name in SCORE_REPORTS:
        (folder / name).unlink(missing_ok=True)
    write_text(folder / RECOGNISED, "".join(f"{record}\n" for record in records))
    write_posteriors(folder / POSTERIORS, _token_frames(decoder), posteriors)
    write_trn(references, folder / REFERENCES)
    write_trn(hypotheses, folder / HYPOTHESES)


def _token_frames(decoder: Decoder | Ensemble) -> list[TokenFrames]:
    """Return what the posteriors of each model are about."""
    decoders = decoder.decoders if isinstance(decoder, Ensemble) else (decoder,)
    return [
        TokenFrames(tokens=list(one.bundle.tokens.texts), frame_shift_s=one.model.frame_shift_s) for one in decoders
    ]


def write_run(report: DecodeReport, how: Mapping[str, Any]) -> None:
    """Write how a folder was decoded into its `run.json`: what was asked for, and what was measured."""
    measured = {
        "method": report.method,
        "precision": report.precision,
        "audio_s": report.audio_s,
        "seconds": report.seconds,
    }
    write_text(report.folder / DECODE_RUN, to_json({**how, **measured}, indent=2) + "\n")
