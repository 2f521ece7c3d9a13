"""`asr.review` and `asr.apply_review`: what is looked at first, and what corrections make of manifests."""

from __future__ import annotations

import gzip
import json
import math
import re
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from review_data import HOSTILE, RATE_HZ, open_review, write_reviewable

import asr
from asr.config import Config
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import cut_text, load_manifest, read_manifest, write_manifest
from asr.errors import AsrError, ManifestError
from asr.reviewing.journal import State, hold, journal_of, read_journal
from asr.reviewing.order import Heard, listen, worst_first
from asr.text.tokens import TokenTable


def correct(manifest, **changes):
    """Correct utterances of a manifest, each by what changes: `one={"text": "other"}`."""
    review = open_review(manifest)
    places = {utterance.cut.id: place for place, utterance in enumerate(review.utterances)}
    for name, change in changes.items():
        place = places[name]
        shown = review.shown(place)
        assert review.correct(place, shown["version"], State(**{**shown["now"], **change})).kept


def lines(manifest):
    return {line["id"]: line for line in map(json.loads, gzip.decompress(manifest.read_bytes()).splitlines())}


@pytest.fixture
def manifest(tmp_path):
    return write_reviewable(tmp_path / "data")


def test_corrections_are_applied_and_all_else_stays_as_it_was(manifest, tmp_path):
    before = lines(manifest)
    original = manifest.read_bytes()
    correct(
        manifest,
        one={"text": " Another TEXT, as typed ", "confirmed": True},
        two={"start_s": 3.5, "end_s": 6.25},
        damaged={"bad": True},
    )
    report = asr.apply_review(manifest, tmp_path / "new")
    assert manifest.read_bytes() == original
    after = lines(tmp_path / "new" / "train.jsonl.gz")
    assert [*after] == ["one", "two", "three"]
    assert after["three"] == before["three"]
    assert after["one"]["supervisions"][0].pop("text") == " Another TEXT, as typed "
    assert before["one"]["supervisions"][0].pop("text") == "first words"
    assert after["one"] == before["one"]
    assert (after["two"]["start"], after["two"]["duration"]) == (3.5, 2.75)
    assert after["two"]["recording"] == before["two"]["recording"]
    whole, _ = soundfile.read(manifest.parent / "long.wav", dtype="float32")
    _, moved, _ = load_manifest(tmp_path / "new" / "train.jsonl.gz")
    np.testing.assert_array_equal(load_cut(moved), whole[round(3.5 * RATE_HZ) : round(6.25 * RATE_HZ)])
    assert (moved.supervisions[0].duration, moved.supervisions[0].speaker) == (2.75, "somebody")
    assert (report.utterances, report.confirmed, report.texts, report.moved) == (3, 1, 1, 1)
    assert report.left_out == {"train/damaged": "marked as bad"}
    assert report.written == {"train": tmp_path / "new" / "train.jsonl.gz"}


def test_what_was_undone_is_not_applied(manifest, tmp_path):
    correct(manifest, one={"text": "wrong"}, two={"text": "right"})
    review = open_review(manifest)
    assert review.undo(0, 1).kept
    asr.apply_review(manifest, tmp_path / "new")
    texts = {cut.id: cut_text(cut) for cut in read_manifest(tmp_path / "new" / "train.jsonl.gz")}
    assert texts == {"one": "first words", "two": "right", "damaged": "lost words", "three": HOSTILE}


def test_what_a_model_and_an_alignment_said_of_the_old_text_is_dropped(manifest, tmp_path):
    cuts = list(load_manifest(manifest))
    for cut in cuts:
        cut.supervisions[0].custom = {"expected_wer": 0.5, "confidences": [0.1], "mood": "good"}
    write_manifest(cuts, manifest)
    correct(manifest, one={"text": "right"}, two={"confirmed": True})
    asr.apply_review(manifest, tmp_path / "new")
    after = lines(tmp_path / "new" / "train.jsonl.gz")
    assert after["one"]["supervisions"][0]["custom"] == {"mood": "good"}
    assert after["two"] == lines(manifest)["two"]


def test_an_utterance_without_a_transcript_is_left_out_until_somebody_gives_it_one(manifest, tmp_path):
    cuts = list(load_manifest(manifest))
    for cut in cuts:
        cut.supervisions = []
    write_manifest(cuts, manifest)
    correct(manifest, one={"text": "typed", "confirmed": True}, two={"text": "", "confirmed": True})
    report = asr.apply_review(manifest, tmp_path / "new")
    (cut,) = load_manifest(tmp_path / "new" / "train.jsonl.gz")
    assert (cut.id, cut_text(cut), cut.supervisions[0].duration) == ("one", "typed", 2.0)
    assert report.left_out == {f"train/{name}": "it has no transcript" for name in ("two", "damaged", "three")}


