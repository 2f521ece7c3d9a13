"""`--download`, `--part` and `--language`: what a recipe states, and what is made of it."""

import hashlib
import io
import os
import tarfile
import threading

import numpy as np
import pytest
import soundfile

import asr
from asr.errors import DownloadError, ManifestError, RecipeError
from asr.importing.material import LeftOut, Material, Utterance
from asr.preparing import download, recipes
from asr.preparing.recipes import (
    Corpus,
    CorpusRequest,
    Recipe,
    download_corpus,
    load_recipe,
    recipe_names,
    recipes_folder,
)
from tests.file_server import serving


def packed(**files):
    """Return a gzipped archive of files by their paths, where __ stands for /."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


RECIPE = """
from asr.preparing.download import RemoteFile
from asr.preparing.recipes import Corpus

CORPUS = Corpus(
    recipe="one",
    title="The One",
    source="ask for it, unpack it",
    files=(RemoteFile("https://nowhere.invalid/both.tar.gz"),),
    parts={
        "small": (RemoteFile("https://nowhere.invalid/small.tar.gz", checksum="sha256:SMALL"),),
        "large": (RemoteFile("https://nowhere.invalid/large.txt", is_archive=False),),
    },
)

def prepare(request):
    folder = CORPUS.find(request.corpus_dir, "both")
    request.out.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (request.out / f"{split}.jsonl.gz").write_text(f"{folder} {request.part}")
    return ["prepared"]
