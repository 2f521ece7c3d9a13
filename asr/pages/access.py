"""Who may ask a server on this machine: pages of other sites may not, and neither may names that only lead here.

A page of any site can let a browser send requests to this machine. It cannot read the answers, unless it lets its own
name lead to this machine (DNS rebinding). Then the header `Host` has that name, which is not one of this machine.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

OWN_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


def refusal_of_strangers(headers: Mapping[str, str]) -> str:
    """Return why a request that comes through a browser is not of a page of this machine; empty if it may be."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if host_name(f"//{host}") not in OWN_NAMES:
        return "this address is not of this machine"
    if origin is not None and origin != f"http://{host}":
        return "another site may not ask"
    return ""


def host_name(address: str) -> str | None:
    """Return the name of the host in an address; None if it has none."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def same_secret(given: str, secret: str) -> bool:
    """Return whether two texts are the same, in a time that does not say how much of them is."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), secret.encode())
