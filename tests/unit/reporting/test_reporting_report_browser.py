"""report.html as people use it: in a browser, by mouse and by keys, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from accessibility import serious_findings

from asr.reporting.report import write_reports
from asr.scoring.score import read_score
from tests.unit.reporting.report_folder import SPOKEN, Spoken, write_folder

HOSTILE = {
    "<script>alert`1`</script>": Spoken("<b>ab</b> cd", "<img src=x onerror=alert(1)> cd", "<i>anna</i>"),
    "[red]bold[/red]": Spoken("[red] ab", "[/red] \x1b[31mab\x1b[0m", "bob\u202e", {"</script>": "'\"><b>&amp;"}),
    "אבג": Spoken("שלום עולם", "שלום עולמ", "רות"),
    "😀 " + "long" * 250: Spoken("ab " + "x" * 10_000, "😀", "👩‍🔬"),
    "${1} {{ 2 }} `": Spoken("{{ 7 * 7 }}", "{% if %}", "__proto__", {"__proto__": "constructor"}),
    "plain": Spoken("ab", "ab", "__proto__"),
}


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that opens the page of a decode folder; nothing in it may complain or ask the network."""
    complaints: list[str] = []
    pages = []

    def open_page(spoken: dict[str, Spoken] = SPOKEN, *, audio: bool = True, **options: Any) -> Any:
        folder = tmp_path / "decode"
        write_folder(folder, spoken)
        write_reports(read_score(folder), folder, audio=audio)
        page = browser.new_page(**{"viewport": {"width": 1200, "height": 800}, **options})
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith("file:") or complaints.append(asked.url))
        page.goto((folder / "report.html").as_uri())
        page.locator("#list").scroll_into_view_if_needed()
        page.locator(".row").first.wait_for()
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


def ids(page: Any) -> list[str]:
    return page.locator(".row .head").all_inner_texts()


def open_row(page: Any, name: str) -> Any:
    """Open an utterance, wait until it can be played, and return its row."""
    page.get_by_role("button", name=name, exact=True).click()
    page.wait_for_function("player.durationS > 0 && state.view.mel")
    return page.locator(".row.open")


def test_rows_are_worst_first_and_filtered_by_words_kinds_groups_and_errors(open_page: Callable[..., Any]) -> None:
    page = open_page()
    assert ids(page) == ["worst", "two", "one", "right"]
    page.get_by_label("Search").fill("DD")
    assert ids(page) == ["two"]
    assert page.locator("#count").inner_text() == "1 of 4 utterances"
    page.get_by_label("Search").fill("")
    for choice, expected in (
        ("without errors", ["right"]),
        ("with insertions", ["worst", "two"]),
        ("with deletions", ["worst"]),
        ("with errors", ["worst", "two", "one"]),
    ):
        page.get_by_label("Show").select_option(choice)
        assert ids(page) == expected
    page.get_by_role("button", name="anna").click()
    assert ids(page) == ["two", "one"]
    page.get_by_label("Show").select_option("all")
    page.locator("#groups").get_by_role("button", name="none").click()
    assert ids(page) == ["two", "right"]
    page.locator("#frequent").get_by_role("button", name="cd → cb").click()
    assert ids(page) == ["one"]
    page.get_by_role("button", name="✕ substitutions: cd → cb").click()
    assert len(ids(page)) == 4


def test_rows_are_in_the_order_that_is_asked_for(open_page: Callable[..., Any]) -> None:
    page = open_page()
    for choice, expected in (
        ("as in the manifest", ["right", "one", "worst", "two"]),
        ("longest", ["worst", "two", "one", "right"]),  # 6, 4, 3 and 3 s
        ("highest rate", ["worst", "two", "one", "right"]),
        ("most errors", ["worst", "two", "one", "right"]),
    ):
        page.get_by_label("First").select_option(choice)
        assert ids(page) == expected


def test_a_text_without_errors_is_on_one_line_until_it_is_opened(open_page: Callable[..., Any]) -> None:
    page = open_page()
    words = page.locator(".row", has_text="right").locator(".words")
    assert words.inner_text().split() == ["ab", "cd"]
    open_row(page, "right")
    assert words.inner_text().split()[:2] == ["ab", "ab"]


