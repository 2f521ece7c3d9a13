"""Downloads that cannot be: errors that name the way out, and nothing false left behind."""

import errno
import os
import shutil
import time
import urllib.error
import urllib.request
from collections import namedtuple
from email.message import Message

import pytest

from asr.errors import DownloadError
from asr.preparing import download as module
from asr.preparing.download import RemoteFile, check_space, download
from tests.file_server import CONTENT, SHA256, remote, serving


def ranges(site):
    return [asked for _, asked in site.requests]


def test_a_file_that_is_there_but_is_another_one_is_named_and_kept(site, tmp_path):
    (tmp_path / "corpus.tar.gz").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"corpus\.tar\.gz: its sha256 is .*remove it, and the same command"):
        download(remote(site, checksum=SHA256), tmp_path)
    with pytest.raises(DownloadError, match=r"it has 4 bytes, the published file has 3,000,000; remove it"):
        download(remote(site, size_bytes=3_000_000), tmp_path)
    assert (tmp_path / "corpus.tar.gz").read_bytes() == b"mine"
    assert site.requests == []


def test_a_server_that_sends_nothing_is_given_up_and_what_came_is_kept(site, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.05)
    site.stalls, site.breaks_after = True, [1_000_000, 0, 0, 0, 0]
    with pytest.raises(
        DownloadError, match=r"the connection broke \(timed out\); the 1.0 MB that came are kept, and the"
    ):
        download(remote(site, checksum=SHA256), tmp_path)
    assert (tmp_path / "corpus.tar.gz.part").read_bytes() == CONTENT[:1_000_000]


def test_a_wrong_checksum_is_an_error_that_leaves_no_file(site, tmp_path):
    other = f"sha256:{'0' * 64}"
    with pytest.raises(DownloadError) as caught:
        download(remote(site, checksum=other), tmp_path)
    message = str(caught.value)
    for word in (site.url, SHA256.partition(":")[2], "0" * 64, "it was removed", "--mirror", str(tmp_path)):
        assert word in message
    assert os.listdir(tmp_path) == []
    assert len(site.requests) == 1


