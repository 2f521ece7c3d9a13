"""What `asr adapt` gains: each speaker's first half is learnt from, and the second half decoded with that and without.

    python benchmarks/adapt.py MODEL MANIFEST [--method greedy] [--no-transcripts]

Prints both word error rates, the paired p-value over speakers, and the speakers that get worse. The bar: fewer errors,
p < 0.05 on a large test, no speaker worse by more than 10 %.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from machine import describe

import asr
from asr.corpus.manifest import known_speakers, load_manifest, write_manifest
from asr.scoring.error_counts import ErrorCounts
from asr.scoring.score import read_score

WORSE = 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("manifest", type=Path, metavar="MANIFEST")
    parser.add_argument("--method", choices=["greedy", "beam"])
    parser.add_argument("--no-transcripts", action="store_true", help="learn from the model's own texts")
    arguments = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plain, adapted = folder / "plain", folder / "adapted"
        manifest = fitted(arguments, folder, adapted)
        asr.decode(arguments.model, manifest, plain, method=arguments.method, accelerator="cpu")
        show(plain, adapted)


def fitted(arguments: argparse.Namespace, folder: Path, adapted: Path) -> Path:
    """Learn from the first half of each speaker's utterances, and decode the second; return the manifest of those."""
    copy = folder / "model"
    shutil.copytree(arguments.model, copy, ignore=shutil.ignore_patterns("checkpoints", "tensorboard", "decode_*"))
    cuts = list(load_manifest(arguments.manifest))
    names = known_speakers(cuts)
    said = defaultdict(list)
    for cut in cuts:
        said[names[cut.id]].append(cut)
    rest, kept = [], 0
    for number, (speaker, own) in enumerate(said.items()):
        half = len(own) // 2
        write_manifest(own[:half], folder / "first.jsonl.gz")
        write_manifest(own[half:], folder / "second.jsonl.gz")
        report = asr.adapt(
            copy, folder / "first.jsonl.gz", speaker, transcripts=not arguments.no_transcripts, accelerator="cpu"
        )
        kept += report.path is not None
        chosen = None if report.path is None else speaker
        out = folder / f"speaker-{number}"
        asr.decode(copy, folder / "second.jsonl.gz", out, method=arguments.method, speaker=chosen, accelerator="cpu")
        adapted.mkdir(exist_ok=True)
        for name in ("ref.trn", "hyp.trn", "hyp.jsonl"):
            with (adapted / name).open("a", encoding="utf-8") as file:
                file.write((out / name).read_text(encoding="utf-8"))
        rest += own[half:]
    print(f"kept        {kept} of {len(said)} speakers' files gain on held-out utterances")
    write_manifest(rest, folder / "rest.jsonl.gz")
    return folder / "rest.jsonl.gz"


def by_speaker(folder: Path) -> dict[str, ErrorCounts]:
    """Return the errors of each speaker in a decode folder."""
    score = read_score(folder)
    found: dict[str, ErrorCounts] = defaultdict(ErrorCounts)
    for name, counts in score.words.items():
        found[score.speakers.get(name, name)] += counts
    return found


def show(plain: Path, adapted: Path) -> None:
    """Print how two decode folders differ, over all and by speaker."""
    before, after = by_speaker(plain), by_speaker(adapted)
    totals = [sum(found.values(), ErrorCounts()) for found in (before, after)]
    paired = asr.compare([plain, adapted]).pairs[0].difference
    print(f"{'speaker':16} words  errors without  with")
    for speaker in sorted(before, key=lambda name: after[name].errors - before[name].errors):
        counts = before[speaker]
        print(f"{speaker[:16]:16} {counts.reference_length:5}  {counts.errors:14}  {after[speaker].errors:4}")
    rates = [f"{100 * total.rate:.2f} %" for total in totals]
    print(f"WER         {rates[0]} without, {rates[1]} with, p = {paired.p_value:.3f}")
    worse = [name for name in before if after[name].errors > WORSE * before[name].errors]
    print(f"worse       {len(worse)} of {len(before)} speakers by more than 10 %: {', '.join(worse) or 'none'}")


if __name__ == "__main__":
    main()
