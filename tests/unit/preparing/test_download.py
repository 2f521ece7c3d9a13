"""Downloads: the same bytes as undisturbed, whatever happens on the way, and errors that name the way out."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from asr.errors import DownloadError
from asr.preparing import download as module
from asr.preparing.download import RemoteFile, download
from tests.file_server import CONTENT, MD5, SHA256, remote


def ranges(site):
    return [asked for _, asked in site.requests]


@pytest.mark.parametrize("checksum", [None, SHA256, MD5])
@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_comes_whole_under_its_name_and_nothing_else_is_left(site, tmp_path, checksum, says_length):
    site.says_length = says_length
    path = download(remote(site, checksum=checksum), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "corpus.tar.gz"
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ["corpus.tar.gz"]


def test_a_file_that_is_there_is_not_downloaded_again(site, tmp_path):
    download(remote(site, checksum=SHA256), tmp_path)
    download(remote(site, checksum=SHA256), tmp_path)
    assert len(site.requests) == 1


@pytest.mark.parametrize("version", ["etag", "date", "none"])
def test_a_download_that_breaks_off_goes_on_where_it_ended(site, tmp_path, version):
    site.etag = '"one"' if version == "etag" else ""
    site.last_modified = "Wed, 12 Aug 2020 14:06:45 GMT" if version == "date" else ""
    site.breaks_after = [1_000_000, 500_000]
    path = download(remote(site, checksum=SHA256), tmp_path)
    assert path.read_bytes() == CONTENT
    assert ranges(site) == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_server_that_says_no_length_is_held_to_the_published_size(site, tmp_path):
    site.says_length = False
    site.breaks_after = [1_000_000]
    assert download(remote(site, size_bytes=len(CONTENT)), tmp_path).read_bytes() == CONTENT
    assert ranges(site) == [None, "bytes=1000000-"]


def test_without_checksum_and_version_a_download_starts_again(site, tmp_path):
    """Nothing would tell whether the second part is of the same file."""
    site.etag = ""
    site.breaks_after = [1_000_000]
    assert download(remote(site), tmp_path).read_bytes() == CONTENT
    assert ranges(site) == [None, None]


def test_a_weak_etag_does_not_vouch_for_bytes(site, tmp_path):
    site.etag = 'W/"one"'
    site.breaks_after = [1_000_000]
    assert download(remote(site), tmp_path).read_bytes() == CONTENT
    assert ranges(site) == [None, None]


def test_a_server_without_ranges_sends_all_of_it_again_and_the_progress_says_so(site, tmp_path):
    site.has_ranges = False
    site.breaks_after = [1_000_000]
    titles = []

    @contextmanager
    def progress(title, total):
        titles.append(title)
        yield lambda _: None

    assert download(remote(site, checksum=SHA256), tmp_path, progress=progress).read_bytes() == CONTENT
    assert titles == ["corpus.tar.gz, MB", "corpus.tar.gz, MB, again from the beginning"]


def test_the_progress_counts_megabytes(site, tmp_path):
    shown = []

    @contextmanager
    def progress(title, total):
        shown.append([title, total, 0])

        def advance(count):
            shown[-1][2] += count

        yield advance

    site.breaks_after = [2_100_000]
    download(remote(site, checksum=SHA256), tmp_path, progress=progress)
    assert shown == [["corpus.tar.gz, MB", 3, 2], ["corpus.tar.gz, MB after the first 2", 1, 0]]


def test_a_file_that_changed_on_the_server_meanwhile_is_downloaded_anew(site, tmp_path):
    site.breaks_after = [1_000_000] * 3
    site.has_ranges = False
    with pytest.raises(DownloadError, match="the connection ended after 1,000,000 of 3,000,000 bytes"):
        download(remote(site), tmp_path)
    newer = random.Random(1).randbytes(500_000)  # shorter than what came of the older one
    site.files["/corpus.tar.gz"], site.etag, site.has_ranges = newer, '"two"', True
    assert download(remote(site), tmp_path).read_bytes() == newer


def test_a_part_of_an_older_version_that_the_checksum_finds_is_downloaded_anew(site, tmp_path):
    (tmp_path / "corpus.tar.gz.part").write_bytes(b"of last year" * 1000)
    path = download(remote(site, checksum=SHA256), tmp_path)
    assert path.read_bytes() == CONTENT
    assert ranges(site) == ["bytes=12000-", None]


@pytest.mark.parametrize("size_bytes", [None, len(CONTENT)])
def test_a_part_that_is_already_whole_needs_only_its_name(site, tmp_path, size_bytes):
    """As of a process that was killed just before it gave the name."""
    (tmp_path / "corpus.tar.gz.part").write_bytes(CONTENT)
    path = download(remote(site, checksum=SHA256, size_bytes=size_bytes), tmp_path)
    assert path.read_bytes() == CONTENT
    assert ranges(site) == ([] if size_bytes else ["bytes=3000000-"])
    assert os.listdir(tmp_path) == ["corpus.tar.gz"]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(site, tmp_path):
    (tmp_path / "corpus.tar.gz.part").write_bytes(CONTENT + b"more")
    assert download(remote(site, checksum=SHA256), tmp_path).read_bytes() == CONTENT


CHILD = """
import sys
from pathlib import Path
from asr.preparing.download import RemoteFile, download
download(RemoteFile(sys.argv[1], checksum=sys.argv[2] or None), Path(sys.argv[3]))
"""


@pytest.mark.parametrize("checksum", [SHA256, ""])
def test_a_process_killed_five_times_in_the_middle_gives_the_same_bytes(site, tmp_path, checksum):
    command = [sys.executable, "-c", CHILD, f"{site.url}/corpus.tar.gz", checksum, str(tmp_path)]
    part = tmp_path / "corpus.tar.gz.part"
    site.stalls = True
    step_bytes = 400_001
    for kill in range(1, 6):
        site.breaks_after = [step_bytes]
        with subprocess.Popen(command) as process:
            while not part.exists() or part.stat().st_size < kill * step_bytes:
                assert process.poll() is None, "it ended by itself"
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert part.stat().st_size == kill * step_bytes
    assert subprocess.run(command, check=True).returncode == 0
    assert (tmp_path / "corpus.tar.gz").read_bytes() == CONTENT
    assert ranges(site) == [None, *(f"bytes={kill * step_bytes}-" for kill in range(1, 6))]
    assert os.listdir(tmp_path) == ["corpus.tar.gz"]


def test_a_slow_server_is_waited_for(site, tmp_path):
    site.block_bytes = 10
    site.files["/corpus.tar.gz"] = CONTENT[:5000]
    assert download(remote(site), tmp_path).read_bytes() == CONTENT[:5000]


def test_faults_that_pass_are_waited_for_as_long_as_the_server_asks(site, tmp_path, monkeypatch):
    waits_s = []
    monkeypatch.setattr(time, "sleep", waits_s.append)
    monkeypatch.setattr(module, "WAITS_S", (1, 20))
    site.statuses = [503, 429]
    assert download(remote(site), tmp_path).read_bytes() == CONTENT
    assert waits_s == [7, 20]


def test_a_mirror_has_the_same_file_name(site, tmp_path):
    site.files["/copies/of/corpus.tar.gz"] = CONTENT
    file = RemoteFile("https://nowhere.invalid/original/corpus.tar.gz", checksum=SHA256)
    for mirror in (f"{site.url}/copies/of", f"{site.url}/copies/of/"):
        assert download(file, tmp_path / str(len(mirror)), mirror=mirror).read_bytes() == CONTENT


def test_with_a_checksum_another_mirror_goes_on_and_without_one_it_starts_again(site, tmp_path):
    site.files["/other/corpus.tar.gz"] = CONTENT
    for checksum, asked in ((SHA256, "bytes=1000000-"), (None, None)):
        folder = tmp_path / str(checksum is None)
        site.requests.clear()
        site.breaks_after, site.statuses = [1_000_000], []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "WAITS_S", ())
            with pytest.raises(DownloadError, match="ended after 1,000,000"):
                download(remote(site, checksum=checksum), folder)
        download(remote(site, checksum=checksum), folder, mirror=f"{site.url}/other")
        assert ranges(site) == [None, asked]
        assert (folder / "corpus.tar.gz").read_bytes() == CONTENT


def test_a_proxy_is_used_where_the_environment_names_one(site, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", site.url)
    site.files["http://nowhere.invalid/a.tar"] = CONTENT
    assert download(RemoteFile("http://nowhere.invalid/a.tar"), tmp_path).read_bytes() == CONTENT


def test_the_mark_of_a_part_may_be_damaged(site, tmp_path):
    (tmp_path / "corpus.tar.gz.part").write_bytes(b"abc")
    url = f"{site.url}/corpus.tar.gz".encode()
    for mark in (b"", b"\xff", url, url + b"\n", url + b"\nA\r\nB: c", url + b"\n\xc3\xa4"):
        (tmp_path / "corpus.tar.gz.part").write_bytes(b"abc")
        (tmp_path / "corpus.tar.gz.part.version").write_bytes(mark)
        path = download(remote(site), tmp_path)
        assert path.read_bytes() == CONTENT
        path.unlink()


def test_names_come_from_the_address():
    assert (
        RemoteFile("https://example.org/x/3-gram.pruned.1e-7.arpa.gz?download=1").name == "3-gram.pruned.1e-7.arpa.gz"
    )
    file = RemoteFile("https://example.org/archive/v1.0.tar.gz", name="corpus-1.0.tar.gz")
    assert file.address("https://mirror.example.org/a/") == "https://mirror.example.org/a/corpus-1.0.tar.gz"
    assert Path(file.name).name == "corpus-1.0.tar.gz"
