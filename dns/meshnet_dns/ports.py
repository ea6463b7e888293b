"""Port numbers that the resolver and the rules in front of it agree on."""

from typing import Final

RESOLVER_PORT: Final = 41053
"""Where the resolver listens on 127.0.0.11 in a container, UDP and TCP; nft leads port 53 to it."""

PAST_US: Final = "127.0.0.12"
"""Whoever asks 127.0.0.11 from this address is not led to us.

Where a container is on one of the Engine's own networks, too, the Engine's resolver is behind us
there, and we ask it for the names of that network.
"""
