"""libnftables in the namespaces that were asked last, on descriptors that it can bear.

A context belongs to the namespace that it was opened in. It costs a descriptor and 120 KB, and
0.25 ms to open (measured), so a few are kept and the others are opened when they are needed.

libnftables waits with select(2), which ends the *process* when its socket is descriptor 1024 or
above (FD_SETSIZE; select_tut(2)). Low descriptors are therefore held in reserve from the beginning:
one is given free for each context, and the context is used only when it did get a low one, as
another thread may have been faster. When none is left, that is an error like any other.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import nftables

from meshnet.errors import CapacityError, NotFoundError
from meshnet.kernel import netns
from meshnet.kernel.netns import Identity
from meshnet.kernel.nfnetlink import NETLINK_NETFILTER

FD_SETSIZE: Final = 1024
MOST_OPEN: Final = 16
"""Contexts that stay open: the host's, and a few for a round that changes the same again. To close
one right after its commit waits until the kernel has let go of what that replaced (1 to 2 ms)."""
_RESERVE: Final = 8
_TRIES: Final = 4
_REFUSED: Final = b"-"
"""No command. libnftables keeps what it read of a namespace (hundreds of KiB a context) until
a command fails; our next one comes after a commit, when that is of no use."""


_BINDS: Final = b"list table ip meshnet_none"
"""A request without select(2): a dump is waited for in recvmsg(2). The socket is bound by it. Of a
table that is not there: any other listing reads all that there is (1 ms with 500 backends)."""


@dataclass
class DescriptorsError(CapacityError):
    """Every low descriptor is somebody else's."""

    def __str__(self) -> str:
        return f"nftables needs a descriptor below {FD_SETSIZE}, and all are in use"


class Libnftables:
    """A few contexts, the least recently used of which make room."""

    def __init__(self) -> None:
        self._spare: list[int] = []
        self._open: OrderedDict[Identity, nftables.Nftables] = OrderedDict()
        self._refill()

    def run(
        self, identity: Identity, path: str, command: str, *, json: bool = True
    ) -> tuple[int, str, str]:
        """Run one command: (0 when it was done, what it printed, why it was refused).

        Args:
            identity: the namespace.
            path: where it is.
            command: in nft's language.
            json: print JSON.

        Raises:
            NotFoundError: ``path`` leads elsewhere or nowhere.
            KernelError: the namespace cannot be entered.
            DescriptorsError: there is no descriptor for it.
        """
        context = self._context(identity, path)
        context.set_json_output(json)
        code, printed, said = context.cmd(command.encode())
        context.cmd(_REFUSED)
        return code, printed.decode(errors="replace"), said.decode(errors="replace")

    def forget(self, identity: Identity) -> None:
        """Give the namespace free."""
        if self._open.pop(identity, None) is not None:
            self._refill()

    def close(self) -> None:
        """Give everything back."""
        self._open.clear()
        while self._spare:
            os.close(self._spare.pop())

    def _context(self, identity: Identity, path: str) -> nftables.Nftables:
        found = self._open.get(identity)
        if found is None:
            with netns.inside(path) as entered:
                if entered != identity:
                    raise NotFoundError("enter", path, 0)
                found = self._low()
            self._open[identity] = found
        self._open.move_to_end(identity)
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)
        self._refill()
        return found

    def _low(self) -> nftables.Nftables:
        for _ in range(_TRIES):
            self._refill()
            if not self._spare:
                break
            spare = self._spare.pop()
            os.close(spare)
            made = nftables.Nftables()
            made.cmd(_BINDS)
            if _is_below(spare):
                return made
            del made  # it may have got any number: it must not be used
        raise DescriptorsError

    def _refill(self) -> None:
        while len(self._spare) < _RESERVE:
            try:
                lowest = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return
            if lowest >= FD_SETSIZE:
                os.close(lowest)
                return
            self._spare.append(lowest)


def _is_below(spare: int) -> bool:
    """Whether what was just opened has the descriptor ``spare`` or a lower one.

    The kernel gives the lowest that is free, so it has, unless another thread took ``spare``: then
    that is something else than a bound nfnetlink socket without groups.
    """
    try:
        there = socket.socket(fileno=spare)
    except OSError:
        return not os.path.exists(f"/proc/self/fd/{spare}")  # noqa: PTH110 - a link to no file
    with contextlib.suppress(OSError):
        try:
            kind = (there.family, there.proto)
            if kind != (socket.AF_NETLINK, NETLINK_NETFILTER):
                return False
            port, groups = there.getsockname()
            return bool(port) and not groups
        finally:
            there.detach()
    return False
