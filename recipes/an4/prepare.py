"""CMU AN4 ("census"): people spelling and dictating names, addresses and dates. Corpus → manifests."""

from __future__ import annotations

import random
import re
from pathlib import Path

from asr.corpus.manifest import cut_speaker, make_cut
from asr.corpus.splits import write_manifests
from asr.errors import ManifestError
from asr.machine import Progress, silent
from asr.preparing.download import RemoteFile
from asr.preparing.recipes import Corpus, CorpusRequest

CORPUS = Corpus(
    recipe="an4",
    title="AN4",
    source="get it with `git clone https://github.com/cmusphinx/an4`",
    # Neither a size nor a checksum of it is published.
    files=(RemoteFile("http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz"),),
)
DEV_UTTERANCES = 100
AUDIO_SUFFIXES = (".wav", ".sph")  # the git repository's, and the older tarball's NIST sphere files

# "<s> YES </s> (an251-fash-b)" in the training set, "YES (an406-fcaw-b)" in the test set.
LINE = re.compile(r"(?:<s> )?(?P<text>.*?)(?: </s>)? \((?P<id>[^()]+)\)\s*")


def prepare(request: CorpusRequest) -> None:
    """Write the manifests of train, dev and test.

    Test is as published. Dev is made of whole training speakers, as many women as men, about 100 utterances.
    The seed chooses the dev speakers.

    Args:
        request: its corpus holds `etc/an4_{train,test}.{fileids,transcription}` and `wav/`.

    Raises:
        ManifestError: the corpus is not there or its lists are malformed.
        AudioError: a recording is missing or damaged.
    """
    corpus_dir = CORPUS.find(request.corpus_dir, "etc/an4_train.fileids")
    published = read_set(corpus_dir, "train", request.progress)
    dev_speakers = choose_dev_speakers([cut_speaker(cut) for cut in published], request.seed)
    splits = {
        "train": [cut for cut in published if cut_speaker(cut) not in dev_speakers],
        "dev": [cut for cut in published if cut_speaker(cut) in dev_speakers],
        "test": read_set(corpus_dir, "test", request.progress),
    }
    write_manifests({request.out / f"{split}.jsonl.gz": cuts for split, cuts in splits.items()})


def read_set(corpus_dir: Path, name: str, progress: Progress = silent) -> list:
    """Return the cuts of the published set "train" or "test"."""
    fileids = read_lines(corpus_dir / "etc" / f"an4_{name}.fileids")
    transcription = corpus_dir / "etc" / f"an4_{name}.transcription"
    lines = read_lines(transcription)
    if len(fileids) != len(lines):
        raise ManifestError(f"{transcription}: {len(lines)} transcripts for {len(fileids)} files; {CORPUS.where}")
    cuts = []
    with progress(name, len(lines)) as advance:
        for number, (fileid, line) in enumerate(zip(fileids, lines, strict=True), 1):
            match = LINE.fullmatch(line)
            path = Path(fileid.strip())  # an4_clstk/<speaker>/<utterance>
            if match is None or match["id"] != path.name:
                raise ManifestError(f"{transcription}:{number}: expected 'WORDS ({path.name})', found {line!r}")
            cuts.append(
                make_cut(
                    path.name,
                    find_audio(corpus_dir / "wav" / path),
                    match["text"],
                    path.parent.name,
                    language="en",
                )
            )
            advance(1)
    return cuts


def choose_dev_speakers(speakers: list[str], seed: int) -> set[str]:
    """Draw women (`f…`) and men (`m…`) in turn, in pairs, while that brings dev nearer to its size.

    Args:
        speakers: the speaker of each utterance.
        seed: fixes the draw.
    """
    utterances = {speaker: speakers.count(speaker) for speaker in sorted(set(speakers))}
    women = [speaker for speaker in utterances if speaker.startswith("f")]
    men = [speaker for speaker in utterances if speaker.startswith("m")]
    rng = random.Random(seed)
    rng.shuffle(women)
    rng.shuffle(men)
    chosen: set[str] = set()
    size = 0
    for pair in zip(women[:-1], men[:-1], strict=False):  # one of each, at least, is left to train on
        larger = size + sum(utterances[speaker] for speaker in pair)
        if abs(larger - DEV_UTTERANCES) > abs(size - DEV_UTTERANCES):
            break
        chosen.update(pair)
        size = larger
    if not chosen:
        raise ManifestError(
            f"{len(women)} women and {len(men)} men among the training speakers: too few to make a dev set"
        )
    return chosen


def find_audio(path_without_suffix: Path) -> Path:
    """Return the recording in whichever published format it is there."""
    for suffix in AUDIO_SUFFIXES:
        path = path_without_suffix.with_name(path_without_suffix.name + suffix)
        if path.exists():
            return path
    raise ManifestError(f"{path_without_suffix}{{{','.join(AUDIO_SUFFIXES)}}}: no such recording; {CORPUS.where}")


def read_lines(path: Path) -> list[str]:
    """Return a list's lines."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); {CORPUS.where}") from None
