"""Manifests → everything in them that would break training or falsify a result, by name.

`audio_faults.py` judges samples, `text_faults.py` transcripts, `limits.py` what can be trained on. Here utterances are
compared with each other: ids, speakers, sentences, characters, copies.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from asr.audio.channels import mix_down
from asr.corpus.audio_faults import Heard, examine_audio
from asr.corpus.cut_audio import load_channels
from asr.corpus.duplicates import same_recordings, similar_recordings
from asr.corpus.findings import Fault, Finding
from asr.corpus.limits import Limits, low_rate_note
from asr.corpus.line import ManifestLine
from asr.corpus.manifest import cut_text, decoded, undecoded
from asr.corpus.text_faults import examine_text, length_faults, letters_and_words
from asr.errors import AudioError
from asr.machine import Progress, in_order, silent
from asr.text.normalise import normalise
from asr.text.report import TextReport, character_name
from asr.text.units import letters_write_spaces

if TYPE_CHECKING:
    from lhotse.cut import Cut

_AT_ONCE = 64  # utterances that go to a process together
_SHARED_FROM = 500  # utterances; fewer are done before other processes have begun
# A fault of most utterances is how the corpus is, not what is wrong with one of them.
_TRAIT_SHARE, _TRAIT_FROM = 0.5, 20
_TRUNCATED = re.compile(r": truncated|the part asked for (starts|ends) at ")


@dataclass(frozen=True)
class SplitSummary:
    """The size of one manifest, faulty utterances included."""

    utterances: int
    speakers: int
    audio_s: float
    shortest_s: float
    longest_s: float
    words: int
    sample_rates_hz: dict[int, int] = field(default_factory=dict)  # number of utterances by rate, lowest rate first


@dataclass(frozen=True)
class DataReport:
    """What manifests hold, what is wrong with them, and the manifests of sound utterances that were written."""

    splits: dict[str, SplitSummary]
    characters: dict[str, int]  # of all normalised transcripts, most frequent first
    findings: tuple[Finding, ...]
    written: dict[str, Path] = field(default_factory=dict)  # by split
    kept: frozenset[str] = frozenset()  # kinds because of which no utterance is left out
    texts: TextReport | None = None  # what normalising does to the transcripts

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The errors: what breaks training or falsifies a result."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know about the data as a whole; nothing is left out because of it."""
        return tuple(found.reason for found in self.findings if found.severity == "warning" and not found.name)

    @property
    def unmended(self) -> tuple[Finding, ...]:
        """The problems that the written manifests do not solve: all of them where nothing was written."""
        left_out = {split: self.left_out(split) for split in self.written}
        return tuple(p for p in self.problems if p.place not in left_out.get(p.split, ()))

    def left_out(self, split: str) -> set[int]:
        """Return the places of the utterances that `check` does not write.

        All those with an error or a warning, unless its kind is one of `kept`; but of test only those whose audio is
        unusable, or whose id occurred before. Without utterances that are merely hard, the error rate would be
        flattered.
        """
        return {
            finding.place
            for finding in self.findings
            if finding.split == split and finding.place is not None and not finding.stays
            if finding.severity != "note" and finding.kind not in self.kept
        }

    def to_json(self) -> dict[str, Any]:
        """Return the report as `asr check --json` prints it."""
        return {
            "splits": {split: vars(summary) for split, summary in self.splits.items()},
            "characters": self.characters,
            "texts": None if self.texts is None else self.texts.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
            "written": {split: str(path) for split, path in self.written.items()},
        }


class Examined(NamedTuple):
    """What is kept of an utterance, so that it can be compared with others."""

    id: str
    transcript: str  # normalised
    speakers: tuple[str, ...]
    duration_s: float
    rate_hz: int  # 0: it has no recording
    faults: tuple[Fault, ...]
    heard: Heard


@dataclass(frozen=True)
class Demands:
    """What utterances are held to: the limits of training, and the rate that the network hears."""

    training: Limits
    model_rate_hz: int | None

    def limits(self, split: str) -> Limits:
        """Return the limits of a split: only training utterances must fit when they are sped up."""
        return self.training if split == "train" else replace(self.training, pace=1.0)


