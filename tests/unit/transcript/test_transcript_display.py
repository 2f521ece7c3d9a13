"""What a notebook shows of a transcript: in a browser, beside others, with hostile texts, without script or audio."""

import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from accessibility import serious_findings
from conftest import voice_like

from asr.errors import AudioError, DependencyError
from asr.inference.text_alignment import AlignedText, AlignedWord
from asr.transcript.display import LONGEST_S
from asr.transcript.transcript import Transcript
from asr.transcript.words import Word

RATE_HZ = 16000
HOSTILE = [
    "<script>alert(1)</script>",
    "[red]",
    "\x1b[31mred",
    "a\u202eb",
    "{{ 7 * 7 }}",
    "%s",
    '" onclick="alert(1)',
    "👩‍👩‍👧‍👦",
]
SEEN = [
    "<script>alert(1)</script>",
    "[red]",
    "\\x1b[31mred",
    "a\\u202eb",
    "{{ 7 * 7 }}",
    "%s",
    '" onclick="alert(1)',
    "👩‍👩‍👧‍👦",
]


def transcript_of(texts, path=None, confidence=0.9):
    words = [Word(text, 0.5 * number + 0.1, 0.5 * number + 0.5, confidence) for number, text in enumerate(texts)]
    return Transcript.of(words, 0.5 * len(texts) + 0.5, path)


@pytest.fixture
def samples(rng):
    return voice_like(rng, 5.0)


@pytest.fixture
def shown(browser, tmp_path):
    """Show pieces of HTML on a light or dark page; see that nothing is logged, and nothing asked of others."""
    pages, faults = [], []

    def show(*pieces, dark=False):
        style = "color: #eee; background: #111; color-scheme: dark" if dark else "color: #111; background: white"
        html = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Notebook</title><body style="{style}"><main>'
        )
        (tmp_path / "page.html").write_text(f"{html}<h1>Notebook</h1>{'<hr>'.join(pieces)}</main>", encoding="utf-8")
        page = browser.new_page(viewport={"width": 360, "height": 800})
        pages.append(page)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on(
            "request", lambda request: None if request.url[:5] in ("file:", "data:") else faults.append(request.url)
        )
        page.goto((tmp_path / "page.html").as_uri())
        return page

    yield show
    for page in pages:
        page.close()
    assert faults == []


def begins_to_play(page, number, start_s):
    """Wait until a player plays; return whether it began at a time, 50 ms more or less."""
    player = f"document.querySelectorAll('audio')[{number}]"
    page.wait_for_function(f"!{player}.paused && {player}.played.length > 0")
    return abs(page.evaluate(f"{player}.played.start(0)") - start_s) <= 0.05


def test_a_click_on_a_word_plays_from_there_in_its_own_transcript(shown, samples):
    html = transcript_of(["one", "two", "three"]).to_html(samples, sample_rate_hz=RATE_HZ)
    page = shown(html, html)
    page.locator(".asr-transcript").nth(1).get_by_text("two").click()
    assert begins_to_play(page, 1, 0.6)
    assert page.evaluate("document.querySelectorAll('audio')[0].paused") is True
    page.wait_for_function("document.querySelectorAll('.asr-transcript')[1].querySelector('[style*=outline]')")
    assert page.locator(".asr-transcript").nth(0).locator("[style*=outline]").count() == 0


def test_the_words_are_one_stop_of_the_tab_key_and_arrows_lead_through_them(shown, samples):
    page = shown(transcript_of(["one", "two", "three"]).to_html(samples, sample_rate_hz=RATE_HZ))
    assert page.locator("[data-start][tabindex='0']").count() == 1
    page.locator("[data-start]").first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.textContent") == "two"
    page.keyboard.press("Enter")
    assert begins_to_play(page, 0, 0.6)


def test_in_text_from_right_to_left_the_left_arrow_leads_on(shown, samples):
    page = shown(transcript_of(["שלום", "עולם"]).to_html(samples, sample_rate_hz=RATE_HZ))
    first, second = (page.locator("[data-start]").nth(number).bounding_box() for number in (0, 1))
    assert first["x"] > second["x"]
    page.locator("[data-start]").first.focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.textContent") == "עולם"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_screen_readers_and_eyes_find_nothing_serious(shown, samples, dark):
    sure = [
        transcript_of(["one", "two"], confidence=share).to_html(samples, sample_rate_hz=RATE_HZ)
        for share in (0, 0.5, 1)
    ]
    page = shown(*sure, transcript_of(["one"])._repr_html_(), transcript_of([])._repr_html_(), dark=dark)
    assert serious_findings(page) == []


def test_a_screen_reader_hears_how_sure_a_word_is(shown, samples):
    page = shown(transcript_of(["one"], confidence=0.62).to_html(samples, sample_rate_hz=RATE_HZ))
    assert page.get_by_role("button", name="one, 0.10–0.50 s, confidence 62%").count() == 1


