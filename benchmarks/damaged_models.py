"""Damaged files of model folders, exports, data and runs: each must be used, or refused by name, within limits.

python benchmarks/damaged_models.py [KIND ...] [--count 2000] [--seed 0] [--limit-s 10] [--memory-gb 2]

The kinds and their damages are in `tests/damaged_models.py`: settings, tokens, weights, language models, calibration,
and the files of an export. Those of `tests/damaged_data.py` are manifests, tables, Kaldi folders, checkpoints, logs and
decode folders. Each kind has a process of its own, whose memory is bounded. The time is the process' own. A
process that makes no progress for ten minutes of the clock counts as hanging. The table says how many readings
succeeded, were refused, or ended otherwise, and the exit status whether all was well.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import damaged_data
import damaged_models
import damages

KINDS = damaged_models.KINDS | damaged_data.KINDS

HANGS_S = 600.0
LONGEST = 1500  # characters of a message; those about settings name all keys


def work(connection: Connection, name: str, folder: Path, count: int, seed: int) -> None:
    """Send (index, readings that succeeded, refusals, what is wrong, seconds, MB) of each damage, and None at last."""
    warnings.simplefilter("ignore")
    is_data = name in damaged_data.KINDS
    for read in KINDS[name].readers:  # so that all code is loaded
        with tempfile.TemporaryDirectory() as out:
            read(folder, Path(out))
    try:
        outcomes = damages.outcomes if is_data else damaged_models.outcomes
        for outcome in outcomes(KINDS[name], folder, count, seed):
            wrong = [f"does {what}" for what in outcome.noted]
            wrong += [f"long message: {error}" for error in outcome.refusals if len(str(error)) > LONGEST]
            wrong += [
                f"names no file: {error}" for error in outcome.refusals if not is_data and str(folder) not in str(error)
            ]
            refused = len(outcome.refusals)
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            used = len(KINDS[name].readers) - refused
            connection.send((outcome.index, used, refused, wrong, outcome.cpu_s, peak_mb))
    except BaseException:
        connection.send((-1, 0, 0, [traceback.format_exc()], 0.0, 0.0))
    connection.send(None)


def tried(name: str, folder: Path, given: argparse.Namespace) -> bool:
    """Print the line of one kind; return whether all was well."""
    context = multiprocessing.get_context("spawn")
    connection, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, name, folder, given.count, given.seed), daemon=True)
    process.start()
    theirs.close()
    used = refused = done = 0
    slowest_s = most_mb = 0.0
    wrong: list[str] = []
    while True:
        if not connection.poll(HANGS_S):
            wrong.append(f"after {done}: HANGS")
            break
        try:
            found = connection.recv()
        except EOFError:
            wrong.append(f"after {done}: DIES")
            break
        if found is None:
            break
        index, succeeded, refusals, faults, cpu_s, peak_mb = found
        used, refused, done = used + succeeded, refused + refusals, done + 1
        slowest_s, most_mb = max(slowest_s, cpu_s), max(most_mb, peak_mb)
        wrong += [f"{index}: {fault}" for fault in faults]
        if cpu_s > given.limit_s:
            wrong.append(f"{index}: takes {cpu_s:.1f} s")
    process.kill()
    if most_mb > given.memory_gb * 1024:
        wrong.append(f"takes {most_mb:.0f} MB")
    print(f"{name:30}{used:8}{refused:9}{len(wrong):7}{slowest_s:10.2f}{most_mb:9.0f}", flush=True)
    for fault in wrong[:20]:
        print(f"    {fault}", flush=True)
    return not wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-s", type=float, default=10.0)
    parser.add_argument("--memory-gb", type=float, default=2.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models, data = Path(folder) / "models", Path(folder) / "data" / "files"
        damaged_models.make_good_folders(models)
        damaged_data.make_good_files(data)
        print(f"{'file':30}{'used':>8}{'refused':>9}{'wrong':>7}{'most s':>10}{'most MB':>9}", flush=True)
        well = [tried(name, data if name in damaged_data.KINDS else models, given) for name in given.kinds]
    sys.exit(0 if all(well) else 1)


if __name__ == "__main__":
    main()