Undecoded: TypeAlias = "ManifestLine | Cut"


def check_cuts(
    manifests: Mapping[str, Iterable[Cut]],
    limits: Limits,
    *,
    model_rate_hz: int | None = None,
    processes: int = 1,
    progress: Progress = silent,
) -> DataReport:
    """Read every utterance of some manifests, its audio included, and return what they hold and what is wrong.

    Args:
        manifests: cuts by split, "train" first if there is one; they are read several times.
        limits: what training asks of an utterance. Only those of "train" must fit when they are sped up.
        model_rate_hz: the rate that the network hears; None: that of each recording.
        processes: how many share the work.
        progress: shows how far the check is.

    Raises:
        ManifestError: a line of a manifest is malformed.
    """
    comparison = _Comparison(list(manifests))
    total = sum(1 for cuts in manifests.values() for _ in undecoded(cuts))
    parts = chain.from_iterable(_parts(split, undecoded(cuts)) for split, cuts in manifests.items())
    work = partial(_examine_part, Demands(limits, model_rate_hz))
    with progress("check", total) as advance:
        for split, examined in in_order(work, parts, processes if total >= _SHARED_FROM else 1):
            for utterance in examined:
                comparison.add(split, utterance)
                advance(1)
    copies = comparison.copies(chain.from_iterable(undecoded(cuts) for cuts in manifests.values()))
    return comparison.report(copies, model_rate_hz)


def without_problems(cuts: Iterable[Cut], split: str, report: DataReport) -> Iterator[Cut]:
    """Yield the cuts of a split that the report does not leave out; see `DataReport.left_out`."""
    left_out = report.left_out(split)
    return (cut for place, cut in enumerate(cuts) if place not in left_out)


def _parts(split: str, items: Iterator[Undecoded]) -> Iterator[tuple[str, list[Undecoded]]]:
    while part := list(islice(items, _AT_ONCE)):
        yield split, part


def _examine_part(demands: Demands, part: tuple[str, list[Undecoded]]) -> tuple[str, list[Examined]]:
    split, items = part
    limits = demands.limits(split)
    return split, [_examine(decoded(item), limits, demands.model_rate_hz) for item in items]


def _examine(cut: Cut, limits: Limits, model_rate_hz: int | None) -> Examined:
    text = cut_text(cut)
    transcript = normalise(text, limits.text)
    heard = _hear(cut, model_rate_hz)
    faults = (
        *limits.faults(cut.duration, transcript),
        *heard.faults,
        *examine_text(text, transcript, limits.text),
    )
    speakers = tuple(dict.fromkeys(str(one.speaker) for one in cut.supervisions if one.speaker))
    rate_hz = cut.sampling_rate if cut.has_recording else 0
    return Examined(cut.id, transcript, speakers, cut.duration, rate_hz, faults, replace(heard, faults=()))


def _hear(cut: Cut, model_rate_hz: int | None) -> Heard:
    try:
        channels, rate_hz = load_channels(cut)
    except AudioError as error:
        reason = str(error).removeprefix(f"utterance {cut.id}: ")
        return Heard((Fault("truncated-audio" if _TRUNCATED.search(reason) else "unreadable-audio", reason),))
    return examine_audio(channels, rate_hz, model_rate_hz or rate_hz)


