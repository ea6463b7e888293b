"""Ports and addresses that every host of every cluster has, each said once. PURE.

IANA's registry has 2377 (Swarm), 2380 (etcd's peers), 4789 (VXLAN, RFC 7348) and 7946 (Docker's
gossip); 127.0.0.11 is where Docker's containers ask for names.
"""

from __future__ import annotations

from typing import Final

CONTROL_PORT: Final = 2377
PEER_PORT: Final = 2380
"""Managers' etcds among each other, where there are several."""
GOSSIP_PORT: Final = 7946
VXLAN_PORT: Final = 4789
LARGEST_PORT: Final = 0xFFFF
RESOLVER_ADDRESS: Final = "127.0.0.11"
