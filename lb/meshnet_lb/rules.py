"""All nftables tables of the load balancer on this node, from one Snapshot: pure.

The model: one table in the host's network namespace (``meshnet_lb.ingress``), one or two in that of
each container (``meshnet_lb.sandbox``). What containers on one network have in common is computed
once and shared.

Be aware: a mapping names every namespace that should hold something. Conntrack entries are not
rules: ``Ruleset.backends`` says whose UDP flows may stay; whoever applies it forgets the others.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshnet.model.snapshot import Snapshot
from meshnet.nft.objects import Ruleset
from meshnet_lb import ingress, sandbox, service


def rulesets(snapshot: Snapshot) -> Mapping[str | None, tuple[Ruleset, ...]]:
    """What each namespace's tables should hold.

    Returns:
        Path of a network namespace -> its rulesets; None is the host's own namespace, which has
        none while this node has no network and no docker_gwbridge (it is in no cluster).
    """
    ready = service.backends(snapshot)
    vips = service.vips(snapshot, ready)
    found: dict[str | None, tuple[Ruleset, ...]] = {}
    if snapshot.networks or snapshot.gwbridge is not None:
        found[None] = (ingress.ruleset(snapshot, ready),)
    for task in sorted(snapshot.sandboxes):
        wired = snapshot.sandboxes[task]
        found[wired.netns] = sandbox.rulesets(wired, vips, snapshot)
    return found
