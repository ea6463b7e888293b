"""The overlay networks as a reconciler sees them (``meshnet.reconcile.Operations``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from meshnet.kernel import changer, netns, observer
from meshnet.kernel.rtnl import RouteDoor
from meshnet.model.snapshot import Snapshot
from meshnet.netstate.changes import Change
from meshnet.netstate.plan import plan
from meshnet.netstate.values import Desired, Observed
from meshnet.overlay.desired import PREFIX, desired


class OverlayOperations:
    """Realises the overlay networks that containers of this host are on.

    Args:
        host_netns: path of the namespace that stands for the host; None: the process's own.
        netns_dir: where the networks' namespaces are named.
    """

    name = "overlay"

    def __init__(self, host_netns: str | None = None, netns_dir: Path = netns.NETNS_DIR) -> None:
        self._door = RouteDoor(host_netns)
        self._netns_dir = netns_dir

    def desired(self, snapshot: Snapshot) -> Desired:
        """See ``meshnet.overlay.desired``."""
        return desired(snapshot, self._netns_dir)

    def observe(self, desired: Desired) -> Observed:
        """Read the namespaces back.

        Raises:
            KernelError: one that is there cannot be read.
        """
        made = frozenset(
            str(self._netns_dir / name) for name in netns.names(self._netns_dir, PREFIX)
        )
        self._door.keep({path for path in desired.specs if path is not None} | made)
        return observer.observe(self._door, desired, made)

    def plan(self, desired: Desired, observed: Observed, *, prune: bool) -> list[Change]:
        """See ``meshnet.netstate.plan``."""
        return plan(desired, observed, prune=prune)

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the changes.

        Raises:
            ExceptionGroup: of the KernelErrors of those that failed.
        """
        changer.apply(self._door, changes)

    def close(self) -> None:
        """Close the sockets; the networks stay."""
        self._door.close()
