"""`asr init`: the settings suit the corpus, the files say so, and nothing that exists is replaced."""

import os
import re
import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from text_manifests import cut_line, write_data, write_split

import asr
from asr.errors import ConfigError, ManifestError, RecipeError
from asr.preparing.find_recipe import find_recipe
from asr.settings_file import load_config
from asr.text.normalise import normalise
from asr.text.tokens import TokenTable


def chosen(report):
    return {choice.setting: choice.value for choice in report.choices}


def reason(report, setting):
    return next(choice.rests_on for choice in report.choices if choice.setting == setting)


SCRIPTS = {
    "arabic": (["مرحباً، كيف حالك؟", "السّلام عليكم."], "keep", set("مرحباًكيفلسّع "), ""),
    "devanagari": (["क्षमा करें, हिन्दी।", "ज़रा सुनिए!"], "keep", None, ""),
    "hangul": ([unicodedata.normalize("NFD", "안녕하세요."), "전화 걸어!"], "keep", set("안녕하세요전화걸어 "), ""),
    "thai": (["เปิดไฟ", "น้ำร้อนๆ ฯลฯ"], "keep", set("เปิดไฟน้ำร้อนๆ ฯล"), ""),
    "chinese": (["请打开灯。", "「今天」天气？"], "keep", set("请打开灯今天气"), ""),
    "german": (["Die Straße ist groß.", "Übermut — E-Mail!"], "lower", set("die straßegoübrmu la"), ""),
    "turkish": (["IŞIĞI AÇ, İzmir", "kapıyı kapat"], "lower", set("ışığaç izmrkpyt"), "tr"),
    "azerbaijani": (["İşığı söndür, ay qız", "gəl bəri əzizim, ışıq"], "lower", None, "az"),
    "russian": (["Ёлка, кое-кто!", "Включи свет"], "lower", set("ёлка коетвючис"), ""),
    "tibetan": (["བཀྲ་ཤིས་བདེ་ལེགས།", "ཁྱེད་རང"], "keep", None, ""),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_texts_of_any_script_become_the_characters_that_are_spoken(tmp_path, script):
    texts, case, characters, language = SCRIPTS[script]
    report = asr.init("mine", write_data(tmp_path / "data" / "mine", texts), home=tmp_path)
    assert report.config.text.case == case
    assert report.config.text.language == language
    assert report.config.text.tokens == "characters"
    if characters is not None:
        assert set(report.characters) == characters
    for character in report.characters:
        assert unicodedata.category(character)[0] not in "PS" or character == "་", character
        assert unicodedata.normalize("NFC", character) == character
    assert any("CER is the main figure" in note for note in report.notes) == (script in ("thai", "chinese", "tibetan"))


def test_marks_that_belong_to_letters_stay(tmp_path):
    report = asr.init("mine", write_data(tmp_path / "data", ["हिन्दी में क्या? हाँ।"]), home=tmp_path)
    assert {"ि", "्", "ी", "ें"[0], "ँ"} <= set(report.characters)


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXT, min_size=1, max_size=6), keep=st.sampled_from(["", "all", ".,?", "'-"]))
def test_whatever_the_texts_are_the_files_give_back_what_was_reported_and_tokens_spell_them(
    tmp_path_factory, texts, keep
):
    home = tmp_path_factory.mktemp("home")
    data = write_data(home / "data", texts, seconds=60.0)
    try:
        report = asr.init("mine", data, home=home, keep_punctuation=keep)
    except ManifestError:
        assert not any(character.isalnum() for text in texts for character in unicodedata.normalize("NFC", text))
        assert list(home.iterdir()) == [data]
        return
    config = load_config(report.settings_file)
    assert config == report.config
    for choice in report.choices:
        section, key = choice.setting.split(".")
        assert getattr(getattr(config, section), key) == choice.value
    normalised = [normalise(text, config.text) for text in texts]
    assert set(report.characters) == set().union(*normalised)
    table = TokenTable.from_texts(filter(None, normalised))
    assert [table.decode(table.encode(text)) for text in normalised] == normalised
    if not keep:
        signs = {c for c in report.characters if unicodedata.category(c)[0] in "PS"}
        assert signs <= set("'་༌·״")
    assert find_recipe("mine", home, None).data == home / "data"
    assert all(
        line.startswith(("  ", "#")) or line.endswith(":")
        for line in report.settings_file.read_text(encoding="utf-8").split("\n")
        if line
    )


