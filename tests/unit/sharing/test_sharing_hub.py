"""Models on a hub of this machine, by the real client: pushed, pulled, loaded, refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import tone_speech
from fake_hub import TOKEN, FakeHub

import asr
import asr.runtime
from asr.bundle import files
from asr.errors import DependencyError, ModelError, ModelWarning
from asr.sharing.hub import HubName, hub_name
from asr.sharing.names import model_folder, own_folder

constants = pytest.importorskip("huggingface_hub.constants", reason="the hub's client")

SIGNAL = tone_speech("ab cd", np.random.default_rng(0)).astype(np.float32)
NAME = "hf://anna/mine"
Call = Callable[..., tuple[int, str, str]]


def ask(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client ask the hub at this address; it reads the environment only once."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def forget(tmp_path: Path) -> None:
    """Empty the client's cache."""
    import shutil

    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


def transcript(model: object) -> asr.Transcript:
    return asr.load(model).transcribe(SIGNAL, sample_rate_hz=16000, segment="none")


def test_a_pushed_model_is_loaded_by_name_and_transcribes_as_its_folder(
    hub: FakeHub, folders: Path, pushed: str
) -> None:
    assert transcript(pushed) == transcript(folders / "characters")
    with pytest.warns(ModelWarning, match=f"hf://anna/mine is now {pushed}"):
        assert transcript(NAME) == transcript(folders / "characters")
    assert transcript(Path(NAME)) == transcript(pushed)  # as a command gets it: with one slash less


def test_what_is_pushed_is_the_folder_without_what_belongs_to_the_training(
    hub: FakeHub, folders: Path, pushed: str
) -> None:
    repository = hub.repositories["anna/mine"]
    there = repository.commits[pushed.partition("@")[2]]
    expected = {
        path.relative_to(folders / "characters").as_posix(): path.read_bytes()
        for path in (folders / "characters").rglob("*")
        if path.is_file()
    }
    assert {name for name in there if name not in (".gitattributes", files.PACKED_LIST)} == {*expected}
    for name, content in expected.items():
        if name == files.CARD:
            assert there[name].endswith(content)
        else:
            assert there[name] == content
    assert not repository.private


def test_the_card_says_to_the_hub_what_the_folder_knows_and_what_its_owner_wrote(
    hub: FakeHub, folders: Path, tmp_path: Path
) -> None:
    def front(*, license: str | None = None) -> dict[str, object]:
        asr.push(tmp_path / "model", NAME, license=license)
        repository = hub.repositories["anna/mine"]
        _, head, text = repository.commits[repository.refs["main"]][files.CARD].decode().split("---\n", 2)
        assert text.startswith("\n# Speech recognition model\n")
        return yaml.safe_load(head)

    asr.export(folders / "characters", tmp_path / "model", format="torch")
    known = {
        "language": ["en"],
        "library_name": "asr",
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["asr", "ctc"],
        "metrics": ["wer"],
    }
    assert front() == known
    assert front(license="cc-by-4.0") == known | {"license": "cc-by-4.0"}
    card = tmp_path / "model" / files.CARD
    card.write_text("---\nlicense: mit\ntags: [mine]\n---\n" + card.read_text())
    assert front() == known | {"license": "mit", "tags": ["mine"]}
    assert front(license="cc-by-4.0")["license"] == "cc-by-4.0"
    card.write_text("---\n[a\n---\n# Speech recognition model\n")
    with pytest.raises(ModelError, match=r"README\.md:.*not valid YAML"):
        front()


def test_a_second_push_removes_what_the_model_no_longer_has_and_nothing_else(
    hub: FakeHub, folders: Path, pushed: str
) -> None:
    hub.repositories["anna/mine"].edit("notes.txt", b"mine")
    second = asr.push(folders / "int8", NAME).name
    there = {*hub.repositories["anna/mine"].commits[second.partition("@")[2]]}
    assert second != pushed
    assert {"notes.txt", files.WEIGHTS} <= there
    assert transcript(second) == transcript(folders / "int8")
    assert transcript(pushed) == transcript(folders / "characters")  # the old revision is still the old model
    onnx = asr.push(folders / "onnx", NAME).name
    there = {*hub.repositories["anna/mine"].commits[onnx.partition("@")[2]]}
    assert files.WEIGHTS not in there
    expected = asr.runtime.load(folders / "onnx").transcribe(SIGNAL, sample_rate_hz=16000, segment="none")
    assert asr.runtime.load(onnx).transcribe(SIGNAL, sample_rate_hz=16000, segment="none") == expected


