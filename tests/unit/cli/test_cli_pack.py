"""`asr pack`, as a user calls it."""

from asr.corpus.manifest import entries, read_manifest, write_manifest


def test_a_data_folder_becomes_a_shar_folder_that_passes_the_check(call, tone_corpus, tmp_path):
    status, out, err = call("pack", tone_corpus, "--out", tmp_path / "shar")
    assert (status, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()] == [["train", "96"], ["dev", "12"], ["test", "12"]]
    for split in ("train", "dev", "test"):
        shar, original = read_manifest(tmp_path / "shar" / split), read_manifest(tone_corpus / f"{split}.jsonl.gz")
        assert list(entries(shar)) == list(entries(original))
    assert call("check", tmp_path / "shar") == call("check", tone_corpus)
    assert call("pack", tone_corpus, "--out", tmp_path / "shar")[0] == 1
    status, _, err = call("pack", tone_corpus, "--out", tone_corpus)
    assert status == 2
    assert "it is DATA, whose manifests would stay in it; name another folder" in " ".join(err.split())


def test_what_cannot_be_read_is_listed_and_the_status_says_so(call, tone_corpus, tmp_path):
    cuts = list(read_manifest(tone_corpus / "dev.jsonl.gz"))
    cuts[3].recording.sources[0].source = str(tmp_path / "gone.wav")
    write_manifest(cuts, tmp_path / "data/dev.jsonl.gz")
    status, out, err = call("pack", tmp_path / "data", "--out", tmp_path / "shar")
    assert (status, out.split()[:2]) == (2, ["dev", "11"])
    assert "1 utterance" in err
    assert f"dev  {cuts[3].id}: {tmp_path}/gone.wav: no such file" in err.replace("\n", "")
