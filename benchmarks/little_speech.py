"""How much of what missing transcripts cost is won back by audio without transcripts.

    python benchmarks/little_speech.py data/an4 --config conf/an4.yaml --out exp/little-an4
    python benchmarks/little_speech.py data/speechocean762 --config conf/speechocean762.yaml --out exp/little-so \
        --utterances 250 --seeds 1
    python benchmarks/little_speech.py … --only pretrained --seed 2        one condition and one seed
    python benchmarks/little_speech.py … --only                            nothing; prints the table of what is there

A part of the training set keeps its transcripts: whole speakers, drawn by `--split-seed`. The others are audio alone;
their transcripts are not in the manifests that are used. Both parts and dev and test are written to `OUT/data`.

transcripts   the part alone
pretrained    `asr pretrain` on all audio of train, then the part (`--init-from`)
pseudo        the part, and the rest as `--unlabelled`
both          the pretrained network, the part, and the rest as `--unlabelled`
all           all transcripts: what could be had

An epoch of the part has few steps. So its conditions take `--times` as many epochs as the settings say, all the same
number; `all` takes those of the settings. Each training, decoding and pretraining that was begun goes on where it
stopped. The pretrained network of a seed is shared by `pretrained` and `both`.

The table has the WER of greedy search, the mean over seeds. "Won back" is the share of the errors between
`transcripts` and `all`. The paired test is over speakers, with the errors of all seeds added up.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from lhotse.cut import Cut

from asr.bundle.files import SCORES
from asr.corpus.manifest import cut_speaker, load_manifest, write_manifest
from asr.scoring.error_counts import ErrorCounts
from asr.scoring.intervals import PairedComparison, compare_rates, speakers_of
from asr.scoring.score import CorpusScore, read_score
from asr.settings_file import load_config

CONDITIONS = ("transcripts", "pretrained", "pseudo", "both", "all")
DEV_AND_TEST = ("dev", "test")


@dataclass(frozen=True)
class Plan:
    """Where everything is, and how it is trained."""

    out: Path
    data: Path
    config: Path
    settings: list[str]
    part_epochs: int

    @property
    def part(self) -> Path:
        return self.out / "data" / "part"

    @property
    def rest(self) -> Path:
        return self.out / "data" / "rest"

    def folder(self, name: str, seed: int) -> Path:
        return self.out / f"{name}-seed{seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a data folder with train, dev and test")
    parser.add_argument("--config", type=Path, required=True, help="settings file")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is written")
    parser.add_argument("--share", type=float, default=1 / 8, help="of the utterances that keep their transcripts")
    parser.add_argument("--utterances", type=int, help="that keep their transcripts, instead of --share")
    parser.add_argument("--split-seed", type=int, default=1, help="draws the speakers that keep their transcripts")
    parser.add_argument("--times", type=float, default=4, help="as many epochs for the part as for all")
    parser.add_argument("--only", nargs="*", choices=CONDITIONS, default=CONDITIONS, metavar="CONDITION")
    parser.add_argument("--seeds", "--seed", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of all trainings")
    given = parser.parse_args()
    epochs = load_config(given.config, given.set).training.epochs
    plan = Plan(given.out, given.data, given.config, given.set, max(1, round(given.times * epochs)))
    share_out(plan, given.share, given.utterances, given.split_seed)
    for seed in given.seeds:
        for condition in given.only:
            run_condition(plan, condition, seed)
    print_table(plan)


def share_out(plan: Plan, share: float, utterances: int | None, seed: int) -> None:
    """Write the manifests of the part with transcripts and of the rest without, unless they are there."""
    if not (plan.rest / "train.jsonl.gz").exists():
        cuts = list(load_manifest(plan.data / "train.jsonl.gz"))
        wanted = round(share * len(cuts)) if utterances is None else utterances
        kept = draw_speakers(cuts, wanted, seed)
        write_manifest([cut for cut in cuts if cut_speaker(cut) in kept], plan.part / "train.jsonl.gz")
        for split in DEV_AND_TEST:
            shutil.copy(plan.data / f"{split}.jsonl.gz", plan.part)
        rest = [without_transcript(cut) for cut in cuts if cut_speaker(cut) not in kept]
        write_manifest(rest, plan.rest / "train.jsonl.gz")
    for name, folder in (("part", plan.part), ("rest", plan.rest)):
        cuts = list(load_manifest(folder / "train.jsonl.gz"))
        hours, speakers = sum(cut.duration for cut in cuts) / 3600, len(set(map(cut_speaker, cuts)))
        print(f"{name}: {len(cuts)} utterances of {speakers} speakers, {hours:.2f} h", flush=True)


def draw_speakers(cuts: Sequence[Cut], utterances: int, seed: int) -> set[str]:
    """Return speakers in a drawn order, as many as come nearest to so many utterances, but at least one."""
    sizes = Counter(map(cut_speaker, cuts))
    order = np.random.default_rng(seed).permutation(sorted(sizes)).tolist()
    totals = np.cumsum([sizes[speaker] for speaker in order])
    return set(order[: 1 + int(np.abs(totals - utterances).argmin())])


def without_transcript(cut: Cut) -> Cut:
    return replace(cut, supervisions=[replace(spoken, text=None) for spoken in cut.supervisions])


def run_condition(plan: Plan, condition: str, seed: int) -> None:
    """Train, decode and score what is not done yet."""
    model = plan.folder(condition, seed)
    if all((model / f"decode_{split}" / SCORES).exists() for split in DEV_AND_TEST):
        return
    epochs = [] if condition == "all" else [f"training.epochs={plan.part_epochs}"]
    data = plan.data if condition == "all" else plan.part
    chosen = f"training.seed={seed}"
    training = ["train", "--data", data, "--out", model, "--resume", *settings_of(plan, [chosen, *epochs])]
    if condition in ("pretrained", "both"):
        network = plan.folder("network", seed)
        call("pretrain", plan.part, plan.rest, "--out", network, "--resume", *settings_of(plan, [chosen]))
        training += ["--init-from", network]
    if condition in ("pseudo", "both"):
        training += ["--unlabelled", plan.rest]
    call(*training)
    for split in DEV_AND_TEST:
        folder = model / f"decode_{split}"
        call("decode", model, plan.part / f"{split}.jsonl.gz", "--out", folder, "--method", "greedy")
        call("score", folder)


def settings_of(plan: Plan, further: Sequence[str]) -> list[str | Path]:
    """Return the options of a training: the settings file first."""
    return ["--config", plan.config, *(part for one in (*plan.settings, *further) for part in ("--set", one))]


def call(*arguments: str | Path) -> None:
    """Run a command of this package; end with its status if it fails."""
    words = list(map(str, arguments))
    print("$ asr", *words, flush=True)
    status = subprocess.run([sys.executable, "-m", "asr", *words], check=False).returncode
    if status:
        sys.exit(status)


def print_table(plan: Plan) -> None:
    """Print the WERs of all conditions and seeds that are there, and how they compare."""
    seeds = {condition: seeds_of(plan, condition) for condition in CONDITIONS}
    for split in DEV_AND_TEST:
        scores = {
            condition: {seed: read_score(plan.folder(condition, seed) / f"decode_{split}") for seed in seeds[condition]}
            for condition in CONDITIONS
            if seeds[condition]
        }
        print(f"\n{split:12s}  seeds     WER %   won back   against transcripts alone")
        rates = {name: float(np.mean([score.wer for score in found.values()])) for name, found in scores.items()}
        for name, found in scores.items():
            cells = [f"{name:12s}", f"{','.join(map(str, found)):8s}", f"{100 * rates[name]:6.2f}"]
            if {"transcripts", "all"} <= rates.keys() and name not in ("transcripts", "all"):
                gap = rates["transcripts"] - rates["all"]
                cells.append(f"{100 * (rates['transcripts'] - rates[name]) / gap:7.0f} %" if gap > 0 else "      –")
            else:
                cells.append(" " * 9)
            common = sorted(found.keys() & scores.get("transcripts", {}).keys())
            if name != "transcripts" and common:
                cells.append(in_words(compare(scores["transcripts"], found, common)))
            print("  ".join(cells))
        if {"pretrained", "both"} <= scores.keys() and (common := sorted(scores["pretrained"].keys() & scores["both"])):
            print("both against pretrained:", in_words(compare(scores["pretrained"], scores["both"], common)))
        if {"pseudo", "both"} <= scores.keys() and (common := sorted(scores["pseudo"].keys() & scores["both"])):
            print("both against pseudo:", in_words(compare(scores["pseudo"], scores["both"], common)))


def seeds_of(plan: Plan, condition: str) -> list[int]:
    """Return the seeds of which a condition is decoded and scored."""
    folders = plan.out.glob(f"{condition}-seed*")
    done = [one for one in folders if all((one / f"decode_{split}" / SCORES).exists() for split in DEV_AND_TEST)]
    return sorted(int(folder.name.rpartition("-seed")[2]) for folder in done)


def compare(one: dict[int, CorpusScore], other: dict[int, CorpusScore], seeds: Sequence[int]) -> PairedComparison:
    """Return how one condition differs from another, the errors of the seeds added up."""
    first = one[seeds[0]]
    names = list(first.words)

    def added(scores: dict[int, CorpusScore]) -> list[ErrorCounts]:
        return [sum((scores[seed].words[name] for seed in seeds), ErrorCounts()) for name in names]

    return compare_rates(added(one), added(other), speakers=speakers_of(names, first.speakers))


def in_words(found: PairedComparison) -> str:
    low, high = found.interval.low, found.interval.high
    return f"{100 * found.difference:+.2f} % ({100 * low:+.2f} … {100 * high:+.2f}), p = {found.p_value:.4f}"


if __name__ == "__main__":
    main()
