"""`asr.compare`: cases worked by hand, laws, and what is refused with which advice."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import jiwer
import pytest
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import asr
from asr.bundle.bundle import ModelBundle
from asr.errors import ScoringError
from asr.model.acoustic import AcousticModel
from asr.reporting.compare_text import to_text
from asr.reporting.comparison import align_systems, holm
from asr.scoring.error_counts import align_words
from asr.scoring.score import write_trn
from asr.settings_file import load_config
from asr.text.tokens import TokenTable

REFERENCES = {"u1": "one two three four", "u2": "five six", "u3": "seven eight nine", "u4": "ten"}
GOOD = REFERENCES | {"u4": "then"}
BAD = REFERENCES | {"u1": "one for four", "u2": "five"}  # 2 errors, 1 error
MIXED = REFERENCES | {"u1": "one two free four", "u4": "a ten"}


def decode_folder(
    path: Path, hypotheses: dict[str, str], references: dict[str, str] = REFERENCES, run: Any = None
) -> Path:
    path.mkdir(parents=True)
    write_trn(references, path / "ref.trn")
    write_trn(hypotheses, path / "hyp.trn")
    if run is not None:
        (path / "run.json").write_text(json.dumps(run))
    return path


def model_folder(path: Path, *overrides: str) -> Path:
    """Write a model folder with random weights; return it."""
    config, tokens = load_config(None, [*TINY, *overrides]), TokenTable.from_texts(["abcd "])
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(path)
    return path


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    found = {"good": GOOD, "bad": BAD, "mixed": MIXED}
    return [decode_folder(tmp_path / name, hypotheses) for name, hypotheses in found.items()]


def test_figures_are_those_of_the_case_worked_by_hand(three: list[Path]) -> None:
    comparison = asr.compare(three)
    assert [system.letter for system in comparison.systems] == ["A", "B", "C"]
    assert [system.score.wer for system in comparison.systems] == pytest.approx([1 / 10, 3 / 10, 2 / 10])
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert [pair.difference.difference for pair in comparison.pairs] == pytest.approx([2 / 10, 1 / 10, -1 / 10])
    outcomes = [
        (pair.both_right, pair.only_first_right, pair.only_second_right, pair.both_wrong) for pair in comparison.pairs
    ]
    assert outcomes == [(1, 2, 1, 0), (2, 1, 0, 1), (1, 1, 1, 1)]
    assert [utterance.errors for utterance in comparison.utterances] == [(0, 2, 1), (0, 1, 0), (1, 0, 1)]
    assert [utterance.id for utterance in comparison.utterances] == ["u1", "u2", "u4"]
    assert (comparison.compared, comparison.left_out, comparison.settings, comparison.notes) == (4, (), (), ())


def test_rates_are_those_of_another_library(three: list[Path]) -> None:
    for system in asr.compare(three).systems:
        texts = list(REFERENCES.values()), [system.hypotheses[name] for name in REFERENCES]
        assert system.score.wer == pytest.approx(jiwer.wer(*texts))
        assert system.score.cer == pytest.approx(jiwer.cer(*texts))


def test_the_p_value_of_a_pair_is_that_of_scipys_permutation_test(tmp_path: Path) -> None:
    """scipy counts ties as extreme and ours half of them, so the case has none but the two that are exact."""
    references = {f"u{n}": " ".join(["word"] * 40) for n in range(6)}
    errors = {"a": [1, 2, 4, 8, 16, 32], "b": [0] * 6}
    folders = [
        decode_folder(
            tmp_path / name,
            {f"u{n}": " ".join(["word"] * (40 - count) + ["other"] * count) for n, count in enumerate(counts)},
            references,
        )
        for name, counts in errors.items()
    ]
    (pair,) = asr.compare(folders).pairs
    found = stats.permutation_test(
        (errors["a"], errors["b"]), lambda a, b: sum(a) - sum(b), permutation_type="samples", n_resamples=1000
    )
    assert found.pvalue == pytest.approx(2 / 2**6)
    assert pair.difference.p_value == pytest.approx(found.pvalue / 2)


def closed_testing(p_values: list[float]) -> list[float]:
    """Return corrected p-values by the principle that Holm's procedure shortens: of all sets of hypotheses with one.

    Each set is tested after Bonferroni. Source: Marcus, Peritz & Gabriel 1976, "On closed testing procedures".
    """
    places = range(len(p_values))
    sets = [chosen for size in places for chosen in itertools.combinations(places, size + 1)]
    tested = {chosen: min(1.0, len(chosen) * min(p_values[place] for place in chosen)) for chosen in sets}
    return [max(p for chosen, p in tested.items() if place in chosen) for place in places]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holms_correction_is_closed_testing(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(closed_testing(p_values))


def test_holms_correction_is_that_of_a_case_worked_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_a_pair_is_called_different_by_its_corrected_p_value(tmp_path: Path) -> None:
    """With six units that all differ in one direction p is 1/64: below 0.05, but not four times it."""
    references = {f"u{n}": "one two three" for n in range(6)}
    good = dict(references)
    bad = dict.fromkeys(references, "one two")
    folders = [decode_folder(tmp_path / name, texts, references) for name, texts in (("a", good), ("b", bad))]
    (pair,) = asr.compare(folders).pairs
    assert pair.p_corrected == pair.difference.p_value == pytest.approx(1 / 64)
    assert pair.better == "A"
    folders += [decode_folder(tmp_path / name, good, references) for name in ("c", "d")]
    pairs = asr.compare(folders).pairs
    assert [pair.better for pair in pairs] == [None] * 6
    assert pairs[0].p_corrected == pytest.approx(6 / 64)


words = st.lists(st.sampled_from(["a", "b", "c", "ab"]), max_size=6).map(" ".join)


@given(words, st.lists(words, min_size=1, max_size=4))
def test_an_alignment_keeps_all_texts_and_as_many_errors_as_the_distance(reference: str, hypotheses: list[str]) -> None:
    columns = align_systems([align_words(reference, hypothesis) for hypothesis in hypotheses])
    assert [column.reference for column in columns if column.reference is not None] == reference.split()
    for place, hypothesis in enumerate(hypotheses):
        mine = [(column.reference, column.hypotheses[place]) for column in columns]
        assert [word for _, word in mine if word is not None] == hypothesis.split()
        assert sum(said != found for said, found in mine) == distance(reference.split(), hypothesis.split())
    assert all(column.reference or any(column.hypotheses) for column in columns), "a column without any word"


def distance(a: list[str], b: list[str]) -> int:
    """Return the edit distance, by its recursion."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