def test_branches_tags_and_private_repositories_can_be_used(
    hub: FakeHub, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = asr.push(folders / "characters", NAME, private=True).name
    branch = asr.push(folders / "int8", f"{NAME}@small").name
    assert hub.repositories["anna/mine"].private
    hub.repositories["anna/mine"].refs["v1.0"] = main.partition("@")[2]
    for name, expected in ((f"{NAME}@small", branch), (f"{NAME}@v1.0", main), (NAME, main)):
        with pytest.warns(ModelWarning):
            assert str(model_folder(name)) == expected
    with pytest.raises(ModelError, match=r"hf://anna/mine@v9: .* \(there is no such revision\)"):
        model_folder(f"{NAME}@v9")
    monkeypatch.setenv("HF_TOKEN", "hf_of_bert")
    with pytest.raises(ModelError, match=r"no such repository, or it is private: `hf auth login`"):
        model_folder(f"{NAME}@v2")


def test_a_revision_that_was_loaded_needs_no_network_nor_even_a_question(hub: FakeHub, pushed: str) -> None:
    first = transcript(pushed)
    asked = len(hub.asked)
    assert transcript(pushed) == first
    assert len(hub.asked) == asked


def test_without_a_network_a_branch_is_what_it_was_and_what_was_never_loaded_is_an_error(
    hub: FakeHub, pushed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(ModelWarning):
        model_folder(NAME)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{unused.getsockname()[1]}"
    ask(nowhere, monkeypatch)
    with pytest.warns(ModelWarning, match=pushed):
        assert str(model_folder(NAME)) == pushed
    refused = r"\(the server 127\.0\.0\.1 does not answer \([a-zA-Z ]+\); check the network.*\)"
    with pytest.raises(ModelError, match=rf"hf://anna/other: .*{refused}; what was loaded once needs no network"):
        model_folder("hf://anna/other")
    with pytest.raises(ModelError, match=f"does not take it {refused}"):
        asr.push(model_folder(pushed), NAME)


def test_a_hub_whose_name_is_not_found_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    ask("https://nowhere.invalid", monkeypatch)
    with pytest.raises(ModelError) as raised:
        model_folder(NAME)
    assert str(raised.value) == (
        f"{NAME}: the Hugging Face hub does not give it (the server nowhere.invalid is not found; check the network "
        "and, if there is a proxy, the variable https_proxy (http_proxy)); what was loaded once needs no network"
    )


def test_an_interrupted_download_is_no_model_in_the_cache(hub: FakeHub, pushed: str, tmp_path: Path) -> None:
    folder = model_folder(pushed)
    (folder.root / files.WEIGHTS).unlink()
    asked = len(hub.asked)
    assert model_folder(pushed).is_dir()
    assert any(files.WEIGHTS in path for _, path in hub.asked[asked:])
    assert (folder.root / files.WEIGHTS).is_file()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (files.CONFIG, b"a: 1\n", "config.yaml: changed since `asr push` wrote it"),
        (files.WEIGHTS, None, "the hub has no model.safetensors, which files.json names"),
        (files.PACKED_LIST, b"{}", "files.json: damaged"),
        (files.PACKED_LIST, None, "not what `asr push` wrote: it has no files.json"),
        (files.PACKED_LIST, b" " * ((1 << 20) + 1), "bytes, but at most 1048576 are downloaded"),
    ],
)
def test_what_was_changed_on_the_hub_is_refused_before_it_is_downloaded(
    name: str, content: bytes | None, message: str, hub: FakeHub, pushed: str
) -> None:
    hub.repositories["anna/mine"].edit(name, content)
    with pytest.raises(ModelError) as refused:
        model_folder(NAME)
    assert message in str(refused.value)
    assert not any(files.WEIGHTS in path for method, path in hub.asked if method == "GET" and "/resolve/" in path)


