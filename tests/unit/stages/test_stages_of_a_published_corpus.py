"""`asr run` with what a recipe may put beside its splits: further test sets, and an n-gram of words."""


def commands(calls):
    return [call.split()[0] for call in calls]


def test_further_test_sets_of_a_data_folder_are_decoded_and_scored_too(project):
    other = project.path("data/quickstart/test-other")
    other.mkdir(parents=True)
    manifest = other / "test.jsonl.gz"
    manifest.write_bytes(b"one")
    _, calls = project.run("quickstart")
    decoded = [call for call in calls if call.split()[0] in ("decode", "score")]
    assert decoded == [
        f"decode exp/quickstart data/quickstart/{name}.jsonl.gz --method {method} --out exp/quickstart/{folder}"
        for name, method, folder in (
            ("test", "greedy", "decode_test_greedy"),
            ("test", "beam", "decode_test"),
            ("test-other/test", "greedy", "decode_test-other_greedy"),
            ("test-other/test", "beam", "decode_test-other"),
        )
    ] + [
        f"score exp/quickstart/{folder}"
        for folder in ("decode_test_greedy", "decode_test", "decode_test-other_greedy", "decode_test-other")
    ]
    assert commands(project.run("quickstart")[1]) == ["score", "score", "score", "score", "transcribe"]
    manifest.write_bytes(b"another")
    assert commands(project.run("quickstart")[1])[:4] == ["decode"] * 4


def test_with_an_n_gram_of_words_the_published_one_is_taken_or_else_that_of_the_text(project):
    asked = ("quickstart", "decode.lm=words")
    tokens = "lm ngram data/quickstart/train.jsonl.gz --model exp/quickstart"
    of_lm = [call for call in project.run(*asked)[1] if call.startswith("lm")]
    assert of_lm == [tokens, f"{tokens} --words"]
    project.path("data/quickstart/lm.words.arpa.gz").write_bytes(b"published")
    of_lm = [call for call in project.run(*asked)[1] if call.startswith("lm")]
    assert of_lm == [tokens, "lm ngram data/quickstart/lm.words.arpa.gz --model exp/quickstart --words"]
    assert commands(project.run(*asked)[1]) == ["score", "score", "transcribe"]
    assert [call for call in project.run("quickstart", "decode.lm=tokens")[1] if call.startswith("lm")] == [tokens]
