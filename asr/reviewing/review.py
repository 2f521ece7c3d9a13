"""`asr.review`: people listen to utterances and correct them. `asr.apply_review`: manifests with the corrections."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lhotse import SupervisionSegment
from lhotse.cut.data import DataCut
from lhotse.utils import fastcopy

from asr.corpus.manifest import find_splits, read_manifest
from asr.corpus.splits import write_manifests
from asr.corpus.untranscribed import UTTERANCES, cut_recordings
from asr.errors import AsrError, DependencyError, ManifestError
from asr.inference.decoder import Decoder
from asr.machine import Accelerator, Progress, silent
from asr.reviewing.corrections import Review, Utterance, load_utterances, require_fitting, state_of
from asr.reviewing.journal import History, Journal, State, hold, journal_of, read_journal
from asr.reviewing.order import Heard, listen, worst_first
from asr.reviewing.server import app, new_token

if TYPE_CHECKING:
    from lhotse.cut import Cut

_HOST = "127.0.0.1"
# What a model said of a text that a person has corrected since.
_OF_A_GUESS = frozenset({"expected_wer", "confidences"})


@dataclass(frozen=True)
class ReviewReport:
    """What a review has come to.

    Attributes:
        utterances: number of utterances.
        confirmed: number of those whose text somebody confirmed or corrected, now or earlier.
        bad: number of those that were marked as bad; they do not count as confirmed.
        manifests: of the utterances, by split. Beside each is its journal.
        left_out: recordings that gave no utterance, each with the reason.
        dropped: journals whose last line was cut short, each with the number of bytes that were dropped.
    """

    utterances: int
    confirmed: int
    bad: int
    manifests: dict[str, Path]
    left_out: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


def review(
    data: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    port: int = 0,
    on_ready: Callable[[str, ReviewReport], object] = lambda url, report: None,
    accelerator: Accelerator = "auto",
    progress: Progress = silent,
) -> ReviewReport:
    """Serve a page on which people listen to utterances and correct them, until Ctrl-C; return the count.

    Only this machine's browser can read the page, at an address with a random token. Each correction is on disk before
    the page says so, in `review.train.jsonl` beside `train.jsonl.gz`. The manifest stays as it is; `apply_review`
    writes another one. The same call goes on with an earlier review.

    Args:
        data: a folder of manifests, or one manifest. With `out`, also a recording or a folder of recordings.
        model: a model folder. Utterances whose transcripts fit worst come first, as `check` finds them. Of utterances
            without a transcript, the least sure come first, and what the model recognises is the start. None: the
            manifest's order.
        out: the folder for the utterances of recordings: `utterances.jsonl.gz`, a manifest of the stretches in which
            somebody speaks. If it exists, it is taken as it is.
        port: of the page; 0 takes a free one.
        on_ready: is called with the page's address and what is known, once the page can be opened.
        accelerator: for the model; auto takes a GPU if there is one.
        progress: shows how far it is, before the page can be opened.

    Raises:
        AsrError: another review of these utterances is running, or the port is taken.
        AudioError: no recording can be used.
        DependencyError: starlette or uvicorn is not installed.
        DeviceError: the accelerator does not exist.
        ManifestError: a manifest is missing, malformed or packed, or has changed since its utterances were corrected;
            or a journal is damaged.
        ModelError: the model folder cannot be used.
    """
    paths, left_out = _manifests(Path(data), None if out is None else Path(out), progress)
    with ExitStack() as held:
        for path in paths.values():
            held.enter_context(hold(journal_of(path)))
        cuts = {split: load_utterances(path) for split, path in paths.items()}
        journals = {split: Journal.open(journal_of(path)) for split, path in paths.items()}
        for split, journal in journals.items():
            require_fitting(journal.histories, cuts[split], paths[split])
        decoder = None if model is None else Decoder.load(model, accelerator=accelerator)
        found = Review(in_order(cuts, decoder, progress), journals)
        dropped = {str(journal.path): journal.dropped for journal in journals.values() if journal.dropped}

        def report() -> ReviewReport:
            counts = found.counts()
            return ReviewReport(counts["all"], counts["confirmed"], counts["bad"], paths, left_out, dropped)

        _serve(found, os.path.basename(os.path.abspath(data)), port, lambda url: on_ready(url, report()))
        return report()


def _manifests(data: Path, out: Path | None, progress: Progress) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the manifests of data by split, and the recordings that were left out; recordings are cut first."""
    if out is None:
        try:
            paths = find_splits(data)
            read_manifest(*paths.values())
        except ManifestError as error:
            raise ManifestError(f"{error}; of recordings, name the folder for their utterances with --out") from None
        return paths, {}
    manifest = out / UTTERANCES
    left_out = {} if manifest.is_file() else cut_recordings([data], manifest, progress)
    return find_splits(manifest), left_out