def test_weights_of_the_same_size_with_other_bytes_are_refused(hub: FakeHub, pushed: str) -> None:
    weights = bytearray(hub.repositories["anna/mine"].commits[pushed.partition("@")[2]][files.WEIGHTS])
    weights[-1] ^= 1
    hub.repositories["anna/mine"].edit(files.WEIGHTS, bytes(weights))
    with pytest.raises(ModelError, match=r"model\.safetensors: changed since"):
        model_folder(NAME)


def test_a_hub_that_sends_other_bytes_than_it_says_is_noticed(hub: FakeHub, pushed: str) -> None:
    config = hub.repositories["anna/mine"].commits[pushed.partition("@")[2]][files.CONFIG]
    hub.harm[files.CONFIG] = config.replace(b"hidden_size: 32", b"hidden_size: 33")
    assert hub.harm[files.CONFIG] != config
    with pytest.raises(ModelError, match=r"config\.yaml: damaged"):
        model_folder(pushed)


def test_a_file_that_changes_in_the_cache_is_noticed(hub: FakeHub, pushed: str) -> None:
    path = model_folder(pushed).root / files.DECODER
    path.write_text(path.read_text().replace("beam_size: 4", "beam_size: 5"))
    with pytest.raises(ModelError, match=r"decoder\.yaml: damaged"):
        asr.load(pushed)


def test_what_is_not_listed_is_left_out_and_named_and_never_read(
    hub: FakeHub, pushed: str, tmp_path: Path, call: Call
) -> None:
    repository = hub.repositories["anna/mine"]
    for name in ("evil.py", "weights.pkl", "../../escape", "sub/\x1b[2J.txt", files.CALIBRATION + ".bak"):
        repository.edit(name, b"import os")
    status, out, err = call("pull", NAME, "--out", tmp_path / "mine")
    assert (status, err) == (0, "")
    for name in ("evil.py", "weights.pkl", "../../escape", r"sub/\x1b[2J.txt"):
        assert name in out
    downloaded = {path.partition("/resolve/")[2].partition("/")[2] for method, path in hub.asked if "/resolve/" in path}
    assert downloaded == {path.relative_to(tmp_path / "mine").as_posix() for path in (tmp_path / "mine").rglob("*") if
                          path.is_file() and path.name != files.PULLED} | {files.PACKED_LIST}  # fmt: skip
    assert not (tmp_path.parent / "escape").exists()


def test_an_unlisted_language_model_in_the_cache_is_not_used(hub: FakeHub, folders: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folders / "characters", tmp_path / "model")
    (tmp_path / "model" / files.LANGUAGE_MODEL).unlink()
    name = asr.push(tmp_path / "model", NAME).name
    shutil.copy(folders / "characters" / files.LANGUAGE_MODEL, model_folder(name).root)
    assert not (model_folder(name) / files.LANGUAGE_MODEL).exists()


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.pt", "model.pkl", "model.ckpt"])
def test_a_pickle_in_place_of_a_model_is_refused_by_name(pickle: str, hub: FakeHub) -> None:
    hub.new("anna/mine", {"config.json": b"{}", pickle: b"cos\nsystem\n"})
    with pytest.raises(ModelError, match=f"{pickle}' may be a pickle, which can run any program"):
        model_folder(NAME)
    assert not any("/resolve/" in path for _, path in hub.asked)


