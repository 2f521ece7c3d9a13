"""The recipes: where they and their settings files are, how one gets its corpus, and how it prepares it.

A recipe is a folder `recipes/NAME` whose `prepare.py` has a function `prepare` and, unless it makes its data itself, a
`CORPUS`, which states where the corpus comes from. `conf/NAME.yaml` holds its settings. In an installed wheel both
folders are inside the package, so that recipes work without a checkout.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from filelock import FileLock, Timeout

from asr.errors import DownloadError, ManifestError, RecipeError
from asr.files import write_text
from asr.machine import Progress, silent
from asr.preparing.archives import unpack
from asr.preparing.download import RemoteFile, check_space, download, file_digest
from asr.reading import counted

if TYPE_CHECKING:
    from asr.corpus.splits import SplitRule
    from asr.importing.material import Material
    from asr.importing.utterances import ImportReport

CUSTOM = "custom"  # the recipe of one's own data: settings and stages, but no corpus to prepare
_PACKAGE = Path(__file__).resolve().parents[1]
_DOWNLOADED = ".downloaded"  # in a corpus folder: a file for each archive that was unpacked there


@dataclass(frozen=True)
class Corpus:
    """What a recipe states about its corpus.

    Attributes:
        recipe: the recipe's name.
        title: the corpus's name, as people write it.
        source: the rest of a sentence that says how a person gets it, "get it with …", "ask … for it, and unpack …".
        files: what `--download` gets, whichever part is asked for.
        parts: the parts that `--part` chooses from, and what `--download` gets for each beside `files`.
        has_languages: whether `--language` chooses one of its languages.
    """

    recipe: str
    title: str
    source: str
    files: tuple[RemoteFile, ...] = ()
    parts: Mapping[str, tuple[RemoteFile, ...]] = field(default_factory=dict)
    has_languages: bool = False

    @property
    def where(self) -> str:
        """How to get the corpus, as the end of an error message."""
        by_command = "--download gets it; or " if self.files or any(self.parts.values()) else ""
        return (
            f"{by_command}{self.source} and name that folder with --corpus-dir, or set ASR_CORPORA to the folder that "
            f"holds it as {self.recipe}/"
        )

    def find(self, folder: Path, needed: str) -> Path:
        """Return the folder that holds the file or folder `needed`: `folder`, or one in it, as archives have it.

        Raises:
            ManifestError: there is none; the message says where to get the corpus.
        """
        below = sorted(path for path in folder.glob("*/") if not path.name.startswith("."))
        for place in (folder, *below):
            if (place / needed).exists():
                return place
        raise ManifestError(f"no {self.title} corpus at {folder}; {self.where}")


@dataclass(frozen=True)
class CorpusRequest:
    """What a recipe's function `prepare` is asked for.

    Attributes:
        corpus_dir: the folder of the corpus, which may be missing.
        out: the folder that gets train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        seed: decides whatever is drawn by chance.
        part: one of the recipe's parts; empty if it has none.
        language: the language, for recipes that have several; else empty.
        progress: shows how far a long preparation is.
    """

    corpus_dir: Path
    out: Path
    seed: int = 0
    part: str = ""
    language: str = ""
    progress: Progress = silent


# It writes the manifests, and may return lines that describe them.
PrepareCorpus: TypeAlias = Callable[[CorpusRequest], Iterable[str] | None]


@dataclass(frozen=True)
class Recipe:
    """A recipe's name, what it states about its corpus (None if it makes its data), and its function `prepare`."""

    name: str
    corpus: Corpus | None
    prepare: PrepareCorpus

    def check(self, part: str, language: str) -> None:
        """Hold what is asked for against what the recipe has.

        Raises:
            RecipeError: there is no such part, or a part or language is missing or too much.
        """
        parts = self.corpus.parts if self.corpus else {}
        if parts and part not in parts:
            wrong = f"no part {part!r} of {self.name}" if part else f"{self.name} needs a part"
            raise RecipeError(f"{wrong}; --part is one of {', '.join(parts)}")
        if part and not parts:
            raise RecipeError(f"{self.name} has no parts; leave --part {part} out")
        has_languages = self.corpus is not None and self.corpus.has_languages
        if has_languages and not language:
            raise RecipeError(f"{self.name} needs a language; name it with --language, e.g. --language de")
        if language and not has_languages:
            raise RecipeError(f"{self.name} has one language; leave --language {language} out")

    def files(self, part: str) -> tuple[RemoteFile, ...]:
        """Return what is to be downloaded.

        Raises:
            RecipeError: the recipe has no corpus, or not one that can be downloaded.
        """
        if self.corpus is None:
            raise RecipeError(f"{self.name} makes its data itself; leave --download out")
        files = (*self.corpus.files, *self.corpus.parts.get(part, ()))
        if not files:
            raise RecipeError(f"{self.corpus.title} cannot be downloaded by a command; {self.corpus.where}")
        return files


