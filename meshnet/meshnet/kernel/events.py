"""Tells when somebody changes links, addresses, routes, FDB rows, sysctls or nftables somewhere.

rtnetlink(7) and nfnetlink multicast groups, and of the host XFRM's. The reconcilers are poked and
look for themselves: what the event says is not used, so a lost event costs no more than the time to
the next resync.

Be aware: ARP and FDB rows come and age all the time, and we make them. Of lost ones those that aged
are not told of; of new ones those that ``disturbs`` says are not as they should be.
Of sysctls the kernel tells only IPv4's ``forwarding`` and ``rp_filter`` (ip-netconf(8)); the others
that we set are told by ``meshnet.kernel.file_events``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack, suppress
from typing import Final

from meshnet.errors import KernelError, MeshnetError, NotFoundError, WireError, kernel_error
from meshnet.kernel import netns, nlmsg
from meshnet.kernel.rtnetlink import IFADDRMSG, NDMSG, RTMSG, Af, Ifa, Nda, Nud, Rta, Rtm
from meshnet.kernel.xfrm_codec import GROUPS, NETLINK_XFRM

_log = logging.getLogger(__name__)

_ROUTE_GROUPS: Final = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 1 << (24 - 1)
"""RTMGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE; RTNLGRP_IPV4_NETCONF
(linux/rtnetlink.h)."""
_INNER_GROUPS: Final = 0x8 | 0x100 | 0x400
"""RTMGRP_TC, _IPV6_IFADDR, _IPV6_ROUTE; the host's own qdiscs and IPv6 are none of ours."""
_LINK_LOCAL6: Final = 0xFE80 >> 6
_MULTICAST6: Final = 0xFF
"""First bits of link-local addresses, ten, and of multicast ones, eight (RFC 4291 section 2.4)."""
_HEADERS: Final[dict[int, tuple[int, int]]] = {
    Rtm.NEWADDR: (IFADDRMSG.size, Ifa.ADDRESS),
    Rtm.DELADDR: (IFADDRMSG.size, Ifa.ADDRESS),
    Rtm.NEWROUTE: (RTMSG.size, Rta.DST),
    Rtm.DELROUTE: (RTMSG.size, Rta.DST),
    Rtm.DELNEIGH: (NDMSG.size, Nda.DST),
}
"""Of what is told of: bytes before its attributes, and that of its address."""
_NFT_GROUP: Final = 1 << (7 - 1)
"""NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h)."""
_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12
_SMALL: Final = 1 << 16
NFT_CHANGED: Final = "nftables changed"
"""The reason that ``changed`` gets when somebody committed a transaction of nftables."""


Changed = Callable[[str, Collection[str | None] | None], None]
"""Gets a short reason, and the namespaces in which something changed; None: maybe everywhere."""
Disturbs = Callable[[str | None, bytes], bool]
"""Whether a row that appeared in a namespace (a NEWNEIGH's body) is not as it should be."""


