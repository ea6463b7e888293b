"""Ownership of an nftables table: what others flush does not reach it, and nobody else changes it.

Touches nothing but the flags of the table it is given.

The model: a table with the flag ``owner`` (Linux 5.12) belongs to the netlink socket that set it:
``nft flush ruleset`` passes it by, and a change by anybody else is refused with EPERM. With
``persist`` (Linux 6.9) it outlives that socket, as an orphan, and the next socket may adopt it.
``persist`` can be given only when a table is made. libnftables 1.0.6 does not know it and commits
on a socket of its own, so a table is made here, empty, and owned between libnftables' commits.

Be aware: a table that was made without ``persist``, or by a kernel that does not know it, is not
owned: without ``persist`` it would end with this process. For the time of a commit, and while no
daemon runs, an orphan can be flushed like any table.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Final

from meshnet.errors import KernelError
from meshnet.kernel import netns, nlmsg
from meshnet.kernel.nfnetlink import NETLINK_NETFILTER, TIMEOUT_S
from meshnet.kernel.nlmsg import NlmF, Nlmsg, attribute

_SUBSYSTEM: Final = 10
"""NFNL_SUBSYS_NFTABLES (linux/netfilter/nfnetlink.h)."""
_BEGIN, _END, _NEWTABLE = 0x10, 0x11, _SUBSYSTEM << 8
_TABLE_NAME, _TABLE_FLAGS = 1, 2
_OWNER, _PERSIST = 0x2, 0x4
"""NFT_TABLE_F_OWNER, NFT_TABLE_F_PERSIST (linux/netfilter/nf_tables.h)."""


class TableOwner:
    """Owner of the IPv4 table ``name`` in the network namespace ``path``, or not."""

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self._name = name.encode() + b"\0"
        self._socket: socket.socket | None = None

    @property
    def owns(self) -> bool:
        """Whether the table is ours now."""
        return self._socket is not None

    def make(self) -> bool:
        """Make the table, empty and nobody's; False: it is there, or this kernel cannot.

        Raises:
            KernelError: no descriptor is left, or the namespace cannot be entered.
        """
        with self._opened() as asking:
            return self._asked(asking, NlmF.CREATE | NlmF.EXCL, _PERSIST)

    def own(self) -> bool:
        """Adopt the table; False: it is not there, or was made in a way that cannot be owned.

        Raises:
            KernelError: no descriptor is left, or the namespace cannot be entered.
        """
        self.release()
        asking = self._opened()
        if self._asked(asking, 0, _OWNER | _PERSIST):
            self._socket = asking
            return True
        asking.close()
        return False

    def release(self) -> None:
        """Leave the table to whoever comes."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _opened(self) -> socket.socket:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        with netns.inside(self._path):
            try:
                made = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
            except OSError as error:
                raise KernelError("open", "nfnetlink socket", error.errno or 0) from error
        made.settimeout(TIMEOUT_S)
        made.bind((0, 0))
        return made

    def _asked(self, asking: socket.socket, flags: int, table_flags: int) -> bool:
        body = struct.pack(">BBH", socket.AF_INET, 0, 0)
        body += attribute(_TABLE_NAME, self._name)
        body += attribute(_TABLE_FLAGS, struct.pack(">I", table_flags))
        around = struct.pack(">BBH", socket.AF_UNSPEC, 0, _SUBSYSTEM)
        asking.send(
            nlmsg.message(_BEGIN, NlmF.REQUEST, 1, around)
            + nlmsg.message(_NEWTABLE, NlmF.REQUEST | NlmF.ACK | flags, 2, body)
            + nlmsg.message(_END, NlmF.REQUEST, 3, around)
        )
        with suppress(TimeoutError):
            for kind, _, _, answer in nlmsg.messages(asking.recv(1 << 16)):
                if kind == Nlmsg.ERROR:
                    return not nlmsg.errno_of(answer)
        return False
