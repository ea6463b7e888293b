"""The client of rtnetlink: one persistent socket per network namespace (netlink(7)).

Be aware: used from the kernel thread only. A namespace is known by its inode: a path that names
another namespace later gets a new socket.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from meshnet.errors import NotFoundError, kernel_error
from meshnet.kernel import decode, encode, netns
from meshnet.kernel.netlink_socket import NetlinkSocket
from meshnet.kernel.rtnetlink import Af
from meshnet.model.families import Family, Interface
from meshnet.netstate.objects import Link, Neighbour, Route, Rule


class RouteSocket(NetlinkSocket):
    """rtnetlink of one namespace.

    Raises:
        KernelError: no descriptor is left.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, socket.NETLINK_ROUTE)

    def links(self) -> list[Link]:
        """All interfaces."""
        return self.dump(encode.get_links(), decode.link)

    def addresses(self, family: Family = 4) -> list[tuple[int, Interface]]:
        """All addresses of a family: (link index, address)."""
        return self.dump(encode.get_addresses(family), decode.address)

    def routes(self, family: Family = 4) -> list[Route]:
        """All unicast and local routes of a family, of every table."""
        found = self.dump(encode.get_routes(family), decode.route)
        return [entry for entry in found if entry is not None]

    def rules(self, family: Family = 4) -> list[Rule]:
        """All rules of a family that select by mark, by what a port answers, or not at all."""
        found = self.dump(encode.get_rules(family), decode.rule)
        return [entry for entry in found if entry is not None]

    def neighbours(self, family: Af) -> list[Neighbour]:
        """All neighbours (INET, INET6) or FDB rows (BRIDGE)."""
        found = self.dump(encode.get_neighbours(family), decode.neighbour)
        return [entry for entry in found if entry is not None]


Watch = Callable[[Path, str | None], None]
"""Gets a file, and the path of the namespace that it is of (None: the host's)."""


def watch_nothing(_file: Path, _netns: str | None) -> None:
    """A ``Watch``."""


class RtnlClient:
    """The sockets of all namespaces that are in use.

    Args:
        host_netns: path of the namespace that stands for the host; None: the thread's own.
        give_way: called before each namespace of many: what must not wait for all of them.
        watch: called, inside its namespace, with the file of each sysctl that is read, and where.
    """

    def __init__(
        self,
        host_netns: str | None = None,
        give_way: Callable[[], None] = lambda: None,
        watch: Watch = watch_nothing,
    ) -> None:
        self.host_netns = host_netns
        self.give_way, self.watch = give_way, watch
        self._sockets: dict[str | None, tuple[tuple[int, int], RouteSocket]] = {}

    def of(self, path: str | None) -> RouteSocket:
        """The socket in the namespace ``path``; None: the host's.

        Raises:
            NotFoundError: the namespace is not there (any more).
        """
        target = path if path is not None else self.host_netns
        inode = _inode(target)
        held = self._sockets.get(target)
        if held is not None:
            if held[0] == inode:
                return held[1]
            held[1].close()
            del self._sockets[target]
        with netns.inside(target):
            made = RouteSocket(target or "host")
        self._sockets[target] = (inode, made)
        return made

    def keep(self, paths: set[str]) -> None:
        """Close the sockets of all namespaces but the host's and ``paths``."""
        for path in [
            p for p in self._sockets if p not in paths and p not in {None, self.host_netns}
        ]:
            self._sockets.pop(path)[1].close()

    def close(self) -> None:
        """Close all."""
        for _, held in self._sockets.values():
            held.close()
        self._sockets.clear()


def _inode(path: str | None) -> tuple[int, int]:
    if path is None:
        return (0, 0)
    try:
        found = Path(path).stat()
    except NotADirectoryError as error:
        raise NotFoundError("open", path, error.errno or 0) from error
    except OSError as error:
        raise kernel_error("open", path, error.errno or 0) from error
    return (found.st_dev, found.st_ino)
