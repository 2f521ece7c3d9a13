"""Sound utterances → the same with faults whose kind and place are known, to see that `asr check` finds them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from asr.audio.resample import resample
from asr.corpus.manifest import make_cut, write_manifest

Rng = np.random.Generator


@dataclass
class Said:
    """An utterance that can be changed before it is written."""

    id: str
    samples: np.ndarray  # (sample,) or (sample, channel)
    rate_hz: int
    text: str
    speaker: str
    suffix: str = ".wav"
    damage: Callable[[Path], None] | None = None  # what happens to the file once its manifest is written

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate_hz


class Planted(NamedTuple):
    """What was planted: the kind of finding that is expected, and its split and name."""

    kind: str
    split: str
    name: str


@dataclass
class Corpus:
    """Utterances by split; `touched` are no longer sound."""

    splits: dict[str, list[Said]]
    rng: Rng
    touched: set[str] = field(default_factory=set)

    def pick(self, split: str = "train", fits: Callable[[Said], bool] = lambda said: True) -> Said:
        """Return a sound utterance that fits, which counts as touched from now on."""
        sound = [said for said in self.splits[split] if said.id not in self.touched and fits(said)]
        said = sound[self.rng.integers(len(sound))]
        self.touched.add(said.id)
        return said

    def sound_texts(self) -> list[str]:
        """Return the transcripts of the training utterances that are still sound."""
        return [said.text for said in self.splits["train"] if said.id not in self.touched]

    def write(self, folder: Path) -> None:
        """Write audio and manifests, and then damage the files that are to be damaged."""
        (folder / "audio").mkdir(parents=True)
        for split, all_said in self.splits.items():
            cuts = []
            for place, said in enumerate(all_said):
                path = folder / "audio" / f"{split}-{place}{said.suffix}"
                soundfile.write(path, said.samples, said.rate_hz)
                cuts.append((said, path, make_cut(said.id, path, said.text, said.speaker)))
            write_manifest([cut for _, _, cut in cuts], folder / f"{split}.jsonl.gz")
            for said, path, _ in cuts:
                if said.damage is not None:
                    said.damage(path)


def plant(kind: str, corpus: Corpus) -> Planted:
    """Plant a fault of a kind into an utterance that was sound."""
    return PLANTS[kind](kind, corpus)


def _samples(change: Callable[[np.ndarray, int, Rng], np.ndarray], least_s: float = 0.6) -> Callable[..., Planted]:
    def plant_it(kind: str, corpus: Corpus) -> Planted:
        said = corpus.pick(fits=lambda said: said.seconds >= least_s)
        said.samples = change(said.samples.astype(np.float64), said.rate_hz, corpus.rng)
        return Planted(kind, "train", said.id)

    return plant_it


def _text(
    change: Callable[[str, Rng], str], fits: Callable[[Said], bool] = lambda said: True
) -> Callable[..., Planted]:
    def plant_it(kind: str, corpus: Corpus) -> Planted:
        said = corpus.pick(fits=fits)
        said.text = change(said.text, corpus.rng)
        return Planted(kind, "train", said.id)

    return plant_it


def _damaged(damage: Callable[[Path], None]) -> Callable[..., Planted]:
    def plant_it(kind: str, corpus: Corpus) -> Planted:
        said = corpus.pick()
        said.damage = damage
        return Planted(kind, "train", said.id)

    return plant_it


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _noise(samples: np.ndarray, rate_hz: int, rng: Rng) -> np.ndarray:
    return 10 ** rng.uniform(-3, -1.5) * rng.standard_normal(len(samples))


def _clip(samples: np.ndarray, rate_hz: int, rng: Rng) -> np.ndarray:
    """Overdrive a hundredth to a twentieth of what is loud, then make it quieter."""
    loud = np.quantile(np.abs(samples), rng.uniform(0.98, 0.995))
    return np.clip(samples / loud, -1, 32767 / 32768) * rng.uniform(0.4, 1)


def _whisper(samples: np.ndarray, rate_hz: int, rng: Rng) -> np.ndarray:
    return samples / np.abs(samples).max() * rng.uniform(8, 60) / 32768


def _loudest(samples: np.ndarray, rate_hz: int, frame_s: float = 0.02) -> np.ndarray:
    """Return where frames within the loudest decibel begin, not at the ends."""
    frame = round(frame_s * rate_hz)
    powers = np.square(samples[: len(samples) // frame * frame].reshape(-1, frame)).mean(1)
    powers[: len(powers) // 8] = powers[-(len(powers) // 8) - 1 :] = 0
    return np.flatnonzero(powers >= 0.8 * powers.max()) * frame


def _cut_off(samples: np.ndarray, rate_hz: int, rng: Rng) -> np.ndarray:
    at = int(rng.choice(_loudest(samples, rate_hz)))
    later = at > len(samples) / 2
    return samples[: at + round(0.02 * rate_hz)] if later else samples[at:]


def _drop_out(samples: np.ndarray, rate_hz: int, rng: Rng) -> np.ndarray:
    samples = samples.copy()
    at = int(rng.choice(_loudest(samples, rate_hz))) + round(0.01 * rate_hz)
    voiced = np.abs(samples) > 0.15 * np.abs(samples).max()
    lasts = round(rng.uniform(0.03, 0.06) * rate_hz)
    ends = [end for end in range(at + lasts, len(samples)) if voiced[end]]
    samples[at : ends[0] if ends else at + lasts] = 0
    return samples


def _raise_rate(samples: np.ndarray, rate_hz: int, rng: Rng) -> np.ndarray:
    lower_hz = int(rate_hz * rng.choice([0.5, 11025 / 16000]))
    lower = np.round(resample(samples.astype(np.float32), rate_hz, lower_hz) * 32768) / 32768
    return resample(lower.astype(np.float32), lower_hz, rate_hz)


def _second_channel(samples: np.ndarray, rate_hz: int, rng: Rng) -> np.ndarray:
    dead = np.zeros(len(samples)) if rng.random() < 0.5 else 1e-5 * rng.standard_normal(len(samples))
    return np.stack([samples, dead] if rng.random() < 0.5 else [dead, samples], axis=1)


def _copy(of_split: str, split: str) -> Callable[..., Planted]:
    """Copy an utterance: quieter, with more silence around it, half of them at 8 kHz, as WAV, FLAC or Vorbis."""

    def plant_it(kind: str, corpus: Corpus) -> Planted:
        rng, said = corpus.rng, corpus.pick(of_split, lambda said: said.samples.ndim == 1 and said.seconds >= 0.6)
        samples, rate_hz = said.samples * rng.uniform(0.3, 0.95), said.rate_hz
        if rng.random() < 0.5:
            samples, rate_hz = resample(samples.astype(np.float32), rate_hz, 8000), 8000
        around = (10**-3.5 * rng.standard_normal(round(rng.uniform(0, 0.5) * rate_hz)) for _ in range(2))
        before, after = around
        copy = Said(f"copy-{said.id}", np.concatenate([before, samples, after]), rate_hz, said.text, said.speaker)
        copy.suffix = str(rng.choice([".wav", ".flac", ".ogg"]))
        corpus.touched.add(copy.id)
        corpus.splits[split].append(copy)
        if split == of_split:
            return Planted(kind, split, copy.id)
        copy.speaker = corpus.splits[split][0].speaker
        return Planted(kind, "train", said.id)

    return plant_it


def _far_too_long(kind: str, corpus: Corpus) -> Planted:
    """Let an utterance have its own text and those of others, five times as much in all."""
    said, others = corpus.pick(), corpus.sound_texts()
    wanted = 5 * len(said.text) + 20
    while len(said.text) < wanted:
        said.text += " " + others[corpus.rng.integers(len(others))]
    return Planted(kind, "train", said.id)


def _far_too_short(kind: str, corpus: Corpus) -> Planted:
    """Let one of the longest utterances have its first word alone."""
    lengths = sorted(len(said.text.split()) for said in corpus.splits["train"])
    said = corpus.pick(fits=lambda said: len(said.text.split()) >= lengths[int(0.75 * len(lengths))])
    said.text = said.text.split()[0]
    return Planted(kind, "train", said.id)


def _wrong(kind: str, corpus: Corpus) -> Planted:
    """Let an utterance have the text of another one of similar length, with at most a quarter of its words."""
    said = corpus.pick(fits=lambda said: len(said.text.split()) >= 3)
    words = set(said.text.split())
    others = [text for text in corpus.sound_texts() if len(words & set(text.split())) <= len(text.split()) / 4]
    said.text = min(sorted(others), key=lambda text: (abs(len(text) - len(said.text)), text))
    return Planted(kind, "train", said.id)


def _shared_speaker(kind: str, corpus: Corpus) -> Planted:
    said = corpus.pick("test")
    said.speaker = corpus.pick().speaker
    return Planted(kind, "train", f"speaker {said.speaker}")


def _repeated_id(kind: str, corpus: Corpus) -> Planted:
    said = corpus.pick("test")
    said.id = corpus.pick().id
    return Planted(kind, "test", said.id)


def _unseen(kind: str, corpus: Corpus) -> Planted:
    corpus.pick("test").text += " þorn"
    return Planted(kind, "test", "")


def _shared_sentence(kind: str, corpus: Corpus) -> Planted:
    corpus.pick("test").text = corpus.pick().text
    return Planted(kind, "test", "")


def _inserted(*what: str) -> Callable[..., Planted]:
    def change(text: str, rng: Rng) -> str:
        place = int(rng.integers(1, max(2, len(text))))
        return text[:place] + str(rng.choice(what)) + text[place:]

    return _text(change)


def _word_added(*what: str) -> Callable[..., Planted]:
    return _text(lambda text, rng: f"{text} {rng.choice(what)}")


_TWINS = str.maketrans("aeopcxAEOPCX", "аеорсхАЕОРСХ")  # Latin to Cyrillic


def _twin(text: str, rng: Rng) -> str:
    places = [place for place, letter in enumerate(text) if ord(letter) in _TWINS]
    place = int(rng.choice(places))
    return text[:place] + text[place].translate(_TWINS) + text[place + 1 :]


def _has_twin(said: Said) -> bool:
    return any(len(word) > 1 and any(ord(letter) in _TWINS for letter in word) for word in said.text.split())


def _rare(kind: str, corpus: Corpus) -> Planted:
    """Append a letter that nobody else has."""
    said, used = corpus.pick(), {letter for one in corpus.splits["train"] for letter in one.text.lower()}
    letters = (chr(code) for code in range(0x100, 0x180) if chr(code).islower())
    said.text += " " + next(one for one in letters if one not in used and "<" not in unicodedata.decomposition(one))
    return Planted(kind, "train", said.id)


PLANTS: dict[str, Callable[[str, Corpus], Planted]] = {
    "unreadable-audio": _damaged(lambda path: path.write_text("no audio") and None),
    "truncated-audio": _damaged(_halve),
    "silent": _samples(lambda samples, rate_hz, rng: 0 * samples),
    "repeated-id": _repeated_id,
    "empty-transcript": _text(lambda text, rng: " "),
    "too-long": _samples(lambda samples, rate_hz, rng: np.resize(samples, 35 * rate_hz)),
    "too-short": _samples(lambda samples, rate_hz, rng: samples[: round(0.05 * rate_hz)]),
    "too-many-tokens": _samples(lambda samples, rate_hz, rng: samples[: round(0.12 * rate_hz)], 1.5),
    "shared-speaker": _shared_speaker,
    "shared-audio": _copy("train", "test"),
    "no-speech": _samples(_noise),
    "clipped": _samples(_clip),
    "low-level": _samples(_whisper),
    "cut-off": _samples(_cut_off),
    "dropout": _samples(_drop_out, 1.0),
    "duplicate-audio": _copy("train", "train"),
    "transcript-too-long": _far_too_long,
    "transcript-too-short": _far_too_short,
    "look-alike": _text(_twin, _has_twin),
    "invisible-character": _inserted("\u200b", "\u00ad", "\u200e", "\ufeff"),
    "broken-encoding": _word_added("cafÃ©", "donâ€™t", "na\ufffdve"),
    "digits": _word_added("7", "1984", "3rd"),
    "annotation": _word_added("[laughter]", "<unk>", "(inaudible)", "{cough}"),
    "shared-sentences": _shared_sentence,
    "unseen-character": _unseen,
    "raised-rate": _samples(_raise_rate),
    "dc-offset": _samples(lambda samples, rate_hz, rng: 0.7 * samples + rng.choice([-1, 1]) * rng.uniform(0.04, 0.25)),
    "dead-channel": _samples(_second_channel),
    "mixed-unicode": _word_added("cafe\u0301", "nai\u0308ve"),
    "rare-character": _rare,
}
WITH_MODEL: dict[str, Callable[[str, Corpus], Planted]] = {"wrong-transcript": _wrong}
PLANTS |= WITH_MODEL