def test_what_systems_insert_at_one_place_is_in_the_same_columns() -> None:
    columns = align_systems([align_words("a b", hypothesis) for hypothesis in ("a x y b", "z a b", "a w")])
    assert [(column.reference, *column.hypotheses) for column in columns] == [
        (None, None, "z", None),
        ("a", "a", "a", "a"),
        (None, "x", None, None),
        (None, "y", None, None),
        ("b", "b", "b", "w"),
    ]


def test_other_references_are_refused_and_the_first_differing_utterances_are_named(tmp_path: Path) -> None:
    first = decode_folder(tmp_path / "a", GOOD)
    others = {"u1": "one two three four", "u2": "five 6", "u5": "new", "u6": "newer"}
    second = decode_folder(tmp_path / "b", others, others)
    with pytest.raises(ScoringError, match="the systems have different references") as caught:
        asr.compare([first, second])
    message = str(caught.value)
    assert f"2 utterances only in {first}: u3, u4" in message
    assert f"2 utterances only in {second}: u5, u6" in message
    assert "1 utterance with another reference: u2, first 'five six' and 'five 6'" in message
    assert "the 1 utterance that all have: --common" in message


def test_only_common_utterances_are_compared_if_asked_for_and_the_others_are_named(tmp_path: Path) -> None:
    first = decode_folder(tmp_path / "a", BAD)
    others = {"u5": "new", "u2": "five six", "u1": "one two three four", "u4": "10"}
    second = decode_folder(tmp_path / "b", others, others)
    comparison = asr.compare([first, second], common=True)
    assert (comparison.compared, comparison.left_out) == (2, ("u3", "u4", "u5"))
    assert [system.score.wer for system in comparison.systems] == pytest.approx([3 / 6, 0])
    assert "2 utterances; intervals over 2 utterances; 3 utterances not in all systems: u3, u4, u5" in to_text(
        comparison
    )


