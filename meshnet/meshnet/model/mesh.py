"""What the parts of the routing mesh call each other by: the link it enters by, the mark it leaves.

The overlay makes the link, the routes and the rules; ``meshnet_lb`` translates and marks.
"""

from __future__ import annotations

from typing import Final

INGRESS_LINK: Final = "mn-ingress"
"""The node's own interface on the ingress network: requests go to tasks through it."""
MESH_MARK: Final = 0x10000000
"""Bit of a connection's mark that says: it came in through the mesh. ``ip rule`` matches it and
nothing else."""
