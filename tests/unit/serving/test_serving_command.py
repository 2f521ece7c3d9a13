"""`asr serve` as a process: what it loads, how it ends, and what it refuses to begin."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from absent_packages import only

import asr
from asr.errors import AsrError, ConfigError, ModelError
from asr.serving.serve import named_models, read_token
from tests.unit.serving.running_server import wait_until

TOKEN = "a-token-of-this-test"


@contextmanager
def command(*arguments, **environment):
    """Run `asr serve` and yield its process and address, once it says that it is ready."""
    line = [sys.executable, "-m", "asr", "serve", *map(str, arguments), "--port", "0", "--jobs", "1"]
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        said = process.stdout.readline()
        found = re.search(r"http://[^\s/;]+", said)
        assert found, said + process.communicate()[1]
        yield process, found[0]
    finally:
        left = children(process) if process.poll() is None and sys.platform == "linux" else []
        process.kill()
        for number in left:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.communicate()


def children(process):
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return [int(number) for task in tasks for number in (task / "children").read_text().split()]


def ask(url, path, answers):
    answers.append(httpx.post(f"{url}/v1/audio/transcriptions", files={"file": path.read_bytes()}, timeout=60))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("asked_by", [signal.SIGTERM, signal.SIGINT])
def test_it_loads_no_torch_and_ends_running_requests_first(exported, recordings, tmp_path, asked_by):
    with command(exported, TMPDIR=str(tmp_path)) as (process, url):
        answers = []
        ask(url, recordings[0], answers)
        processes = [process.pid, *children(process)]
        assert len(processes) >= 2
        for number in processes:
            loaded = Path(f"/proc/{number}/maps").read_text()
            assert "torch" not in loaded
        worker = next(number for number in processes if "onnxruntime" in Path(f"/proc/{number}/maps").read_text())
        os.kill(worker, signal.SIGSTOP)
        thread = threading.Thread(target=ask, args=(url, recordings[3], answers))
        thread.start()
        wait_until(lambda: "asr_requests_in_progress 1.0" in httpx.get(f"{url}/metrics").text)
        process.send_signal(asked_by)
        os.kill(worker, asked_by)  # as a terminal or a service manager asks all processes
        wait_until(lambda: refuses(url))
        os.kill(worker, signal.SIGCONT)
        thread.join()
        assert [answer.status_code for answer in answers] == [200, 200]
        assert process.wait(30) == 0
        assert list(tmp_path.iterdir()) == []


# What the container installs, and what that in turn imports.
PRESENT = {
    *("asr", "numpy", "onnxruntime", "soundfile", "typer", "rich", "pydantic", "jinja2"),
    *("starlette", "uvicorn", "websockets", "python_multipart", "prometheus_client"),
    *("flatbuffers", "google", "packaging", "_soundfile", "_soundfile_data", "cffi", "_cffi_backend", "markupsafe"),
    *("annotated_doc", "annotated_types", "anyio", "click", "h11", "idna", "pydantic_core", "shellingham", "sniffio"),
    *("typing_extensions", "typing_inspection", "pygments", "markdown_it", "mdurl", "sitecustomize"),
}
WITHOUT = only(PRESENT)


def test_it_needs_only_what_the_container_installs(exported, recordings, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with command(exported, PYTHONPATH=path) as (_, url):
        answers = []
        ask(url, recordings[0], answers)
        answers += [httpx.get(f"{url}{page}") for page in ("/", "/health", "/metrics", "/v1/models")]
        assert [answer.status_code for answer in answers] == [200] * 5
        listed = subprocess.run(
            [sys.executable, "-c", "import torch"], capture_output=True, env={**os.environ, "PYTHONPATH": path}
        )
        assert b"No module named 'torch'" in listed.stderr, "nothing was absent"


def refuses(url):
    try:
        httpx.get(f"{url}/health")
    except httpx.TransportError:
        return True
    return False


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps what killed processes leave")
def test_what_a_killed_server_leaves_is_removed_by_the_next_one(exported, tmp_path):
    with command(exported, TMPDIR=str(tmp_path)) as (process, _):
        (left,) = tmp_path.iterdir()
        assert left.stat().st_mode & 0o077 == 0
        workers = children(process)
        process.kill()
        process.wait()
        assert left.exists()
        wait_until(lambda: not any(Path(f"/proc/{number}").exists() for number in workers))
    with command(exported, TMPDIR=str(tmp_path)):
        assert left not in list(tmp_path.iterdir())


def test_a_token_is_taken_from_the_environment_or_a_file(exported, tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\nmore\n")
    assert read_token(tmp_path / "token", {"ASR_TOKEN": "another-token-than-in-the-file"}) == TOKEN
    assert read_token(None, {}) is None
    with command(exported, "--host", "0.0.0.0", ASR_TOKEN=TOKEN) as (_, url):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("token", ["short", "", "with a space in it, and long"])
def test_a_token_that_is_none_is_refused(token, tmp_path):
    (tmp_path / "token").write_text(token)
    for file, environment in ((tmp_path / "token", {}), (None, {"ASR_TOKEN": token})):
        with pytest.raises(ConfigError, match=r"secrets\.token_urlsafe"):
            read_token(file, environment)


def test_an_address_of_other_machines_needs_a_token(exported):
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(ConfigError, match=r"a token is needed; .*--token-file.*ASR_TOKEN"):
            asr.serve(exported, host=host)


def test_models_have_the_names_of_their_folders_or_given_ones(exported, model):
    served = list(named_models([exported, f"mine={model}"]))
    assert [(one.name, one.folder) for one in served] == [("exported", str(exported)), ("mine", str(model))]
    with pytest.raises(ConfigError, match=r"two models have the name exported: .*NAME=FOLDER"):
        list(named_models([exported, f"exported={model}"]))
    with pytest.raises(ModelError, match="there is no such model folder"):
        list(named_models(["mine=nowhere"]))
    with pytest.raises(ConfigError, match="no model to serve"):
        list(named_models([]))


def test_a_damaged_model_ends_the_server_with_its_error(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "damaged")
    (folder / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"model\.onnx: .*export"):
        asr.serve(folder, port=0, jobs=1)


def test_a_port_that_is_taken_is_named(exported):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AsrError, match=f":{port} cannot be listened at"):
            asr.serve(exported, port=port)