def test_without_a_common_utterance_there_is_nothing_to_compare(tmp_path: Path) -> None:
    first = decode_folder(tmp_path / "a", GOOD)
    second = decode_folder(tmp_path / "b", {"v1": "one"}, {"v1": "one"})
    with pytest.raises(ScoringError, match="1 utterance only in") as caught:
        asr.compare([first, second], common=True)
    assert "--common" not in str(caught.value)


def test_of_model_folders_the_decode_folder_is_taken_that_all_have(tmp_path: Path) -> None:
    for name in "ab":
        decode_folder(tmp_path / name / "decode_test", GOOD)
    decode_folder(tmp_path / "b" / "decode_dev", GOOD)
    folders = [system.folder for system in asr.compare([tmp_path / "a", tmp_path / "b"]).systems]
    assert folders == [tmp_path / "a" / "decode_test", tmp_path / "b" / "decode_test"]


def test_of_several_decode_folders_in_common_the_one_with_the_same_references_is_taken(tmp_path: Path) -> None:
    for name in "ab":
        decode_folder(tmp_path / name / "decode_dev", {f"{name}1": "one"}, {f"{name}1": "one"})
        decode_folder(tmp_path / name / "decode_test", GOOD)
    folders = [system.folder.name for system in asr.compare([tmp_path / "a", tmp_path / "b"]).systems]
    assert folders == ["decode_test", "decode_test"]


def test_which_of_several_decode_folders_is_meant_is_not_guessed(tmp_path: Path) -> None:
    for name in "ab":
        for kind in ("decode_test", "decode_test_greedy"):
            decode_folder(tmp_path / name / kind, GOOD)
    with pytest.raises(ScoringError, match="several decode folders could be compared") as caught:
        asr.compare([tmp_path / "a", tmp_path / "b"])
    assert f"{tmp_path / 'a'} has decode_test, decode_test_greedy" in str(caught.value)
    assert f"`asr compare {tmp_path / 'a' / 'decode_test'} {tmp_path / 'b' / 'decode_test'}`" in str(caught.value)


def test_a_decode_folder_and_a_model_folder_are_compared_on_the_references_of_the_former(tmp_path: Path) -> None:
    first = decode_folder(tmp_path / "a" / "mine", GOOD)
    decode_folder(tmp_path / "b" / "decode_dev", {"v": "one"}, {"v": "one"})
    decode_folder(tmp_path / "b" / "decode_test", BAD)
    folders = [system.folder for system in asr.compare([first, tmp_path / "b"]).systems]
    assert folders == [first, tmp_path / "b" / "decode_test"]


def test_model_folders_without_a_decode_folder_in_common_are_refused(tmp_path: Path) -> None:
    for name, kinds in {"a": ("x", "y"), "b": ("z",)}.items():
        for kind in kinds:
            decode_folder(tmp_path / name / kind, GOOD)
    with pytest.raises(ScoringError, match=r"no decode folder is in all model folders: .*/a has x, y; .*/b has z"):
        asr.compare([tmp_path / "a", tmp_path / "b"])


def test_one_system_and_the_same_twice_are_refused(three: list[Path]) -> None:
    with pytest.raises(ScoringError, match="1 system: a comparison needs 2 to 26"):
        asr.compare(three[:1])
    with pytest.raises(ScoringError, match="given twice"):
        asr.compare([three[0], three[0] / ".." / three[0].name])
    with pytest.raises(ScoringError, match="given twice"):
        asr.compare([three[0].parent, three[0].parent])
    with pytest.raises(ScoringError, match="no such file"):
        asr.compare([three[0], three[0] / "nowhere"])


