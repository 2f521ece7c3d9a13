"""The model card tells what the folder's files know, and nothing else."""

import json
import os
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

import asr
from asr.bundle.bundle import ModelBundle
from asr.bundle.card import TrainingFacts, model_card, write_card
from asr.errors import ModelError
from asr.exporting.export import export_onnx, export_torch
from asr.files import printable
from asr.model.acoustic import AcousticModel
from asr.reporting.report import score
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from tests.conftest import TINY

FACTS = TrainingFacts(
    train_utterances=1234, train_s=5400, dev_utterances=50, dev_s=180, dev_words=400, dev_wer=0.0725, epochs=7
)


@pytest.fixture
def folder(tmp_path):
    config = load_config(None, TINY)
    tokens = TokenTable.from_texts(["abc "])
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(tmp_path / "model")
    return tmp_path / "model"


def scored(folder, name, **run):
    """Put a scored decode folder into a model folder: 3 errors in 40 words."""
    (folder / name).mkdir()
    (folder / name / "ref.trn").write_text("".join(f"a b c ab (u{i})\n" for i in range(10)))
    (folder / name / "hyp.trn").write_text("".join(f"a b {'c' if i > 2 else 'b'} ab (u{i})\n" for i in range(10)))
    if run:
        (folder / name / "run.json").write_text(json.dumps(run))


def test_a_new_model_s_card_counts_its_parameters_and_claims_no_results(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    parameters = AcousticModel(load_config(None, TINY), 5).parameter_count
    assert f"| parameters | {parameters:,} |" in card
    assert "| tokens | 4 characters and the blank |" in card
    assert "| frame shift | 40 ms |" in card
    assert "WER (" not in card
    assert "## Data" not in card
    assert "to be filled in" in card


def test_what_the_model_learnt_from_is_told_in_hours(folder):
    FACTS.save(folder)
    card = model_card(folder)
    assert "| train | 1,234 | 1.50 |" in card
    assert "| dev | 50 | 0.05 |" in card
    assert "epoch 7, the best on dev: 7.25 % WER greedy, 400 words" in card


def test_the_card_names_the_machine_of_the_training(folder):
    replace(FACTS, precision="bf16", threads=2, processor="ACME *9* Processor").save(folder)
    assert r"The network computed in bfloat16 on ACME \*9\* Processor with 2 threads." in model_card(folder)
    replace(FACTS, precision="fp32", threads=1).save(folder)
    assert "The network computed in float32 with 1 thread." in model_card(folder)
    FACTS.save(folder)
    assert "computed in" not in model_card(folder)


def test_scoring_a_decode_folder_inside_brings_its_rates_into_the_card(call, folder):
    scored(folder, "decode_test", method="beam", audio_s=200.0, seconds=1.0, manifest="test.jsonl.gz")
    scored(folder, "decode_unknown")
    for name in ("decode_test", "decode_unknown"):
        status, _, _ = call("score", folder / name)
        assert status == 0
    card = (folder / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in card.splitlines() if "decode_test`" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["`decode_test`", "beam", "40"]
    assert cells[3].startswith("7.50 % (")
    assert cells[5] == "0.0050"
    (row,) = [line for line in card.splitlines() if "decode_unknown`" in line]
    assert [cell.strip() for cell in row.strip("|").split("|")][1::4] == ["", ""]


def test_the_card_says_that_numbers_come_in_words(tmp_path):
    config, tokens = load_config(None, [*TINY, "text.numbers=de"]), TokenTable.from_texts(["abc "])
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(tmp_path)
    assert "in lower case, with numbers in words (`de`). Expect" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_in_scripts_without_spaces_the_card_leads_with_the_character_error_rate(call, folder):
    replace(FACTS, dev_cer=0.031, main="cer").save(folder)
    scored(folder, "decode_test")
    for name in ("ref.trn", "hyp.trn"):
        file = folder / "decode_test" / name
        file.write_text(
            file.read_text().translate(str.maketrans({"a": "今", "b": "天", "c": "气", " ": None, "(": " ("}))
        )
    assert call("score", folder / "decode_test")[0] == 0
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "the best on dev: 3.10 % CER greedy, in a script without spaces.\n" in card
    assert "## Word error rates" not in card
    place = card.index(
        "## Character error rates\n\n| `asr score` of | search | characters | CER (95 % interval) | WER |"
    )
    row = next(line for line in card[place:].splitlines() if "decode_test`" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2] == "50"  # five characters in each of ten utterances
    assert cells[3].startswith("6.00 % (")
    assert cells[4] == "6.00 %"


NAMES = ["a|b", "<script>alert(1)", "a`b``c`", "*a* _b_", "a\nb", "&amp; a", "[a](b)"]


@pytest.mark.skipif(os.name != "posix", reason="such names are POSIX's")
@pytest.mark.parametrize("name", NAMES)
def test_names_and_settings_are_text_in_the_card_whatever_they_hold(folder, name):
    """A Markdown parser that lets HTML through says what a reader sees."""
    scored(folder, name, method=name, audio_s=200.0, seconds=1.0)
    asr.score(folder / name)
    parsed = MarkdownIt("commonmark", {"html": True}).enable("table").parse(model_card(folder))
    assert not [token for token in parsed if token.type == "html_block"]
    cells = [token.children for token in parsed if token.type == "inline" and token.level == 4]
    rows = [cells[index : index + 6] for index in range(0, len(cells), 6) if len(cells) - index >= 6]
    shown = ["".join(part.content for part in cell) for row in rows for cell in row]
    assert shown.count(printable(name)) == 2  # folder and search
    assert {part.type for cell in cells for part in cell} <= {"text", "text_special", "code_inline"}


def test_scoring_elsewhere_writes_no_card(call, tmp_path):
    scored(tmp_path, "decode_test")
    assert call("score", tmp_path / "decode_test")[0] == 0
    assert not (tmp_path / "README.md").exists()


def test_an_export_s_card_keeps_the_facts_and_says_how_to_use_it_without_torch(folder, tmp_path):
    FACTS.save(folder)
    export_onnx(folder, tmp_path / "onnx", int8=True)
    card = (tmp_path / "onnx" / "README.md").read_text(encoding="utf-8")
    assert "| train | 1,234 | 1.50 |" in card
    assert "python -m asr.runtime" in card
    size = (tmp_path / "onnx" / "model.onnx").stat().st_size
    assert f"| weights | {size / 1e6:.1f} MB, int8 |" in card
    assert "asr transcribe" not in card


def test_an_int8_folder_s_card_says_of_what_the_rates_are_until_it_has_its_own(call, folder, tmp_path):
    scored(folder, "decode_test")
    assert call("score", folder / "decode_test")[0] == 0
    export_torch(folder, tmp_path / "int8", int8=True)
    card = (tmp_path / "int8" / "README.md").read_text(encoding="utf-8")
    parameters = AcousticModel(load_config(None, TINY), 5).parameter_count
    size = (tmp_path / "int8" / "model.safetensors").stat().st_size
    for text in (f"| parameters | {parameters:,} |", f"| weights | {size / 1e6:.1f} MB, int8 |", "were rounded from"):
        assert text in card
    scored(tmp_path / "int8", "decode_test")
    assert call("score", tmp_path / "int8" / "decode_test")[0] == 0
    card = (tmp_path / "int8" / "README.md").read_text(encoding="utf-8")
    for text in (f"| parameters | {parameters:,} |", f"| weights | {size / 1e6:.1f} MB, int8 |", "7.50 %"):
        assert text in card
    assert "were rounded from" not in card


@pytest.mark.parametrize("name", ["config.yaml", "tokens.json", "model.safetensors", "training.json"])
def test_a_damaged_file_gives_no_card_but_an_error(name, folder):
    (folder / name).write_bytes(b"[1, 2")
    with pytest.raises(ModelError, match="no card"):
        write_card(folder)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("run.json", {"method": "beam", "seconds": "1", "audio_s": 2.0}, "seconds: '1' is not a number"),
        ("run.json", {"method": "beam", "seconds": -1.0, "audio_s": 2.0}, "seconds: -1.0 is not at least 0"),
        ("run.json", {"method": ["beam"], "seconds": 1.0, "audio_s": 2.0}, r"method: \['beam'\] is not a text"),
        ("run.json", [1], r"\[1\] is not a group of named values"),
        ("wer.json", {"wer": 0.1}, "words is missing"),
    ],
)
def test_a_wrong_value_of_a_decode_folder_is_named_with_its_file(folder, name, content, reason):
    scored(folder, "decode_test", method="beam", seconds=1.0, audio_s=2.0)
    score(folder / "decode_test")
    (folder / "decode_test" / name).write_text(json.dumps(content))
    with pytest.raises(ModelError, match=rf"{name}: {reason}"):
        write_card(folder)


