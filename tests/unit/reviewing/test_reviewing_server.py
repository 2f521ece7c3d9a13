"""The server of a review: whom it answers, what it keeps, and what it says of what it does not keep."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys

import numpy as np
import pytest
import soundfile
from review_data import HOSTILE, PARTS, RATE_HZ, RECORDING_S, TOKEN, open_review, write_reviewable

from asr.corpus.manifest import load_manifest
from asr.errors import DependencyError
from asr.reviewing.journal import journal_of, read_journal
from asr.reviewing.server import TOKEN_HEADER, app

testclient = pytest.importorskip("starlette.testclient", reason="the extra serve is not installed")
HOME = "http://127.0.0.1:8000"
OPEN = {TOKEN_HEADER: TOKEN}


@pytest.fixture
def manifest(tmp_path):
    return write_reviewable(tmp_path / "data")


@pytest.fixture
def client(manifest):
    return testclient.TestClient(app(open_review(manifest), TOKEN, "train"), base_url=HOME)


def correct(client, place, version, now, headers=OPEN):
    return client.post(f"/{TOKEN}/correct", json={"place": place, "version": version, "now": now}, headers=headers)


def shown(client, place):
    return client.get(f"/{TOKEN}/utterance/{place}").json()


def test_what_is_kept_is_in_the_journal_before_the_answer_and_after_a_new_start(client, manifest):
    before = shown(client, 0)
    now = {**before["now"], "text": "other words", "confirmed": True}
    answer = correct(client, 0, 0, now).json()
    assert (answer["kept"], answer["utterance"]["version"], answer["counts"]["confirmed"]) == (True, 1, 1)
    assert read_journal(journal_of(manifest))["one"].now.text == "other words"
    again = open_review(manifest)
    assert again.shown(0) == answer["utterance"]
    assert again.first == 1, "the first that nobody has dealt with"


def test_a_correction_of_an_older_version_is_refused_and_the_newer_one_is_shown(client, manifest):
    now = shown(client, 0)["now"]
    assert correct(client, 0, 0, {**now, "text": "of one tab"}).json()["kept"]
    answer = correct(client, 0, 0, {**now, "text": "of the other tab"}).json()
    assert not answer["kept"]
    assert answer["reason"] == "it was corrected elsewhere meanwhile"
    assert (answer["utterance"]["version"], answer["utterance"]["now"]["text"]) == (1, "of one tab")
    assert correct(client, 0, 1, {**now, "text": "of the other tab"}).json()["kept"]
    wish = {"place": 0, "version": 1}
    assert not client.post(f"/{TOKEN}/undo", json=wish, headers=OPEN).json()["kept"]
    assert [state.text for state in read_journal(journal_of(manifest))["one"].kept] == [
        "of one tab",
        "of the other tab",
    ]


def test_undo_takes_back_one_correction_after_the_other_until_what_the_manifest_says(client):
    first = shown(client, 1)["now"]
    states = [first, {**first, "text": "a"}, {**first, "text": "a", "bad": True}, {**first, "start_s": 4.25}]
    for version, state in enumerate(states[1:]):
        assert correct(client, 1, version, state).json()["kept"]
    for version, state in zip((3, 4, 5), states[2::-1], strict=True):
        answer = client.post(f"/{TOKEN}/undo", json={"place": 1, "version": version}, headers=OPEN).json()
        assert answer["kept"]
        assert answer["utterance"]["now"] == state
    answer = client.post(f"/{TOKEN}/undo", json={"place": 1, "version": 6}, headers=OPEN).json()
    assert (answer["kept"], answer["reason"]) == (False, "there is nothing to undo")


def test_what_is_kept_already_needs_no_line(client, manifest):
    now = {**shown(client, 0)["now"], "confirmed": True}
    for _ in range(2):
        assert correct(client, 0, shown(client, 0)["version"], now).json()["kept"]
    assert journal_of(manifest).read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start_s": -0.5}, "is no part of the recording"),
        ({"end_s": RECORDING_S + 1}, "is no part of the recording"),
        ({"start_s": 3.0}, "is no part of the recording"),
        ({"start_s": 2.99}, "lasts at least 0.02 s"),
        ({"text": "bell \x07"}, "U+0007"),
        ({"text": "a" * 100_001}, "100,000 characters"),
    ],
)
def test_what_no_manifest_could_hold_is_refused_with_the_reason(client, manifest, changes, said):
    answer = correct(client, 0, 0, {**shown(client, 0)["now"], **changes}).json()
    assert not answer["kept"]
    assert said in answer["reason"]
    assert not journal_of(manifest).exists()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b'{"place": 0}',
        b'{"place": 0, "version": "0", "now": null}',
        b'{"place": 0, "version": 0}',
        b'{"place": 0, "version": 0, "now": {"text": 1, "start_s": 0, "end_s": 1}}',
        b'{"place": 0, "version": 0, "now": {"text": "\\ud800", "start_s": 0, "end_s": 1}}',
        b'{"place": 0, "version": 0, "now": {"text": "a", "start_s": NaN, "end_s": 1}}',
        b"[" * 100_000,
        b" " * (1 << 21),
    ],
)
def test_a_malformed_request_gets_400_and_changes_nothing(client, manifest, body):
    response = client.post(f"/{TOKEN}/correct", content=body, headers=OPEN)
    assert response.status_code == 400
    assert not journal_of(manifest).exists()


@pytest.mark.parametrize(
    "path", ["*", "", f"/{TOKEN}", f"/{TOKEN}/utterance/{'9' * 5000}", f"/{TOKEN}/audio/{'9' * 5000}"]
)
def test_a_path_that_is_none_is_answered_and_no_error_of_the_server(client, path):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    scope = {"type": "http", "method": "OPTIONS", "path": path, "raw_path": b"", "root_path": "", "query_string": b""}
    asyncio.run(client.app({**scope, "headers": [(b"host", b"127.0.0.1:8000")]}, receive, send))
    assert sent[0]["status"] in (307, 403, 404)


@pytest.mark.parametrize("place", [4, 10**20])
def test_an_utterance_that_does_not_exist_gets_404(client, place):
    assert client.get(f"/{TOKEN}/utterance/{place}").status_code == 404
    assert client.get(f"/{TOKEN}/audio/{place}").status_code == 404
    assert correct(client, place, 0, shown(client, 0)["now"]).status_code == 404


@pytest.mark.parametrize(
    "path", ["audio/../../etc/passwd", "audio/%2e%2e%2fetc%2fpasswd", "audio/-1", "audio/long.wav"]
)
def test_a_path_leads_to_no_file(client, path):
    assert client.get(f"/{TOKEN}/{path}").status_code in (403, 404)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[::1", "", "127.0.0.2"]
)
def test_another_name_that_leads_to_this_machine_is_refused(client, host):
    for path in ("", "utterance/0", "audio/0"):
        assert client.get(f"/{TOKEN}/{path}", headers={"Host": host}).status_code == 403
    now = shown(client, 0)["now"]
    assert correct(client, 0, 0, now, {**OPEN, "Host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9", "https://127.0.0.1:8000", "null"])
def test_another_site_is_refused_and_never_allowed_to_read(client, manifest, origin):
    now = {**shown(client, 0)["now"], "text": "evil"}
    response = correct(client, 0, 0, now, {**OPEN, "Origin": origin})
    assert response.status_code == 403
    assert not [name for name in response.headers if name.startswith("access-control-")]
    preflight = client.options(f"/{TOKEN}/correct", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 403
    assert not journal_of(manifest).exists()
    assert correct(client, 0, 0, now, {**OPEN, "Origin": HOME}).status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", "ü"])
def test_without_the_token_nothing_is_shown_and_nothing_is_changed(client, manifest, token):
    for path in ("/", f"/{token}/", f"/{token}/utterance/0", "/utterance/0"):
        assert client.get(path).status_code == 403
    now = {**shown(client, 0)["now"], "text": "evil"}
    for headers in ({}, {TOKEN_HEADER: token.encode()}):
        assert correct(client, 0, 0, now, headers).status_code == 403
    assert not journal_of(manifest).exists()


def test_the_audio_is_the_utterance_with_two_seconds_before_and_after_as_far_as_there_are(client, tmp_path):
    whole, _ = soundfile.read(tmp_path / "data" / "long.wav", dtype="float32")
    for place, expected in ((0, (0.0, 5.0)), (1, (2.0, 8.0)), (3, (7.0, RECORDING_S))):
        response = client.get(f"/{TOKEN}/audio/{place}")
        samples, rate_hz = soundfile.read(io.BytesIO(response.content), dtype="float32")
        start_s = float(response.headers["X-Review-Start"])
        assert (start_s, rate_hz, len(samples) / rate_hz) == (expected[0], RATE_HZ, expected[1] - expected[0])
        np.testing.assert_array_equal(samples, whole[round(start_s * RATE_HZ) :][: len(samples)])
    now = shown(client, 1)["now"]
    correct(client, 1, 0, {**now, "start_s": 1.5, "end_s": 7.5})
    response = client.get(f"/{TOKEN}/audio/1")
    assert (response.headers["X-Review-Start"], soundfile.info(io.BytesIO(response.content)).duration) == ("0.0", 9.5)


def test_of_damaged_audio_the_reason_is_said(client):
    response = client.get(f"/{TOKEN}/audio/2")
    assert response.status_code == 200
    assert "utterance damaged" in response.json()["reason"]
    assert "short.wav" in response.json()["reason"]


def test_the_page_is_one_file_and_a_browser_may_ask_nobody_else(client):
    response = client.get(f"/{TOKEN}/")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert not re.search(r"\b(src|href)=(?!\"data:)|https?://|url\(", response.text)


def test_a_disk_that_refuses_is_said_and_the_next_correction_is_kept(client, manifest, monkeypatch):
    now = {**shown(client, 0)["now"], "text": "other"}

    def full(path, line):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("asr.reviewing.journal.append_line", full)
        answer = correct(client, 0, 0, now).json()
    assert (answer["kept"], answer["reason"]) == (False, "it cannot be written (No space left on device)")
    assert answer["utterance"]["now"]["text"] == PARTS[0][3]
    assert correct(client, 0, 0, now).json()["kept"]


def test_a_text_goes_through_as_it_is(client, manifest):
    assert shown(client, 3)["now"]["text"] == HOSTILE
    text = f"  {HOSTILE}\nnext line\t"
    assert correct(client, 3, 0, {**shown(client, 3)["now"], "text": text}).json()["utterance"]["now"]["text"] == text
    assert json.loads(journal_of(manifest).read_text())["now"]["text"] == text
    assert open_review(manifest).shown(3)["shown_text"] == text


def test_of_a_mix_or_several_supervisions_only_bad_can_be_corrected(tmp_path):
    from asr.reviewing.corrections import Review, Utterance
    from asr.reviewing.journal import Journal, State

    cuts = list(load_manifest(write_reviewable(tmp_path, damaged=False)))
    mixed = cuts[0].append(cuts[1]).with_id("mixed")
    review = Review([Utterance("train", mixed)], {"train": Journal(tmp_path / "review.jsonl")})
    now = State(**review.shown(0)["now"])
    refused = review.correct(0, 0, now.model_copy(update={"text": "one text"}))
    assert not refused.kept
    assert "a mix of several recordings" in refused.reason
    assert review.correct(0, 0, now.model_copy(update={"bad": True})).kept
    start_s, audio = review.audio(0)
    assert (start_s, soundfile.info(io.BytesIO(audio)).duration) == (0.0, 4.0)


def test_without_starlette_the_error_names_the_extra(monkeypatch, manifest):
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(DependencyError, match=r"pip install 'asr\[serve\]'"):
        app(open_review(manifest), TOKEN, "train")