def test_a_gated_model_says_where_to_ask(hub: FakeHub, pushed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["anna/mine"].gated = True
    monkeypatch.setenv("HF_TOKEN", "hf_of_bert")
    with pytest.raises(ModelError, match=r"who wants it has to ask on its page there; then `hf auth login`"):
        model_folder(NAME)


def test_pushing_without_a_right_token_says_how_to_log_in(
    hub: FakeHub, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_bert")
    with pytest.raises(ModelError, match=r"does not take it \(.*`hf auth login`"):
        asr.push(folders / "characters", NAME)
    assert hub.repositories == {}


@pytest.mark.parametrize("sha", ["../../../../etc", "main", None, "A" * 40, "f" * 39])
def test_a_hub_that_names_no_commit_is_refused(sha: str | None, hub: FakeHub, pushed: str) -> None:
    hub.lie = {"sha": sha}
    with pytest.raises(ModelError, match="as its revision, which is none"):
        model_folder(NAME)


def test_a_hub_that_fails_is_an_error_with_its_status(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client waits before it asks again
    hub.down = True
    with pytest.raises(ModelError, match=r"does not give it \(.*503"):
        model_folder(NAME)


@pytest.mark.parametrize(
    "name",
    ["hf://", "hf://anna", "hf://anna/", "hf://anna/a/b", "hf://../x", "hf://anna/..", "hf://anna/a@", "hf://a/b@../c",
     "hf://a/b@x/../y", "hf://a b/c", "hf://a/b?x=1", "hf://a/b#c", "hf://a/\u00e9", "hf://a/b@c@d", "hf:///a/b"],
)  # fmt: skip
def test_names_that_are_none_are_refused_before_anything_is_asked(name: str, hub: FakeHub) -> None:
    with pytest.raises(ModelError, match="not a name on the hub; expected hf://user/model"):
        asr.load(name)
    assert hub.asked == []


def test_names_have_their_parts_in_every_form_of_a_path() -> None:
    assert hub_name("hf://anna/mine@v1.0") == HubName("anna/mine", "v1.0")
    assert hub_name("hf:/anna/mine") == hub_name("hf:\\anna\\mine") == HubName("anna/mine")
    assert hub_name("hf://a/b@refs/pr/1") == HubName("a/b", "refs/pr/1")
    assert hub_name("exp/mine") is None
    assert str(HubName("anna/mine", "v1.0")) == "hf://anna/mine@v1.0"


def test_a_pulled_folder_is_the_model_and_keeps_the_revision(
    hub: FakeHub, folders: Path, pushed: str, tmp_path: Path, succeed: Callable[..., str]
) -> None:
    out = succeed("pull", NAME, "--out", tmp_path / "mine")
    assert pushed in "".join(out.split())
    assert json.loads((tmp_path / "mine" / files.PULLED).read_text()) == {"model": pushed}
    assert transcript(tmp_path / "mine") == transcript(folders / "characters")
    card = (tmp_path / "mine" / files.CARD).read_bytes()
    assert card.endswith((folders / "characters" / files.CARD).read_bytes())
    assert own_folder(tmp_path / "mine") == tmp_path / "mine"
    with pytest.raises(ModelError, match="exists already"):
        asr.pull(NAME, tmp_path / "mine")
    with pytest.raises(ModelError, match="nothing to pull"):
        asr.pull(folders / "characters", tmp_path / "copy")


def test_the_card_may_be_edited_on_the_hub(hub: FakeHub, pushed: str, tmp_path: Path) -> None:
    hub.repositories["anna/mine"].edit(files.CARD, b"---\nlicense: mit\n---\n# Mine\n")
    asr.pull(NAME, tmp_path / "mine")
    assert (tmp_path / "mine" / files.CARD).read_bytes() == b"---\nlicense: mit\n---\n# Mine\n"


def test_a_name_of_the_hub_goes_to_worker_processes(hub: FakeHub, pushed: str, tmp_path: Path) -> None:
    import pickle

    decoder = asr.load(pushed).decoder
    hub.down = True
    assert str(pickle.loads(pickle.dumps(decoder)).bundle.folder) == pushed


def test_the_environment_that_users_set_is_enough(hub: FakeHub, folders: Path, pushed: str, tmp_path: Path) -> None:
    code = (
        "import sys, asr\n"
        f"report = asr.pull({NAME!r}, {str(tmp_path / 'mine')!r})\n"
        "print(report.model)\n"
        "assert not {'torch', 'lhotse', 'numpy'} & set(sys.modules), sorted(sys.modules)\n"
    )
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, pushed, "")


def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyError, match=r"hf://anna/mine: a model; .* pip install 'asr\[hub\]'"):
        asr.load(NAME)