def test_a_wrong_value_of_what_a_model_learnt_from_is_named(folder):
    FACTS.save(folder)
    values = json.loads((folder / "training.json").read_text())
    (folder / "training.json").write_text(json.dumps(values | {"train_s": "long"}))
    with pytest.raises(ModelError, match=r"training\.json: train_s: 'long' is not a number"):
        write_card(folder)


def test_a_decode_folder_without_audio_has_no_real_time_factor(folder):
    scored(folder, "decode_test", method="beam", seconds=1.0, audio_s=0)
    score(folder / "decode_test")
    (row,) = [
        line for line in (folder / "README.md").read_text().splitlines() if "decode_test" in line and "7.50 %" in line
    ]
    assert row.endswith("|  |")


def test_a_licence_that_was_filled_in_stays_when_the_card_is_written_again(folder, tmp_path):
    card = (folder / "README.md").read_text(encoding="utf-8")
    start = card.index("Licence: to be filled in")
    filled = "---\nlicense: cc-by-4.0\n---\n" + card[:start] + "Licence: CC BY 4.0, by me.\n\n## Thanks\n\nTo all.\n"
    (folder / "README.md").write_text(filled, encoding="utf-8")
    scored(folder, "decode_test")
    score(folder / "decode_test")
    again = (folder / "README.md").read_text(encoding="utf-8")
    assert "7.50 %" in again
    assert again.startswith("---\nlicense: cc-by-4.0\n---\n# Speech recognition model\n")
    assert again.endswith("\n\nLicence: CC BY 4.0, by me.\n\n## Thanks\n\nTo all.\n")
    assert "to be filled in" not in again
    export_torch(folder, tmp_path / "export")
    assert "Licence: CC BY 4.0, by me." in (tmp_path / "export" / "README.md").read_text(encoding="utf-8")


def test_a_readme_that_is_no_card_is_not_replaced(folder, tmp_path):
    (folder / "README.md").write_text("# My project\n", encoding="utf-8")
    scored(folder, "decode_test")
    assert score(folder / "decode_test").card is None
    assert (folder / "README.md").read_text(encoding="utf-8") == "# My project\n"
    (tmp_path / "mine").mkdir()
    for name in ("README.md", "config.yaml"):
        (tmp_path / "mine" / name).write_text("of somebody")
        with pytest.raises(ModelError, match=rf"{name}: exists and is not of an export"):
            export_torch(folder, tmp_path / "mine")
        assert (tmp_path / "mine" / name).read_text() == "of somebody"
        (tmp_path / "mine" / name).unlink()
