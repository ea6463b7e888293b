"""Asks for a name as a container does: from inside its namespace, at 127.0.0.11.

Be aware: moves the calling thread (``netns.inside``) and blocks it; not for an event loop's.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Final

from meshnet.errors import KernelError
from meshnet.kernel import netns
from meshnet.model.wellknown import RESOLVER_ADDRESS
from meshnet_dns import wire
from meshnet_dns.explained import Heard

HEARS_S: Final = 3.0
"""Of three upstreams that are silent the last is given up after 2.4 s."""
PORT: Final = 53
_MOST_BYTES: Final = 65535


def ask(path: str, name: str, kind: str) -> Heard:
    """One question by UDP from the namespace ``path``.

    Raises:
        ValueError: that cannot be asked.
        NotFoundError: there is no such namespace.
        KernelError: it cannot be entered.
        WireError: what came is not a message.
    """
    packet = wire.asking(name, kind, int.from_bytes(os.urandom(2), "big"))
    try:
        with netns.inside(path):
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        raise KernelError("open", f"socket in {path}", error.errno or 0) from error
    began = time.monotonic()
    with asking:
        asking.settimeout(HEARS_S)
        try:
            asking.connect((RESOLVER_ADDRESS, PORT))
            asking.send(packet)
            while not wire.answers(response := asking.recv(_MOST_BYTES), packet):
                pass
        except OSError:  # refused, or silent
            return Heard("", (), time.monotonic() - began)
    result, records = wire.told(response)
    return Heard(result, tuple(records), time.monotonic() - began)
