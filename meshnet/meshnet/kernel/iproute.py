"""pyroute2 in one network namespace: for what is done once, where no round is waiting.

The reconcilers use ``kernel.rtnl``; why there are two is docs/decisions/0006.

Be aware: pyroute2 is imported when it is first needed: a daemon that never asks does not pay. It
runs an event loop of its own, so it cannot be used in a thread whose loop is running.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from meshnet.errors import kernel_error
from meshnet.kernel import netns

if TYPE_CHECKING:
    from pyroute2 import IPRoute


@contextmanager
def iproute(path: str | None = None) -> Iterator[IPRoute]:
    """pyroute2's ``IPRoute`` in the namespace ``path``; None: in the thread's own.

    Raises:
        NotFoundError: the namespace, or something asked of it, is not there.
        KernelError: the kernel refused something.
    """
    from pyroute2 import IPRoute, NetlinkError  # noqa: PLC0415 - 0.13 s and 7 MB

    # pyroute2 would fork a process to enter it, and make a namespace that is not there.
    with netns.inside(path):
        made = IPRoute()
    try:
        with made:
            yield made
    except NetlinkError as error:
        raise kernel_error("rtnetlink", path or "this namespace", error.code) from error


def link_names(path: str | None = None) -> set[str]:
    """Names of all links there."""
    with iproute(path) as ip:
        return {link.get("ifname") for link in ip.get_links()}
