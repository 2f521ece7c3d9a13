"""What report.html holds and what it says it lacks; test_scoring_report_browser.py uses it in a browser."""

from __future__ import annotations

import base64
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.reporting import report_utterances
from asr.reporting.report import write_reports
from asr.reporting.report_page import LISTED_GROUPS, report_page
from asr.reporting.report_utterances import page_audio, worst_first
from asr.reporting.score_files import score_files
from asr.scoring.score import read_score, score_texts, write_trn
from tests.unit.reporting.report_folder import SPOKEN, Spoken, write_folder


class Page(HTMLParser):
    """The texts of a page in their order, its tags with their attributes, and what its script gets."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id", "") if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
            if not data.strip():
                self._script = None
        else:
            self.texts.append(data.strip())

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    @property
    def utterances(self) -> dict[str, dict[str, Any]]:
        return {one["id"]: one for one in json.loads(self.scripts["data"])["utterances"]}


def page_of(folder: Path, **options: Any) -> Page:
    return Page(report_page(read_score(folder), folder, **options))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "decode")
    return tmp_path / "decode"


def test_the_page_holds_rates_errors_and_confidences_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    write_trn({"u1": "turn the <b> on", "u2": "off"}, tmp_path / "ref.trn")
    write_trn({"u1": "turn a <b> on now", "u2": ""}, tmp_path / "hyp.trn")
    words = [{"text": "x", "confidence": confidence} for confidence in (0.95, 0.15, 0.95, 0.95, 0.25)]
    records = [{"id": "u1", "words": words}, {"id": "u2", "words": []}]
    (tmp_path / "hyp.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    write_reports(read_score(tmp_path), tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    names = [tag for tag, _ in page.tags]
    assert names.count("svg") == 1
    assert "b" not in names
    assert not any("src" in attributes for _, attributes in page.tags)
    assert all(attributes["href"].startswith("#") for _, attributes in page.tags if "href" in attributes)
    place = page.texts.index("WER")
    texts = list(filter(None, page.texts[place:]))
    assert texts[1] == "60.00 %"  # 1 substitution, 1 deletion, 1 insertion, 5 words
    assert texts[3:8] == ["3", "1", "1", "1", "5 words"]
    assert page.texts[page.texts.index("ECE") + 1] == "0.110"  # 3 · 0.05 + 0.15 + 0.25, of 5
    assert page.texts[page.texts.index("AUC") + 1] == "1.000"
    texts = list(filter(None, page.texts))
    place = texts.index("substitutions: 1")
    assert texts[place + 1 : place + 7] == ["word", "times", "the", "→", "a", "1"]
    assert page.utterances["u1"]["words"] == [
        ["turn", "turn", None, None, 0.95],
        ["the", "a", None, None, 0.15],
        ["<b>", "<b>", None, None, 0.95],
        ["on", "on", None, None, 0.95],
        [None, "now", None, None, 0.25],
    ]
    assert page.utterances["u2"]["words"] == [["off", None]]


def test_without_confidences_or_errors_the_page_has_no_part_for_them(tmp_path: Path) -> None:
    page = Page(report_page(score_texts({"u": "one two"}, {"u": "one two"}), tmp_path / "exp" / "a & b"))
    assert str(tmp_path / "exp" / "a & b") in page.texts
    assert not [text for text in page.texts if text.startswith(("Confidences", "Frequent"))]
    assert page.utterances["u"]["words"] == [["one", "one"], ["two", "two"]]


def test_all_utterances_are_there_worst_first_with_times_speakers_and_fields(folder: Path) -> None:
    utterances = page_of(folder).utterances
    assert list(utterances) == ["worst", "two", "one", "right"] == worst_first(read_score(folder))
    assert [utterances[name]["place"] for name in SPOKEN] == [0, 1, 2, 3]
    assert utterances["two"]["words"] == [
        ["dd", "dd", 0.5, 1.5, 0.9],
        [None, "ab", 1.5, 2.5, 0.5],
        ["aa", "ca", 2.5, 3.5, 0.7],
    ]
    assert utterances["worst"]["speaker"] == "bob"
    assert utterances["worst"]["fields"] == {"noise": "street", "snr_db": "5", "duration_s": "6"}
    assert (utterances["worst"]["duration_s"], utterances["worst"]["length"]) == (6.0, 4)


def test_words_that_were_replaced_by_another_number_of_words_have_no_times(folder: Path) -> None:
    write_trn({name: "ab" if name == "right" else one.hypothesis for name, one in SPOKEN.items()}, folder / "hyp.trn")
    assert page_of(folder).utterances["right"]["words"] == [["ab", "ab"], ["cd", None]]


def test_posteriors_are_packed_as_the_script_reads_them(folder: Path) -> None:
    model, frames, packed = page_of(folder).utterances["right"]["posteriors"]
    content = base64.b64decode(packed)
    counts = np.frombuffer(content[:frames], np.uint8)
    tokens = np.frombuffer(content[frames : frames + 2 * counts.sum()], "<u2")
    levels = np.frombuffer(content[frames + 2 * counts.sum() :], np.uint8)
    assert (model, frames, len(levels)) == (0, 75, counts.sum())  # 3 s, 0.04 s each
    frame = round((0.5 + 0.1) / 0.04)
    entries = slice(counts[:frame].sum(), counts[: frame + 1].sum())
    assert (tokens[entries].tolist(), levels[entries].tolist()) == ([0, 2], [51, 204])  # 0.2 blank, 0.8 "a"


def test_the_audio_is_opus_of_the_part_and_the_channel_that_the_manifest_names(tmp_path: Path) -> None:
    write_folder(tmp_path / "decode", {"u": Spoken("ab", "ab")})
    rate_hz, time_s = 44100, np.arange(3 * 44100) / 44100
    tones = np.stack([np.zeros_like(time_s), 0.5 * np.sin(2 * np.pi * np.where(time_s < 1, 2000, 500) * time_s)], 1)
    soundfile.write(tmp_path / "two.wav", tones, rate_hz)
    line = json.loads((tmp_path / "decode" / "hyp.jsonl").read_text())
    line["audio"] = {"path": str(tmp_path / "two.wav"), "channels": [1], "start_s": 1.0, "duration_s": 1.5}
    (tmp_path / "decode" / "hyp.jsonl").write_text(json.dumps(line) + "\n")
    page = page_of(tmp_path / "decode")
    samples, read_hz = soundfile.read(io.BytesIO(base64.b64decode(page.scripts["audio-0"])))
    assert len(samples) / read_hz == pytest.approx(1.5, abs=0.01)
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * read_hz / len(samples) == pytest.approx(500, abs=2)
    assert "All utterances can be played." in page.texts


def test_without_room_for_all_the_worst_can_be_played_and_the_page_says_how_many(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = read_score(folder)
    names = worst_first(score)
    sizes = {name: len(content) for name, content in page_audio(score, names).files.items()}
    monkeypatch.setattr(report_utterances, "AUDIO_BYTES", sizes["worst"] + sizes["two"])
    found = page_audio(score, names)
    assert list(found.files) == ["worst", "two"]
    assert found.note == (
        "2 utterances with the most errors can be played; 2 others would make the page too large or take too long."
    )


def test_without_time_for_more_the_first_are_encoded_and_no_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_utterances, "AUDIO_S", 0.0)
    found = page_audio(read_score(folder), worst_first(read_score(folder)))
    assert found.files == {}
    assert "4 others" in found.note


def test_audio_that_is_gone_or_damaged_is_counted_and_the_first_reason_given(folder: Path) -> None:
    (folder.parent / "audio2.wav").unlink()  # that of "worst"
    (folder.parent / "audio3.wav").write_bytes(b"no sound")
    found = page_audio(read_score(folder), worst_first(read_score(folder)))
    assert sorted(found.files) == ["one", "right"]
    assert found.note.startswith("2 utterances can be played; audio of 2 utterances cannot be read (")
    assert "audio2.wav" in found.note


def test_a_channel_that_the_file_has_not_is_a_reason_too(folder: Path) -> None:
    text = (folder / "hyp.jsonl").read_text()
    (folder / "hyp.jsonl").write_text(text.replace('"channels": [0]', '"channels": [3]'))
    assert "has no channel 3" in page_audio(read_score(folder), worst_first(read_score(folder))).note


@pytest.mark.parametrize("path", ["/dev/zero", "with\0nul", "~" * 5000])
def test_a_path_that_names_no_file_is_a_reason_too(folder: Path, path: str) -> None:
    lines = [json.loads(line) for line in (folder / "hyp.jsonl").read_text().splitlines()]
    lines[0]["audio"]["path"] = path
    (folder / "hyp.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = page_audio(read_score(folder), worst_first(read_score(folder)))
    assert len(found.files) == 3
    assert len(found.note) < 1000


def test_without_audio_asked_for_no_file_is_opened_and_the_page_says_so(folder: Path) -> None:
    for path in folder.parent.glob("*.wav"):
        path.unlink()
    page = page_of(folder, audio=False)
    assert not [name for name in page.scripts if name.startswith("audio")]
    assert any("--no-audio" in text for text in page.texts)


def test_an_older_folder_gives_a_page_that_says_what_it_lacks_and_why(folder: Path) -> None:
    (folder / "posteriors.safetensors").unlink()
    lines = [json.loads(line) for line in (folder / "hyp.jsonl").read_text().splitlines()]
    kept = [{key: line[key] for key in ("id", "speaker", "text", "words")} for line in lines]
    (folder / "hyp.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    page = page_of(folder)
    said = " ".join(page.texts)
    assert "There is no audio: hyp.jsonl does not say where it is, because an older version wrote it." in said
    assert "There are no posteriors, because the folder has no posteriors.safetensors; decode again." in said
    assert "There are no training curves, because the decode folder is not in a model folder." in said
    assert page.utterances["two"]["words"][0] == ["dd", "dd", 0.5, 1.5, 0.9]


def test_texts_alone_give_a_page_too(folder: Path) -> None:
    (folder / "hyp.jsonl").unlink()
    shutil.rmtree(folder.parent / "audio", ignore_errors=True)
    page = page_of(folder)
    assert any(text.startswith("Only texts were scored") for text in page.texts)
    assert not [text for text in page.texts if "decode again" in text]
    assert any("No speaker is known." in text for text in page.texts)
    assert page.utterances["one"]["words"] == [["ab", "ab"], ["cd", "cb"]]


def test_damaged_posteriors_leave_the_rest_of_the_page(folder: Path) -> None:
    (folder / "posteriors.safetensors").write_bytes(b"none")
    page = page_of(folder)
    assert any(text.startswith("There are no posteriors: ") for text in page.texts)
    assert len(page.utterances) == 4


def cells_after(page: Page, caption: str) -> list[str]:
    texts = list(filter(None, page.texts))
    return texts[texts.index(caption) + 1 :]


def test_the_groups_of_speakers_lengths_and_fields_have_their_rates(folder: Path) -> None:
    page = page_of(folder)
    # Worked by hand. anna: one (1 of 2), two (1 insertion, 1 substitution of 2); bob: right (0 of 2), worst (4 of 4:
    # "a" is deleted, "d" taken for one of three words, of which two are inserted).
    assert cells_after(page, "by speaker")[:11] == [
        *("WER", "errors", "of"),
        *("bob", "66.7 %", "4", "6"),
        *("anna", "75.0 %", "3", "4"),
    ]
    assert cells_after(page, "by noise")[3:11] == ["street", "83.3 %", "5", "6", "none", "50.0 %", "2", "4"]
    assert cells_after(page, "by length, in words")[3:7] == ["0 to 2", "50.0 %", "3", "6"]
    filters = [json.loads(str(a["data-values"])) for _, a in page.tags if a.get("data-kind") == "field"]
    assert ["speaker", "anna"] in filters
    assert ["snr_db", "5"] in filters


def test_of_very_many_groups_those_with_most_errors_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    names = [f"s{number:02d}" for number in range(LISTED_GROUPS + 3)]
    spoken = {f"{name}-{take}": Spoken("ab", "cd" if name > "s02" else "ab", name) for name in names for take in (1, 2)}
    write_folder(tmp_path / "decode", spoken)
    cells = cells_after(page_of(tmp_path / "decode", audio=False), "by speaker")
    assert [cell for cell in cells if cell in names] == names[3:]
    assert "3 others with fewer errors" in cells


def test_a_field_that_divides_nothing_has_no_table(tmp_path: Path) -> None:
    spoken = {
        f"u{number}": Spoken("ab", "cd", "anna", {"language": "en", "take": f"take {number}"}) for number in range(4)
    }
    write_folder(tmp_path / "decode", spoken)
    captions = [text for text in page_of(tmp_path / "decode").texts if text.startswith("by ")]
    assert captions == []


def test_the_interval_over_speakers_is_there_from_five_speakers_on(tmp_path: Path) -> None:
    for speakers in (4, 5):
        spoken = {f"u{n}": Spoken("ab cd", "ab" if n % 3 else "ab cd", f"s{n % speakers}") for n in range(10)}
        write_folder(tmp_path / f"{speakers}", spoken)
        page = page_of(tmp_path / f"{speakers}", audio=False)
        assert ("95 % over speakers" in page.texts) == (speakers == 5)
        assert any(f"{speakers} speakers are known." in text for text in page.texts)


def test_the_confusions_are_there_for_characters_too(tmp_path: Path) -> None:
    write_folder(tmp_path / "decode", {"u": Spoken("abc d", "abx d"), "v": Spoken("ab cd", "abcd")})
    texts = cells_after(page_of(tmp_path / "decode"), "In characters")
    assert texts[:7] == ["substitutions: 1", "character", "times", "c", "→", "x", "1"]
    assert texts[7:12] == ["deletions: 1", "character", "times", "␣", "1"]


def test_in_a_script_without_spaces_the_page_counts_characters_first(tmp_path: Path) -> None:
    write_folder(tmp_path / "decode", {"u": Spoken("你好吗", "你号吗")})
    page = page_of(tmp_path / "decode", audio=False)
    assert page.texts.index("CER") < page.texts.index("WER")
    assert any(text.startswith("Most letters belong to scripts without spaces") for text in page.texts)


def test_what_did_not_match_is_named_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "ref.trn").write_text("Ab cd (u1)\ncd (u 2)\n")
    (tmp_path / "hyp.trn").write_text("ab cd (u1)\nab (u<3>)\n")
    score_files(tmp_path / "ref.trn", tmp_path / "hyp.trn", out=tmp_path / "out")
    texts = list(filter(None, Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).texts))
    said = "1 utterance without a hypothesis: all words count as deleted"
    assert texts[texts.index(said) + 1] == "u 2"
    assert texts[texts.index("1 recognised text without a reference: not counted") + 1] == "u<3>"
    assert "1 word error would be none without regard to capital letters." in texts