"""
SMALL = packed(C__small=b"small")


@pytest.fixture
def site(monkeypatch, tmp_path):
    """A server, and a package with the recipe `one`."""
    monkeypatch.setattr(recipes, "_PACKAGE", tmp_path / "asr")
    monkeypatch.setattr(download, "WAITS_S", ())
    monkeypatch.delenv("ASR_CORPORA", raising=False)
    path = tmp_path / "recipes" / "one" / "prepare.py"
    path.parent.mkdir(parents=True)
    path.write_text(RECIPE.replace("SMALL", hashlib.sha256(SMALL).hexdigest()), encoding="utf-8")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "custom.yaml").touch()
    with serving() as server:
        server.files = {
            "/both.tar.gz": packed(C__both=b"both", C__README=b"read"),
            "/small.tar.gz": SMALL,
            "/large.txt": b"large",
        }
        yield server


def test_the_files_of_the_part_go_to_the_corpus_folder_and_are_prepared(site, tmp_path):
    prepared = asr.prepare("one", tmp_path / "data" / "one", part="small", download=True, mirror=site.url)
    corpus = tmp_path / "data" / "corpora" / "one"
    assert prepared.manifests["dev"].read_text() == f"{corpus / 'C'} small"
    assert sorted(os.listdir(corpus)) == [".downloaded", "C"]
    assert sorted(os.listdir(corpus / "C")) == ["README", "both", "small"]


def test_a_file_without_a_published_checksum_is_reported_with_the_one_it_has(site, tmp_path):
    notes = asr.prepare("one", tmp_path / "data" / "one", part="small", mirror=site.url).notes
    both = site.files["/both.tar.gz"]
    assert notes[0].startswith(
        f"both.tar.gz: {len(both)} bytes, sha256 {hashlib.sha256(both).hexdigest()}; no checksum"
    )
    assert notes[1:] == ("prepared",)


def test_what_is_there_is_not_downloaded_again(site, tmp_path):
    for number in range(2):
        asr.prepare("one", tmp_path / str(number) / "one", corpus_dir=tmp_path / "c", part="large", mirror=site.url)
    assert [path for path, _ in site.requests] == ["/both.tar.gz", "/large.txt"]
    assert (tmp_path / "c" / "large.txt").read_bytes() == b"large"
    asr.prepare("one", tmp_path / "2" / "one", corpus_dir=tmp_path / "c", part="small", mirror=site.url)
    assert [path for path, _ in site.requests] == ["/both.tar.gz", "/large.txt", "/small.tar.gz"]


def test_what_was_removed_is_downloaded_again(site, tmp_path):
    file = download.RemoteFile(f"{site.url}/both.tar.gz")
    download_corpus([file], tmp_path / "c")
    (tmp_path / "c" / "C" / "both").unlink()
    download_corpus([file], tmp_path / "c")  # the folder of the archive is there
    assert len(site.requests) == 1
    (tmp_path / "c" / "C" / "README").unlink()
    (tmp_path / "c" / "C").rmdir()
    download_corpus([file], tmp_path / "c")
    assert sorted(os.listdir(tmp_path / "c" / "C")) == ["README", "both"]


def test_a_recipe_with_another_checksum_means_another_version(site, tmp_path):
    url = f"{site.url}/both.tar.gz"
    download_corpus([download.RemoteFile(url)], tmp_path / "c")
    site.files["/both.tar.gz"] = newer = packed(C__both=b"newer")
    checksum = f"sha256:{hashlib.sha256(newer).hexdigest()}"
    download_corpus([download.RemoteFile(url, checksum=checksum)], tmp_path / "c")
    assert (tmp_path / "c" / "C" / "both").read_bytes() == b"newer"


@pytest.mark.parametrize("mark", ["", "{", "[]", "5", "{}", '{"checksum": null, "holds": 5}', '{"checksum": null}'])
def test_a_damaged_note_of_a_download_counts_as_none(site, tmp_path, mark):
    file = download.RemoteFile(f"{site.url}/both.tar.gz")
    download_corpus([file], tmp_path / "c")
    (tmp_path / "c" / ".downloaded" / "both.tar.gz.json").write_text(mark)
    download_corpus([file], tmp_path / "c")
    assert len(site.requests) == 2


def test_a_download_that_fails_prepares_nothing_and_the_next_one_goes_on(site, tmp_path):
    site.breaks_after = [100]
    with pytest.raises(DownloadError, match="the connection ended after 100 of"):
        asr.prepare("one", tmp_path / "data" / "one", part="small", mirror=site.url)
    assert not (tmp_path / "data" / "one").exists()
    asr.prepare("one", tmp_path / "data" / "one", part="small", mirror=site.url)
    assert site.requests[:2] == [("/both.tar.gz", None), ("/both.tar.gz", "bytes=100-")]


def test_two_processes_do_not_download_into_one_folder(site, tmp_path):
    file = download.RemoteFile(f"{site.url}/both.tar.gz")
    site.stalls, site.breaks_after = True, [100]
    first = threading.Thread(target=download_corpus, args=([file], tmp_path / "c"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "WAITS_S", (0,))
        first.start()
        while not site.requests:
            pass
        with pytest.raises(DownloadError, match="/c: another process downloads into it; wait until it ends"):
            download_corpus([file], tmp_path / "c")
        site.released.set()
        first.join()
    assert (tmp_path / "c" / "C" / "both").read_bytes() == b"both"


@pytest.mark.parametrize(
    ("part", "language", "message"),
    [
        ("", "", "one needs a part; --part is one of small, large"),
        ("huge", "", "no part 'huge' of one; --part is one of small, large"),
        ("small", "de", "one has one language; leave --language de out"),
    ],
)
def test_a_part_or_language_that_the_recipe_does_not_have_is_an_error(site, tmp_path, part, language, message):
    with pytest.raises(RecipeError, match=message):
        asr.prepare("one", tmp_path / "out", part=part, language=language, mirror=site.url)
    assert site.requests == []


def test_a_recipe_without_parts_says_so():
    recipe = Recipe("two", Corpus("two", "Two", "ask for it"), lambda request: None)
    with pytest.raises(RecipeError, match="two has no parts; leave --part x out"):
        recipe.check("x", "")


def test_a_recipe_of_several_languages_needs_one():
    recipe = Recipe("two", Corpus("two", "Two", "ask for it", has_languages=True), lambda request: None)
    with pytest.raises(RecipeError, match="two needs a language; name it with --language"):
        recipe.check("", "")
    recipe.check("", "de")


def test_a_corpus_that_cannot_be_downloaded_says_where_to_get_it():
    corpus = Corpus("timit", "TIMIT", "order it from the LDC, LDC93S1, unpack it")
    with pytest.raises(RecipeError, match=r"TIMIT cannot be downloaded by a command; order it.*--corpus-dir.*timit/$"):
        Recipe("timit", corpus, lambda request: None).files("")
    with pytest.raises(RecipeError, match="quickstart makes its data itself; leave --download out"):
        Recipe("quickstart", None, lambda request: None).files("")


def test_a_corpus_is_found_in_its_folder_or_one_below(tmp_path):
    corpus = Corpus("two", "Two", "ask for it, unpack it")
    with pytest.raises(ManifestError, match=r"no Two corpus at .*; ask for it, unpack it and name that folder with"):
        corpus.find(tmp_path, "lists/train")
    (tmp_path / ".Two-1.1.tar.unpacked" / "lists" / "train").mkdir(parents=True)  # of a process that was killed
    with pytest.raises(ManifestError, match="no Two corpus"):
        corpus.find(tmp_path, "lists/train")
    (tmp_path / "Two-1.1" / "lists").mkdir(parents=True)
    (tmp_path / "Two-1.1" / "lists" / "train").touch()
    assert corpus.find(tmp_path, "lists/train") == tmp_path / "Two-1.1"
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train").touch()
    assert corpus.find(tmp_path, "lists/train") == tmp_path


def test_the_command_downloads_and_names_the_settings_of_the_part(site, call, tmp_path):
    (tmp_path / "conf" / "one-small.yaml").touch()
    status, out, err = call("prepare", "one", "--part", "small", "--mirror", site.url, "--out", tmp_path / "data" / "d")
    assert not status, err
    assert out.splitlines()[-1] == (
        f"next  asr train --config {tmp_path}/conf/one-small.yaml --data {tmp_path}/data/d --out exp/one-small"
    )
    status, _, err = call("prepare", "one", "--part", "small", "--download", "--out", tmp_path / "e" / "d")
    assert status == 1
    assert "both.tar.gz: the server nowhere.invalid is not found" in err


@pytest.mark.parametrize("name", recipe_names(recipes_folder()))
def test_a_recipe_and_its_corpus_have_one_name_and_a_readme_that_has_all_there_is_to_know(name):
    recipe = load_recipe(name, recipes_folder())
    for part in (recipe.corpus.parts if recipe.corpus else {}) or [""]:  # a part may have settings of its own
        assert recipes.settings_file(name, part).name in (f"{name}.yaml", f"{name}-{part}.yaml")
    readme = (recipes_folder() / name / "README.md").read_text(encoding="utf-8")
    assert "\n## Licence\n" in readme
    assert "\n## Splits\n" in readme or name == "quickstart"
    assert f"./run.sh {name}" in readme or name == "quickstart"
    if recipe.corpus is None:
        return
    assert recipe.corpus.recipe == name
    files = [*recipe.corpus.files, *(file for part in recipe.corpus.parts.values() for file in part)]
    assert "--download" in readme or not files
    assert len({file.name for file in files}) == len({file.url for file in files}), "mirrors have one file of a name"
    for part in recipe.corpus.parts:
        assert f"--part {part}" in readme
        assert recipe.files(part)


def addresses():
    """Yield each file that a recipe of this package downloads."""
    folder = recipes_folder()
    for name in recipe_names(folder):
        corpus = load_recipe(name, folder).corpus
        if corpus is not None:
            yield from (file for files in (corpus.files, *corpus.parts.values()) for file in files)


def test_what_comes_over_http_has_a_checksum_and_openslr_s_files_come_over_https():
    files = list(addresses())
    unprotected = {file.name for file in files if not file.url.startswith("https://") and file.checksum is None}
    assert unprotected == {"an4_sphere.tar.gz"}, "its publisher has neither; the note of its download says so"
    of_openslr = [file.url for file in files if "openslr.org" in file.url]
    assert len(of_openslr) > 5
    assert [url for url in of_openslr if not url.startswith("https://www.openslr.org/resources/")] == []


def test_a_file_without_a_checksum_that_came_over_http_is_noted(site, tmp_path):
    (note,) = download_corpus([download.RemoteFile(f"{site.url}/large.txt", is_archive=False)], tmp_path / "c")
    assert note.endswith("to compare this with, and http does not protect it on its way")


def test_notes_of_a_reader_and_what_the_corpus_passes_over_are_reported(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(8000, 0.1), 8000)
    material = Material([Utterance("a", tmp_path / "a.wav", "one", "list:1", split="train")], notes=["the list is old"])
    material.left_out.append(LeftOut("list:2", "marked as noise", is_fault=False))
    request = CorpusRequest(tmp_path, tmp_path / "out")
    corpus = Corpus(recipe="one", title="The One", source="ask for it")
    lines = recipes.write_published(material, request, corpus, "en")
    assert lines[0] == "train 1 utterance, 1 speaker, 0.00 h"
    assert "note: the list is old" in lines
    assert lines[-1] == "note: 1 passed over, marked as noise"
