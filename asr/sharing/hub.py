"""A model on the Hugging Face hub: `hf://user/model` or `hf://user/model@REVISION` → its files, and back. No torch.

`asr push` writes `files.json` beside the files. Only what it lists and `asr/bundle/files.py` knows is taken: settings,
tables, safetensors, ONNX and ARPA files. Nothing of it is executed or unpickled. The hub's sizes and checksums are
compared with the list before anything is downloaded, and each file with the list whenever it is read. The model card
is not listed, because people edit it on the hub.

Files stay in the cache of huggingface_hub, by revision. A revision that is there needs no network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.bundle.files import CARD, PACKED_LIST, SHARED
from asr.bundle.hub import hub_client, hub_reason, is_unreachable
from asr.errors import ModelError
from asr.reading import shown
from asr.sharing.listed import MIB, MOST_LIST_BYTES, ListedPath, Member, parse_list, require_shareable

_MOST_BYTES = 16384 * MIB  # of all files
_MOST_CARD_BYTES = MIB
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy")
_IGNORED = (".gitattributes", PACKED_LIST)
_COMMIT = re.compile("[0-9a-f]{40}")
_PART = r"[A-Za-z0-9_][\w.-]*"
_NAME = re.compile(rf"hf:/{{1,2}}({_PART}/{_PART})(?:@({_PART}(?:/{_PART})*))?", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """The name of a model on the hub.

    Attributes:
        repository: user and model, e.g. `anna/mine`.
        revision: a branch, a tag or a commit; None: the newest of the main branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        """Return the name as users give it."""
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


def hub_name(name: str | os.PathLike[str]) -> HubName | None:
    """Return the parts of a name on the hub; None if it is a path.

    A `Path` of such a name has one slash less, or other slashes.

    Raises:
        ModelError: it begins with `hf:/` and is not such a name.
    """
    text = os.fspath(name).replace("\\", "/")
    if not text.startswith("hf:/"):
        return None
    found = _NAME.fullmatch(text)
    if found is None or ".." in text:
        raise ModelError(f"{shown(text)}: not a name on the hub; expected hf://user/model or hf://user/model@REVISION")
    return HubName(found[1], found[2])


@dataclass(frozen=True)
class HubModel:
    """A model of the hub, in the cache.

    Attributes:
        name: with the revision, a commit.
        folder: its files.
        left_out: names of files of the repository that were not taken, in order; empty if it was in the cache already.
    """

    name: HubName
    folder: ListedPath
    left_out: tuple[str, ...] = ()


def hub_model(name: HubName) -> HubModel:
    """Return a model of the hub; it is downloaded unless this revision is in the cache.

    Without a network a name with a branch, a tag or without a revision is what it was when it was last downloaded.

    Raises:
        ModelError: there is none, or not for this user; it is not what `asr push` wrote; or there is no network, and it
            is not in the cache.
        DependencyError: huggingface_hub is missing.
    """
    client = hub_client(f"{name}: a model")
    pinned = name.revision if _COMMIT.fullmatch(name.revision or "") else None
    if pinned and (kept := _kept(client, name, pinned)):
        return kept
    try:
        info = client.HfApi().model_info(name.repository, revision=name.revision, files_metadata=True)
    except Exception as error:  # huggingface_hub raises what the library beneath it does
        kept = _kept(client, name, name.revision) if is_unreachable(error) else None
        if kept:
            return kept
        way_out = "; what was loaded once needs no network" if is_unreachable(error) else ""
        raise ModelError(f"{name}: the Hugging Face hub does not give it ({hub_reason(error)}){way_out}") from None
    return _downloaded(client, name, info)


def kept_model(name: HubName) -> HubModel:
    """Return a model of the hub that is in the cache; nothing is asked of the network.

    Raises:
        ModelError: it is not in the cache.
        DependencyError: huggingface_hub is missing.
    """
    kept = _kept(hub_client(f"{name}: a model"), name, name.revision)
    if kept is None:
        raise ModelError(f"{name}: not in the cache of this machine; `asr transcribe {name} FILE` brings it there")
    return kept


