from asr.scoring.score import write_trn


def decode_folder(path, hypothesis):
    path.mkdir(parents=True)
    write_trn({"u1": "one two three four", "u2": "five six"}, path / "ref.trn")
    write_trn({"u1": hypothesis, "u2": "five six"}, path / "hyp.trn")
    return path


def test_the_rates_and_the_difference_of_two_systems_are_printed(succeed, tmp_path):
    worse, better = (
        decode_folder(tmp_path / "worse", "one two for"),
        decode_folder(tmp_path / "b", "one two three four"),
    )
    shown = succeed("compare", worse, better)
    lines = [line.split() for line in shown.splitlines()]
    assert ["A", str(worse)] in lines
    assert next(line for line in lines if line[:2] == ["A", "33.33"])
    assert next(line for line in lines if line[:5] == ["B", "−", "A", "-33.33", "%"])[-4:-2] == ["0.500", "1.000"]
    assert "p: randomisation test over 2 utterances\nMAPSSWE: p of NIST's matched pairs test" in shown


def test_equal_systems_differ_by_nothing(succeed, tmp_path):
    shown = succeed("compare", decode_folder(tmp_path / "a", "one for"), decode_folder(tmp_path / "b", "one for"))
    assert "B − A      +0.00 %   +0.00 … +0.00 %   1.000     1.000   not sure" in shown


def test_other_references_are_an_error_that_names_the_way_out(call, tmp_path):
    first, second = decode_folder(tmp_path / "a", "one"), decode_folder(tmp_path / "b", "one")
    write_trn({"u1": "one two three four", "u3": ""}, second / "ref.trn")
    write_trn({"u1": "one two three four", "u3": ""}, second / "hyp.trn")
    status, out, err = call("compare", first, second)
    assert (status, out) == (1, "")
    assert "u2" in err
    assert "u3" in err
    assert "--common" in err
    status, out, _ = call("compare", first, second, "--common")
    assert status == 0
    assert "1 utterance; intervals over 1 utterance; 2 utterances not in all systems: u2, u3" in out


def test_a_page_is_written_if_asked_for_and_named(succeed, tmp_path):
    folders = [decode_folder(tmp_path / name, f"one {name}") for name in "ab"]
    assert "\npage " not in succeed("compare", *folders)
    page = tmp_path / "pages" / "compare.html"
    assert succeed("compare", *folders, "--out", page).endswith(f"\npage   {page}\n")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_with_names_of_usual_length_the_tables_fit_80_columns(succeed, tmp_path):
    folders = [decode_folder(tmp_path / name, f"one {name} four") for name in "abcd"]
    tables = succeed("compare", *folders).replace(str(tmp_path), "exp")
    assert max(map(len, tables.splitlines())) <= 80
