"""The page of the server in a browser: files, a WAV as microphone, words, what is saved, tokens, errors, everybody."""

from __future__ import annotations

import base64
import io
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from accessibility import serious_findings

from asr.audio.resample import resample
from asr.runtime import load as load_export
from asr.transcript.transcript import Transcript
from asr.transcript.words import Word
from tests.unit.serving.running_server import running

TOKEN = "a-token/of+more=16~characters"
SILENCE_S = 3.0  # at the start of what the microphone hears, or a part is lost before the page listens


def until(page, expression: str, given: object = None, seconds: float = 60.0) -> None:
    """Wait until an expression holds in the page. The page's policy forbids playwright's own way, which evaluates."""
    for _ in range(round(seconds / 0.05)):
        if page.evaluate(f"(given) => Boolean({expression})", given):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never: {expression} ({given}); {page.inner_text('main')}")


@pytest.fixture(scope="module")
def said(recordings, tmp_path_factory) -> Path:
    """What the microphone hears, once."""
    path = tmp_path_factory.mktemp("microphone") / "said.wav"
    samples, rate_hz = soundfile.read(recordings[1], dtype="int16")
    soundfile.write(path, np.concatenate([np.zeros(round(SILENCE_S * rate_hz), np.int16), samples]), rate_hz)
    return path


