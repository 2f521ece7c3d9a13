"""What waits, by who sent it → in which order it is taken: a turn for each sender that waits, one after the other.

So a sender of a thousand things waits for himself, and one of a single thing waits for one of each other sender. Where
there is no room for more, the last thing of the sender that has most gives way.

Source: Demers, Keshav and Shenker, "Analysis and simulation of a fair queueing algorithm", SIGCOMM 1989, with turns of
whole things, as in RFC 970, because nobody knows before how long a thing takes.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")

_NETWORK_BITS = 64  # of an IPv6 address; one customer has all addresses of such a network


class FairQueue(Generic[Item]):
    """Things that wait, each with the name of its sender."""

    def __init__(self) -> None:
        """Begin with none."""
        self._of_sender: dict[str, deque[Item]] = {}  # whose turn is next is first; who waits for nothing is not there

    def __len__(self) -> int:
        """Return the number of things that wait."""
        return sum(map(len, self._of_sender.values()))

    def put(self, sender: str, item: Item) -> None:
        """Let a thing wait; a sender who waited for nothing is the last whose turn comes."""
        self._of_sender.setdefault(sender, deque()).append(item)

    def take(self) -> Item:
        """Return the oldest thing of the sender whose turn it is; his next turn comes after that of all others.

        Raises:
            IndexError: nothing waits.
        """
        if not self._of_sender:
            raise IndexError("nothing waits")
        sender = next(iter(self._of_sender))
        items = self._of_sender.pop(sender)
        item = items.popleft()
        if items:
            self._of_sender[sender] = items
        return item

    def take_last(self, sender: str) -> Item | None:
        """Return the youngest thing of a sender, which waits no more; None if nothing of his waits."""
        items = self._of_sender.get(sender)
        if not items:
            return None
        item = items.pop()
        if not items:
            del self._of_sender[sender]
        return item

    def remove(self, sender: str, item: Item) -> None:
        """Let a thing wait no more, if it still does."""
        items = self._of_sender.get(sender, deque())
        with suppress(ValueError):
            items.remove(item)
            if not items:
                del self._of_sender[sender]


def sender_of(client: Sequence[object] | None) -> str:
    """Return the name of a sender: his address; of IPv6 its first 64 bits, because he has all that begin with them.

    Args:
        client: address and port, as an ASGI server gives them; None if it knows none.
    """
    host = str(client[0]) if client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # what a trusted proxy says may be a name
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:  # at a socket for both, each IPv4 address begins with the same 96 bits
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address), _NETWORK_BITS), strict=False))
    return host