def in_order(cuts: Mapping[str, Sequence[Cut]], decoder: Decoder | None, progress: Progress) -> list[Utterance]:
    """Return the utterances of all splits in the order in which people look at them."""
    if decoder is None:
        return [Utterance(split, cut) for split, some in cuts.items() for cut in some]
    utterances = [
        Utterance(split, cut, heard)
        for split, some in cuts.items()
        for cut, heard in zip(some, listen(decoder, some, progress), strict=True)
    ]
    heard = {place: utterance.heard or Heard() for place, utterance in enumerate(utterances)}
    transcribed = {place: bool(utterance.was.text) for place, utterance in enumerate(utterances)}
    return [utterances[place] for place in worst_first(heard, transcribed)]


def _serve(found: Review, title: str, port: int, on_ready: Callable[[str], object]) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        AsrError: the port is taken.
        DependencyError: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError:
        raise DependencyError("the page needs the package uvicorn: pip install 'asr[serve]'") from None
    token = new_token()
    served = app(found, token, title, lambda: server.should_exit)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((_HOST, port))
        except OSError as error:
            raise AsrError(f"port {port} cannot be used ({error.strerror}); choose another one") from None
        settings = uvicorn.Config(served, log_level="warning", access_log=False, timeout_graceful_shutdown=3)
        server = uvicorn.Server(settings)
        listening.listen()
        on_ready(f"http://{_HOST}:{listening.getsockname()[1]}/{token}/")
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])


@dataclass(frozen=True)
class AppliedReview:
    """What `apply_review` wrote.

    Attributes:
        written: the manifests by split; one without any utterance is not written.
        utterances: number of utterances in them.
        confirmed: number of those whose text somebody confirmed or corrected.
        texts: number of those with another text than before.
        moved: number of those that begin or end elsewhere.
        left_out: `split/id` of each utterance that is in none of them, with the reason.
    """

    written: dict[str, Path]
    utterances: int
    confirmed: int
    texts: int
    moved: int
    left_out: dict[str, str]


def apply_review(data: str | os.PathLike[str], out: str | os.PathLike[str]) -> AppliedReview:
    """Write manifests with the corrections of a review into another folder; the original ones stay as they are.

    Utterances that were marked as bad are left out. So are those without a transcript that nobody has given one.
    Utterances are matched by their ids. Those that nobody corrected are written as the manifest has them now.

    Args:
        data: the folder of manifests, or the manifest, that was reviewed.
        out: the folder to write to.

    Raises:
        ManifestError: a manifest is missing, malformed or packed, or says something else of a corrected utterance than
            when it was corrected; or there are no corrections; or `out` is the folder of the original.
    """
    paths = find_splits(Path(data))
    reviewed = {split: (load_utterances(path), read_journal(journal_of(path))) for split, path in paths.items()}
    for split, (cuts, found) in reviewed.items():
        require_fitting(found, cuts, paths[split])
    if not any(found for _, found in reviewed.values()):
        raise ManifestError(f"{data}: nobody has corrected anything in it; `asr review {data}` opens a page for that")
    targets = {split: Path(out) / f"{split}.jsonl.gz" for split in paths}
    for split, path in paths.items():
        if os.path.realpath(targets[split].parent) == os.path.realpath(path.parent):
            raise ManifestError(f"{path}: the original stays as it is; choose another folder than {out}")
    corrected: dict[str, list[Cut]] = {split: [] for split in paths}
    left_out: dict[str, str] = {}
    kept: list[History] = []
    for split, (cuts, found) in reviewed.items():
        for cut in cuts:
            history = found.get(cut.id) or History(state_of(cut))
            if reason := _reason_to_leave_out(history.now):
                left_out[f"{split}/{cut.id}"] = reason
            else:
                kept.append(history)
                corrected[split].append(_corrected(cut, history.now) if history.kept else cut)
    written = write_manifests({targets[split]: cuts for split, cuts in corrected.items()})
    confirmed = sum(history.now.confirmed for history in kept)
    texts = sum(history.now.text != history.was.text for history in kept)
    moved = sum(_has_moved(history.now, history.was) for history in kept)
    manifests = {split: path for split, path in targets.items() if path in written}
    return AppliedReview(manifests, len(kept), confirmed, texts, moved, left_out)


def _reason_to_leave_out(now: State) -> str:
    return "marked as bad" if now.bad else "" if now.text.strip() else "it has no transcript"


def _has_moved(now: State, was: State) -> bool:
    return (now.start_s, now.end_s) != (was.start_s, was.end_s)


def _corrected(cut: Cut, now: State) -> Cut:
    """Return a cut with what it was corrected to; what a model or an alignment said of it before is dropped."""
    was = state_of(cut)
    has_moved = _has_moved(now, was)
    if not isinstance(cut, DataCut) or not (has_moved or now.text != was.text):
        return cut
    if has_moved:
        cut = fastcopy(cut, start=now.start_s, duration=now.end_s - now.start_s)
    before: Any = cut.supervisions[0] if cut.supervisions else None
    if before is None:
        recording = cut.recording.id if cut.has_recording else cut.id
        before = SupervisionSegment(cut.id, recording, 0.0, cut.duration, cut.channel)
    custom = {name: value for name, value in (before.custom or {}).items() if name not in _OF_A_GUESS} or None
    corrected = fastcopy(before, text=now.text, custom=custom, alignment=None)
    if has_moved:
        corrected = fastcopy(corrected, start=0.0, duration=cut.duration)
    return fastcopy(cut, supervisions=[corrected])