@pytest.fixture(scope="module")
def chromium(said) -> Iterator[Callable]:
    """Starts browsers that hear the file as their microphone: each start hears it from its beginning."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the pages, is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    media = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={said}%noloop"]
    with sync_api.sync_playwright() as playwright:
        browsers = []

        def start(*more: str):
            arguments = ["--no-sandbox", *media, *(more or ("--use-fake-ui-for-media-stream",))]
            browsers.append(playwright.chromium.launch(executable_path=program, args=arguments))
            return browsers[-1]

        yield start
        for browser in browsers:
            browser.close()


@pytest.fixture(scope="module")
def browser(chromium):
    return chromium()


@pytest.fixture
def opened(browser, server) -> Iterator[Callable]:
    """Open pages; at the end no page had anything to complain of, or asked anybody else."""
    complaints: list[str] = []
    asked: list[str] = []
    pages = []

    def open_page(url: str = server.url, *, of=browser, **options):
        page = of.new_page(**options)
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url.replace("ws:", "http:")))
        page.goto(url)
        return page

    open_page.complaints = complaints
    yield open_page
    for page in pages:
        page.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("http://127.0.0.1:", "blob:", "data:"))] == []


def ready(page) -> None:
    until(page, "byId('model').options.length > 0")


def words_of(page, place: int = 0) -> list[dict]:
    return page.evaluate("(place) => byId('recordings').children[place].recording.words", place)


def state(page, place: int = 0) -> str:
    return page.locator(".state").nth(place).inner_text()


def test_what_is_said_into_the_microphone_is_transcribed_as_by_python(opened, exported, said):
    page = opened()
    ready(page)
    page.keyboard.press("Tab")  # model
    page.keyboard.press("Tab")  # expected words
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "speak"
    page.keyboard.press("Enter")
    until(page, "speaking && speaking.recording.open.textContent")  # partial results while one speaks
    until(page, "byId('level').value > 0.3")
    seconds = soundfile.info(said).duration + 1
    until(page, "speaking.blocks.length > given", 10 * seconds)
    page.keyboard.press("Enter")
    until(page, "!document.querySelector('.files').hidden")
    words = words_of(page)
    heard = microphone_sound(page)
    recognizer = load_export(exported)
    results = [one for one in recognizer.stream([heard], sample_rate_hz=16000, end_silence_s=0.4) if one.is_final]
    expected = [word for one in results for word in one.words]
    assert [word["text"] for word in words] == [word.text for word in expected]
    for name, digits in (("start_s", 3), ("end_s", 3), ("confidence", 4)):
        assert [word[name] for word in words] == [round(getattr(word, name), digits) for word in expected]
    assert len(words) > 3
    assert_contains(heard, soundfile.read(said, dtype="float32")[0])


def microphone_sound(page) -> np.ndarray:
    """Return the samples that the page keeps of a recording by microphone."""
    text = page.evaluate(
        """async () => {
          const bytes = new Uint8Array(await byId('recordings').children[0].recording.sound.arrayBuffer());
          return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
        }"""
    )
    samples, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(text)), dtype="float32")
    assert rate_hz == 16000
    return samples


def assert_contains(heard: np.ndarray, said: np.ndarray) -> None:
    """See that what the page recorded is what was said, a quarter of a second at a time: a busy machine drops some.

    The browser changes the rate twice, with filters of its own, so only what is below 3 kHz is compared.
    """
    heard, said = (resample(samples, 16000, 6000) for samples in (heard, said))
    parts = said[round(SILENCE_S * 6000) :]
    parts = parts[: len(parts) // 1500 * 1500].reshape(-1, 1500)
    likeness = []
    for part in parts:
        size = len(heard) + len(part)
        shared = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(part, size)), size)
        place = int(shared[: len(heard) - len(part)].argmax())
        likeness.append(np.corrcoef(heard[place : place + len(part)], part)[0, 1])
    assert np.median(likeness) > 0.9


def test_several_files_are_transcribed_one_after_the_other_and_saved_in_every_format(opened, exported, recordings):
    page = opened()
    ready(page)
    page.set_input_files("#files", recordings[:3])
    until(page, "document.querySelectorAll('.files:not([hidden])').length === 3")
    recognizer = load_export(exported)
    for place, path in enumerate(recordings[:3]):
        expected = recognizer.transcribe(path)
        words = words_of(page, place)
        assert [word["text"] for word in words] == [word.text for word in expected.words]
        assert page.locator(".words").nth(place).inner_text() == expected.text
    expected = recognizer.transcribe(recordings[1])
    rounded = [
        Word(word.text, round(word.start_s, 3), round(word.end_s, 3), round(word.confidence, 4), word.space_before)
        for word in expected.words
    ]
    same = Transcript.of(rounded, round(expected.duration_s, 3), recordings[1].name)
    for label, name in (("Text", "txt"), ("Subtitles .srt", "srt"), ("Subtitles .vtt", "vtt"), ("JSON", "json")):
        with page.expect_download() as download:
            page.locator("section").nth(1).get_by_text(label, exact=True).click()
        assert download.value.suggested_filename == f"{recordings[1].stem}.{name}"
        assert Path(download.value.path()).read_text(encoding="utf-8") == getattr(same, f"to_{name}")()


def test_a_click_or_a_key_on_a_word_plays_it(opened, recordings):
    page = opened()
    ready(page)
    page.set_input_files("#files", recordings[1])
    until(page, "document.querySelectorAll('.files:not([hidden])').length === 1")
    starts = [word["start_s"] for word in words_of(page)]
    page.locator(".words [role=button]").nth(1).click()
    until(page, "!document.querySelector('audio').paused")
    assert page.evaluate("document.querySelector('audio').currentTime") == pytest.approx(starts[1], abs=1.0)
    page.evaluate("document.querySelector('audio').pause()")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    until(page, "!document.querySelector('audio').paused")
    assert page.evaluate("document.querySelector('audio').currentTime") == pytest.approx(starts[2], abs=1.0)
    assert page.evaluate("[...document.querySelectorAll('.words [tabindex=\"0\"]')].length") == 1
    classes = page.evaluate("byId('recordings').children[0].recording.marks.map(({className}) => className)")
    for mark, word in zip(classes, words_of(page), strict=True):
        confidence = word["confidence"]
        assert mark.replace("heard", "").strip() == (
            "" if confidence >= 0.95 else "unsure" if confidence < 0.5 else "doubtful"
        )


def test_a_file_that_is_no_audio_is_named_with_the_reason_and_the_next_one_is_transcribed(opened, recordings, tmp_path):
    hostile = tmp_path / "<img src=x onerror=alert(1)>.wav"
    hostile.write_bytes(b"no audio")
    page = opened()
    ready(page)
    page.set_input_files("#files", [hostile, recordings[2]])
    until(page, "document.querySelectorAll('.files:not([hidden])').length === 1")
    assert "not audio" in state(page)
    assert page.locator("h2").first.inner_text() == hostile.name
    assert page.locator("img").count() == 0
    assert [text for text in opened.complaints if "400 (Bad Request)" not in text] == []
    opened.complaints.clear()
    page.get_by_text("Clear").click()
    assert page.locator("section").count() == 0
    assert page.locator("#clear").is_disabled()


def test_without_a_microphone_or_when_it_is_refused_the_page_says_so_and_files_still_work(
    opened, chromium, recordings, server
):
    page = opened(of=chromium("--deny-permission-prompts"))
    ready(page)
    page.click("#speak")
    until(page, "byId('error').textContent.includes('not to give this page the microphone')")
    insecure = opened(of=chromium("--host-resolver-rules=MAP localhost. 127.0.0.1"))
    insecure.evaluate("Object.defineProperty(window, 'isSecureContext', {value: false}); setUp()")
    assert "only to pages of this machine" in insecure.inner_text("#no-microphone")
    assert insecure.locator("#speak").is_disabled()
    insecure.set_input_files("#files", recordings[2])
    until(insecure, "document.querySelectorAll('.files:not([hidden])').length > 0")


def test_with_a_token_the_page_asks_for_it_and_keeps_it_for_the_session(opened, exported, recordings):
    from asr.serving.app import Service
    from asr.serving.worker import Served

    service = Service((Served("exported", str(exported)),), jobs=1)
    with running(replace(service, token=TOKEN)) as server:
        page = opened(server.url)
        assert page.locator("#token").is_visible()
        page.fill("#token", "wrong")
        page.keyboard.press("Tab")
        until(page, "byId('error').textContent.includes('wants its token')")
        page.fill("#token", TOKEN)
        page.keyboard.press("Tab")
        ready(page)
        assert page.locator("#error").inner_text() == ""
        page.reload()
        ready(page)
        page.click("#speak")
        until(page, "speaking && speaking.recording.open.textContent + speaking.recording.words.length > ''")
        until(page, "speaking.blocks.length > 20")
        page.click("#speak")
        until(page, "!speaking && !document.querySelector('.files').hidden")
        assert "failed" not in page.locator("section").get_attribute("class")
        assert TOKEN not in page.content()
    assert [text for text in opened.complaints if "401 (Unauthorized)" not in text] == []
    opened.complaints.clear()


def test_a_server_that_has_ended_is_said(opened, exported, recordings):
    from asr.serving.app import Service
    from asr.serving.worker import Served

    with running(Service((Served("exported", str(exported)),), jobs=1)) as server:
        page = opened(server.url)
        ready(page)
    page.set_input_files("#files", recordings[2])
    until(page, "document.querySelector('.failed')")
    assert "cannot be reached" in state(page)
    page.click("#speak")
    until(page, "byId('error').textContent.includes('cannot be reached')")
    assert all("ERR_CONNECTION_REFUSED" in text for text in opened.complaints)
    opened.complaints.clear()


def test_a_microphone_recording_that_is_removed_stops_the_microphone(opened, server):
    page = opened()
    ready(page)
    page.click("#speak")
    until(page, "speaking && speaking.blocks.length > 2")
    page.get_by_text("Remove").click()
    until(page, "!speaking")
    assert page.locator("section").count() == 0
    assert page.inner_text("#speak") == "Speak"
    for _ in range(600):
        if server.desk.live.streams == 0:
            break
        page.wait_for_timeout(50)
    assert server.desk.live.streams == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 360])
def test_everybody_can_use_it_light_and_dark_and_on_a_phone(opened, recordings, scheme, width):
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    ready(page)
    page.set_input_files("#files", recordings[1])
    until(page, "document.querySelectorAll('.files:not([hidden])').length === 1")
    page.click("#speak")
    until(page, "speaking && speaking.blocks.length > 2")
    page.evaluate(
        """() => {
          byId('token').closest('label').hidden = false;
          const words = [0.99, 0.8, 0.2].map((confidence) => ({text: 'word', start_s: 0, end_s: 1, confidence}));
          speaking.recording.add(words);
          speaking.recording.guess('what is said so far');
          say('An error.', true);
          newRecordingThatFailed();
          function newRecordingThatFailed() {
            const failed = newRecording('a-name-without-any-place-to-break-it-'.repeat(4));
            show(failed);
            failed.fail('A reason.');
          }
        }"""
    )
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut off"
    page.click("#speak")
    until(page, "!speaking")


def post(server, path: str, body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(server.url + path, body, method="POST")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("exe", b"{}", 404, "there is no format"),
        ("..%2fsrt", b"{}", 404, ""),
        ("srt", b"{", 400, "not JSON"),
        ("srt", b'{"name": "a", "duration_s": 1, "words": [{"text": 1}]}', 400, "words"),
        ("srt", b'{"name": "a", "duration_s": 1e999, "words": []}', 400, ""),
        ("srt", b" " * (17 << 20), 413, "16 MB"),
    ],
)
def test_what_is_no_transcript_is_refused_with_a_sentence(server, path, body, status, reason):
    found, message = post(server, f"/v1/written/{path}", body)
    assert found == status
    assert reason in message


def test_the_page_may_ask_nobody_else_and_has_no_script_but_its_own(server):
    with urllib.request.urlopen(server.url + "/") as answer:
        policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert "default-src 'none'" in policy
    assert "connect-src 'self';" in policy
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    scripts = page.split("<script")[1:]
    assert [script.startswith((f' nonce="{nonce}">', ' type="application/json"')) for script in scripts] == [True, True]
    assert "http://" not in page
    assert "https://" not in page.replace("'https:'", "")
    with urllib.request.urlopen(server.url + "/") as again:
        assert nonce not in again.read().decode()