def _kept(client: Any, name: HubName, revision: str | None) -> HubModel | None:
    """Return a model that is in the cache with all its files; None if it is not."""
    found = client.try_to_load_from_cache(name.repository, PACKED_LIST, revision=revision)
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    kept = HubName(name.repository, folder.name)
    listed = _taken(_list(Path(found), kept))
    if not all((folder / member).is_file() for member in listed):
        return None
    return HubModel(kept, ListedPath(str(kept), folder, listed))


def _list(path: Path, name: HubName) -> dict[str, Member]:
    with path.open("rb") as file:
        return parse_list(file.read(MOST_LIST_BYTES + 1), f"{name}/{PACKED_LIST}")


def _taken(listed: Mapping[str, Member]) -> dict[str, Member]:
    return {name: listed[name] for name in SHARED if name in listed}


def _downloaded(client: Any, name: HubName, info: Any) -> HubModel:
    """Download the files of a repository that its list names.

    Args:
        client: the package huggingface_hub.
        name: as the user gave it.
        info: what the hub says of the repository: its commit, and of each file name, size and SHA-256.
    """
    if not _COMMIT.fullmatch(info.sha or ""):
        raise ModelError(f"{name}: the hub names {shown(info.sha)} as its revision, which is none")
    found = HubName(name.repository, info.sha)
    files = {file.rfilename: file for file in info.siblings or ()}
    if PACKED_LIST not in files:
        raise ModelError(f"{name}: {_without_list(sorted(files))}")

    def download(file: str) -> Path:
        # The revision as the user named it, so that the cache knows which commit it was.
        try:
            return Path(client.hf_hub_download(name.repository, file, revision=name.revision))
        except Exception as error:
            raise ModelError(f"{name}: the hub does not give {file} ({hub_reason(error)}); try again") from None

    _require_size(files[PACKED_LIST].size, MOST_LIST_BYTES, f"{name}/{PACKED_LIST}")
    first = download(PACKED_LIST)
    listed = _taken(_list(first, found))
    _require_as_listed(found, listed, files)
    model = HubModel(
        found,
        ListedPath(str(found), first.parent, listed),
        tuple(sorted(file for file in files if file not in listed and file not in (*_IGNORED, CARD))),
    )
    require_shareable(model.folder)
    for file in (*listed, *[CARD] * (CARD in files and (files[CARD].size or 0) <= _MOST_CARD_BYTES)):
        if download(file) != first.parent / file:
            raise ModelError(f"{name}: changed on the hub while it was downloaded; try again")
    for file in listed:
        (model.folder / file).read_bytes()
    return model


def _without_list(files: list[str]) -> str:
    pickle = next((file for file in files if file.lower().endswith(_PICKLES)), None)
    if pickle is not None:
        return (
            f"not what `asr push` wrote; {shown(pickle)} may be a pickle, which can run any program when it is read, "
            "so it is not read"
        )
    return f"not what `asr push` wrote: it has no {PACKED_LIST}"


def _require_size(size: int | None, most_bytes: int, what: str) -> None:
    if size is None or size > most_bytes:
        raise ModelError(f"{what}: {shown(size)} bytes, but at most {most_bytes} are downloaded")


def _require_as_listed(name: HubName, listed: Mapping[str, Member], files: Mapping[str, Any]) -> None:
    """Compare what the hub says of the files with the list, before they are downloaded.

    Raises:
        ModelError: a file is missing or another one, or they are too large.
    """
    for file, member in listed.items():
        if file not in files:
            raise ModelError(f"{name}: the hub has no {file}, which {PACKED_LIST} names; push the model again")
        lfs = files[file].lfs
        if files[file].size != member.size_bytes or (lfs is not None and lfs.sha256 != member.sha256):
            raise ModelError(
                f"{name}/{file}: changed since `asr push` wrote it (its size or checksum is another than {PACKED_LIST} "
                "says); push the model again"
            )
    _require_size(sum(member.size_bytes for member in listed.values()), _MOST_BYTES, str(name))
