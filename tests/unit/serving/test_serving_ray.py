"""The server as an application of Ray Serve, on a cluster of this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

import asr.runtime
from asr.errors import ConfigError

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def module():
    pytest.importorskip("ray.serve", reason="needs Ray Serve: pip install 'ray[serve]'")
    import asr.serving.ray

    return asr.serving.ray


# In a process of its own, because Ray keeps threads and signals.
SCRIPT = """
import sys, time
import httpx, ray
from pathlib import Path
from ray import serve
from asr.serving.ray import app

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(app)
url = f"http://127.0.0.1:{sys.argv[1]}"
while httpx.get(f"{url}/health").status_code == 503:
    time.sleep(0.2)
for content in (Path(sys.argv[2]).read_bytes(), b"no audio"):
    answer = httpx.post(f"{url}/v1/audio/transcriptions", files={"file": content}, timeout=60)
    print("ANSWER", answer.status_code, answer.text)
serve.shutdown()
ray.shutdown()
"""


def test_a_replica_answers_as_the_server_does(module, exported, recordings):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(port), str(recordings[1])],
        env={**os.environ, "ASR_MODELS": str(exported)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    answers = [line.split(maxsplit=2)[1:] for line in found.stdout.splitlines() if line.startswith("ANSWER")]
    assert [status for status, _ in answers] == ["200", "400"], found.stderr
    text = asr.runtime.load(exported).transcribe(recordings[1]).text
    assert json.loads(answers[0][1]) == {"text": text}
    assert json.loads(answers[1][1])["error"]["code"] == "invalid_audio"


def test_the_environment_says_what_is_served(module, exported):
    service = module.service_of({"ASR_MODELS": f"'{exported}' other={exported}", "ASR_JOBS": "2"})
    assert [model.name for model in service.models] == ["exported", "other"]
    assert (service.jobs, service.token) == (2, None)
    for wrong in ({}, {"ASR_MODELS": str(exported), "ASR_JOBS": "none"}):
        with pytest.raises(ConfigError, match="ASR_"):
            module.service_of(wrong)