def test_the_settings_file_has_a_reason_above_each_value(tmp_path):
    report = asr.init("mine", write_data(tmp_path / "data", ["Turn on the light."]), home=tmp_path)
    lines = report.settings_file.read_text(encoding="utf-8").splitlines()
    for choice in report.choices:
        place = next(n for n, line in enumerate(lines) if line.startswith(f"  {choice.setting.partition('.')[2]}: "))
        assert lines[place - 1].startswith("  # ")
        assert lines[place - 1][4:] in choice.rests_on
    readme = (report.folder / "README.md").read_text(encoding="utf-8")
    assert report.text() in readme
    assert "asr run mine" in readme


def test_punctuation_is_listed_with_its_counts_and_left_out(tmp_path):
    texts = ["Don't stop, \"John\"; it’s 'fine'.", "No. Yes, no!"]
    report = asr.init("mine", write_data(tmp_path / "data", texts), home=tmp_path)
    assert chosen(report)["text.remove"] == "punctuation"
    listed = set(re.findall(r"(\S) (\d+)", reason(report, "text.remove")))
    assert listed == {(".", "2"), (",", "2"), ('"', "2"), (";", "1"), ("!", "1")}
    assert normalise(texts[0], report.config.text) == "don't stop john it's fine"


@pytest.mark.parametrize(
    ("keep", "normalised"),
    [
        ("", "well known and or hello you"),
        ("all", "well-known, and/or: hello,you!"),
        (",", "well known, and or hello,you"),
        ("!-", "well-known and or hello you!"),
    ],
)
def test_punctuation_is_kept_as_asked_for_and_a_sign_between_letters_becomes_a_space(tmp_path, keep, normalised):
    text = "Well-known, and/or: hello,you!"
    report = asr.init("mine", write_data(tmp_path / "data", [text]), home=tmp_path, keep_punctuation=keep)
    assert normalise(text, report.config.text) == normalised


def test_what_is_kept_must_be_punctuation(tmp_path):
    data = write_data(tmp_path / "data", ["one"])
    with pytest.raises(ConfigError, match=r"'\.a' is neither 'all' nor a list of punctuation: a is none"):
        asr.init("mine", data, home=tmp_path, keep_punctuation=".a")
    assert list(tmp_path.iterdir()) == [data]


def test_a_language_tag_decides_on_the_case_of_i(tmp_path):
    report = asr.init("mine", write_data(tmp_path / "data", ["Iki"], language="tr-TR"), home=tmp_path)
    assert report.config.text.language == "tr"
    assert set(report.characters) == set("ıki")


@pytest.mark.parametrize(
    ("rates_hz", "expected"),
    [
        ([16000, 16000], 16000),
        ([44100, 48000], 16000),
        ([8000, 8000], 8000),
        ([8000, 8000, 16000], 8000),
        ([8000, 16000, 16000], 16000),
        ([11025, 11025], 11025),
        ([8000, 11025, 11025], 11025),
    ],
)
def test_the_sample_rate_is_one_that_half_of_the_audio_has(tmp_path, rates_hz, expected):
    write_data(tmp_path, ["one"])
    write_split(tmp_path, "train", (cut_line(n, "one", rate_hz=rate) for n, rate in enumerate(rates_hz)))
    report = asr.init("mine", tmp_path, home=tmp_path)
    assert report.config.features.sample_rate_hz == expected
    assert all(f"{rate} Hz" in reason(report, "features.sample_rate_hz") for rate in rates_hz)


def test_the_notes_say_what_is_wrong_with_the_texts(tmp_path):
    texts = ["room 12 please", "five %", *["nothing else at all"] * 10]
    write_data(tmp_path, texts)
    write_split(tmp_path, "dev", [cut_line("dev", "très bien", speaker="anna")])
    write_split(tmp_path, "train", [*(cut_line(n, text) for n, text in enumerate(texts)), cut_line("x", "")])
    notes = "\n".join(asr.init("mine", tmp_path, home=tmp_path).notes)
    assert "1 of 12 transcripts of train hold digits" in notes
    assert "%: left out, although people say them" in notes
    assert "occur fewer than 5 times in train and are hardly learnt: 1 2 f m " in notes
    assert "dev has characters that train does not have, each of which is an error: b è" in notes
    assert "left out, without text or too short for it: 1 utterance of train" in notes
    assert "1 speaker of dev also in train, for example anna" in notes


