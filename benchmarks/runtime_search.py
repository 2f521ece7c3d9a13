"""Does an exported model find what torch finds, without torch? Texts, scores, confidences, time.

    python benchmarks/runtime_search.py exp/an4-seed1 exp/an4-seed2 exp/an4-seed3 --data data/an4

Each model is exported three times: with its n-gram of tokens, with one of the training text's words as closed lexicon,
and with hotwords, ten words of dev. Every utterance of dev and test is transcribed alone by both, with one thread, in
turns. Printed are how many utterances have the same texts in the same order in both lists of the five best, the
greatest difference of their scores and of the words' confidences, and the ratio of the CPU times. Then, for the
recording nearest to 5 s, the time from the shell to the first word, and which packages that process has loaded.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lhotse.cut import CutSet
from machine import describe

import asr
import asr.runtime
from asr.bundle.files import CHECKPOINTS, WORD_LANGUAGE_MODEL
from asr.bundle.settings import save_decode_settings
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import cut_text, read_manifest
from asr.lm.arpa import write_arpa
from asr.lm.kneser_ney import kneser_ney
from asr.lm.texts import stream_texts

N_BEST, HOTWORDS, STARTS, WORD_ORDER = 5, 10, 9, 3
LOADED = (
    "import sys, asr.runtime.__main__ as run; run.main(); print(sorted({name.partition('.')[0] for name in "
    "sys.modules} - set(sys.stdlib_module_names)), file=sys.stderr)"
)


def compare(model: Path, export: Path, cuts: CutSet, hotwords: list[str]) -> str:
    """Return a line on both recognisers over the same utterances."""
    ours, theirs = asr.runtime.load(export), asr.load(model, accelerator="cpu", precision="fp32")
    rate_hz = ours.sample_rate_hz
    same, score, confidence, times_s = 0, 0.0, 0.0, ([], [])
    for cut in cuts:
        waveform = load_cut(cut, rate_hz)
        wanted: dict[str, Any] = {"sample_rate_hz": rate_hz, "hotwords": hotwords, "n_best": N_BEST}
        found = []
        for recognizer, spent_s in zip((ours, theirs), times_s, strict=True):
            began = time.process_time()
            found.append(recognizer.transcribe(waveform, **wanted))
            spent_s.append(time.process_time() - began)
        runtime, of_torch = found
        equal = [one.text for one in runtime.n_best] == [one.text for one in of_torch.n_best]
        same += equal and runtime.text == of_torch.text
        if equal:
            scores = zip(runtime.n_best, of_torch.n_best, strict=True)
            score = max([score, *(abs(a.score - b.score) for a, b in scores)])
            words = zip(runtime.words, of_torch.words, strict=True)
            confidence = max([confidence, *(abs(a.confidence - b.confidence) for a, b in words)])
    ratio = sum(times_s[0]) / sum(times_s[1])
    differ = f"scores to {score:.1e}, confidences to {confidence:.1e}"
    return f"{same} of {len(times_s[0])} the same, {differ}, time × {ratio:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="a data folder with train, dev and test")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    manifests = {split: arguments.data / f"{split}.jsonl.gz" for split in ("train", "dev", "test")}
    cuts = read_manifest(manifests["dev"], manifests["test"]).to_eager()
    said = sorted({word for cut in read_manifest(manifests["dev"]) for word in cut_text(cut).lower().split()})
    hotwords = random.Random(0).sample([word for word in said if len(word) > 3], HOTWORDS)
    print(f"{describe('onnxruntime')}\n{len(cuts)} utterances; hotwords: {', '.join(hotwords)}")
    with tempfile.TemporaryDirectory() as place:
        for number, given in enumerate(arguments.models):
            model = Path(shutil.copytree(given, Path(place) / f"{number}", ignore=shutil.ignore_patterns(CHECKPOINTS)))
            texts = [text.lower().split() for text in stream_texts(manifests["train"])]
            write_arpa(kneser_ney(texts, WORD_ORDER), model / WORD_LANGUAGE_MODEL)
            settings = asr.load(model, accelerator="cpu").decoder.bundle.config.decode
            for lm, expected in (("tokens", []), ("tokens", hotwords), ("words", []), ("words", hotwords)):
                save_decode_settings(settings.model_copy(update={"lm": lm}), model)
                export = Path(place) / f"{number}-{lm}"
                asr.export(model, export)
                name = f"{given.name}, {lm}{', hotwords' if expected else ''}"
                print(f"{name:36}{compare(model, export, cuts, expected)}", flush=True)
        path = Path(place) / "speech.wav"
        cut = min(cuts, key=lambda cut: abs(cut.duration - 5))
        cut.save_audio(path)
        command = [sys.executable, "-c", LOADED, str(export), str(path)]
        times_s = []
        for _ in range(STARTS):
            began = time.perf_counter()
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                assert process.stdout.read(1), "nothing was recognised"
                times_s.append(time.perf_counter() - began)
                loaded = process.stderr.read()
        spread = f"{min(times_s):.2f}–{max(times_s):.2f}"
        print(
            f"from the shell to the first word of {cut.duration:.1f} s: {statistics.median(times_s):.2f} s ({spread})"
        )
        print(f"packages loaded: {loaded.strip()}")


if __name__ == "__main__":
    main()
