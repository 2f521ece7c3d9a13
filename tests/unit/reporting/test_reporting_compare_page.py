"""The page of a comparison in a browser: what it shows, its filters and keys, and that it asks nobody for anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from accessibility import serious_findings
from conftest import TINY

import asr
from asr.bundle.bundle import ModelBundle
from asr.model.acoustic import AcousticModel
from asr.reporting.compare_page import MOST_UTTERANCES, comparison_page
from asr.scoring.score import write_trn
from asr.settings_file import load_config
from asr.text.tokens import TokenTable

EVIL = "<script>alert`1`</script>"
REFERENCES = {"u1": "one two three four", "u2": "five six", "u3": "seven eight nine", "u4": "ten", "u5": "eleven"}
SYSTEMS = {
    "good": REFERENCES | {"u4": "then"},
    "bad": REFERENCES | {"u1": "one for four", "u2": "five"},
    "mixed": REFERENCES | {"u1": "one two free four", "u4": "a then"},
}


def decode_folder(path: Path, references: dict[str, str], hypotheses: dict[str, str], run: Any = None) -> Path:
    path.mkdir(parents=True)
    write_trn(references, path / "ref.trn")
    write_trn(hypotheses, path / "hyp.trn")
    (path / "run.json").write_text(json.dumps(run or {}))
    return path


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three systems, each with settings and the log of a training."""
    root = tmp_path_factory.mktemp("comparison")
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["abcd "])
    bundle = ModelBundle(config, tokens, AcousticModel(config, len(tokens)))
    folders = []
    for seed, (name, hypotheses) in enumerate(SYSTEMS.items(), start=1):
        bundle.save(root / name)
        lines = [
            {"epoch": n, "loss": 4.0 / (n + seed), "best": True, "dev_wer": 1 / (n + seed), "train_s": 60.0}
            for n in range(4)
        ]
        (root / name / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        folders.append(decode_folder(root / name / "decode", REFERENCES, hypotheses, {"method": f"search {seed}"}))
    page = root / "comparison.html"
    assert asr.compare(folders, out=page).page == page
    return page


class Opened:
    """A page in the browser, and what it must not do: complain, fail, or ask another host."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.asked(request.url))
        self.page.goto(file.as_uri())

    def asked(self, url: str) -> None:
        if not url.startswith(("file:", "blob:", "data:")):
            self.complaints.append(url)

    def ids(self) -> list[str]:
        return self.page.locator(".row .head").all_inner_texts()

    def focused(self) -> str:
        found: str = self.page.evaluate("document.activeElement.querySelector?.('.head')?.textContent ?? ''")
        return found


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Opened]:
    found = Opened(browser, page_file)
    yield found
    found.context.close()
    assert found.complaints == []


def test_the_tables_have_the_figures_worked_by_hand(opened: Opened) -> None:
    rows = [row.split() for row in opened.page.locator("#rates tbody tr").all_inner_texts()]
    assert [(row[0], *row[2:4]) for row in rows] == [("A", "9.09", "%"), ("B", "27.27", "%"), ("C", "27.27", "%")]
    pairs = [row.split() for row in opened.page.locator("#pairs tbody tr").all_inner_texts()]
    assert [row[:7] for row in pairs[:3]] == [
        ["B", "−", "A", "not", "sure", "+18.18", "%"],
        ["C", "−", "A", "not", "sure", "+18.18", "%"],
        ["C", "−", "B", "not", "sure", "+0.00", "%"],
    ]
    assert pairs[3:] == [
        ["A,", "B", "2", "2", "1", "0"],
        ["A,", "C", "3", "1", "0", "1"],
        ["B,", "C", "2", "1", "1", "1"],
    ]
    settings = [row.split("\t") for row in opened.page.locator("#settings tbody tr").all_inner_texts()]
    assert settings == [["run.method", "search 1", "search 2", "search 3"]]


def test_the_curves_say_in_words_what_they_show(opened: Opened) -> None:
    labels = [svg.get_attribute("aria-label") for svg in opened.page.locator("#training figure svg").all()]
    assert len(labels) == 2
    assert "B: 2 in epoch 1, 0.8 in epoch 4, least 0.8 in epoch 4" in str(labels[0])
    assert [text.split()[0] for text in opened.page.locator("#training li").all_inner_texts()] == ["A", "B", "C"]


def test_a_model_that_was_decoded_twice_has_one_line(page_file: Path, tmp_path: Path) -> None:
    model = page_file.parent / "good"
    folders = [page_file.parent / "bad" / "decode", model / "decode"]
    folders += [decode_folder(tmp_path / name, REFERENCES, REFERENCES, {"models": [str(model)]}) for name in "xy"]
    page = comparison_page(asr.compare(folders))
    assert "A: 2 in epoch 1, 0.8 in epoch 4, least 0.8 in epoch 4; B, C, D: 4 in epoch 1, 1 in epoch 4" in page


def test_the_pair_and_its_filters_choose_the_utterances(opened: Opened) -> None:
    page = opened.page
    assert opened.ids() == ["u1", "u4", "u2"], "2, 1 and 1 errors apart; of equal ones, more errors of all are first"
    expected = {
        "A B": {"all": "u1 u4 u2", "differ": "u1 u4 u2", "first": "u1 u2", "second": "u4", "both": ""},
        "A C": {"all": "u1 u4 u2", "differ": "u1 u4", "first": "u1", "second": "", "both": "u4"},
        "B C": {"all": "u4 u1 u2", "differ": "u4 u1 u2", "first": "u4", "second": "u2", "both": "u1"},
    }
    for pair, shown in expected.items():
        page.select_option("#pair", pair)
        first, second = pair.split()
        assert page.locator("#show option").all_inner_texts() == [
            "all with errors",
            f"{first} and {second} differ",
            f"{first} right, {second} wrong",
            f"{second} right, {first} wrong",
            f"{first} and {second} wrong",
        ]
        for value, ids in shown.items():
            page.select_option("#show", value)
            assert opened.ids() == ids.split()
            assert page.inner_text("#count") == f"{len(ids.split())} of 3 utterances with errors"
    assert page.get_attribute("#count", "aria-live") == "polite"


def test_a_search_looks_in_ids_references_and_all_hypotheses(opened: Opened) -> None:
    for wanted, ids in {"U2": ["u2"], "eight": [], "THREE": ["u1"], "free": ["u1"], "then": ["u4"], " ": None}.items():
        opened.page.fill("#search", wanted)
        assert opened.ids() == (["u1", "u4", "u2"] if ids is None else ids), wanted


def test_words_are_one_above_the_other_and_marked(opened: Opened) -> None:
    columns = opened.page.locator(".row").first.locator(".column").all()
    cells = [column.locator("span").all() for column in columns]
    assert [[cell.inner_text() for cell in column] for column in cells] == [
        ["said", "A", "B", "C"],
        ["one"] * 4,
        ["two", "two", "–", "two"],
        ["three", "three", "for", "free"],
        ["four"] * 4,
    ]
    assert [[cell.get_attribute("class") for cell in column[1:]] for column in cells[1:]] == [
        ["C", "C", "C"],
        ["C", "D", "C"],
        ["C", "S", "S"],
        ["C", "C", "C"],
    ]
    tops = [[cell.bounding_box()["y"] for cell in column] for column in cells]
    assert all(top == pytest.approx(tops[0], abs=1) for top in tops)
    spoken = opened.page.locator(".row").first.locator(".spoken p").all_inner_texts()
    assert spoken == [
        "said: one two three four",
        "A, 0 errors: one two three four",
        "B, 2 errors: one for four",
        "C, 1 error: one two free four",
    ]


def test_keys_walk_through_the_utterances_and_leave_text_fields_alone(opened: Opened) -> None:
    keyboard = opened.page.keyboard
    for key, at in [("j", "u1"), ("j", "u4"), ("j", "u2"), ("j", "u2"), ("k", "u4"), ("k", "u1"), ("k", "u1")]:
        keyboard.press(key)
        assert opened.focused() == at
    keyboard.press("/")
    keyboard.type("jk/")
    assert opened.page.input_value("#search") == "jk/"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 360])
def test_everybody_can_use_it_at_any_size_in_light_and_dark(
    browser: Any, page_file: Path, scheme: str, width: int
) -> None:
    opened = Opened(browser, page_file, color_scheme=scheme, viewport={"width": width, "height": 800})
    assert serious_findings(opened.page) == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width, "it scrolls sideways"
    opened.context.close()
    assert opened.complaints == []


def test_what_users_wrote_is_text(browser: Any, tmp_path: Path) -> None:
    references = {EVIL: f"a {EVIL} \x1b[31mred", "שלום": "שלום עולם", "long": "x" * 10_000}
    first = decode_folder(tmp_path / "<b>a", references, references | {"long": "y"}, {"method": EVIL})
    second = decode_folder(
        tmp_path / "b",
        references,
        dict.fromkeys(references, "😀 {{ 7 * 7 }} ${1}"),
        {"method": "[red]", "x\x1b": [EVIL]},
    )
    page = tmp_path / "page.html"
    asr.compare([first, second], out=page)
    opened = Opened(browser, page, viewport={"width": 360, "height": 800})
    assert opened.page.locator("script").count() == 1, "the page's own; its data are taken away"
    assert set(opened.ids()) == set(references)
    texts = opened.page.locator(".spoken").all_text_contents()
    assert any(f"a {EVIL} \\x1b[31mred" in text for text in texts)
    assert any("😀 {{ 7 * 7 }} ${1}" in text for text in texts)
    assert f"{tmp_path}/<b>a" in opened.page.inner_text("#rates")
    assert EVIL in opened.page.inner_text("#settings")
    assert "x\\x1b" in opened.page.inner_text("#settings")
    row = opened.page.locator(".row", has_text="עולם")
    assert row.locator(".words").evaluate("element => getComputedStyle(element).direction") == "rtl"
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
    opened.context.close()
    assert opened.complaints == []


def test_many_utterances_come_by_and_by_and_the_page_holds_the_most_different(browser: Any, tmp_path: Path) -> None:
    references = {f"u{number}": "one two" for number in range(MOST_UTTERANCES + 10)}
    alike, better = dict.fromkeys(references, "one"), dict.fromkeys(references, "one")
    better["u3005"] = "one two"
    folders = [decode_folder(tmp_path / name, references, texts) for name, texts in (("a", alike), ("b", better))]
    page = tmp_path / "page.html"
    asr.compare(folders, out=page)
    opened = Opened(browser, page)
    assert opened.ids()[0] == "u3005"
    assert len(opened.ids()) == 50
    assert "10 utterances with errors that differ less are not on this page" in opened.page.inner_text("#utterances")
    opened.page.click("#more")
    assert len(opened.ids()) == 100
    assert opened.focused() == opened.ids()[50]
    for _ in range(50):
        opened.page.keyboard.press("j")
    assert len(opened.ids()) == 150
    opened.context.close()
    assert opened.complaints == []


def first_of_each_line(opened: Opened) -> list[str]:
    """Return the uppermost word of the first column of each line of the only utterance, from above."""
    found: list[str] = opened.page.evaluate(
        """() => {
          const lines = new Map();
          for (const column of document.querySelectorAll('.row .column')) {
            const {top, left} = column.getBoundingClientRect();
            const line = lines.get(top);
            if (!line || left < line.left) lines.set(top, {left, text: column.firstElementChild.textContent});
          }
          return [...lines.keys()].sort((one, other) => one - other).map((top) => lines.get(top).text);
        }"""
    )
    return found


def test_each_line_of_a_long_utterance_begins_with_the_names_at_any_width(browser: Any, tmp_path: Path) -> None:
    references = {"u": " ".join(["word"] * 40)}
    folders = [
        decode_folder(tmp_path / name, references, {"u": f"{name} {references['u']}"}) for name in ("aa", "bb", "cc")
    ]
    asr.compare(folders, out=tmp_path / "page.html")
    opened = Opened(browser, tmp_path / "page.html", viewport={"width": 360, "height": 800})
    narrow = first_of_each_line(opened)
    assert len(narrow) > 5
    assert set(narrow) == {"said"}
    opened.page.set_viewport_size({"width": 900, "height": 800})
    opened.page.wait_for_function("document.querySelectorAll('.break').length < 4")
    wide = first_of_each_line(opened)
    assert 1 < len(wide) < len(narrow)
    assert set(wide) == {"said"}
    words = opened.page.locator(".column:not(.names) > :first-child").all_inner_texts()
    assert words == ["", *references["u"].split()]
    opened.context.close()
    assert opened.complaints == []


@pytest.fixture
def heard(tmp_path: Path) -> list[Path]:
    """Two decode folders; one of them says where the audio of two utterances is, a second of tone each."""
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * 16000) / 16000)
    soundfile.write(tmp_path / "tone.wav", tone, 16000)
    folders = [decode_folder(tmp_path / name, REFERENCES, SYSTEMS[name]) for name in ("good", "bad")]
    records = [
        {
            "id": name,
            "words": [
                {"text": word, "confidence": 0.5, "start_s": 0.3 * place, "end_s": 0.3 * place + 0.25}
                for place, word in enumerate(SYSTEMS["bad"][name].split())
            ],
            "duration_s": 1.0,
            "audio": {"path": str(tmp_path / "tone.wav"), "channels": [0], "start_s": start_s, "duration_s": 1.0},
        }
        for name, start_s in (("u1", 0.0), ("u2", 1.0))
    ]
    (folders[1] / "hyp.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folders


def test_an_utterance_is_heard_by_its_button_and_by_space(browser: Any, heard: list[Path], tmp_path: Path) -> None:
    asr.compare(heard, out=tmp_path / "page.html")
    opened = Opened(browser, tmp_path / "page.html")
    page = opened.page
    assert opened.ids() == ["u1", "u2", "u4"]
    assert page.locator(".row .listen").count() == 2, "nobody knows where the audio of u4 is"
    page.locator(".row .listen").first.click()
    page.wait_for_function("player.playing && player.positionS > 0.1")
    assert page.evaluate("player.durationS") == pytest.approx(1.0, abs=0.05)
    pause = page.locator(".row").first.locator(".sound button")
    assert pause.inner_text() == "Pause"
    assert pause.evaluate("button => button === document.activeElement")
    assert not page.locator(".row .listen").first.is_visible()
    page.keyboard.press("j")
    assert opened.focused() == "u2"
    page.keyboard.press(" ")
    page.wait_for_function("state.open?.id === 'u2' && player.playing")
    assert page.locator(".sound").count() == 1, "one is open at a time"
    assert page.locator(".row .listen").first.is_visible()
    page.keyboard.press(" ")
    page.wait_for_function("!player.playing")
    page.keyboard.press("j")
    page.keyboard.press(" ")
    assert page.evaluate("state.open.id") == "u2", "u4 cannot be heard"
    page.select_option("#show", "second")
    assert page.locator(".sound").count() == 0
    opened.context.close()
    assert opened.complaints == []


def test_a_click_on_a_word_plays_it(browser: Any, heard: list[Path], tmp_path: Path) -> None:
    asr.compare(heard, out=tmp_path / "page.html")
    opened = Opened(browser, tmp_path / "page.html")
    page, row = opened.page, opened.page.locator(".row").first
    assert row.locator("[data-part]").all_inner_texts() == ["one", "for", "four"], "the times of A are not known"
    row.locator("[data-part]", has_text="four").click()
    page.wait_for_function("player.part[0] > 0")
    assert page.evaluate("player.part") == pytest.approx([0.6, 0.85])
    row.locator("[data-part]", has_text="one").click()
    page.wait_for_function("player.part[0] === 0")
    assert page.evaluate("player.part") == pytest.approx([0, 0.25])
    opened.context.close()
    assert opened.complaints == []


def test_a_page_without_audio_says_so_and_has_none(heard: list[Path], tmp_path: Path) -> None:
    with_audio = comparison_page(asr.compare(heard))
    without = comparison_page(asr.compare(heard), audio=False)
    assert 'id="audio-1"' in with_audio
    assert 'id="audio-0"' not in without
    assert "There is no audio, as asked for" in without


def test_the_same_comparison_gives_the_same_page(page_file: Path) -> None:
    folders = [page_file.parent / name / "decode" for name in SYSTEMS]
    assert comparison_page(asr.compare(folders)) == page_file.read_text(encoding="utf-8")