class _Comparison:
    """All utterances, compared with each other."""

    def __init__(self, splits: list[str]) -> None:
        self._splits = splits
        self._all: list[Examined] = []
        self._at: list[tuple[str, int]] = []  # split and place in it, of each
        self._count: Counter[str] = Counter()
        self._split_of_id: dict[str, str] = {}
        self._repeated: set[int] = set()
        self._characters: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, split: str, utterance: Examined) -> None:
        if utterance.id in self._split_of_id:
            self._repeated.add(len(self._all))
            fault = Fault("repeated-id", f"its id occurs already in {self._split_of_id[utterance.id]}")
            utterance = utterance._replace(faults=(*utterance.faults, fault))
        self._split_of_id.setdefault(utterance.id, split)
        self._at.append((split, self._count[split]))
        self._count[split] += 1
        self._characters[split].update(utterance.transcript)
        self._all.append(utterance)

    def copies(self, items: Iterator[Undecoded]) -> list[Finding]:
        """Return which utterances hold the recording of another one.

        Args:
            items: all utterances again; audio is only loaded of those with similar fingerprints.
        """
        fingerprints = [
            b"" if place in self._repeated else utterance.heard.fingerprint for place, utterance in enumerate(self._all)
        ]
        pairs = similar_recordings(fingerprints, [utterance.heard.spread_s for utterance in self._all])
        wanted = set(chain.from_iterable(pairs))
        cuts = {place: decoded(item) for place, item in enumerate(items) if place in wanted} if wanted else {}

        def load(place: int) -> tuple[Any, int]:
            channels, rate_hz = load_channels(cuts[place])
            return mix_down(channels), rate_hz

        found: dict[tuple[str, int | None], Finding] = {}  # one finding for an utterance, however many copies there are
        for pair in same_recordings(pairs, load):
            finding = self._copy(pair.first, pair.second, pair.correlation)
            found.setdefault((finding.split, finding.place), finding)
        return list(found.values())

    def _copy(self, first: int, second: int, correlation: float) -> Finding:
        """Return the finding of the copy that is to go: in one split the later one, else the one in train, then dev."""
        splits = [self._at[place][0] for place in (first, second)]
        within = splits[0] == splits[1]
        stays, goes = (first, second) if within or splits == ["test", "dev"] else (second, first)
        other, copy = self._all[stays], self._all[goes]
        reason = f"the same recording as {other.id} of {self._at[stays][0]}"
        if copy.transcript != other.transcript:
            reason += f", which has another transcript: {other.transcript!r:.40}"
        return self._finding(goes, Fault("duplicate-audio" if within else "shared-audio", reason, correlation))

    def _finding(self, place: int, fault: Fault) -> Finding:
        split, at = self._at[place]
        return Finding(fault.kind, split, self._all[place].id, fault.reason, fault.value, at)

    def report(self, copies: list[Finding], model_rate_hz: int | None) -> DataReport:
        findings = [self._finding(place, fault) for place, one in enumerate(self._all) for fault in one.faults]
        findings += [*self._lengths(), *self._rare(), *copies, *self._shared_speakers()]
        findings += [*self._sentences(), *self._corpus_warnings(model_rate_hz)]
        characters = dict(sum(self._characters.values(), Counter()).most_common())
        splits = {split: self._summary(split) for split in self._splits}
        return DataReport(splits, characters, tuple(_with_traits(findings, len(self._all))))

    def _lengths(self) -> Iterator[Finding]:
        lengths = [letters_and_words(one.transcript) for one in self._all]
        sounds_s = [one.heard.sound_s for one in self._all]
        letters, words = [length[0] for length in lengths], [length[1] for length in lengths]
        for place, fault in length_faults(letters, words, sounds_s).items():
            yield self._finding(place, fault)

    def _rare(self) -> Iterator[Finding]:
        """Yield the training utterances with a character that no other one has."""
        once = {character for character, count in self._characters.get("train", Counter()).items() if count == 1}
        for place, one in enumerate(self._all) if once else ():
            if self._at[place][0] == "train" and (rare := once & set(one.transcript)):
                names = " ".join(map(character_name, sorted(rare)))
                yield self._finding(place, Fault("rare-character", f"nowhere else in train: {names}", len(rare)))

    def _shared_speakers(self) -> Iterator[Finding]:
        found: dict[str, dict[str, None]] = {}
        for (split, _), one in zip(self._at, self._all, strict=True):
            for speaker in one.speakers:
                found.setdefault(speaker, {})[split] = None
        if len(found) == 1 and len(splits := next(iter(found.values()))) > 1:
            reason = "all splits have the same speaker: the error rates are those of a known voice"
            yield Finding("one-speaker", next(iter(splits)), "", reason)
            return
        for speaker in sorted(found):
            first, *others = sorted(found[speaker], key=self._splits.index)
            if others:
                reason = f"is also in {' and '.join(others)}"
                yield Finding("shared-speaker", first, f"speaker {speaker}", reason)

    def _sentences(self) -> Iterator[Finding]:
        """Yield how many sentences of dev and test are in train, and how many occur several times."""
        sentences: dict[str, list[str]] = defaultdict(list)
        for (split, _), one in zip(self._at, self._all, strict=True):
            if one.transcript:
                sentences[split].append(one.transcript)
        train = set(sentences["train"])
        for split, texts in sentences.items():
            again = sum(text in train for text in texts) if split != "train" else 0
            if again:
                share = again / len(texts)
                reason = (
                    f"{again} of {len(texts)} utterances of {split} ({100 * share:.1f} %) say a sentence of train. "
                    "Their error rate does not tell how new sentences are recognised"
                )
                yield Finding("shared-sentences", split, "", reason, share)
            copies = len(texts) - len(set(texts))
            if copies:
                reason = f"{copies} of {len(texts)} utterances of {split} say what another one says"
                yield Finding("duplicate-text", split, "", reason, copies / len(texts))

    def _corpus_warnings(self, model_rate_hz: int | None) -> Iterator[Finding]:
        yield from self._unseen()
        if not letters_write_spaces(sum(self._characters.values(), Counter())):
            reason = "most letters belong to scripts without spaces; go by the CER, as training and scoring do"
            yield Finding("no-spaces", "", "", reason)
        low_rate = low_rate_note({one.rate_hz for one in self._all}, model_rate_hz or 0)
        if low_rate:
            yield Finding("low-rate", "", "", low_rate)

    def _unseen(self) -> Iterator[Finding]:
        """Yield how many utterances of other splits hold characters that train does not have."""
        known = self._characters["train"].keys()
        for split in self._splits if known else ():
            unseen = self._characters[split].keys() - known
            if not unseen:
                continue
            texts = [one.transcript for (of, _), one in zip(self._at, self._all, strict=True) if of == split]
            count = sum(not unseen.isdisjoint(text) for text in texts)
            names = " ".join(map(character_name, sorted(unseen)))
            reason = (
                f"{count} of {len(texts)} utterances of {split} ({100 * count / len(texts):.1f} %) hold characters "
                f"that train does not have: {names}. A model of these data cannot write them, so each is an error; "
                "the utterances stay"
            )
            yield Finding("unseen-character", split, "", reason, count / len(texts))

    def _summary(self, split: str) -> SplitSummary:
        of_split = [one for (of, _), one in zip(self._at, self._all, strict=True) if of == split]
        durations_s = [one.duration_s for one in of_split]
        rates_hz = Counter(one.rate_hz for one in of_split if one.rate_hz)
        return SplitSummary(
            utterances=len(of_split),
            speakers=len({speaker for one in of_split for speaker in one.speakers}),
            audio_s=sum(durations_s),
            shortest_s=min(durations_s, default=0.0),
            longest_s=max(durations_s, default=0.0),
            words=sum(len(one.transcript.split()) for one in of_split),
            sample_rates_hz=dict(sorted(rates_hz.items())),
        )


def _with_traits(findings: list[Finding], utterances: int) -> Iterator[Finding]:
    """Yield the findings; a warning or note about most utterances becomes one about the corpus."""
    accused: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for finding in findings:
        if finding.place is not None and finding.severity != "error":
            accused[finding.kind].add((finding.split, finding.place))
    least = max(_TRAIT_FROM, _TRAIT_SHARE * utterances)
    traits = {kind: len(places) for kind, places in accused.items() if len(places) > least}
    yield from (finding for finding in findings if finding.place is None or finding.kind not in traits)
    for kind, count in traits.items():
        example = next(finding for finding in findings if finding.kind == kind)
        share = count / utterances
        reason = (
            f"{kind}: {count} of {utterances} utterances ({100 * share:.1f} %), so none is left out because of it, "
            f"e.g. {example.name}: {example.reason}"
        )
        yield Finding(kind, "", "", reason, share)