def test_a_folder_keeps_its_splits_also_those_that_nobody_reviewed(manifest, tmp_path):
    data = manifest.parent
    shutil.copy(manifest, data / "dev.jsonl.gz")
    shutil.copy(manifest, data / "test.jsonl.gz")
    correct(data / "dev.jsonl.gz", **{name: {"bad": True} for name in ("one", "two", "damaged", "three")})
    correct(manifest, one={"text": "other"})
    report = asr.apply_review(data, tmp_path / "new")
    assert {*report.written} == {"train", "test"}, "a split in which all are bad is not written"
    assert lines(tmp_path / "new" / "test.jsonl.gz") == lines(data / "test.jsonl.gz")
    assert "dev/one" in report.left_out


def changed(manifest, name, **changes):
    cuts = list(load_manifest(manifest))
    for cut in cuts:
        if cut.id == name:
            for key, value in changes.items():
                setattr(cut.supervisions[0] if key == "text" else cut, key, value)
    write_manifest(cuts, manifest)


@pytest.mark.parametrize("change", [{"text": "edited"}, {"start": 1.5}, {"duration": 1.5}, {"id": "renamed"}])
def test_a_manifest_that_says_something_else_of_a_corrected_utterance_is_refused_by_name(manifest, tmp_path, change):
    correct(manifest, one={"text": "other"})
    changed(manifest, "one", **change)
    for use in (lambda: asr.apply_review(manifest, tmp_path / "new"), lambda: asr.review(manifest)):
        with pytest.raises(ManifestError, match=r"changed since its review: 1 corrected utterance \('one'\)"):
            use()
    assert not (tmp_path / "new").exists()


def test_other_changes_of_a_manifest_do_not_matter_because_ids_match(manifest, tmp_path):
    correct(manifest, one={"text": "other"})
    changed(manifest, "two", text="edited by somebody else")
    write_manifest(list(load_manifest(manifest))[::-1], manifest)
    asr.apply_review(manifest, tmp_path / "new")
    texts = [cut_text(cut) for cut in read_manifest(tmp_path / "new" / "train.jsonl.gz")]
    assert texts == [HOSTILE, "lost words", "edited by somebody else", "other"]


def test_the_original_is_never_replaced_and_without_corrections_there_is_nothing_to_apply(manifest, tmp_path):
    with pytest.raises(ManifestError, match="nobody has corrected anything"):
        asr.apply_review(manifest, tmp_path / "new")
    correct(manifest, one={"text": "other"})
    (tmp_path / "link").symlink_to(manifest.parent)
    for out in (manifest.parent, tmp_path / "link"):
        with pytest.raises(ManifestError, match="the original stays as it is"):
            asr.apply_review(manifest, out)


def test_a_packed_folder_and_a_recording_without_a_folder_for_its_utterances_are_refused(manifest, tmp_path):
    asr.pack(write_reviewable(tmp_path / "whole", damaged=False), tmp_path / "shar")
    with pytest.raises(ManifestError, match="its audio is packed"):
        asr.review(tmp_path / "shar")
    for data in (manifest.parent / "long.wav", tmp_path):
        with pytest.raises(ManifestError, match="of recordings, name the folder for their utterances with --out"):
            asr.review(data)


TABLE = TokenTable.from_texts(["abc"])


def sure(text, frames, share=0.9):
    """Return log-posteriors whose best path spells a text, `(frame, token)`."""
    table = torch.full((frames, len(TABLE)), (1 - share) / (len(TABLE) - 1))
    path = [token for letter in text for token in (0, TABLE.encode(letter)[0])]
    table[range(frames), path + [0] * (frames - len(path))] = share
    return table.log()


def decoder(heard, words):
    """A model that hears a text of letters in each utterance, and recognises words with confidences."""

    def log_posteriors(batch):
        return torch.stack([sure(heard[name], 12) for name in batch.ids]), torch.full((len(batch.ids),), 12)

    return SimpleNamespace(
        bundle=SimpleNamespace(config=Config(), tokens=TABLE),
        sample_rate_hz=16000,
        log_posteriors=log_posteriors,
        decode=lambda batch: list(batch.ids),
        texts=lambda name: [" ".join(word for word, _ in words[name])],
        words=lambda name: [SimpleNamespace(confidence=confidence) for _, confidence in words[name]],
    )


