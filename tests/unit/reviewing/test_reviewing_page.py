"""The page of a review in a browser: everything by keys, nothing lost, nothing from elsewhere, text is text."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from accessibility import serious_findings
from review_data import HOSTILE, PARTS, TOKEN, open_review, served, write_reviewable

from asr.corpus.manifest import load_manifest
from asr.reviewing.corrections import Review, Utterance
from asr.reviewing.journal import Journal, State, journal_of, read_journal
from asr.reviewing.order import Heard

pytest.importorskip("uvicorn", reason="the extra serve is not installed")


def until(page, expression, given=None):
    """Wait until an expression holds in the page. The page's policy forbids playwright's own way, which evaluates."""
    for _ in range(600):
        if page.evaluate(f"(given) => Boolean({expression})", given):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"never: {expression} ({given}); status: {page.locator('#status').inner_text()}")


@pytest.fixture
def manifest(tmp_path):
    return write_reviewable(tmp_path / "data")


@pytest.fixture
def opened(browser):
    """Open pages of reviews; at the end no page had anything to complain of, or asked anybody else."""
    with ExitStack() as stack:
        complaints, asked = [], []

        def open_page(url, **options):
            page = browser.new_page(**options)
            stack.callback(page.close)
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(url)
            until(page, "current && (player.durationS > 0 || !byId('unheard').hidden)")
            page.evaluate("player.pause()")  # to the browser, playwright's questions are clicks, so it plays
            return page

        open_page.served = lambda review: stack.enter_context(served(review))
        yield open_page
    assert complaints == []
    assert [url for url in asked if f"/{TOKEN}/" not in url and not url.startswith(("data:", "blob:"))] == []


def kept(manifest):
    return {name: history.now for name, history in read_journal(journal_of(manifest)).items()}


def says(page, text):
    until(page, "byId('status').textContent === given", text)


def is_at(page, place):
    until(page, "current.place === given && byId('number').value === String(given + 1)", place)
    until(page, "player.durationS > 0 || !byId('unheard').hidden")


def test_a_corpus_is_corrected_by_keys_only(opened, manifest):
    page = opened(opened.served(open_review(manifest)))
    press = page.keyboard.press
    press("Space")
    assert page.evaluate("player.playing")
    assert page.evaluate("player.part") == [1.0, 3.0], "the utterance within its audio"
    press("Space")
    assert not page.evaluate("player.playing")
    press("Shift+Space")
    assert page.evaluate("player.part") == [0.0, 5.0]
    press("Control+Enter")
    assert not page.evaluate("player.playing")

    press("t")
    press("End")
    page.keyboard.type(" and a space")
    press("Enter")
    is_at(page, 1)
    assert kept(manifest) == {"one": State(text="first words and a space", start_s=1.0, end_s=3.0, confirmed=True)}
    assert page.evaluate("document.activeElement.id") == "text", "the next text can be typed at once"
    press("Escape")

    press("s")
    for key in ("ArrowLeft", "Shift+ArrowLeft", "ArrowLeft", "ArrowRight"):
        press(key)
    says(page, "Kept")
    press("e")
    press("Shift+ArrowRight")
    press("j")  # leaves the border, which keeps it
    is_at(page, 2)
    assert kept(manifest)["two"] == State(text="second words", start_s=3.89, end_s=6.1)
    press("k")
    is_at(page, 1)
    press("b")
    says(page, "Kept as bad")
    assert kept(manifest)["two"].bad
    for left in (
        State(text="second words", start_s=3.89, end_s=6.1),
        State(text="second words", start_s=3.89, end_s=6.0),
    ):
        press("u")
        until(page, "String(borders) === String(given)", [left.start_s, left.end_s])
        until(page, "!current.now.bad")
        assert kept(manifest)["two"] == left
    press("u")
    says(page, "Undone, which is kept")
    press("u")  # the first utterance's correction
    is_at(page, 0)
    until(page, "byId('text').value === 'first words'")
    assert kept(manifest)["one"] == State(text="first words", start_s=1.0, end_s=3.0)


def test_leaving_the_text_keeps_it_and_escape_does_not(opened, manifest):
    page = opened(opened.served(open_review(manifest)))
    page.keyboard.press("t")
    page.keyboard.type("dropped ")
    page.keyboard.press("Escape")
    assert page.locator("#text").input_value() == "first words"
    page.keyboard.press("t")
    page.keyboard.press("Home")
    page.keyboard.type("the ")
    page.keyboard.press("Tab")
    says(page, "Kept")
    assert kept(manifest)["one"].text == "the first words"


def test_what_is_typed_while_the_disk_is_slow_is_not_lost(opened, manifest):
    page = opened(opened.served(open_review(manifest)))
    page.route("**/correct", lambda route: (page.wait_for_timeout(300), route.continue_()))
    page.keyboard.press("t")
    page.keyboard.press("End")
    page.keyboard.type(" a")
    page.evaluate("settle()")
    page.keyboard.type("b")
    says(page, "Kept")
    assert page.locator("#text").input_value() == "first words ab"
    page.keyboard.press("Tab")
    until(page, "current.now.text === 'first words ab'")
    assert kept(manifest)["one"].text == "first words ab"


def test_the_mouse_drags_a_border_and_the_picture_plays_where_it_is_clicked(opened, manifest):
    page = opened(opened.served(open_review(manifest)))
    box = page.locator(".pictures").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 3 / 5, box["y"] + 20)  # the end: 3 of 5 seconds
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 4 / 5, box["y"] + 20, steps=4)
    page.mouse.up()
    says(page, "Kept")
    assert kept(manifest)["one"].end_s == pytest.approx(4.0, abs=0.01)
    assert not page.evaluate("player.playing")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    assert page.evaluate("player.part[0]") == pytest.approx(2.5, abs=0.01)


def test_a_border_that_reaches_the_end_of_the_audio_gets_more_of_it(opened, manifest):
    page = opened(opened.served(open_review(manifest)))
    page.keyboard.press("e")
    for _ in range(17):
        page.keyboard.press("Shift+ArrowRight")
    until(page, "Math.abs(audioStartS + player.durationS - 6.7) < 0.001")
    assert kept(manifest)["one"].end_s == 4.7
    assert page.evaluate("borders") == [1.0, 4.7]


def test_two_tabs_do_not_overwrite_each_other(opened, manifest):
    url = opened.served(open_review(manifest))
    here, there = opened(url), opened(url)
    here.locator("#text").fill("of this tab")
    here.locator("#text").press("Tab")
    until(there, "byId('text').value === 'of this tab'")
    says(there, "Corrected in another tab")

    there.locator("#text").fill("typed there")
    here.locator("#text").fill("once more")
    here.locator("#text").press("Tab")
    until(there, "!byId('conflict').hidden")
    assert there.locator("#text").input_value() == "typed there", "nothing that was typed is lost"
    assert "once more" in there.locator("#newer").inner_text()
    there.locator("#text").press("Enter")
    says(there, "Choose first: take that, or keep mine")
    assert kept(manifest)["one"].text == "once more"
    there.get_by_role("button", name="Keep mine").click()
    until(here, "byId('text').value === 'typed there'")
    assert kept(manifest)["one"].text == "typed there"

    # Without the news from the other tab, the server refuses.
    there.evaluate("follow = () => {}")
    there.locator("#text").fill("typed again")
    here.locator("#text").fill("the last word")
    here.locator("#text").press("Tab")
    says(here, "Kept")
    there.locator("#text").press("Tab")
    says(there, "Not kept: it was corrected elsewhere meanwhile")
    there.get_by_role("button", name="Take that").click()
    assert there.locator("#text").input_value() == "the last word"
    assert [state.text for state in read_journal(journal_of(manifest))["one"].kept] == [
        *("of this tab", "once more", "typed there", "the last word")
    ]


def test_damaged_audio_is_named_and_work_goes_on(opened, manifest):
    page = opened(opened.served(open_review(manifest)))
    page.keyboard.press("j")
    page.keyboard.press("j")
    is_at(page, 2)
    until(page, "!byId('unheard').hidden")
    assert "short.wav" in page.locator("#unheard").inner_text()
    page.keyboard.press("Space")
    page.keyboard.press("b")
    says(page, "Kept as bad")
    page.keyboard.press("j")
    is_at(page, 3)
    until(page, "byId('unheard').hidden && player.durationS > 0")
    assert kept(manifest)["damaged"].bad
    page.keyboard.press("j")
    says(page, "This was the last one")


def test_hostile_text_is_text(opened, tmp_path):
    manifest = write_reviewable(tmp_path / "</title><script>alert(2)</script>")
    (cut,) = (cut for cut in load_manifest(manifest) if cut.id == "three")
    heard = Heard(f"<img src=x onerror=alert(3)> {HOSTILE}", (), 0.5, "<b>no reason</b>")
    cut = cut.with_id(f"<i>\u202eid</i> [red]{'i' * 10_000}")
    review = Review([Utterance("<u>split", cut, heard)], {"<u>split": Journal(journal_of(manifest))})
    page = opened(opened.served(review), viewport={"width": 360, "height": 800})
    assert page.locator("#text").input_value() == HOSTILE
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut off"
    assert page.locator("#name").text_content() == cut.id
    assert heard.text.split()[0] in page.locator("#heard-text").text_content()
    assert "<b>no reason</b>" in page.locator("#facts").text_content()
    assert page.locator("main i, main b, main u, main img, main script").count() == 0


def test_what_the_model_hears_is_shown_with_what_differs_and_can_be_taken(opened, manifest):
    cuts = list(load_manifest(manifest))
    review = Review(
        [
            Utterance("train", cuts[0], Heard("first birds", (True, False), 1.5)),
            Utterance("train", cuts[1], Heard(reason="nothing is heard")),
        ],
        {"train": Journal(journal_of(manifest))},
    )
    page = opened(opened.served(review))
    assert page.locator("#heard mark").all_text_contents() == ["birds"]
    assert "doubt 1.50" in page.locator("#facts").inner_text()
    page.keyboard.press("m")
    says(page, "Kept")
    assert kept(manifest)["one"].text == "first birds"
    page.keyboard.press("j")
    is_at(page, 1)
    assert not page.locator("#heard").is_visible()
    page.keyboard.press("m")
    assert page.locator("#text").input_value() == PARTS[1][3]


def test_a_guess_is_kept_only_once_somebody_says_that_it_is_right(opened, manifest):
    (cut, *_) = load_manifest(manifest)
    cut.supervisions[0].text = ""
    review = Review([Utterance("train", cut, Heard("a guess", (), 0.2))], {"train": Journal(journal_of(manifest))})
    page = opened(opened.served(review))
    assert page.locator("#text").input_value() == "a guess"
    page.keyboard.press("s")
    page.keyboard.press("ArrowRight")
    says(page, "Kept")
    assert kept(manifest)["one"] == State(text="", start_s=1.01, end_s=3.0)
    assert page.locator("#text").input_value() == "a guess"
    page.keyboard.press("Enter")
    until(page, "current.now.confirmed")
    assert kept(manifest)["one"] == State(text="a guess", start_s=1.01, end_s=3.0, confirmed=True)


def test_a_server_that_has_ended_keeps_nothing_and_the_page_says_so(browser, manifest):
    page = browser.new_page()
    with served(open_review(manifest)) as url:
        page.goto(url)
        until(page, "current && player.durationS > 0")
    page.locator("#text").fill("too late")
    page.locator("#text").press("Tab")
    says(page, "Not kept: asr review does not answer; start it again and open its new address")
    assert page.locator("#text").input_value() == "too late"
    assert kept(manifest) == {}
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 360])
def test_everybody_can_use_it_light_and_dark_and_on_a_phone(opened, manifest, scheme, width):
    cuts = list(load_manifest(manifest))
    heard = [Heard("first birds", (True, False), 1.5), Heard(), Heard(reason="damaged"), Heard()]
    utterances = [Utterance("train", *pair) for pair in zip(cuts, heard, strict=True)]
    review = Review(utterances, {"train": Journal(journal_of(manifest))})
    page = opened(opened.served(review), viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.keyboard.press("b")
    says(page, "Kept as bad")
    for place in (0, 2):
        page.evaluate("(place) => go(place)", place)
        is_at(page, place)
        page.evaluate("showConflict(current)")
        page.evaluate("say('Not kept: a reason', true)")
        assert serious_findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut off"
        page.evaluate("takeTheirs()")
