"""Praat's TextGrids beside recordings of the same name → manifests.

Both text formats are the same to Praat, which reads only what stands by itself: numbers, texts in quotation marks and
flags such as `<exists>`. In the long format, `xmin =` and `intervals [1]:` are there for people. praatio keeps no line
numbers, and takes the first half of a short file for the whole of it. So the file is read here.

Source: Praat's manual, "TextGrid file formats".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing.material import Material
from asr.importing.timed_text import Tier, TierFile, TimedText, read_tiers
from asr.importing.utterances import ImportReport, write_splits
from asr.machine import Progress, silent
from asr.reading import first_line, read_text

SUFFIXES = frozenset({".textgrid"})

_MOST_BYTES = 256 << 20
# A text in which a quotation mark is doubled, a flag, a comment, or anything else that stands by itself.
_TOKEN = re.compile(r'(?<!\S)(?:"(?P<text>(?:[^"]|"")*)"|(?P<flag><\w+>)|!.*|(?P<word>[^\s"]\S*))(?!\S)|(?P<open>")')
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def import_textgrid(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    tiers: Sequence[str] = (),
    audio_dir: str | os.PathLike[str] | None = None,
    split: SplitRule | None = None,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write the manifests of Praat's TextGrids, whose recordings are beside them, into the folder `out`.

    Each interval that holds a text is an utterance. Of several tiers, each is a speaker's and has the speaker's name.
    The name of one tier alone is no speaker.

    Args:
        source: a .TextGrid, short or long, in UTF-8 or UTF-16, or a folder of any depth.
        out: the folder for train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        tiers: names of the interval tiers with the texts; none: the only interval tier.
        audio_dir: the folder of the recordings; None: they are beside the TextGrids.
        split: how splits are drawn; None: dev and test get a tenth each, by speaker.
        language: noted in the manifests, e.g. "en".
        progress: shows how far the import is.

    Raises:
        ManifestError: the tier is to be named, or nothing is left for training.
    """
    material = read_textgrids(Path(source), tiers, Path(audio_dir) if audio_dir else None)
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_textgrids(source: Path, tiers: Sequence[str] = (), audio_dir: Path | None = None) -> Material:
    """Return what is in TextGrids; arguments and errors are those of `import_textgrid`."""
    return read_tiers(source, SUFFIXES, "TextGrid", tiers, audio_dir, read_textgrid)


def read_textgrid(path: Path) -> TierFile:
    """Return the tiers of a TextGrid; an interval without a text is a pause, and left out.

    Raises:
        ManifestError: it cannot be read, or is damaged; the message names the line.
    """
    tokens = _Tokens(path, read_text(path, ManifestError, "the TextGrid", most_bytes=_MOST_BYTES))
    kinds = [tokens.text("the type of the file"), tokens.text("the class of the object")]
    if not kinds[0].startswith("ooTextFile") or kinds[1] != "TextGrid":
        raise ManifestError(f"{path}: not a TextGrid; its first lines say ooTextFile and TextGrid, and here {kinds}")
    tokens.number("the start of the file")
    tokens.number("the end of the file")
    if tokens.flag() != "<exists>":
        return TierFile([])
    tiers = [_tier(tokens) for _ in range(tokens.count("the number of tiers"))]
    tokens.require_end()
    return TierFile(tiers)


def _tier(tokens: _Tokens) -> Tier:
    kind = tokens.text("the class of a tier")
    if kind not in ("IntervalTier", "TextTier"):
        raise ManifestError(f"{tokens.where()}: {first_line(kind)!r} is no class of a tier")
    name = tokens.text("the name of a tier")
    tokens.number("the start of a tier")
    tokens.number("the end of a tier")
    texts = []
    for _ in range(tokens.count("the size of a tier")):
        start_s = tokens.number(f"a time in tier {name!r}")
        end_s = tokens.number(f"a time in tier {name!r}") if kind == "IntervalTier" else start_s
        text = tokens.text(f"a text in tier {name!r}")
        if text.strip():
            texts.append(TimedText(tokens.where(), start_s, end_s, text))
    return Tier(name, texts, fault="" if kind == "IntervalTier" else "holds points, which last no time")


class _Tokens:
    """The numbers, texts and flags of a TextGrid, one after the other."""

    def __init__(self, path: Path, content: str) -> None:
        self._path, self._content = path, content
        self._tokens = self._meaningful()
        self._line, self._counted = 1, 0  # the line, and the place up to which lines are counted

    def _meaningful(self) -> Iterator[re.Match[str]]:
        for token in _TOKEN.finditer(self._content):
            if token["word"] is None and token["text"] is None and token["flag"] is None and token["open"] is None:
                continue  # a comment
            if token["word"] is None or _NUMBER.fullmatch(token["word"]):
                yield token

    def where(self) -> str:
        """Return the file and the line of the token that came last."""
        return f"{self._path}:{self._line}"

    def _next(self, kind: str, what: str) -> str:
        token = next(self._tokens, None)
        if token is None:
            raise ManifestError(f"{self._path}: damaged, because it ends before {what}")
        self._line += self._content.count("\n", self._counted, token.start())
        self._counted = token.start()
        if token["open"]:
            raise ManifestError(f"{self.where()}: damaged, because a quotation mark here opens no text")
        value: str | None = token[kind]
        if value is None:
            raise ManifestError(f"{self.where()}: damaged: {first_line(token[0])} is not {what}")
        return value

    def require_end(self) -> None:
        """Refuse what follows the last text: an interval more than its tier says would be lost."""
        if (token := next(self._tokens, None)) is not None:
            line = 1 + self._content.count("\n", 0, token.start())
            raise ManifestError(
                f"{self._path}:{line}: damaged: the number of tiers, or the size of the last one, is lower than what "
                "follows it; mend the number"
            )

    def text(self, what: str) -> str:
        return self._next("text", what).replace('""', '"')

    def number(self, what: str) -> float:
        return float(self._next("word", what))

    def count(self, what: str) -> int:
        number = self.number(what)
        if not (number.is_integer() and number >= 0):
            raise ManifestError(f"{self.where()}: damaged: {number:g} is not {what}")
        return int(number)

    def flag(self) -> str:
        return self._next("flag", "the flag <exists> before the tiers")
