"""Long recordings of tones, which a stand-in for a model hears perfectly, and texts with faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from tone_recognizer import RATE_HZ, ToneDecoder, draw_phrases, record, silence

import asr
from asr.audio.segment import FILE_RULE
from asr.corpus.manifest import cut_speaker, cut_text, load_manifest
from asr.errors import ManifestError, ModelError
from asr.features.batch import SEGMENT_BATCH_S, SEGMENT_POOL_S
from asr.inference.heard import hear
from asr.inference.long_alignment import FoundWord
from asr.segmenting.segment import SKIPPED
from asr.segmenting.utterances import Pause, Strictness, cut_utterances

Extents = list[tuple[float, float]]


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch, loud_is_speech: None) -> ToneDecoder:
    decoder = ToneDecoder()
    monkeypatch.setattr("asr.segmenting.segment.Decoder.load", lambda folder, **_: decoder)
    return decoder


@pytest.fixture
def phrases(rng: np.random.Generator) -> list[str]:
    return draw_phrases(24, rng)


@pytest.fixture
def extents(tmp_path: Path, phrases: list[str], rng: np.random.Generator) -> Extents:
    return record(tmp_path / "talk.wav", phrases, rng)


def segment(folder: Path, text: str, **wishes: object) -> asr.SegmentReport:
    (folder / "talk.txt").write_text(text, encoding="utf-8")
    return asr.segment("model", [(folder / "talk.wav", folder / "talk.txt")], folder / "out", **wishes)


def found_in(report: asr.SegmentReport) -> dict[str, tuple[float, float]]:
    """Return the times of each text."""
    cuts = [cut for path in report.manifests.manifests.values() for cut in load_manifest(path)]
    return {cut_text(cut): (cut.start, cut.start + cut.duration) for cut in sorted(cuts, key=lambda cut: cut.start)}


def assert_at(found: dict[str, tuple[float, float]], phrases: list[str], extents: Extents, *faulty: int) -> None:
    """Assert that the other phrases, and only they, were found where they are."""
    kept = [number for number in range(len(phrases)) if number not in faulty]
    assert list(found) == [phrases[number] for number in kept]
    for number in kept:
        assert found[phrases[number]] == pytest.approx(extents[number], abs=0.2)


def test_each_phrase_becomes_an_utterance_at_its_place(
    decoder: ToneDecoder, tmp_path: Path, phrases: list[str], extents: Extents
) -> None:
    report = segment(tmp_path, "\n\n".join(phrases))
    assert_at(found_in(report), phrases, extents)
    assert report.skipped == ()
    assert report.utterance_words == report.words == sum(len(phrase.split()) for phrase in phrases)
    for (_, end_s), (start_s, _) in pairwise(found_in(report).values()):
        assert end_s <= start_s


def test_the_manifest_keeps_the_spelling_of_the_text(
    decoder: ToneDecoder, tmp_path: Path, phrases: list[str], extents: Extents
) -> None:
    decoder.bundle.config = asr.load_config(None)
    decoder.bundle.config = decoder.bundle.config.model_copy(
        update={"text": decoder.bundle.config.text.model_copy(update={"remove": "punctuation"})}
    )
    spelled = [f"— {phrase.capitalize()}!" for phrase in phrases]
    found = list(found_in(segment(tmp_path, " ".join(spelled))))
    assert [text.removesuffix(" —") for text in found] == [text.removeprefix("— ") for text in spelled]


def test_a_phrase_with_a_wrong_word_is_skipped_and_nothing_after_it_moves(
    decoder: ToneDecoder, tmp_path: Path, phrases: list[str], extents: Extents
) -> None:
    wrong = [*phrases]
    wrong[9] = " ".join(["bcbcbcb", *phrases[9].split()[1:]])
    wrong[14] = " ".join(phrases[14].split()[1:])
    wrong[17] = f"{phrases[17]} dadada"
    report = segment(tmp_path, "\n".join(wrong))
    assert_at(found_in(report), phrases, extents, 9, 14)
    assert [stretch.text for stretch in report.skipped] == [wrong[9], wrong[14], "dadada"]
    assert report.skipped[2].reason == "written but not said"
    for stretch, number in zip(report.skipped, (9, 14), strict=False):
        assert stretch.reason in ("text and speech differ", "not certain enough")
        assert stretch.start_s < extents[number][0]
        assert stretch.end_s > extents[number][1]


def test_a_page_that_was_not_read_and_an_ad_that_is_not_written_are_skipped_with_the_reason(
    decoder: ToneDecoder, tmp_path: Path, phrases: list[str], extents: Extents
) -> None:
    page = " ".join(draw_phrases(6, np.random.default_rng(99)))
    report = segment(tmp_path, "\n".join([*phrases[:4], page, *phrases[4:10], *phrases[13:]]))
    assert_at(found_in(report), phrases, extents, 10, 11, 12)
    unread, ad = report.skipped
    assert (unread.reason, unread.text) == ("written but not said", page)
    assert (ad.reason, ad.text) == ("said but not written", "")
    assert ad.start_s < extents[10][0]
    assert ad.end_s > extents[12][1]


def test_parts_that_changed_places_are_found_where_they_were_said(
    decoder: ToneDecoder, tmp_path: Path, rng: np.random.Generator
) -> None:
    phrases = draw_phrases(60, rng)
    extents = record(tmp_path / "talk.wav", phrases, rng)
    report = segment(tmp_path, "\n".join(phrases[:15] + phrases[30:45] + phrases[15:30] + phrases[45:]))
    # At a border a phrase may be lost, because its words may belong to either side.
    missing = [number for number, phrase in enumerate(phrases) if phrase not in found_in(report)]
    assert set(missing) <= {14, 15, 29, 30, 44, 45}
    assert_at(found_in(report), phrases, extents, *missing)


def test_sound_without_words_is_listed_as_such(
    decoder: ToneDecoder, tmp_path: Path, phrases: list[str], rng: np.random.Generator
) -> None:
    extents = record(tmp_path / "talk.wav", phrases[:8], rng)
    speech, _ = soundfile.read(tmp_path / "talk.wav", dtype="float32")
    noise = 0.09 * np.sign(rng.standard_normal(4 * RATE_HZ)).astype(np.float32)  # the detector hears no speech in it
    soundfile.write(tmp_path / "talk.wav", np.concatenate([speech, noise, silence(1.0, rng)]), RATE_HZ)
    report = segment(tmp_path, "\n".join(phrases[:8]))
    assert_at(found_in(report), phrases[:8], extents)
    (stretch,) = report.skipped
    assert (stretch.reason, stretch.text) == ("no speech recognised", "")
    assert stretch.start_s == pytest.approx(len(speech) / RATE_HZ, abs=0.2)
    assert stretch.end_s == pytest.approx(len(speech) / RATE_HZ + 4, abs=0.2)


@pytest.mark.parametrize("seed", range(4))
def test_every_word_is_in_one_utterance_or_in_one_skipped_stretch(
    decoder: ToneDecoder, tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    phrases = draw_phrases(20, rng)
    record(tmp_path / "talk.wav", phrases, rng, pause_s=float(rng.uniform(0.1, 1)))
    words = " ".join(phrases).split()
    faulty = [word if rng.random() > 0.1 else "".join(rng.choice(list("abcd"), 3)) for word in words]
    report = segment(tmp_path, " ".join(faulty))
    texts = [*found_in(report), *(stretch.text.replace(" … ", " ") for stretch in report.skipped)]
    assert sorted(" ".join(texts).split()) == sorted(faulty)
    for start_s, end_s in found_in(report).values():
        assert 1.0 <= end_s - start_s <= 20.0


class EarlyDecoder(ToneDecoder):
    """Emits the first letter of each segment at once, before its tone begins."""

    def _row(self, waveform: np.ndarray) -> torch.Tensor:
        row = super()._row(waveform)
        first = int((row.argmax(dim=1) != 0).nonzero()[0])
        order = [first, *range(first), *range(first + 1, len(row))]
        return row[order]


def test_a_letter_that_is_heard_before_its_sound_does_not_move_the_start(
    monkeypatch: pytest.MonkeyPatch, loud_is_speech: None, tmp_path: Path, phrases: list[str], extents: Extents
) -> None:
    monkeypatch.setattr("asr.segmenting.segment.Decoder.load", lambda folder, **_: EarlyDecoder())
    report = segment(tmp_path, "\n".join(phrases))
    assert_at(found_in(report), phrases, extents)


def test_a_word_between_pauses_is_kept_although_the_noise_before_its_pause_belongs_to_a_word_that_fits_badly() -> None:
    words = [FoundWord(0, 1.0, 2.0, 50, 100, 6, 18.0, 0.1), FoundWord(1, 3.0, 4.2, 150, 210, 6, 0.0, 0.99)]
    # The noise from 2.0 to 2.2 s is too loud for a pause right after the first word, but not for one before the second.
    edges = SimpleNamespace(
        found=words,
        sounds=[0.0, 2.0, 0.0],
        before=[Pause(0.0, 1.0), Pause(2.2, 3.0), None],
        after=[None, None, Pause(4.2, 5.0)],
        joined=lambda place, strictness: strictness.most_unexplained > 2.0,
    )
    (kept,) = cut_utterances(edges, Strictness(1.0))  # both together would give away 20 nats for 12 tokens
    assert (kept.first_word, kept.last_word) == (1, 1)
    assert (kept.start_s, kept.end_s) == pytest.approx((3.0 - 0.15, 4.2 + 0.1))


def test_what_is_skipped_is_written_beside_the_manifests(
    decoder: ToneDecoder, tmp_path: Path, phrases: list[str], extents: Extents
) -> None:
    report = segment(tmp_path, "\n".join([*phrases[:6], *phrases[7:]]))
    (line,) = (tmp_path / "out" / SKIPPED).read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "recording": str(tmp_path / "talk.wav"),
        "start_s": round(report.skipped[0].start_s, 3),
        "end_s": round(report.skipped[0].end_s, 3),
        "reason": "said but not written",
        "text": "",
    }


def test_a_table_names_recordings_texts_speakers_and_splits(
    decoder: ToneDecoder, tmp_path: Path, rng: np.random.Generator
) -> None:
    texts = {}
    for name in ("one", "two", "three"):
        texts[name] = draw_phrases(8, rng)
        record(tmp_path / f"{name}.wav", texts[name], rng)
        (tmp_path / f"{name}.txt").write_text("\n".join(texts[name]), encoding="utf-8")
    rows = ["audio,text,speaker,split", "one.wav,one.txt,anna,train", f"two.wav,{' '.join(texts['two'])},berta,dev"]
    (tmp_path / "talks.csv").write_text("\n".join([*rows, "three.wav,three.txt,,test"]) + "\n", encoding="utf-8")
    report = asr.segment("model", tmp_path / "talks.csv", tmp_path / "out")
    for split, (name, speaker) in {
        "train": ("one", "anna"),
        "dev": ("two", "berta"),
        "test": ("three", "three"),
    }.items():
        cuts = list(load_manifest(report.manifests.manifests[split]))
        assert [cut_text(cut) for cut in sorted(cuts, key=lambda cut: cut.start)] == texts[name]
        assert {cut_speaker(cut) for cut in cuts} == {speaker}


def test_one_speaker_is_divided_by_utterance_and_a_note_says_so(
    decoder: ToneDecoder, tmp_path: Path, phrases: list[str], extents: Extents
) -> None:
    report = segment(tmp_path, "\n".join(phrases))
    assert set(report.manifests.manifests) == {"train", "dev", "test"}
    assert any("1 speaker" in note for note in report.manifests.notes)
    alone = segment(tmp_path, "\n".join(phrases), split=asr.SplitRule(dev_share=0.0, test_share=0.0), speaker="anna")
    assert alone.manifests.utterances == {"train": len(phrases)}
    assert {cut_speaker(cut) for cut in load_manifest(alone.manifests.manifests["train"])} == {"anna"}


def test_a_text_that_belongs_to_another_recording_is_an_error(
    decoder: ToneDecoder, tmp_path: Path, phrases: list[str], extents: Extents
) -> None:
    with pytest.raises(ManifestError, match="none was found for sure"):
        segment(tmp_path, "dbdbdbdb " * 40)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_segmented_is_named(decoder: ToneDecoder, tmp_path: Path, extents: Extents) -> None:
    with pytest.raises(ManifestError, match=r"talk\.txt: the text is empty"):
        segment(tmp_path, " \n")
    with pytest.raises(ModelError, match="give a model"):
        asr.segment(None, [], tmp_path / "out")
    with pytest.raises(ModelError, match="rounds=0"):
        asr.segment(None, [], tmp_path / "out", data=tmp_path, rounds=0)
    pair = (tmp_path / "talk.wav", tmp_path / "talk.txt")
    (tmp_path / "talk.txt").write_text("a", encoding="utf-8")
    with pytest.raises(ManifestError, match="occurs already"):
        asr.segment("model", [pair, pair], tmp_path / "out")


def test_what_no_utterance_can_have_is_refused_before_anything_is_heard(tmp_path: Path, extents: Extents) -> None:
    for column, value, reason in (
        ("id", "a(b)", r"t\.csv:2: 'a\(b\)' cannot be an utterance id"),
        ("id", "", r"t\.csv:2: its id is empty"),
        ("id", "a\x1bb", r"t\.csv:2: its id is .*control character U\+001B"),
        ("speaker", "a\x1bb", r"t\.csv:2: its speaker is .*control character U\+001B"),
    ):
        (tmp_path / "t.csv").write_text(f"audio,text,{column}\ntalk.wav,abc,{value}\n", encoding="utf-8")
        with pytest.raises(ManifestError, match=reason):
            asr.segment("no model", tmp_path / "t.csv", tmp_path / "out")
    for wish, reason in (
        ({"speaker": "a\nb"}, r"talk\.txt: its speaker is"),
        ({"language": "e\nn"}, r"^language='e\\nn'"),
    ):
        with pytest.raises(ManifestError, match=reason):
            segment(tmp_path, "abc", **wish)


def test_no_more_audio_is_alive_than_a_pool_of_segments_however_long_the_recording(
    decoder: ToneDecoder, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrases = draw_phrases(4, rng)
    record(tmp_path / "part.wav", phrases, rng)
    part, _ = soundfile.read(tmp_path / "part.wav", dtype="float32")
    repeats = round(1200 * RATE_HZ / len(part))
    soundfile.write(tmp_path / "talk.wav", np.tile(part, repeats), RATE_HZ)
    heard = hear(decoder, tmp_path / "talk.wav")
    assert heard.duration_s == pytest.approx(1200, abs=20)
    assert decoder.longest <= SEGMENT_BATCH_S * RATE_HZ
    samples = round(heard.duration_s * RATE_HZ)
    kept = sum(
        array.nbytes
        for array in (heard.tokens, heard.logs, heard.text_frames, heard.levels_db, *(s.loud for s in heard.segments))
    )
    assert kept < 0.05 * 4 * samples  # of the samples themselves
    assert SEGMENT_POOL_S + FILE_RULE.longest_s < heard.duration_s  # so that the claim means something


def test_the_command_says_what_was_found_and_why_the_rest_was_not(
    decoder: ToneDecoder, tmp_path: Path, phrases: list[str], extents: Extents, succeed: Callable[..., str]
) -> None:
    (tmp_path / "talk.txt").write_text("\n".join([*phrases[:6], *phrases[7:]]), encoding="utf-8")
    (tmp_path / "model").mkdir()
    shown = succeed(
        "segment", tmp_path / "model", tmp_path / "talk.wav", tmp_path / "talk.txt", "--out", tmp_path / "o"
    )
    assert "said but not written" in shown
    assert (tmp_path / "o" / "train.jsonl.gz").is_file()
    assert "skipped_stretches.jsonl" in "".join(shown.split())


def test_the_command_wants_a_model_an_audio_file_and_a_text(
    tmp_path: Path, call: Callable[..., tuple[str | int | None, str, str]]
) -> None:
    status, _, err = call("segment", tmp_path / "model", "--out", tmp_path / "o")
    assert status == 2
    assert "MODEL AUDIO TEXT" in err
