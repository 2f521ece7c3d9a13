"""The quickstart corpus: synthetic speech made on the spot, so that the whole chain runs without any data."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from lhotse.supervision import AlignmentItem

from asr.audio.resample import resample
from asr.corpus.manifest import SPLITS, make_cut, write_manifest
from asr.files import atomic_path, write_text
from asr.preparing.recipes import CorpusRequest
from asr.reading import counted

# A recipe is loaded by its path, not as part of a package: its own folder must be named to find its siblings.
FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
from quickstart_grammar import draw_sentence  # noqa: E402
from quickstart_sound import record  # noqa: E402
from quickstart_speech import Speech, SpeechEngine  # noqa: E402
from quickstart_voices import split_variants, usable_variants, usable_voices  # noqa: E402

if TYPE_CHECKING:
    from lhotse.cut import Cut

UTTERANCES = {"train": 3000, "dev": 100, "test": 150}
SAMPLE_RATE_HZ = 16000
WORDS_PER_MINUTE = (140, 200)
PITCH = (30, 70)
PITCH_RANGE = (30, 70)
STAMP = "prepared.json"


def prepare(request: CorpusRequest, utterances: Mapping[str, int] = UTTERANCES) -> list[str]:
    """Write the manifests of the splits and their audio, unless they exist already; return a line for each split.

    The same seed gives the same audio, bit for bit. Each cut has an alignment "word": the time at which, by the
    engine's word events, each word starts; it ends where the next one starts or where the speech ends.

    Args:
        request: where manifests and audio go, and the seed that draws sentences, voices and noise.
        utterances: how many each split gets.

    Raises:
        AsrError: the speech engine is not installed or does not work.
    """
    out, seed = request.out, request.seed
    variants = split_variants(usable_variants(), seed)
    stamp = _stamp(seed, utterances)
    if _stands(out, stamp):
        return [f"{out}: this synthetic corpus stands already"]
    (out / STAMP).unlink(missing_ok=True)
    summaries = []
    with request.progress("synthetic speech", sum(utterances.values())) as advance:
        for number, split in enumerate(SPLITS):
            # An engine for each split, so that its audio does not depend on what was spoken before.
            engine = SpeechEngine(seed * len(SPLITS) + number)
            voices = usable_voices(variants[split])
            folder = out / "audio" / split
            cuts = []
            for index in range(utterances[split]):
                rng = np.random.default_rng((seed, number, index))
                cut = _utterance(f"{split}-{index:04d}", folder, engine, voices, rng)
                if cut is not None:
                    cuts.append(cut)
                advance(1)
            write_manifest(cuts, out / f"{split}.jsonl.gz")
            summaries.append(_summary(split, cuts, len(voices), utterances[split]))
    write_text(out / STAMP, stamp)
    return summaries


def _utterance(
    name: str, folder: Path, engine: SpeechEngine, voices: Sequence[str], rng: np.random.Generator
) -> Cut | None:
    """Speak and record one sentence; None if the engine fused or split words, so that their times are not known."""
    words = draw_sentence(rng)
    voice = voices[int(rng.integers(len(voices)))]
    words_per_minute, pitch, pitch_range = (
        int(rng.integers(least, most + 1)) for least, most in (WORDS_PER_MINUTE, PITCH, PITCH_RANGE)
    )
    speech = engine.speak(words, voice, words_per_minute=words_per_minute, pitch=pitch, pitch_range=pitch_range)
    if len(speech.word_starts_s) != len(words):
        return None
    waveform = resample(speech.waveform, speech.sample_rate_hz, SAMPLE_RATE_HZ)
    recording = record(waveform, SAMPLE_RATE_HZ, rng)
    path = folder / f"{name}.wav"
    with atomic_path(path) as temporary:
        soundfile.write(temporary, recording.waveform, SAMPLE_RATE_HZ, subtype="PCM_16")
    cut = make_cut(name, path, " ".join(words), voice, language="en")
    cut.supervisions[0].alignment = {"word": _word_times(words, speech, recording.speech_start_s)}
    return cut


def _word_times(words: Sequence[str], speech: Speech, speech_start_s: float) -> list[AlignmentItem]:
    edges_s = [round(speech_start_s + edge_s, 3) for edge_s in (*speech.word_starts_s, speech.end_s)]
    return [
        AlignmentItem(word, start_s, round(end_s - start_s, 3))
        for word, (start_s, end_s) in zip(words, pairwise(edges_s), strict=True)
    ]


def _summary(split: str, cuts: Sequence[Cut], voice_count: int, wanted: int) -> str:
    hours = sum(cut.duration for cut in cuts) / 3600
    left_out = f", {wanted - len(cuts)} left out: word times not known" if len(cuts) < wanted else ""
    return (
        f"{split:<6}{counted(len(cuts), 'utterance')}, {hours:.2f} h of synthetic speech, "
        f"drawn from {counted(voice_count, 'voice')}{left_out}"
    )


def _stamp(seed: int, utterances: Mapping[str, int]) -> str:
    """What the corpus depends on: arguments, engine and the recipe's own code."""
    code = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.py")))
    facts = {
        "seed": seed,
        "utterances": dict(utterances),
        "engine": importlib.metadata.version("espeakng_loader"),
        "code": hashlib.sha256(code).hexdigest(),
    }
    return json.dumps(facts, indent=2) + "\n"


def _stands(out: Path, stamp: str) -> bool:
    path = out / STAMP
    if not path.is_file() or path.read_text(encoding="utf-8") != stamp:
        return False
    return all((out / f"{split}.jsonl.gz").is_file() for split in SPLITS)