def test_data_with_one_speaker_or_with_none_give_a_recipe_and_a_note(tmp_path):
    for name, speaker in (("one", "anna"), ("none", None)):
        data = write_data(tmp_path / name, ["hello there"], speaker=speaker)
        for split in ("dev", "test"):
            write_split(data, split, [cut_line(split, "hello", speaker=speaker)])
        report = asr.init(name, data, home=tmp_path)
        wanted = "of test also in train" if speaker else "the manifests name no speakers"
        assert any(wanted in note for note in report.notes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "1 to 64 bytes, not 0"),
        (".", "place 1 is '.'"),
        ("..", "place 1"),
        ("../mine", "place 1"),
        ("a/b", "place 2 is '/'"),
        ("a\\b", "place 2"),
        ("a b", "place 2 is 'space'"),
        ("a\nb", r"'a\\nb'|place 2"),
        ("-x", "place 1"),
        ("_x", "place 1"),
        ("a=b", "place 2 is '='"),
        ("a\0b", "place 2"),
        ("a\u202eb", "place 2"),
        ("a" * 65, "1 to 64 bytes, not 65"),
        ("ы" * 33, "1 to 64 bytes, not 66"),
        ("an4", "'an4' means something else"),
        ("AN4", "'an4' means something else"),
        ("custom", "'custom' means something else"),
        ("Quickstart", "means something else"),
        ("test", r"'test' means something else already to `asr run` or \./run\.sh"),
    ],
)
def test_a_name_that_is_no_plain_free_file_name_is_refused_and_nothing_written(tmp_path, name, message):
    data = write_data(tmp_path / "data", ["one"])
    with pytest.raises(RecipeError, match=message):
        asr.init(name, data, home=tmp_path)
    assert list(tmp_path.iterdir()) == [data]


@pytest.mark.parametrize("name", ["mine", "Мой-корпус_2", "my.data", "7", "हिन्दी"])
def test_names_in_any_script_are_taken(tmp_path, name):
    report = asr.init(name, write_data(tmp_path / "data", ["one"]), home=tmp_path)
    assert report.settings_file == tmp_path / "conf" / f"{name}.yaml"
    assert report.folder == tmp_path / "recipes" / name
    assert find_recipe(name, tmp_path, None).settings == report.settings_file