def test_a_probability_is_never_shown_as_zero(tmp_path: Path) -> None:
    references = {f"u{n}": "one two three" for n in range(14)}
    folders = [decode_folder(tmp_path / "a", references, references)]
    folders.append(decode_folder(tmp_path / "b", dict.fromkeys(references, "one two"), references))
    comparison = asr.compare(folders)
    assert comparison.pairs[0].difference.p_value == pytest.approx(2**-14)
    assert "   <0.001   " in to_text(comparison)


def test_settings_that_differ_are_listed_with_the_value_of_each_system(tmp_path: Path) -> None:
    first = model_folder(tmp_path / "a", "training.seed=1", "text.remove=punctuation")
    second = model_folder(
        tmp_path / "b", "training.seed=2", "decode.beam_size=50", r'text.replace={"<b>": "x\x1b[31m"}'
    )
    systems = [
        decode_folder(first / "decode", GOOD, run={"manifest": "data/test.jsonl", "method": "beam", "seconds": 3.0}),
        decode_folder(second / "decode", BAD, run={"manifest": "data/test.jsonl", "method": "greedy", "seconds": 2.0}),
        decode_folder(tmp_path / "elsewhere", BAD),
    ]
    comparison = asr.compare(systems[:2])
    assert {setting.name: setting.values for setting in comparison.settings} == {
        "text.replace": ({}, {"<b>": "x\x1b[31m"}),
        "text.remove": ("punctuation", ""),
        "training.seed": (1, 2),
        "decode.beam_size": (16, 50),
        "run.method": ("beam", "greedy"),
    }
    assert "\x1b" not in to_text(comparison)
    whole = asr.compare(systems)
    seed = next(setting for setting in whole.settings if setting.name == "training.seed")
    assert (seed.values, seed.known) == ((1, 2, None), (True, True, False))
    assert [system.parameters for system in whole.systems][2] is None
    assert whole.systems[0].parameters == whole.systems[1].parameters
    assert json.loads(json.dumps(whole.to_json()))["systems"][0]["model"] == str(first)


def test_settings_of_the_search_are_those_that_the_decode_folder_was_made_with(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "a")
    runs = [{"method": "beam", "decode": {"beam_size": size}} for size in (16, 50)]
    folders = [decode_folder(model / name, GOOD, run=run) for name, run in zip("xy", runs, strict=True)]
    (setting,) = asr.compare(folders).settings
    assert (setting.name, setting.values) == ("decode.beam_size", (16, 50))


def test_what_was_not_asked_for_is_no_difference_to_folders_that_do_not_mention_it(tmp_path: Path) -> None:
    runs = [{"method": "beam"}, {"method": "beam", "speaker": None, "hotwords": 0}]
    folders = [decode_folder(tmp_path / name, GOOD, run=run) for name, run in zip("ab", runs, strict=True)]
    assert asr.compare(folders).settings == ()
    folders.append(decode_folder(tmp_path / "c", GOOD, run={"method": "beam", "speaker": "anna", "hotwords": 3}))
    found = {setting.name: setting.values for setting in asr.compare(folders).settings}
    assert found == {"run.speaker": (None, None, "anna"), "run.hotwords": (None, None, 3)}


def test_the_model_of_a_decode_folder_elsewhere_is_the_one_that_it_was_made_with(tmp_path: Path) -> None:
    models = [model_folder(tmp_path / name, f"training.seed={seed}") for name, seed in (("a", 1), ("b", 2))]
    made_with = {"one": models[:1], "other": models[1:], "both": models, "gone": [tmp_path / "gone"]}
    folders = [
        decode_folder(tmp_path / name, GOOD, run={"models": list(map(str, used))}) for name, used in made_with.items()
    ]
    comparison = asr.compare(folders)
    assert [system.model for system in comparison.systems] == [*models, None, None]
    joined = next(setting for setting in comparison.settings if setting.name == "run.models")
    assert joined.values == (None, None, list(map(str, models)), None)