def test_an_open_utterance_has_pictures_and_words_with_times_and_confidences(open_page: Callable[..., Any]) -> None:
    page = open_page()
    row = open_row(page, "two")
    assert row.locator("canvas").count() == 3
    label = row.locator("canvas.posteriors").get_attribute("aria-label")
    assert label == "Posteriors of the tokens, with the highest of each: a 80 %, b 80 %, c 80 %, d 80 %"
    assert row.locator(".word").all_inner_texts()[2].split() == ["aa", "ca", "2.50–3.50", "s", "70", "%"]
    assert row.locator("dl").inner_text().split() == ["noise", "none", "snr_db", "20", "duration_s", "4"]
    assert page.evaluate("tracksOf(state.open.posteriors).tracks[0]") == {
        "text": "a",
        "points": [[pytest.approx(frame), pytest.approx(0.8)] for frame in (40, 69)],  # (1.5 + 0.1) s; (2.5 + 0.25) s
    }
    page.get_by_role("button", name="two", exact=True).click()
    assert page.locator(".open, .sound").count() == 0


def test_a_click_on_a_word_plays_that_word(open_page: Callable[..., Any]) -> None:
    page = open_page()
    row = open_row(page, "two")
    row.locator(".word").nth(2).click()
    page.wait_for_function("player.playing && player.positionS > 2.55")
    assert page.evaluate("player.part") == [pytest.approx(2.5, abs=0.05), pytest.approx(3.5, abs=0.05)]
    assert row.locator(".word.now").all_inner_texts() == row.locator(".word").all_inner_texts()[2:]
    page.wait_for_function("!player.playing")


