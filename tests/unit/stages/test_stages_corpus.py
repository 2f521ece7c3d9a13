"""`asr run` of a part or a language of a corpus, and with a download."""


def commands(calls):
    return [call.split()[0] for call in calls]


def test_a_part_of_a_corpus_has_data_model_and_settings_of_its_own(project):
    project.path("conf/an4-100.yaml").write_text("model:\n  layers: 3\n", encoding="utf-8")
    download = ("--download", "--mirror", "http://localhost/a")
    _, calls = project.run("an4", "--part", "100", *download, "--corpus-dir", "c", "--stop-stage", "train")
    assert calls == [
        "prepare an4 --out data/an4-100 --corpus-dir c --part 100 --mirror http://localhost/a --download",
        "train --config conf/an4-100.yaml --data data/an4-100 --out exp/an4-100",
    ]
    _, calls = project.run("an4", "--language", "de", "--seed", "2", "--stop-stage", "train")
    assert calls == [
        "prepare an4 --out data/an4-de --language de",
        "train --config conf/custom.yaml --set training.seed=2 --data data/an4-de --out exp/an4-de-seed2",
    ]


def test_another_part_in_the_same_folder_is_prepared_and_a_download_alone_is_not_repeated(project):
    def run(*arguments):
        return commands(project.run("an4", "--data", "d", "--out", "e", "--stop-stage", "prepare", *arguments)[1])

    assert run("--part", "100") == ["prepare"]
    assert run("--part", "100", "--download") == []
    assert run("--part", "960") == ["prepare"]
