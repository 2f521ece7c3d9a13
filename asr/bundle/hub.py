"""The Hugging Face hub: its client, if that is installed, and what its errors mean. No torch."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from asr.errors import DependencyError, unreached
from asr.reading import first_line


def hub_client(wanted: str) -> Any:
    """Return the package huggingface_hub.

    Args:
        wanted: what is wanted of the hub, for the message.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        raise DependencyError(f"{wanted}; to get it from the Hugging Face hub: pip install 'asr[hub]'") from None
    return huggingface_hub


def is_unreachable(error: Exception) -> bool:
    """Return whether an error of the client says that the hub cannot be reached, rather than what the hub answered."""
    return _response(error) is None and not isinstance(error, ValueError)


def hub_reason(error: Exception) -> str:
    """Return why the hub does not give or take something, and the way out.

    Args:
        error: what huggingface_hub raised, or the library beneath it.
    """
    from huggingface_hub import constants, errors

    login = "`hf auth login` stores a token"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids the network"
    if isinstance(error, errors.GatedRepoError):
        return f"who wants it has to ask on its page there; then {login}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "there is no such revision"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no such repository, or it is private: {login} that may read it"
    status = getattr(_response(error), "status_code", None)
    if status in (401, 403):
        return f"the token is missing, or not allowed to do that: {login}"
    host = urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT
    said = unreached(host, error) if is_unreachable(error) else None
    return said or first_line(str(error) or type(error).__name__)


def _response(error: Exception) -> object:
    return getattr(error, "response", None)
