"""Perplexity of the recurrent language model against the n-gram's, on the same text and vocabulary.

    python benchmarks/lm_perplexity.py --text FILE        writes the text and says how large it is
    python benchmarks/lm_perplexity.py [--set …]          both models; add --out DIR to keep the recurrent one

The text is the English prose in the docstrings of installed packages (`PACKAGES`): sentences made of words alone, in
lower case, each different one once. Whole files go to dev (1 in 20) or test (1 in 20), so that sentences of one
docstring stay together. Words seen fewer than five times in training are outside the vocabulary of both models; they
are counted apart and left out of both perplexities. The n-gram's order is chosen on dev, and so is the epoch.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import importlib.util
import re
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from machine import describe

from asr.bundle.files import RNN_LM_WEIGHTS
from asr.files import write_text
from asr.lm.kneser_ney import kneser_ney
from asr.lm.rnnlm import LmUnits, RnnLm
from asr.settings_file import parse_rnnlm_settings
from asr.training.lm_text import LmSentences
from asr.training.lm_trainer import lm_training_reports
from asr.training.reports import LmEpoch, LmStart

PACKAGES = (
    *("torch", "scipy", "numpy", "scikit-learn", "matplotlib", "networkx", "librosa", "lhotse", "joblib", "pooch"),
    *("pydantic", "rich", "typer", "setuptools", "sympy", "speechbrain", "huggingface_hub", "fsspec", "aiohttp"),
    *("hypothesis", "pytest", "click", "jinja2", "pygments", "pillow", "numba", "fonttools", "protobuf", "tensorboard"),
)
MODULE_OF = {"scikit-learn": "sklearn", "pillow": "PIL", "fonttools": "fontTools", "protobuf": "google.protobuf"}
ORDERS = (2, 3, 4, 5)
MIN_COUNT = 5
PROSE = re.compile(r"[a-z]+(?:['-][a-z]+)*(?: [a-z]+(?:['-][a-z]+)*){2,}")


def source_files() -> Iterator[Path]:
    """Yield the Python files of the standard library and of `PACKAGES`, where installed."""
    yield from sorted(Path(ast.__file__).parent.glob("[a-z]*.py"))
    for package in PACKAGES:
        spec = importlib.util.find_spec(MODULE_OF.get(package, package))
        if spec is not None and spec.submodule_search_locations:
            yield from sorted(Path(next(iter(spec.submodule_search_locations))).rglob("*.py"))


def sentences_of(path: Path) -> Iterator[str]:
    """Yield the sentences of a file's docstrings that consist of words alone."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                for sentence in re.split(r"(?<=[.!?:;])\s+", paragraph):
                    plain = " ".join(re.sub(r"[`*.,;:!?()\"]", " ", sentence.lower()).split())
                    if PROSE.fullmatch(plain):
                        yield plain


def make_text() -> dict[str, list[str]]:
    """Return the sentences of `train`, `dev` and `test`; none is twice in the text."""
    seen: set[str] = set()
    split: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for path in source_files():
        place = zlib.crc32("/".join(path.parts[-3:]).encode()) % 20
        part = split[{0: "dev", 1: "test"}.get(place, "train")]
        for sentence in sentences_of(path):
            if sentence not in seen:
                seen.add(sentence)
                part.append(sentence)
    return split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="write the text here, one sentence a line, and stop")
    parser.add_argument("--set", action="append", default=[], help="a setting of the recurrent model")
    parser.add_argument("--out", type=Path, help="folder of the recurrent model; a stopped run there is resumed")
    arguments = parser.parse_args()

    print(describe())
    text = make_text()
    installed = {package.metadata["Name"]: package.version for package in importlib.metadata.distributions()}
    print("text     ", ", ".join(f"{name} {installed[name]}" for name in PACKAGES if name in installed))
    for part, sentences in text.items():
        print(f"{part:9} {len(sentences)} sentences, {sum(len(sentence.split()) for sentence in sentences)} words")
    if arguments.text:
        write_text(arguments.text, "".join(f"{sentence}\n" for part in text.values() for sentence in part))
        return

    settings = parse_rnnlm_settings([f"min_count={MIN_COUNT}", *arguments.set])
    units = LmUnits.of_words(text["train"], settings.min_count)
    words = {part: [sentence.split() for sentence in sentences] for part, sentences in text.items()}
    models = [kneser_ney(words["train"], order, units.symbols[1:]) for order in ORDERS]
    on_dev = [model.perplexity(words["dev"]).perplexity for model in models]
    for order, perplexity in zip(ORDERS, on_dev, strict=True):
        print(f"{order}-gram   dev perplexity {perplexity:.2f}")
    ngram = models[on_dev.index(min(on_dev))]
    found = ngram.perplexity(words["test"])
    print(f"{ngram.order}-gram   test perplexity {found.perplexity:.2f} on {found.units} words, {found.oovs} OOV")

    ids = {part: [units.encode_words(sentence) for sentence in sentences] for part, sentences in text.items()}
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        for report in lm_training_reports(settings, LmSentences(units, ids["train"], ids["dev"]), out, resume=True):
            if isinstance(report, LmStart):
                print(f"network   {settings.network}, {report.parameter_count:,} parameters, {report.unit_count} words")
            elif isinstance(report, LmEpoch):
                print(f"epoch {report.epoch + 1:3} dev perplexity {report.dev.perplexity:.2f}, {report.train_s:.0f} s")
                sys.stdout.flush()
        lm = RnnLm.load(out / RNN_LM_WEIGHTS)
    found = lm.perplexity(ids["test"])
    print(f"recurrent test perplexity {found.perplexity:.2f} on {found.units} words, {found.oovs} OOV")


if __name__ == "__main__":
    main()