def test_another_size_than_published_is_seen_before_anything_is_downloaded(site, tmp_path):
    with pytest.raises(DownloadError, match=r"3,000,000 bytes, the published file has 3,000,001\. It is another file"):
        download(remote(site, size_bytes=3_000_001), tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, r"the server has no such file \(404 Not Found\); name another --mirror, or get it by hand"),
        (403, r"the server refuses it \(403 Forbidden\); name another --mirror, or get it by hand"),
        (418, r"the server does not send it"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_do(site, tmp_path, status, message):
    site.statuses = [status]
    with pytest.raises(DownloadError, match=message):
        download(remote(site), tmp_path)
    assert len(site.requests) == 1


def test_a_server_that_is_busy_for_good_is_given_up(site, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    site.statuses = [503] * 3
    with pytest.raises(DownloadError, match=r"cannot send it now \(503 .*the same command goes on from there"):
        download(remote(site), tmp_path)
    assert len(site.requests) == 3


def test_without_a_network_the_error_comes_at_once_and_names_server_and_proxy(tmp_path):
    with pytest.raises(
        DownloadError, match=r"the server nowhere\.invalid is not found; check the network.*https_proxy"
    ):
        download(RemoteFile("http://nowhere.invalid/a.tar"), tmp_path)


def test_a_server_that_does_not_answer_is_named(site, tmp_path):
    with serving() as closed:
        url = closed.url
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 does not answer \(.*refused"):
        download(RemoteFile(f"{url}/a.tar"), tmp_path)


def test_a_redirect_to_http_is_followed_and_one_to_a_file_is_refused(site, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    site.redirects = {"/a.tar": f"{site.url}/corpus.tar.gz", "/b.tar": secret.as_uri(), "/c.tar": "ftp://127.0.0.1/x"}
    assert download(RemoteFile(f"{site.url}/a.tar"), tmp_path).read_bytes() == CONTENT
    for name in ("b", "c"):
        with pytest.raises(DownloadError, match=rf"/{name}\.tar: the server redirects to (file|ftp)://.*not followed"):
            download(RemoteFile(f"{site.url}/{name}.tar"), tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_redirects_without_end_are_an_error(site, tmp_path):
    site.redirects = {"/a.tar": f"{site.url}/a.tar"}
    with pytest.raises(DownloadError, match=r"redirects to .*/a\.tar, which is not followed"):
        download(RemoteFile(f"{site.url}/a.tar"), tmp_path)


def test_a_redirect_from_https_to_http_is_refused():
    request = urllib.request.Request("https://example.org/a.tar")
    follow = module._SameScheme().redirect_request
    assert follow(request, None, 302, "Found", {}, "http://example.org/b.tar") is None
    assert follow(request, None, 302, "Found", {}, "https://example.org/b.tar").full_url.endswith("b.tar")


def test_the_error_of_a_redirect_to_http_says_why_it_is_not_followed_and_what_to_do():
    headers = Message()
    headers["Location"] = "http://mirror.example.org/5/a.tar"
    error = urllib.error.HTTPError("https://example.org/a.tar", 302, "Found", headers, None)
    message = str(module._refusal("https://example.org/a.tar", error))
    assert "redirects to http://mirror.example.org/5/a.tar, which is not followed, because http is not safe" in message
    assert "--mirror http://mirror.example.org/5;" in message


ODD = ["http://", "http://[::1/a.tar", "http://example.org:x/a.tar", "http://example.org/a b.tar", "http://ä.org/a.tar"]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/a.tar", "data:,a.tar", "/etc/a.tar", *ODD])
def test_only_http_is_downloaded_from(tmp_path, url):
    with pytest.raises(DownloadError, match="not an address that begins with http:// or https://"):
        download(RemoteFile(url, name="a.tar"), tmp_path)
    with pytest.raises(DownloadError, match="not an address that begins"):
        download(RemoteFile("https://example.org/a.tar"), tmp_path, mirror=url)


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("is_archive", "needed"), [(True, "at least 6 MB"), (False, "at least 3 MB")])
def test_a_disk_that_is_too_small_is_seen_before_the_download(site, tmp_path, monkeypatch, is_archive, needed):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(9_000_000, 7_000_000, 2_000_000))
    with pytest.raises(
        DownloadError, match=rf"the disk has 2 MB free; to download and unpack corpus\.tar\.gz needs {needed}\."
    ):
        download(remote(site, is_archive=is_archive), tmp_path)
    assert os.listdir(tmp_path) == []


def test_several_files_need_the_sum_of_their_contents_and_room_for_the_largest_archive(tmp_path, monkeypatch):
    files = [RemoteFile(f"https://example.org/{size}.tar", size_bytes=size * 1_000_000) for size in (5, 7)]
    text = RemoteFile("https://example.org/words.txt", size_bytes=9_000_000, is_archive=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 27_999_999))
    with pytest.raises(DownloadError, match=r"to download and unpack 3 files needs at least 28 MB\."):
        check_space([*files, text], tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 28_000_000))
    check_space([*files, text], tmp_path)


def test_a_disk_that_becomes_full_is_an_error_and_the_download_goes_on_later(site, tmp_path, monkeypatch):
    written = 0
    write_all = module._write_all

    def limited(file, block):
        nonlocal written
        written += len(block)
        if written > 1_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_all(file, block)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_all", limited)
        with pytest.raises(
            DownloadError, match=r"corpus\.tar\.gz\.part: the disk is full; make room; what came is kept"
        ):
            download(remote(site, checksum=SHA256), tmp_path)
    kept = (tmp_path / "corpus.tar.gz.part").stat().st_size
    assert 900_000 < kept <= 1_000_000
    assert download(remote(site, checksum=SHA256), tmp_path).read_bytes() == CONTENT
    assert ranges(site) == [None, f"bytes={kept}-"]


def test_a_folder_that_cannot_be_made_is_named(site, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        DownloadError, match=r"file/below: cannot be written \(Not a directory\); name another --corpus"
    ):
        download(remote(site), tmp_path / "file" / "below")


def test_a_server_that_sends_another_part_than_asked_for_is_not_believed(site, tmp_path):
    """Such a file could have the right length and the wrong bytes."""
    site.breaks_after, site.shifts_bytes = [1_000_000], [5]
    assert download(remote(site), tmp_path).read_bytes() == CONTENT
    assert ranges(site) == [None, "bytes=1000000-", None]


@pytest.mark.parametrize("name", ["", "../a", ".hidden", "a/b", "a\0b"])
def test_a_name_is_a_plain_one(name):
    url = "https://example.org/" if not name else "https://example.org/a.tar"
    with pytest.raises(ValueError, match="not a plain file name"):
        RemoteFile(url, name=name)


@pytest.mark.parametrize("checksum", ["", "sha1:" + "0" * 40, "0" * 64, "sha256:" + "0" * 63, "md5:" + "G" * 32])
def test_a_checksum_has_a_kind_that_is_known(checksum):
    with pytest.raises(ValueError, match="expected sha256:… or md5:…"):
        RemoteFile("https://example.org/a.tar", checksum=checksum)
