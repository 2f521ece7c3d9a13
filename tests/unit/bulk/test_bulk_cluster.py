"""Files shared out to actors of a ray cluster on this machine, of which one node and some processes are killed."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import mortal_workers
import pytest

from asr.bulk.cluster import on_ray
from asr.errors import AsrError, AudioError, ModelError

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that does not work and two nodes of one processor each."""
    pytest.importorskip("ray", reason="needs ray: pip install '.[cluster]'")
    from ray.cluster_utils import Cluster

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # so that its processes find `mortal_workers`
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()
    monkeypatch.undo()


def test_nothing_is_lost_or_done_twice_if_a_node_and_some_processes_are_killed(cluster, tmp_path: Path) -> None:
    names = [*(f"slow {index:02d}" for index in range(20)), "deadly", "unlucky", "bad", "last"]
    paths = [tmp_path / f"{name}.wav" for name in names]
    for path in paths:
        path.write_text(f"text of {path.stem}", encoding="utf-8")
    node = cluster.list_all_nodes()[-1]
    results = []
    for number, (path, result) in enumerate(on_ray(mortal_workers.load, paths, cluster.address)):
        results.append((path.stem, str(result) if isinstance(result, AudioError) else result[0].text))
        if number == 3:
            cluster.remove_node(node, allow_graceful=False)
    assert sorted(name for name, _ in results) == sorted(names)
    texts = dict(results)
    assert "the process at work on it died 2 times (" in texts.pop("deadly")
    assert texts.pop("bad") == f"{tmp_path / 'bad.wav'}: truncated"
    assert texts == {name: f"text of {name}" for name in texts}


def test_relative_paths_are_those_of_the_run(cluster, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    ((_, result),) = on_ray(mortal_workers.load, [Path("where.wav")], cluster.address)
    assert result[0].text == str(tmp_path / "where.wav")


def test_an_error_of_the_model_ends_the_run_with_its_reason(cluster, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^not a model folder$"):
        list(on_ray(mortal_workers.load_nothing, [tmp_path / "a.wav"], cluster.address))


def test_a_cluster_without_a_gpu_says_so(cluster, tmp_path: Path) -> None:
    with pytest.raises(AsrError, match=r"the cluster has no GPU$"):
        list(on_ray(mortal_workers.load, [tmp_path / "a.wav"], cluster.address, gpu=True))


_LOCAL = """
import sys
from pathlib import Path
import mortal_workers
from asr.bulk.cluster import on_ray
for path, result in on_ray(mortal_workers.load, [Path(sys.argv[1])] * 1000, "local", jobs=1):
    print(path, flush=True)
"""


def _started_by(first: int) -> set[tuple[int, str]]:
    """Return the living processes that one has started, directly or not, as numbers with times of their start."""
    parents, found, waiting = _living(), set(), [first]
    while waiting:
        parent = waiting.pop()
        children = {process for process, its_parent in parents.items() if its_parent == parent} - found
        found |= children
        waiting += [number for number, _ in children]
    return found


def _living() -> dict[tuple[int, str], int]:
    """Return the parent of each living process of this machine, from /proc/*/stat."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            state, parent, *rest = status.read_text().rpartition(")")[2].split()
            if state != "Z":  # nobody has asked for the exit status of an ended process
                parents[int(status.parent.name), rest[17]] = int(parent)
    return parents


def _listening(processes: set[tuple[int, str]]) -> set[str]:
    """Return the addresses on which processes listen, from the kernel's tables of sockets."""
    sockets = set()
    for number, _ in processes:
        for descriptor in Path("/proc", str(number)).glob("fd/*"):
            with suppress(OSError):
                sockets.update(re.findall(r"^socket:\[(\d+)\]$", os.readlink(descriptor)))
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in sockets:  # words of 32 bits, each in the order of this machine's bytes
                words = bytes.fromhex(local.partition(":")[0])
                turned = b"".join(words[start : start + 4][::-1] for start in range(0, len(words), 4))
                address = ipaddress.ip_address(turned if sys.byteorder == "little" else words)
                addresses.add(str(getattr(address, "ipv4_mapped", None) or address))
    return addresses


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc to see sockets and processes")
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_local_cluster_listens_to_this_machine_alone_and_leaves_no_process(ended_by, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install '.[cluster]'")
    slow = tmp_path / "slow.wav"
    slow.write_text("text")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    # In a session of its own, so that the signal reaches one process, as that of a supervisor does.
    run = subprocess.Popen(
        [sys.executable, "-c", _LOCAL, slow],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == f"{slow}\n"
        started = _started_by(run.pid)
        assert len(started) > 3, "ray's own processes are found"
        assert _listening(started) == {"127.0.0.1"}
        run.send_signal(ended_by)
        run.wait(60)
        # Ctrl-C and SIGTERM end all at once. After SIGKILL, ray's agents ask the ended cluster for a minute.
        end = time.monotonic() + 120
        while (left := started & _living().keys()) and time.monotonic() < end:
            time.sleep(0.2)
        assert not left
    finally:
        run.kill()
        run.communicate()
