"""How fast are files transcribed, and how well? torch, ONNX and pocketsphinx side by side, in one run.

    python benchmarks/transcription.py exp/an4 data/an4/test.jsonl.gz --corpus-dir an4

RTF is processing ÷ audio time, the median of some rounds in which the systems take turns; reading the audio is part of
it. torch goes through batches on all threads, as `asr decode` does; the others go file by file on one. int8 in torch is
how weights are kept: they compute as float32. Search is greedy unless it says otherwise. pocketsphinx, which needs the
extra `bench`, has its US English acoustic model and AN4's own dictionary and language model; since that takes all words
to be alike, a bigram of the training set is tried as well.

Then the time from starting a process to the first character of its output, for the recording nearest to 5 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lhotse.cut import CutSet
from machine import THREADS, describe

import asr
import asr.runtime
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import read_manifest, transcripts
from asr.exporting.export import export_onnx, export_torch
from asr.features.batching import evaluation_batches
from asr.inference.decoder import Search
from asr.inference.recognizer import Recognizer
from asr.lm.arpa import write_arpa
from asr.lm.kneser_ney import kneser_ney
from asr.lm.texts import stream_texts
from asr.scoring.error_counts import ErrorCounts, count_corpus

Hypotheses = dict[str, str]  # by utterance id
STARTS = 7


def with_torch(recognizer: Recognizer, cuts: CutSet, method: str) -> Hypotheses:
    config, tokens = recognizer.decoder.bundle.config, recognizer.decoder.bundle.tokens
    return {
        name: tokens.decode(decoded.hypotheses[0].tokens)
        for batch in evaluation_batches(cuts, config)
        for name, decoded in zip(batch.ids, recognizer.decoder.decode(batch, Search(method)), strict=True)
    }


def with_onnx(recognizer: asr.runtime.OnnxRecognizer, cuts: CutSet, method: asr.runtime.Method) -> Hypotheses:
    rate_hz = recognizer.sample_rate_hz
    waveforms = ((cut.id, load_cut(cut, rate_hz)) for cut in cuts)
    return {
        name: recognizer.transcribe(waveform, sample_rate_hz=rate_hz, method=method).text
        for name, waveform in waveforms
    }


def with_pocketsphinx(dictionary: Path, lm: Path, cuts: CutSet) -> Hypotheses:
    from pocketsphinx import Decoder

    decoder = Decoder(dict=str(dictionary), lm=str(lm), samprate=16000, loglevel="FATAL")
    texts = {}
    for cut in cuts:
        decoder.start_utt()
        decoder.process_raw((32767 * load_cut(cut, 16000)).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        texts[cut.id] = "" if hypothesis is None else hypothesis.hypstr.lower()
    return texts


def first_character_s(command: list[str]) -> float:
    """Return the seconds from starting a process to its first output, the median of fresh ones."""
    times_s = []
    for _ in range(STARTS):
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            assert process.stdout.read(1), f"{command} printed nothing"
            times_s.append(time.perf_counter() - began)
            process.stdout.read()
    return statistics.median(times_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--corpus-dir", type=Path, help="of AN4, for pocketsphinx; left out without it")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    cuts = read_manifest(arguments.manifest).to_eager()
    audio_s = sum(cut.duration for cut in cuts)
    recognizer = asr.load(arguments.model, accelerator="cpu")
    references = transcripts(cuts, recognizer.decoder.bundle.config.text)
    in_bf16 = asr.load(arguments.model, accelerator="cpu", precision="bf16")
    print(f"{describe('onnxruntime')}\n{arguments.manifest}: {len(cuts)} utterances, {audio_s / 60:.1f} min")

    with tempfile.TemporaryDirectory() as folder:
        systems: dict[str, Callable[[], Hypotheses]] = {
            "torch float32": lambda: with_torch(recognizer, cuts, "greedy"),
            "torch bfloat16": lambda: with_torch(in_bf16, cuts, "greedy"),
        }
        size = export_torch(arguments.model, Path(folder) / "torch", int8=True)
        in_int8 = asr.load(Path(folder) / "torch", accelerator="cpu")
        systems[f"torch int8, {size / 1e6:.2f} MB"] = lambda: with_torch(in_int8, cuts, "greedy")
        exports = {"float32": Path(folder) / "float32", "int8": Path(folder) / "int8"}
        for name, export in exports.items():
            size = export_onnx(arguments.model, export, int8=name == "int8")
            exported = asr.runtime.load(export)
            systems[f"ONNX {name}, {size / 1e6:.2f} MB"] = lambda exported=exported: with_onnx(exported, cuts, "greedy")
            if recognizer.decoder.method_of(Search()) == "beam":
                systems[f"ONNX {name}, beam search"] = lambda exported=exported: with_onnx(exported, cuts, "beam")
        if recognizer.decoder.method_of(Search()) == "beam":
            systems["torch float32, beam search"] = lambda: with_torch(recognizer, cuts, "beam")
        if arguments.corpus_dir is not None:
            etc = arguments.corpus_dir / "etc"
            bigram = Path(folder) / "bigram.arpa"
            texts = stream_texts(arguments.manifest.parent / "train.jsonl.gz")
            write_arpa(kneser_ney((text.split() for text in texts), 2), bigram)
            for name, lm in (("AN4's LM", etc / "an4.lm"), ("a bigram", bigram)):
                systems[f"pocketsphinx, {name}"] = lambda lm=lm: with_pocketsphinx(etc / "an4.dic", lm, cuts)

        times_s: dict[str, list[float]] = {name: [] for name in systems}
        wers: dict[str, float] = {}
        for _ in range(arguments.rounds):
            for name, run in systems.items():
                began = time.perf_counter()
                hypotheses = run()
                times_s[name].append(time.perf_counter() - began)
                wers[name] = sum(count_corpus(references, hypotheses, unit="word").values(), ErrorCounts()).rate
        print(f"{'':32}     RTF  (range)              WER")
        for name, values in times_s.items():
            rtf, least, most = (value / audio_s for value in (statistics.median(values), min(values), max(values)))
            print(f"{name:32}{rtf:8.4f}  ({least:.4f}–{most:.4f})  {100 * wers[name]:6.2f} %")

        cut = min(cuts, key=lambda cut: abs(cut.duration - 5))
        path = Path(folder) / "speech.wav"
        cut.save_audio(path)
        print(f"\nfrom the shell to the first word of {cut.duration:.1f} s, median of {STARTS}")
        for name, command in {
            "asr transcribe": ["asr", "transcribe", arguments.model],
            "asr.runtime, float32": ["asr.runtime", exports["float32"]],
            "asr.runtime, int8": ["asr.runtime", exports["int8"]],
        }.items():
            print(f"{name:32}{first_character_s([sys.executable, '-m', *map(str, command), str(path)]):6.2f} s")


if __name__ == "__main__":
    main()
