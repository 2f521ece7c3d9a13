"""Faults that are planted into a copy of a corpus, seeded: how many `asr check` finds, and what else it accuses.

    python benchmarks/planted_faults.py DATA --model MODEL

DATA is a data folder with train and test, such as `asr prepare an4` makes. MODEL is a model folder for these data, with
which wrong transcripts are found; without it none are planted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from planting import PLANTS, WITH_MODEL, Corpus, Planted, Said, plant

import asr
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import cut_speaker, cut_text, find_split, read_manifest


def main() -> None:
    """Plant, check, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--each", type=int, default=5, help="faults of each kind")
    parser.add_argument("--most", type=int, default=1000, help="utterances of train")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    rng = np.random.default_rng(arguments.seed)
    corpus = Corpus({split: read(arguments.data, split, arguments.most) for split in ("train", "test")}, rng)
    kinds = [kind for kind in PLANTS if arguments.model or kind not in WITH_MODEL]
    planted = [plant(kind, corpus) for _ in range(arguments.each) for kind in kinds]
    with tempfile.TemporaryDirectory() as folder:
        corpus.write(Path(folder) / "data")
        report = asr.check(Path(folder) / "data", model=arguments.model)
    print_result(corpus, planted, report)


def read(data: Path, split: str, most: int) -> list[Said]:
    """Return the first utterances of a split; their audio is in memory."""
    cuts = [cut for _, cut in zip(range(most), read_manifest(find_split(data, split)), strict=False)]
    return [Said(cut.id, load_cut(cut), cut.sampling_rate, cut_text(cut), cut_speaker(cut)) for cut in cuts]


def print_result(corpus: Corpus, planted: list[Planted], report: asr.DataReport) -> None:
    """Print for each kind how many were planted, how many found, and how many sound utterances it accuses."""
    found = {Planted(finding.kind, finding.split, finding.name) for finding in report.findings}
    sound = {said.id for all_said in corpus.splits.values() for said in all_said} - corpus.touched
    accused = {finding.name: finding for finding in report.findings if finding.name in sound}
    by_kind = Counter(finding.kind for finding in report.findings if finding.name in sound)
    print(f"{'kind':<22}{'planted':>9}{'found':>7}{'sound ones accused':>20}")
    for kind in dict.fromkeys(one.kind for one in planted):
        here = {one for one in planted if one.kind == kind}
        print(f"{kind:<22}{len(here):>9}{len(here & found):>7}{by_kind[kind]:>20}")
    for one in planted:
        if one not in found:
            print(f"missed: {one}")
    for finding in accused.values():
        print(f"accused: {json.dumps(finding.to_json(), ensure_ascii=False)}")
    unfair = {name for name, finding in accused.items() if finding.severity != "note"}
    print(f"{len(unfair)} of {len(sound)} sound utterances accused ({100 * len(unfair) / len(sound):.2f} %)")


if __name__ == "__main__":
    main()