def test_a_transcript_that_fits_badly_comes_first_and_damaged_audio_is_no_reason_to_stop(manifest):
    cuts = list(load_manifest(manifest))
    texts = {"one": "ab", "two": "ac", "damaged": "ab", "three": "xyz"}
    for cut in cuts:
        cut.supervisions[0].text = texts[cut.id]
    found = listen(decoder(dict.fromkeys(texts, "ab"), {}), cuts)
    one, two, damaged, three = found
    assert (one.text, one.right, one.reason) == ("ab", (True,), "")
    assert one.doubt == pytest.approx(0.0, abs=1e-6), "the text is what is heard"
    assert 1 < two.doubt < math.inf
    assert two.right == (False,)
    assert "short.wav" in damaged.reason
    assert "cannot spell the text" in three.reason
    assert worst_first(dict(enumerate(found)), dict.fromkeys(range(4), True)) == [2, 3, 1, 0]


def test_without_transcripts_the_least_sure_comes_first_and_what_is_recognised_is_the_start(manifest):
    cuts = list(load_manifest(manifest))
    for cut in cuts:
        cut.supervisions = []
    words = {"one": [("a", 0.9), ("b", 0.7)], "two": [("c", 0.4)], "three": []}
    found = listen(decoder({}, words), cuts)
    assert [heard.text for heard in found] == ["a b", "c", "", ""]
    assert [heard.doubt for heard in found] == pytest.approx([0.2, 0.6, math.inf, math.inf])
    assert found[3].reason == "the model hears nothing"
    assert worst_first(dict(enumerate(found)), dict.fromkeys(range(4), False)) == [2, 3, 1, 0]


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 2.0, math.inf]), st.booleans()), max_size=8))
def test_those_without_a_transcript_come_first_then_doubt_falls_then_the_manifest_s_order_holds(rows):
    heard = {place: Heard(doubt=doubt) for place, (doubt, _) in enumerate(rows)}
    order = worst_first(heard, {place: transcribed for place, (_, transcribed) in enumerate(rows)})
    assert sorted(order) == [*range(len(rows))]
    keys = [(rows[place][1], -rows[place][0], place) for place in order]
    assert keys == sorted(keys)


def test_the_commands_say_what_was_done_and_what_comes_next(manifest, tmp_path, call, succeed, monkeypatch):
    def corrected_by_somebody(found, title, port, on_ready):
        on_ready("http://127.0.0.1:1/secret/")
        with pytest.raises(AsrError, match="another asr review"):
            hold(journal_of(manifest))
        correct(manifest, one={"text": "other", "confirmed": True}, two={"bad": True})
        found._journals["train"].histories.update(read_journal(journal_of(manifest)))

    monkeypatch.setattr("asr.reviewing.review._serve", corrected_by_somebody)
    journal_of(manifest).write_text('{"id": "one", "ver')
    out = succeed("review", manifest)
    assert out.splitlines() == [
        f"{journal_of(manifest)}: dropped 18 bytes at the end, a line that was never finished",
        "4 utterances: 0 confirmed, 0 bad",
        "open http://127.0.0.1:1/secret/",
        "Ctrl-C ends",
        "4 utterances: 1 confirmed, 1 bad",
        f"asr review apply {manifest} --out DIR writes them",
    ]
    out = succeed("review", "apply", manifest, "--out", tmp_path / "new")
    assert out.splitlines() == [
        "3 utterances: 1 confirmed, 1 with another text, 0 moved",
        "left out  train/two: marked as bad",
        f"written   {tmp_path / 'new' / 'train.jsonl.gz'}",
    ]
    status, _, err = call("review", "apply", manifest, "--out", manifest.parent)
    assert status == 1
    assert "the original stays as it is" in err
    assert "open DATA" in succeed("review", "--help").replace("\n", " ")


def test_without_uvicorn_the_error_names_the_extra(manifest, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    status, _, err = call("review", manifest)
    assert status == 1
    assert "pip install 'asr[serve]'" in err


@pytest.mark.parametrize(
    ("change", "said"),
    [({"end_s": 1e9}, "no part of the recording"), ({"start_s": -1.0}, "no part"), ({"text": "\x1b[31m"}, "U+001B")],
)
def test_a_journal_with_what_no_manifest_could_hold_is_refused_by_name(manifest, tmp_path, change, said):
    correct(manifest, one={"text": "other"})
    journal = journal_of(manifest)
    line = json.loads(journal.read_text())
    line["now"] |= change
    journal.write_text(json.dumps(line) + "\n")
    for use in (lambda: asr.apply_review(manifest, tmp_path / "new"), lambda: asr.review(manifest)):
        with pytest.raises(ManifestError, match=f"utterance one: .*{re.escape(said)}"):
            use()