@pytest.mark.parametrize("existing", ["conf/mine.yaml", "recipes/mine", "recipes/mine/README.md"])
@pytest.mark.parametrize("dangling", [False, True])
def test_what_exists_is_not_replaced(tmp_path, existing, dangling):
    data = write_data(tmp_path / "data", ["one"])
    path = tmp_path / existing
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "nowhere") if dangling else path.write_text("mine", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RecipeError, match="exists and is not replaced; choose another name than 'mine', or move it"):
        asr.init("mine", data, home=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert os.path.islink(path) if dangling else path.read_text(encoding="utf-8") == "mine"


def test_a_second_time_is_refused_and_the_first_stays(tmp_path):
    report = asr.init("mine", write_data(tmp_path / "data", ["one"]), home=tmp_path)
    before = report.settings_file.read_bytes()
    with pytest.raises(RecipeError, match="exists and is not replaced"):
        asr.init("mine", write_data(tmp_path / "data", ["другой"]), home=tmp_path)
    assert report.settings_file.read_bytes() == before


def test_a_call_that_was_killed_is_made_again(tmp_path):
    data = write_data(tmp_path / "data", ["one"])
    settings = asr.init("mine", data, home=tmp_path).settings_file
    written = settings.read_bytes()
    shutil.rmtree(tmp_path / "recipes")  # it is written last
    assert asr.init("mine", data, home=tmp_path).folder.is_dir()
    for edited in (written + b"# mine\n", b"# mine\n" + written, written.replace(b"epochs", b"# epochs")):
        shutil.rmtree(tmp_path / "recipes")
        settings.write_bytes(edited)
        with pytest.raises(RecipeError, match=r"mine\.yaml exists and is not replaced"):
            asr.init("mine", data, home=tmp_path)
        assert settings.read_bytes() == edited
        (tmp_path / "recipes").mkdir()


def test_data_that_cannot_be_trained_on_are_refused_and_nothing_is_written(tmp_path):
    data = tmp_path / "data"

    def refused(message, at=data):
        with pytest.raises(ManifestError, match=message):
            asr.init("mine", at, home=tmp_path)
        assert not (tmp_path / "conf").exists()
        assert not (tmp_path / "recipes").exists()

    refused("no such manifest")
    data.mkdir()
    refused("holds none of train")
    write_split(data, "train", [cut_line(1, "one")])
    refused(r"has no dev and no test; .* unless --dev-share or --test-share is 0")
    refused("is no data folder", at=data / "train.jsonl.gz")
    write_data(data, ["one"])
    write_split(data, "train", [])
    refused("holds no utterances")
    write_split(data, "train", [cut_line(1, " ..., !")])
    refused("no transcript holds a letter or a digit")
    write_split(data, "train", [cut_line(1, "far too much text for so little time", seconds=0.2)])
    refused("no utterance can be trained on")
    write_split(data, "train", ["{}"])
    refused(r"train\.jsonl\.gz:1: not a lhotse cut")


@pytest.mark.parametrize("folder", ["my data", "a`b~~~~", "a: b # c", "новые", "x\ny"])
def test_any_path_of_the_data_is_found_again(tmp_path, folder):
    home = tmp_path / "home"
    inside = asr.init("inside", write_data(home / folder, ["one"]), home=home)
    outside = asr.init("outside", write_data(tmp_path / folder, ["one"]), home=home)
    assert find_recipe("inside", home, None).data == home / folder
    assert find_recipe("outside", home, None).data == tmp_path / folder
    for report, absolute in ((inside, False), (outside, True)):
        text = (report.folder / "recipe.yaml").read_text(encoding="utf-8")
        assert (str(tmp_path)[:20] in text) == absolute
    home.rename(tmp_path / "moved")
    assert find_recipe("inside", tmp_path / "moved", None).data == tmp_path / "moved" / folder


@pytest.mark.parametrize("content", ["", "[]", "data: ''", "data: [a]", "other: a", "data: ["])
def test_a_recipe_file_that_names_no_manifests_is_named(tmp_path, content):
    report = asr.init("mine", write_data(tmp_path / "data", ["one"]), home=tmp_path)
    (report.folder / "recipe.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"recipe\.yaml:"):
        find_recipe("mine", tmp_path, None)


def test_the_command_shows_a_table_of_80_columns_and_what_to_type_next(tmp_path, succeed, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_data(Path("data/mine"), ["Turn on the light, please.", "What's up?"])
    out = succeed("init", "mine", "--data", "data/mine", "--keep-punctuation", "?")
    assert all(len(line) <= 80 for line in out.splitlines())
    assert [line.split()[:2] for line in out.splitlines() if line.startswith("text.case")] == [["text.case", "lower"]]
    assert out.splitlines()[-3:] == ["written  conf/mine.yaml", "written  recipes/mine", "next     asr run mine"]
    status, _, err = call("init", "mine", "--data", "data/mine")
    assert status == 2
    assert "recipes/mine exists" in " ".join(err.replace("│", "").split())
    out = succeed("init", "mine", "--data", "data/mine", "--home", "else where")
    assert out.splitlines()[-1] == "next     asr run mine --home 'else where'"


def test_packed_data_give_the_same_choices(tmp_path, tone_corpus):
    asr.pack(tone_corpus, tmp_path / "packed")
    reports = [asr.init("mine", data, home=tmp_path / data.name) for data in (tone_corpus, tmp_path / "packed")]
    assert reports[0].choices == reports[1].choices
    assert set(reports[0].characters) == set(" abcd")


def test_an_installed_package_has_its_recipes_in_itself_and_the_user_s_in_the_home(tmp_path, monkeypatch):
    for name in ("_recipes/an4/prepare.py", "_recipes/custom/README.md", "_conf/custom.yaml"):
        path = tmp_path / "site" / "asr" / name
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setattr("asr.preparing.recipes._PACKAGE", tmp_path / "site" / "asr")
    before = sorted((tmp_path / "site").rglob("*"))
    home = tmp_path / "home"
    report = asr.init("mine", write_data(home / "data", ["one"]), home=home)
    assert sorted((tmp_path / "site").rglob("*")) == before
    found = find_recipe("mine", home, None)
    assert (found.data, found.settings) == (home / "data", report.settings_file)
    with pytest.raises(RecipeError, match="'an4' means something else"):
        asr.init("an4", home / "data", home=home)
    with pytest.raises(RecipeError, match="no recipe 'mine'; known: an4, custom"):
        find_recipe("mine", tmp_path, None)
