"""The exported page in a browser: files and microphone as in Python, offline, for everybody, nothing from elsewhere."""

import base64
import io
import json
import re
import shutil
import subprocess
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import soundfile
from accessibility import serious_findings
from conftest import tone_speech
from tone_export import write_tone_page

import asr.runtime

pytest.importorskip("onnx")

SPOKEN = "ab cd cab da"
HOSTILE = "<img src=x onerror=alert(1)>\u202e.wav"


@pytest.fixture(scope="module")
def exported(tmp_path_factory, onnxruntime_web):
    folder = tmp_path_factory.mktemp("web")
    write_tone_page(folder, "<b>tones</b>")
    (folder / "node_modules").symlink_to(onnxruntime_web)
    return folder


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A WAV file, which is also what the browser's microphone hears."""
    path = tmp_path_factory.mktemp("spoken") / "spoken.wav"
    soundfile.write(path, tone_speech(SPOKEN, np.random.default_rng(3)), 16000)
    return path


@pytest.fixture(scope="module")
def recognizer(exported):
    return asr.runtime.load(exported / "model")


@pytest.fixture(scope="module")
def browser(spoken):
    """Chromium whose microphone hears a file once from the moment when it is opened."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the pages, is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs a browser: apt-get install chromium")
    heard = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    arguments = ["--no-sandbox", *heard, f"--use-file-for-fake-audio-capture={spoken}%noloop"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@contextmanager
def started(folder):
    """Run `npm start` without npm, at a free port; yield the address and a function that stops it."""
    with subprocess.Popen(["node", "serve.mjs", "0"], cwd=folder, stdout=subprocess.PIPE, text=True) as server:

        def stop():
            server.terminate()
            server.wait()

        try:
            yield server.stdout.readline().strip(), stop
        finally:
            stop()


@pytest.fixture
def opened(browser, exported):
    """Open the page; at the end it had nothing to complain of, and asked nobody else."""
    with ExitStack() as stack:
        complaints, asked = [], []
        url, stop = stack.enter_context(started(exported))

        def open_page(**options):
            context = browser.new_context(**options)
            stack.callback(context.close)
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(url)
            until_ready(page)
            return page

        open_page.stop = stop
        yield open_page
        assert complaints == []
        assert [address for address in asked if not address.startswith((url, f"blob:{url}", "data:"))] == []


def until_ready(page):
    page.get_by_text("Ready, also without a network.").wait_for(timeout=120_000)


def facts(page, place=0):
    """Return what the page says of a recording when it is finished."""
    line = page.locator(".recording .state").nth(place)
    for _ in range(600):
        if not re.search(r"…|Waits|^$", line.inner_text()):
            return line.inner_text()
        page.wait_for_timeout(100)
    pytest.fail(f"never finished: {line.inner_text()}")


def texts(page):
    return page.locator(".recording").first.locator(".words").inner_text().strip()


def words_on(page):
    return (
        page.locator(".recording")
        .first.locator(".words [role=button]")
        .evaluate_all("all => all.map((one) => one.title)")
    )


def shown(words):
    return [f"{word.start_s:.2f}–{word.end_s:.2f} s, confidence {round(100 * word.confidence)} %" for word in words]


def test_a_file_is_transcribed_as_by_python_also_when_the_server_has_gone(opened, recognizer, spoken):
    page = opened()
    expected = recognizer.transcribe(spoken, segment="none")
    assert expected.text == SPOKEN
    for _ in range(2):
        page.set_input_files("#files", spoken)
        assert facts(page).startswith(f"{expected.duration_s:.1f} s, 4 words")
        assert texts(page) == SPOKEN
        assert words_on(page) == shown(expected.words)
        opened.stop()
        page.context.set_offline(True)
        page.reload()
        until_ready(page)


def test_the_microphone_is_transcribed_as_by_python(opened, recognizer):
    page = opened(permissions=["microphone"], bypass_csp=True)  # the policy forbids the test to read the recording
    page.locator("#speak").click()
    page.wait_for_function("document.querySelectorAll('.words [role=button]').length", timeout=120_000)
    page.locator("#speak").click()
    facts(page)
    read = """async () => {
      const bytes = new Uint8Array(await (await fetch(document.querySelector('audio').src)).arrayBuffer());
      return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
    }"""
    heard, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(page.evaluate(read))))
    assert texts(page) == recognizer.transcribe(heard, sample_rate_hz=rate_hz, segment="none").text
    assert set(texts(page)) >= set("abcd")


def test_what_the_browser_decodes_is_transcribed_too(opened, tmp_path, spoken):
    samples, rate_hz = soundfile.read(spoken)
    soundfile.write(tmp_path / "other.flac", samples, rate_hz)
    soundfile.write(tmp_path / "other.ogg", samples, rate_hz)
    page = opened()
    for name in ("other.flac", "other.ogg"):
        page.set_input_files("#files", tmp_path / name)
        facts(page)
        assert texts(page) == SPOKEN


def test_subtitles_are_saved_as_python_writes_them(opened, recognizer, spoken, tmp_path):
    page = opened()
    page.set_input_files("#files", spoken)
    facts(page)
    expected = recognizer.transcribe(spoken, segment="none")
    for label, text in (
        ("Subtitles .srt", expected.to_srt()),
        ("Subtitles .vtt", expected.to_vtt()),
        ("Text", expected.to_txt()),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Save {label}").click()
        download.value.save_as(tmp_path / "saved")
        assert (tmp_path / "saved").read_text() == text
        assert download.value.suggested_filename.startswith("spoken.")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save JSON").click()
    download.value.save_as(tmp_path / "saved")
    found, wanted = json.loads((tmp_path / "saved").read_text()), json.loads(expected.to_json())
    assert found == wanted | {"path": "spoken.wav"}


def test_what_is_no_sound_is_refused_and_names_are_text(opened, tmp_path, spoken):
    (tmp_path / HOSTILE).write_bytes(b"no sound")
    page = opened()
    page.set_input_files("#files", [tmp_path / HOSTILE, spoken])
    assert facts(page, 1) == "This browser knows no such sound."
    assert page.locator(".recording h2").nth(1).inner_text() == HOSTILE
    assert page.locator("h1").inner_text() == "<b>tones</b>"
    facts(page)
    assert texts(page) == SPOKEN, "the next file is transcribed all the same"


def test_a_click_plays_a_word_and_arrow_keys_lead_from_word_to_word(opened, recognizer, spoken):
    page = opened()
    page.set_input_files("#files", spoken)
    facts(page)
    expected = recognizer.transcribe(spoken, segment="none")
    words = page.locator(".words [role=button]")
    played = "document.querySelector('audio').currentTime"
    words.nth(2).click()
    page.wait_for_function(f"{played} >= {expected.words[2].start_s - 0.01}")
    page.evaluate("document.querySelector('audio').pause()")
    words.nth(0).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "cd"
    assert words.evaluate_all("all => all.map((one) => one.tabIndex)") == [-1, 0, -1, -1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 360])
def test_everybody_can_use_it_light_and_dark_and_on_a_phone(opened, spoken, scheme, width):
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True)
    page.set_input_files("#files", spoken)
    facts(page)
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut off"


def test_the_server_gives_out_the_folder_alone(exported, tmp_path):
    import urllib.error
    import urllib.request

    (exported / ".hidden").write_text("secret")
    with started(exported) as (url, _):
        with urllib.request.urlopen(url) as answer:
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        for path in (".hidden", "%2e%2e/secret", "..%2f..%2fetc/passwd", "model", "none", "%00", "%"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(url + path)
