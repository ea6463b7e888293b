"""How questions to 127.0.0.11:53 reach the resolver's port in each container: pure.

The model: the resolver listens on 127.0.0.11 at ``RESOLVER_PORT`` and not at 53, so that a program
in the container may have port 53 for itself; ``table ip meshnet_dns`` translates the port where the
question begins and conntrack translates the answer back, as the Engine does (moby
libnetwork/resolver_unix.go). ``dnat`` keeps the address; ``redirect`` would make it 127.0.0.1.

Be aware: the chain stands before those of the Engine (-100), whose own resolver would win
otherwise; where we ask that one ourselves, we do so from an address that is not led to us.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshnet.model.snapshot import Snapshot
from meshnet.model.wellknown import RESOLVER_ADDRESS
from meshnet.nft.objects import Chain, Ruleset
from meshnet_dns.ports import PAST_US, RESOLVER_PORT

_RULESET: Final = Ruleset(
    "ip",
    "meshnet_dns",
    (
        Chain(
            "questions",
            tuple(
                f"ip saddr != {PAST_US} ip daddr {RESOLVER_ADDRESS} {protocol} dport 53"
                f" dnat to {RESOLVER_ADDRESS}:{RESOLVER_PORT}"
                for protocol in ("udp", "tcp")
            ),
            "type nat hook output priority -110;",
        ),
    ),
)


def rulesets(snapshot: Snapshot) -> Mapping[str | None, tuple[Ruleset, ...]]:
    """The redirection in every container's namespace (path -> rulesets); nothing in the host's."""
    return {sandbox.netns: (_RULESET,) for sandbox in snapshot.sandboxes.values()}