@dataclass(frozen=True)
class PrepareReport:
    """The manifest of each split, and what the recipe reports about them, one line each."""

    manifests: dict[str, Path]
    notes: tuple[str, ...]


def prepare(
    recipe: str,
    out: str | os.PathLike[str],
    *,
    corpus_dir: str | os.PathLike[str] | None = None,
    part: str = "",
    language: str = "",
    download: bool = False,
    mirror: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> PrepareReport:
    """Write the manifests of a published corpus's train, dev and test splits into the folder `out`.

    Args:
        recipe: the name of a recipe, e.g. "an4".
        out: the folder that gets train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        corpus_dir: the folder of the corpus; without it, `$ASR_CORPORA/RECIPE`, or `corpora/RECIPE` beside `out` if the
            variable is not set.
        part: which part of the corpus, for recipes that have parts; an unknown one lists them.
        language: which language, for recipes that have several, e.g. "de".
        download: download into `corpus_dir` what is not there yet.
        mirror: download from here, the address of a folder with the same file names.
        seed: decides what the recipe draws by chance, e.g. the dev speakers.
        progress: shows how far a long download or preparation is.

    Raises:
        RecipeError: the recipe has no such part, or it cannot be downloaded.
        DownloadError: the corpus cannot be downloaded.
        ManifestError: there is no such recipe, the corpus is missing or malformed, or the recipe left out a split.
        AudioError: a recording is missing or damaged.
    """
    from asr.corpus.manifest import SPLITS, find_split

    found = load_recipe(recipe, recipes_folder())
    found.check(part, language)
    corpus = default_corpus_dir(recipe, Path(out)) if corpus_dir is None else Path(corpus_dir)
    notes: list[str] = []
    if download or mirror is not None:
        notes += download_corpus(found.files(part), corpus, mirror=mirror, progress=progress)
    notes += found.prepare(CorpusRequest(corpus, Path(out), seed, part, language, progress)) or ()
    return PrepareReport({split: find_split(Path(out), split) for split in SPLITS}, tuple(notes))


def write_published(
    material: Material, request: CorpusRequest, corpus: Corpus, language: str, rule: SplitRule | None = None
) -> list[str]:
    """Write the manifests of a published corpus, of which nothing may be missing.

    Return a line for each split and each note, and for what the corpus itself marks as no utterance.

    Args:
        material: all of the corpus.
        request: what the recipe is asked for.
        corpus: where to get it, for the error.
        language: recorded in the manifests.
        rule: how to draw the splits that the corpus does not have; None: it has all.

    Raises:
        ManifestError: an utterance cannot be used, because the corpus is incomplete or damaged.
    """
    from asr.corpus.splits import SplitRule
    from asr.importing.utterances import write_splits

    rule = rule or SplitRule(dev_share=0, test_share=0)  # a split whose utterances are all unusable is not drawn
    report = write_splits(material, request.out, rule, language=language, progress=request.progress)
    if report.skipped:
        count = len(report.skipped)
        raise ManifestError(
            f"{counted(count, 'utterance')} cannot be used, so the corpus is incomplete or damaged; "
            f"{'the first: ' * (count > 1)}{report.skipped[0]}; {corpus.where}"
        )
    return [*split_lines(report), *note_lines(report)]


def split_lines(report: ImportReport) -> list[str]:
    """Return a line for each split that was written."""
    return [
        f"{split:<6}{counted(report.utterances[split], 'utterance')}, {counted(size.speakers, 'speaker')}, "
        f"{size.audio_s / 3600:.2f} h"
        for split, size in report.sizes.items()
    ]


def note_lines(report: ImportReport) -> list[str]:
    """Return a line for each note, and for each reason for which the corpus itself passes utterances over."""
    passed_over = [f"note: {len(places)} passed over, {reason}" for reason, places in report.passed_over.items()]
    return [*(f"note: {note}" for note in report.notes), *passed_over]


def download_corpus(
    files: Sequence[RemoteFile], folder: Path, *, mirror: str | None = None, progress: Progress = silent
) -> list[str]:
    """Download a corpus's files into a folder and unpack the archives; what is there already stays.

    An archive is removed once its content is in place.

    Returns:
        A line for each new file that its publisher gives no checksum of, with the checksum that it has.

    Raises:
        DownloadError: a file cannot be downloaded or unpacked, or another process downloads into the folder.
    """
    notes = []
    with _only_download_into(folder):
        missing = [file for file in files if not _is_in_place(file, folder)]
        check_space(missing, folder)
        for file in missing:
            path = download(file, folder, mirror=mirror, progress=progress)
            if file.checksum is None:
                notes.append(
                    f"{file.name}: {path.stat().st_size:,} bytes, sha256 {file_digest(path)}; "
                    "no checksum of it is published to compare this with"
                    + (", and http does not protect it on its way" if file.address(mirror).startswith("http:") else "")
                )
            if file.is_archive:
                holds = unpack(path, folder, progress=progress)
                mark = {"url": file.address(mirror), "checksum": file.checksum, "holds": holds}
                write_text(_mark(file, folder), json.dumps(mark, indent=2) + "\n")
                path.unlink()
    return notes


def _mark(file: RemoteFile, folder: Path) -> Path:
    return folder / _DOWNLOADED / f"{file.name}.json"


def _is_in_place(file: RemoteFile, folder: Path) -> bool:
    if not file.is_archive:
        return (folder / file.name).exists() and file.fault(folder / file.name) is None
    try:
        mark = json.loads(_mark(file, folder).read_text(encoding="utf-8"))
        return mark["checksum"] == file.checksum and all(os.path.lexists(folder / path) for path in mark["holds"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def _only_download_into(folder: Path) -> Iterator[None]:
    """Keep other downloads out of a folder. The system holds the lock; a process that died keeps nobody out."""
    lock = FileLock(folder / _DOWNLOADED / "lock")
    try:
        (folder / _DOWNLOADED).mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise DownloadError(f"{folder}: another process downloads into it; wait until it ends") from None
    except NotImplementedError:  # a file system without locks, as some clusters have
        pass
    except OSError as error:
        raise DownloadError(f"{folder}: cannot be written ({error.strerror}); name another --corpus-dir") from None
    try:
        yield
    finally:
        lock.release()


def recipes_folder() -> Path:
    """Return the folder of the recipes: `asr/_recipes` in an installed wheel, else the checkout's `recipes`.

    Raises:
        ManifestError: neither exists.
    """
    return _folder("recipes")


def variant(recipe: str, part: str = "", language: str = "") -> str:
    """Return the name of a recipe's data, model and settings: "librispeech-100", or only the recipe's name."""
    return "-".join(filter(None, (recipe, part, language)))


def settings_file(recipe: str, part: str = "", language: str = "") -> Path:
    """Return the settings file of a part, `conf/RECIPE-PART.yaml`, or of its recipe, or else `conf/custom.yaml`.

    Raises:
        ManifestError: this installation has no settings files.
    """
    folder = _folder("conf")
    names = (variant(recipe, part, language), recipe)
    return next((path for name in names if (path := folder / f"{name}.yaml").is_file()), folder / f"{CUSTOM}.yaml")


def _folder(name: str) -> Path:
    for folder in (_PACKAGE / f"_{name}", _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise ManifestError(f"{_PACKAGE}: this installation has no {name}; install the package again")


def recipe_names(folder: Path) -> list[str]:
    """Return the names of the recipes that can prepare a corpus."""
    return sorted(path.parent.name for path in folder.glob("*/prepare.py"))


def load_recipe(name: str, folder: Path) -> Recipe:
    """Return a recipe of the folder of recipes.

    Raises:
        ManifestError: there is no such recipe; the message lists those that exist.
    """
    if name not in recipe_names(folder):
        raise ManifestError(f"no recipe {name!r}; known: {', '.join(recipe_names(folder))}")
    spec = importlib.util.spec_from_file_location(f"asr_recipe_{name}", folder / name / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Recipe(name, getattr(module, "CORPUS", None), module.prepare)


@dataclass(frozen=True)
class CorpusOptions:
    """Which corpus is prepared, and from where it comes."""

    folder: str | os.PathLike[str] | None = None
    part: str = ""
    language: str = ""
    download: bool = False
    mirror: str | None = None

    def words(self) -> list[object]:
        """Return the options of `asr prepare`."""
        named = {"--corpus-dir": self.folder, "--part": self.part, "--language": self.language, "--mirror": self.mirror}
        given = [word for name, value in named.items() if value for word in (name, value)]
        return [*given, *(["--download"] if self.download else [])]

    def facts(self) -> list[object]:
        """Return what the manifests depend on; from where the corpus was downloaded does not count."""
        folder = None if self.folder is None else os.path.abspath(self.folder)
        return [folder, os.environ.get("ASR_CORPORA"), self.part, self.language]


def default_corpus_dir(recipe: str, out: Path) -> Path:
    """Return `$ASR_CORPORA/RECIPE`; if the variable is not set, `corpora/RECIPE` beside the folder `out`."""
    root = os.environ.get("ASR_CORPORA")
    return Path(root or Path(os.path.abspath(out)).parent / "corpora") / recipe
