"""A grammar's threshold is set on dev, what it promises is said, and then it is measured on test.

    ./run.sh quickstart
    python benchmarks/grammar.py --make data/commands
    python benchmarks/grammar.py exp/quickstart data/commands --grammar recipes/quickstart/commands.jsgf
    python benchmarks/grammar.py exp/an4-seed1 data/an4 --grammar recipes/an4/commands.jsgf

Others are the utterances whose transcript is none of the grammar's texts. The threshold lets in a share of dev's
others, 1 in 100 unless `--false-alarms` says otherwise. Printed are, stated by dev and measured on test: the share of
others that come in, the share of the grammar's utterances that do not, and of those that are taken for another of its
texts. The intervals hold with 95 %. The model folder stays as it is.

The dev set of the quickstart has 100 utterances, too few for 1 in 100. `--make` lets its voices say more: dev 1,500,
test 2,000 utterances, the first of which are those of the corpus.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from machine import describe

import asr
from asr.bundle.rejection import Rate
from asr.inference.decoder import Decoder
from asr.preparing.recipes import CorpusRequest
from asr.tuning.rejection import Heard, hear_manifest, measured, search_in, threshold_for

QUICKSTART = Path(__file__).resolve().parents[1] / "recipes" / "quickstart"
UTTERANCES = {"train": 1, "dev": 1500, "test": 2000}


def percent(rate: Rate) -> str:
    return f"{100 * rate.rate:6.2f} %   {100 * rate.low:5.2f} … {100 * rate.high:5.2f} %   of {rate.count}"


def counted(heard: list[Heard], threshold: float) -> tuple[Rate, Rate, Rate]:
    """Return false alarms, misses, and confusions within the grammar."""
    inside = [one for one in heard if one.is_inside]
    accepted = [one for one in heard if one.evidence > threshold]
    alarms = sum(not one.is_inside for one in accepted)
    missed = len(inside) - sum(one.is_inside for one in accepted)
    wrong = sum(one.is_inside and not one.is_right for one in accepted)
    return measured(alarms, len(heard) - len(inside)), measured(missed, len(inside)), measured(wrong, len(inside))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("data", nargs="?", type=Path, help="folder with dev.jsonl.gz and test.jsonl.gz")
    parser.add_argument("--grammar", type=Path)
    parser.add_argument("--false-alarms", type=float, default=0.01)
    parser.add_argument("--dev-only", action="store_true", help="leave test alone")
    parser.add_argument("--make", type=Path, metavar="DIR", help="let the quickstart's voices say more, and end")
    options = parser.parse_args()
    if options.make is not None:
        sys.path.insert(0, str(QUICKSTART))
        from prepare import prepare

        print("\n".join(prepare(CorpusRequest(QUICKSTART, options.make), UTTERANCES)))
        return
    if not (options.model and options.data and options.grammar):
        parser.error("MODEL, DATA and --grammar are needed")

    print(describe())
    decoder = Decoder.load(options.model, accelerator="cpu")
    search = search_in(decoder, asr.load_grammar(options.grammar))
    dev = hear_manifest(decoder, search, options.data / "dev.jsonl.gz")
    threshold, stated = threshold_for(dev, options.false_alarms)
    _, misses, wrong = counted(dev, threshold)
    print(f"{options.model}, {options.grammar}: threshold {threshold:.2f}")
    print(f"dev    false alarms to be expected  {percent(stated)}")
    print(f"       misses                       {percent(misses)}")
    print(f"       another text                 {percent(wrong)}", flush=True)
    if options.dev_only:
        return
    test = hear_manifest(decoder, search, options.data / "test.jsonl.gz")
    alarms, misses, wrong = counted(test, threshold)
    print(f"test   false alarms                 {percent(alarms)}")
    print(f"       misses                       {percent(misses)}")
    print(f"       another text                 {percent(wrong)}")
    bound = ", which was a bound" if stated.low == 0 else ""
    print(f"       false alarms are {alarms.rate / stated.rate:.2f} × what was stated{bound}")


if __name__ == "__main__":
    main()