class Watcher:
    """Watches one namespace; ``changed`` is called in the event loop.

    Args:
        path: of the namespace; None: the process's own.
        changed: gets a short reason and where it was.
        disturbs: judges rows that appear.

    Raises:
        NotFoundError: the namespace is not there (any more).
        KernelError: no descriptor is left.
    """

    def __init__(self, path: str | None, changed: Changed, disturbs: Disturbs) -> None:
        self._changed = changed
        self._disturbs = disturbs
        self._path = path
        self._loop = asyncio.get_running_loop()
        groups = _ROUTE_GROUPS if path is None else _ROUTE_GROUPS | _INNER_GROUPS
        with netns.inside(path), ExitStack() as stack:
            self._sockets = [
                stack.enter_context(_listen(_NETLINK_ROUTE, groups)),
                stack.enter_context(_listen(_NETLINK_NETFILTER, _NFT_GROUP)),
            ]
            if path is None:
                with suppress(KernelError):  # a kernel without XFRM has nothing to tell
                    self._sockets.append(stack.enter_context(_listen(NETLINK_XFRM, GROUPS)))
            stack.pop_all()
        for listening in self._sockets:
            self._loop.add_reader(listening, self._read, listening)

    def close(self) -> None:
        """Stop watching."""
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()

    def _read(self, listening: socket.socket) -> None:
        is_route, is_nft = (listening is each for each in self._sockets[:2])
        relevant = False
        with suppress(BlockingIOError):
            while True:
                try:
                    data = listening.recv(_SMALL)
                except OSError as error:
                    if isinstance(error, BlockingIOError):
                        raise
                    relevant = True  # ENOBUFS: events were lost, which is one more reason to look
                    continue
                relevant = relevant or not is_route or self._is_relevant(data)
        if relevant:
            reason = NFT_CHANGED if is_nft else "links, routes, sysctls or encryption changed"
            self._changed(reason, (self._path,))

    def _is_relevant(self, data: bytes) -> bool:
        try:
            return any(self._is_ours(kind, body) for kind, _, _, body in nlmsg.messages(data))
        except WireError:
            return True  # it did not fit: there was more to tell

    def _is_ours(self, kind: int, body: bytes) -> bool:
        """Whether it may be of what we set.

        Ours do not age. What is link-local or multicast of IPv6 is the kernel's: it comes a second
        or two after each link, and where containers are many such neighbours go all the time.
        """
        if len(body) >= NDMSG.size and body[0] == Af.INET6 and _is_the_kernels(kind, body):
            return False
        if kind not in {Rtm.NEWNEIGH, Rtm.DELNEIGH} or len(body) < NDMSG.size:
            return True
        if kind == Rtm.NEWNEIGH:
            return self._disturbs(self._path, body)
        family, _, state, _, _ = NDMSG.unpack_from(body)
        return family in {Af.INET, Af.INET6, Af.BRIDGE} and state != Nud.STALE


def _is_the_kernels(kind: int, body: bytes) -> bool:
    size, of = _HEADERS.get(kind, (0, 0))
    address = nlmsg.attributes(body, size).get(of, b"") if size else b""
    first = int.from_bytes(address[:2]) if len(address) > 1 else 0
    return first >> 6 == _LINK_LOCAL6 or first >> 8 == _MULTICAST6


class Watchers:
    """A watcher in each namespace of a set that changes.

    A namespace is known by its inode. No event tells that a path leads elsewhere by now (a
    container was restarted, a mount was taken away), so ``look`` is called at times.

    Be aware: enters namespaces in the event loop's thread, for some 50 microseconds each. A
    watcher keeps its namespace alive, and with it the VXLAN device that stands in its successor's
    way, until ``look`` finds that the path has left it.
    """

    def __init__(self, changed: Changed, disturbs: Disturbs = lambda _path, _row: False) -> None:
        self._changed = changed
        self._disturbs = disturbs
        self._wanted: frozenset[str | None] = frozenset()
        self._held: dict[str | None, tuple[netns.Identity | None, Watcher]] = {}
        self._blind = False

    def watch(self, paths: Iterable[str | None]) -> None:
        """Watch exactly these; None: the process's own. Those that are not there are skipped."""
        self._wanted = frozenset(paths)
        for path in self._held.keys() - self._wanted:
            self._held.pop(path)[1].close()
        self._open()

    def look(self) -> None:
        """Leave the namespaces that their paths have left, go to where they lead now, and tell."""
        left = [
            path
            for path, (identity, _) in self._held.items()
            if path is not None and netns.identity_of(path) != identity
        ]
        for path in left:
            self._held.pop(path)[1].close()
        self._open()
        for path in left:
            self._changed(f"{path} leads to another namespace or to none", None)

    def close(self) -> None:
        """Stop watching."""
        self.watch(())

    def _open(self) -> None:
        for path in self._wanted - self._held.keys():
            # Read first: should the path move meanwhile, the next look finds a difference.
            identity = None if path is None else netns.identity_of(path)
            try:
                self._held[path] = (identity, Watcher(path, self._changed, self._disturbs))
            except NotFoundError:
                continue
            except MeshnetError as error:  # the next look tries again
                if not self._blind:
                    _log.warning("changes there are found by the resync only: %s", error)
                self._blind = True
                return
        self._blind = False


def _listen(protocol: int, groups: int) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    try:
        made = socket.socket(socket.AF_NETLINK, kind, protocol)
    except OSError as error:
        raise kernel_error("open", "netlink socket", error.errno or 0) from error
    made.settimeout(0)
    made.bind((0, groups))
    return made
