"""Port numbers that the resolver and the rules in front of it agree on."""

from typing import Final

RESOLVER_PORT: Final = 41053
"""Where the resolver listens on 127.0.0.11 in a container, UDP and TCP; nft leads port 53 to it."""
