"""Files shared out to actors of a ray cluster on this machine, of which one node and some processes are killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
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
