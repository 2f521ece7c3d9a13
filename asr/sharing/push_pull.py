"""A model folder → a repository on the Hugging Face hub, with a card that the hub understands; and back.

What comes back is a model folder of one's own, which can be trained on, tuned and changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.bundle.card import model_card, training_facts
from asr.bundle.files import CARD, ONNX_NETWORK, PACKED_LIST, PULLED, SHARED
from asr.bundle.hub import hub_client, hub_reason
from asr.errors import ModelError
from asr.files import to_json
from asr.paths import ReadablePath
from asr.reading import parse_yaml, read_text
from asr.sharing.hub import HubName, hub_model, hub_name
from asr.sharing.listed import ListedPath, SharedFiles, list_text, write_folder
from asr.sharing.names import model_folder

_FRONT_MATTER = re.compile(r"---\n(.*?)\n---\n+", re.DOTALL)
_LANGUAGE_CODE = re.compile("[a-z]{2,3}")  # the hub refuses others


@dataclass(frozen=True)
class PushReport:
    """What `push` wrote.

    Attributes:
        name: with the revision, as `asr.load` takes it.
        files: names of the files there.
        left_out: names of files and folders of the model folder that stayed behind.
    """

    name: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]


def push(model: str | os.PathLike[str], to: str, *, private: bool = False, license: str | None = None) -> PushReport:
    """Write a model folder or an exported folder to the Hugging Face hub.

    The token is that of huggingface_hub: `hf auth login` stores one, or the environment has it as `HF_TOKEN`. Files of
    an earlier push that the model no longer has are removed there; all else stays.

    Args:
        model: the folder, or a packed model.
        to: `hf://user/model`, or `hf://user/model@BRANCH`. What does not exist is made.
        private: make the repository private, if it does not exist yet.
        license: for the card, by its name on the hub, e.g. `cc-by-4.0`. None: as the card says.

    Raises:
        ModelError: the folder is none, `to` is no such name, or the hub does not take it.
        DependencyError: huggingface_hub is missing.
    """
    name = hub_name(to)
    if name is None:
        raise ModelError(f"{to}: not a name on the hub; expected hf://user/model or hf://user/model@BRANCH")
    folder = model_folder(model)
    shared = SharedFiles.of(folder)
    contents: dict[str, bytes | str] = {
        PACKED_LIST: list_text({file: member for file, member in shared.members().items() if file != CARD}).encode(),
        CARD: hub_card(folder, license).encode(),
    }
    for file in shared.names:
        if file != CARD:
            path = folder / file
            contents[file] = os.fspath(path) if isinstance(path, Path) else path.read_bytes()
    client = hub_client(f"{name}: the model is to be pushed")
    try:
        commit = _commit(client, name, contents, private=private)
    except Exception as error:  # huggingface_hub raises what the library beneath it does
        raise ModelError(f"{name}: the Hugging Face hub does not take it ({hub_reason(error)})") from None
    return PushReport(str(HubName(name.repository, commit)), tuple(sorted(contents)), shared.left_out)


def _commit(client: Any, name: HubName, contents: Mapping[str, bytes | str], *, private: bool) -> str:
    """Write all files at once; return the commit."""
    api = client.HfApi()
    api.create_repo(name.repository, private=private or None, exist_ok=True)
    if name.revision is not None:
        api.create_branch(name.repository, branch=name.revision, exist_ok=True)
    there = api.list_repo_files(name.repository, revision=name.revision)
    operations = [
        *(client.CommitOperationAdd(file, content) for file, content in contents.items()),
        *(client.CommitOperationDelete(file) for file in there if file in SHARED and file not in contents),
    ]
    done = api.create_commit(
        name.repository, operations, commit_message="Speech recognition model", revision=name.revision
    )
    return str(done.oid)


def hub_card(folder: ReadablePath, license: str | None = None) -> str:
    """Return the model card with what the hub reads at its beginning; what its owner wrote there stays.

    Source: https://huggingface.co/docs/hub/model-cards#model-card-metadata.

    Raises:
        ModelError: the card cannot be read, or its beginning is not YAML.
    """
    import yaml

    path = folder / CARD
    text = read_text(path, ModelError, "the model card") if path.is_file() else model_card(folder)
    front = _FRONT_MATTER.match(text)
    own = parse_yaml(front[1], ModelError, str(path)) if front else {}
    if not isinstance(own, dict):
        raise ModelError(f"{path}: what is between its first lines --- is not a list of names and values; remove it")
    known = _known(folder) | own | ({"license": license} if license else {})
    head = yaml.safe_dump(known, sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{text[front.end() :] if front else text}"


def _known(folder: ReadablePath) -> dict[str, Any]:
    """Return what the folder says of itself that the hub has a name for."""
    facts = training_facts(folder)
    languages = [code for code in facts.languages if _LANGUAGE_CODE.fullmatch(code)] if facts else []
    measured = facts is not None and facts.dev_wer is not None
    is_onnx = (folder / ONNX_NETWORK).is_file()
    return {
        **({"language": languages} if languages else {}),
        "library_name": "asr",
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["asr", "ctc", *["onnx"] * is_onnx],
        **({"metrics": [facts.main]} if facts is not None and measured else {}),
    }


@dataclass(frozen=True)
class PullReport:
    """A folder that `pull` wrote.

    Attributes:
        folder: the model folder, or the exported one.
        model: the name of the model, on the hub with its revision.
        files: names of the model's files.
        left_out: names of files of the repository that were not taken.
    """

    folder: Path
    model: str
    files: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def pull(model: str | os.PathLike[str], out: str | os.PathLike[str]) -> PullReport:
    """Write a shared model into a new folder; each file is checked.

    Of a model on the hub, the folder's `pulled.json` keeps the name with the revision.

    Args:
        model: `hf://user/model` or `hf://user/model@REVISION`, or a file that `pack_model` wrote.
        out: the folder to write.

    Raises:
        ModelError: the model cannot be had, cannot be read or is damaged, or `out` exists.
        DependencyError: huggingface_hub is missing.
    """
    folder = Path(out)
    if folder.exists():
        raise ModelError(f"{folder}: exists already; name a new folder")
    name = hub_name(model)
    if name is not None:
        found = hub_model(name)
        beside = {PULLED: (to_json({"model": str(found.name)}, indent=1) + "\n").encode()}
        card = found.folder.root / CARD
        if card.is_file():
            beside[CARD] = card.read_bytes()
        files = write_folder(found.folder, folder, beside)
        return PullReport(folder, str(found.name), files, found.left_out)
    source = model_folder(model)
    if not isinstance(source, ListedPath):
        raise ModelError(f"{source}: neither a packed model nor one of the hub, so there is nothing to pull")
    return PullReport(folder, str(source), write_folder(source, folder))