def test_what_is_heard_of_a_word_is_its_sound(open_page: Callable[..., Any]) -> None:
    """Between the times of the word "ca" there are the tones of its letters: c 1,100 Hz, then a 400 Hz."""
    page = open_page()
    open_row(page, "two")
    samples = page.evaluate("[...player.samples.subarray(2.5 * player.rateHz, 3.5 * player.rateHz)]")
    bins, values = page.evaluate(
        """(samples) => {
            const {bins, values} = logMel(Float32Array.from(samples), 16000);
            return [bins, [...values]];
        }""",
        samples,
    )
    loudest = [max(range(bins), key=lambda bin: values[frame * bins + bin]) for frame in range(len(values) // bins)]
    heard = [max(set(part), key=part.count) for part in (loudest[11:16], loudest[27:32])]
    hz = [page.evaluate("(mel) => hzOfMel(mel)", (bin + 1) * 45.245640471924965 / (bins + 1)) for bin in heard]
    assert hz == [pytest.approx(1100, rel=0.12), pytest.approx(400, rel=0.12)]


def test_a_word_in_a_closed_row_opens_it_and_plays(open_page: Callable[..., Any]) -> None:
    page = open_page()
    page.locator(".row").nth(2).locator(".word").nth(1).click()  # "cd", taken for "cb"
    page.wait_for_function("player.playing && player.part[0] === 1.5")
    assert page.evaluate("state.open.id") == "one"


def test_a_deleted_word_plays_what_is_between_its_neighbours(open_page: Callable[..., Any]) -> None:
    page = open_page()
    row = open_row(page, "worst")
    deleted = row.locator(".word.D")
    assert deleted.get_attribute("aria-label").startswith("deleted: a, nothing")
    deleted.click()
    page.wait_for_function("player.playing")
    assert page.evaluate("player.part") == [0, 0.5]  # before the first word that was recognised


def test_keys_walk_through_the_utterances_and_play_them(open_page: Callable[..., Any]) -> None:
    page = open_page()
    opened = []
    for key in "jjkjjjj":
        page.keyboard.press(key)
        opened.append(page.evaluate("state.open.id"))
        page.wait_for_function("player.durationS > 0")
    assert opened == ["worst", "two", "worst", "two", "one", "right", "right"]
    page.keyboard.press(" ")
    page.wait_for_function("player.positionS > 0.1")
    page.keyboard.press(" ")
    assert not page.evaluate("player.playing")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("player.playing && player.part[0] === 0.5")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("player.playing && player.part[0] === 1.5")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("player.playing && player.part[0] === 0.5")
    page.keyboard.press("Escape")
    assert page.evaluate("[state.open, player.playing]") == [None, False]
    assert page.evaluate("document.activeElement.textContent") == "right"
    page.keyboard.press("/")
    page.keyboard.type("jk two")  # in a field, letters are letters
    assert page.get_by_label("Search").input_value() == "jk two"
    assert page.evaluate("state.open") is None


def test_without_audio_a_row_opens_and_says_so(open_page: Callable[..., Any]) -> None:
    page = open_page(audio=False)
    page.keyboard.press("j")
    assert "Its audio is not in this page." in page.locator(".row.open").inner_text()
    assert page.locator(".sound, button.word").count() == 0
    assert page.locator(".row.open .word").first.inner_text().split()[0] == "a"
    page.keyboard.press(" ")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("player.playing") is False


def test_what_users_wrote_is_text_everywhere_on_the_page(open_page: Callable[..., Any]) -> None:
    page = open_page(HOSTILE)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    assert page.locator("main b, main i, main img").count() == 0
    assert sorted(ids(page)) == sorted(HOSTILE)
    text = page.locator("#list").inner_text()
    for shown in ("<b>ab</b>", "<img", "onerror=alert(1)>", "[/red]", "\\x1b[31mab\\x1b[0m", "bob\\u202e", "{{", "😀"):
        assert shown in text
    for number in range(len(HOSTILE)):
        page.locator(".row .head").nth(number).click()
        page.wait_for_function("player.durationS > 0")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for speaker, count in (("<i>anna</i>", 1), ("bob\\u202e", 1), ("__proto__", 2)):
        page.locator("#groups").get_by_role("button", name=speaker).click()
        assert page.locator("#count").inner_text() == f"{count} of 6 utterances"
    page.locator("#clear").click()
    for said in ("<b>ab</b>", "שלום עולם"):
        page.get_by_label("Search").fill(said)
        assert page.locator("#count").inner_text() == "1 of 6 utterances"


def test_right_to_left_text_runs_from_the_right(open_page: Callable[..., Any]) -> None:
    page = open_page({"u": Spoken("שלום עולם", "שלום עולמ")})
    first, second = (page.locator(".word").nth(place).bounding_box() for place in (0, 1))
    assert first["x"] > second["x"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_nothing_on_the_page_is_out_of_reach_for_screen_readers(
    open_page: Callable[..., Any], scheme: str, width: int
) -> None:
    page = open_page({**SPOKEN, **HOSTILE}, color_scheme=scheme, viewport={"width": width, "height": 740})
    open_row(page, "worst")
    page.locator("summary").click()
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_of_many_utterances_only_those_near_the_view_are_elements_and_all_can_be_reached(
    open_page: Callable[..., Any],
) -> None:
    many = {f"u{number:04d}": Spoken("ab cd", "ab") for number in range(600)}
    page = open_page(many, audio=False)
    made = page.locator(".row").count()
    assert 0 < made < 300
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.locator(".row", has_text="u0599").wait_for()
    assert page.locator(".row").count() < 300
    assert page.locator(".row", has_text="u0000").count() == 0
    page.evaluate("document.querySelector('#list').scrollIntoView()")
    page.locator(".row", has_text="u0000").wait_for()
    assert page.locator(".row").first.get_attribute("aria-setsize") == "600"


def test_a_wrong_word_has_the_colour_of_the_legend_closed_and_open(open_page: Callable[..., Any]) -> None:
    page = open_page()
    colour = "(element) => getComputedStyle(element).backgroundColor"
    legend = {mark: page.locator(f"p > .{mark}").evaluate(colour) for mark in "SDI"}
    assert len({*legend.values(), "rgba(0, 0, 0, 0)"}) == 4
    open_row(page, "worst")
    for mark in "SDI":
        marked = page.locator(f".row .word.{mark}").all()
        assert marked
        assert {word.evaluate(colour) for word in marked} == {legend[mark]}
    assert {word.evaluate(colour) for word in page.locator(".row .word.C").all()} == {"rgba(0, 0, 0, 0)"}