def test_a_packed_model_says_as_much_as_its_folder(tmp_path: Path) -> None:
    models = [model_folder(tmp_path / name, f"training.seed={seed}") for name, seed in (("a", 1), ("b", 2))]
    packed = [asr.pack_model(model, tmp_path / f"{model.name}.asr").path for model in models]
    of_folders, of_packed = (
        asr.compare([decode_folder(tmp_path / kind / m.stem, GOOD, run={"models": [str(m)]}) for m in made_with])
        for kind, made_with in (("folders", models), ("files", packed))
    )
    assert [setting.name for setting in of_folders.settings] == ["training.seed"]
    assert of_packed.settings == of_folders.settings
    parameters = [[system.parameters for system in found.systems] for found in (of_folders, of_packed)]
    assert parameters[0] == parameters[1] != [None, None]
    assert [str(system.model) for system in of_packed.systems] == list(map(str, packed))
    assert of_packed.notes == ()


def test_a_packed_model_that_is_damaged_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "m.asr").write_bytes(b"PK")
    run = {"models": [str(tmp_path / "m.asr")]}
    comparison = asr.compare([decode_folder(tmp_path / name, GOOD, run=run) for name in "xy"])
    assert [system.model for system in comparison.systems] == [None, None]
    assert [note.partition(",")[0] for note in comparison.notes] == [f"{tmp_path / 'm.asr'}: damaged"]


def test_parameters_and_time_are_those_of_the_model_and_its_log(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "a")
    lines = [{"epoch": n, "loss": 2.0 - n, "best": True, "dev_wer": 0.5, "train_s": 60.0, "dev_s": 2.5} for n in (0, 1)]
    (model / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    systems = asr.compare([decode_folder(model / "decode", GOOD), decode_folder(tmp_path / "b", BAD)]).systems
    config = load_config(None, TINY)
    network = AcousticModel(config, 6)
    assert systems[0].parameters == sum(weight.numel() for weight in network.parameters())
    assert (systems[0].training_s, systems[1].training_s) == (125.0, None)
    assert [epoch.loss for epoch in systems[0].epochs] == [2.0, 1.0]


def test_what_is_damaged_around_a_decode_folder_is_a_note_and_the_figures_are_there(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "a")
    (model / "log.jsonl").write_text('{"epoch": 0}\n')
    (model / "decoder.yaml").write_text("beam_size: many\n")
    folder = decode_folder(model / "decode", GOOD, run=[1])
    comparison = asr.compare([folder, decode_folder(tmp_path / "b", BAD)])
    assert comparison.systems[0].score.wer == pytest.approx(1 / 10)
    assert len(comparison.notes) == 3
    for name, note in zip(("run.json", "log.jsonl:1", "decoder.yaml"), comparison.notes, strict=True):
        assert name in note


@pytest.mark.parametrize(("manifest", "noted"), [("data/dev.jsonl.gz", 1), ("data/train.jsonl", 1), ("test.jsonl", 0)])
def test_a_comparison_on_data_that_chose_the_model_is_noted(tmp_path: Path, manifest: str, noted: int) -> None:
    run = {"manifest": manifest}
    folders = [decode_folder(tmp_path / name, GOOD | {"u1": name}, run=run) for name in "ab"]
    notes = asr.compare(folders).notes
    assert len(notes) == noted
    assert all(manifest in note and "compare on test" in note for note in notes)


def test_comparing_writes_nothing_into_the_folders(three: list[Path]) -> None:
    asr.compare(three)
    for folder in three:
        assert sorted(path.name for path in folder.iterdir()) == ["hyp.trn", "ref.trn"]


def test_in_scripts_without_spaces_characters_decide(tmp_path: Path) -> None:
    references = {"u1": "今天天气很好", "u2": "好吗"}
    first = decode_folder(tmp_path / "a", references | {"u1": "今天天气好"}, references)
    second = decode_folder(tmp_path / "b", references, references)
    comparison = asr.compare([first, second])
    (pair,) = comparison.pairs
    assert (comparison.unit, pair.difference.difference) == ("character", pytest.approx(-1 / 8))
    shown = to_text(comparison)
    assert "CER     difference" in shown
    assert shown.index("CER") < shown.index("WER")
