"""A server to download from."""

import pytest

from asr.preparing import download
from tests.file_server import CONTENT, serving


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(download, "WAITS_S", (0, 0))
    with serving() as server:
        server.files["/corpus.tar.gz"] = CONTENT
        yield server