def test_the_less_sure_a_word_is_the_more_colour_it_has():
    def cover(confidence):
        found = re.search(r"rgba\(230, 140, 0, ([\d.]+)\)", transcript_of(["one"], confidence=confidence)._repr_html_())
        return float(found[1]) if found else 0.0

    covers = [cover(confidence) for confidence in (1.0, 0.9, 0.6, 0.3, 0.0)]
    assert covers == sorted(covers)
    assert covers[0] == 0.0
    assert len(set(covers)) == len(covers)


def test_hostile_text_is_text(shown, samples, tmp_path):
    transcript = transcript_of(HOSTILE, str(tmp_path / "<b>[i]\x1b[0m.wav"))
    page = shown(transcript.to_html(samples, sample_rate_hz=RATE_HZ), transcript._repr_html_())
    assert page.locator(".asr-transcript").nth(0).locator("[data-start]").all_text_contents() == SEEN
    assert page.locator(".asr-transcript").nth(1).locator("[data-start]").all_text_contents() == SEEN
    assert page.get_by_text("<b>[i]\\x1b[0m.wav").count() == 3  # the file's name, and the reason for no player
    assert page.locator("b, i").count() == 0


def test_a_word_of_ten_thousand_characters_does_not_widen_the_page(shown):
    page = shown(transcript_of(["a" * 10_000])._repr_html_())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_script_words_and_player_are_still_there(browser, samples):
    html = transcript_of(["one", "two"]).to_html(samples, sample_rate_hz=RATE_HZ)
    page = browser.new_page(java_script_enabled=False)
    page.set_content(html)
    assert page.locator("audio[controls]").is_visible()
    assert page.locator("[data-start]").all_text_contents() == ["one", "two"]
    assert page.get_by_role("button", name="one").count() == 0  # a button that does nothing would be a lie
    page.close()


def test_the_file_at_its_path_is_played(tmp_path, samples):
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ)
    transcript = transcript_of(["one"], str(tmp_path / "a.wav"))
    assert 'src="data:audio/ogg;base64,T2dnU' in transcript._repr_html_()  # OggS
    assert str(tmp_path) not in transcript._repr_html_(), "a notebook that is passed on names no folders"


@pytest.mark.parametrize(
    ("path", "seconds", "why"),
    [
        (None, 1, "not at hand"),
        ("-", 1, "only once"),
        ("missing.wav", 1, "no such file"),
        ("a.wav", LONGEST_S + 1, "10 minutes"),
    ],
)
def test_without_a_player_it_says_why(path, seconds, why):
    html = Transcript("one", (Word("one", 0, 1, 0.9),), seconds, 0.9, path)._repr_html_()
    assert "<audio" not in html
    assert re.search(f"No player: .*{why}", html)
    assert ">one</span>" in html


def test_one_channel_is_played_if_one_was_transcribed(tmp_path, samples):
    soundfile.write(tmp_path / "a.wav", np.stack([samples, 0 * samples], 1), RATE_HZ)
    silent, loud = (
        len(Transcript("", (), 5.0, 0.0, str(tmp_path / "a.wav"), channel)._repr_html_()) for channel in (1, 0)
    )
    assert silent < loud / 3  # opus stores silence in next to nothing


def test_samples_that_cannot_be_used_are_an_error():
    with pytest.raises(AudioError, match="sample_rate_hz"):
        transcript_of(["one"]).to_html(np.zeros(10, np.float32))


def test_where_jinja2_is_missing_a_notebook_shows_the_text(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    transcript = transcript_of(["one"])
    assert transcript._repr_html_() is None
    with pytest.raises(DependencyError, match="pip install jinja2"):
        transcript.to_html()


class Unbalanced(HTMLParser):
    """Counts open elements."""

    depth = 0

    def handle_starttag(self, tag, attrs):
        self.depth += 1

    def handle_endtag(self, tag):
        self.depth -= 1


@pytest.mark.parametrize("texts", [[], ["one"], HOSTILE])
def test_every_element_is_closed(texts, samples):
    parser = Unbalanced()
    parser.feed(transcript_of(texts).to_html(samples, sample_rate_hz=RATE_HZ))
    assert parser.depth == 0


def test_an_aligned_text_is_shown_by_its_fit(shown, samples):
    aligned = AlignedText(
        "calls/a.wav", "one two", (AlignedWord("one", 0.1, 0.4, 0.9), AlignedWord("two", 0.6, 0.9, 0.04)), 0.5
    )
    page = shown(aligned.to_html(samples, sample_rate_hz=RATE_HZ), aligned._repr_html_())
    assert page.get_by_title("0.60–0.90 s, fit 4%").count() == 2
    page.get_by_text("two").first.click()
    assert begins_to_play(page, 0, 0.6)
