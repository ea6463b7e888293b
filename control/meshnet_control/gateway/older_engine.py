"""What clients of newer API versions ask, as an older engine can do it. Pure.

| since | what | an older engine |
|---|---|---|
| 1.42 | volumes prune: anonymous ones alone, unless ``all`` | prunes all |
| 1.44 | containers create: several networks | one; the others are connected afterwards |
| 1.44 | … a MAC address for each | one for the container |
| 1.44 | … ``StartInterval`` of a health check | does not know it |

What an older engine ignores without harm is left as it is.

Source: moby api/swagger.yaml and docs/api/version-history.md, 20.10 to 28.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from meshnet.patterns import Pattern
from meshnet_control.convert.json_text import part
from meshnet_control.gateway.http_head import Version

ANONYMOUS_ONLY: Final[Version] = (1, 42)
SEVERAL_NETWORKS: Final[Version] = (1, 44)
_ANONYMOUS: Final = Pattern(r"[0-9a-f]{64}", longest=64)
NO_START_INTERVAL: Final = (
    "this host's Docker Engine has no start interval of health checks: it is ignored"
)


@dataclass(frozen=True, slots=True)
class Creation:
    """A container's creation, in steps that the engine can do."""

    body: Mapping[str, Any]
    connections: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Networks to connect it to afterwards, and its endpoint's settings in each."""
    warnings: tuple[str, ...] = ()


def creation(body: Mapping[str, Any], newest: Version) -> Creation:
    """How an engine creates what ``POST /containers/create`` asks.

    Args:
        body: of the request.
        newest: the engine's API version.
    """
    if newest >= SEVERAL_NETWORKS:
        return Creation(body)
    body, warnings = _without_start_interval(body)
    endpoints = part(part(body, "NetworkingConfig"), "EndpointsConfig")
    if not endpoints:
        return Creation(body, (), warnings)
    mode = part(body, "HostConfig").get("NetworkMode")
    first = mode if isinstance(mode, str) and mode in endpoints else next(iter(endpoints))
    others = [name for name in endpoints if name != first]
    for name in others:
        if _mac(endpoints[name]):
            warnings = (*warnings, f"the MAC address on network {name} is ignored: {_ONE_MAC}")
    one = {"EndpointsConfig": {first: endpoints[first]}}
    kept: dict[str, Any] = {**body, "NetworkingConfig": one}
    if _mac(endpoints[first]) and not body.get("MacAddress"):
        kept["MacAddress"] = _mac(endpoints[first])
    connections = tuple((name, part(endpoints, name)) for name in others)
    return Creation(kept, connections, warnings)


_ONE_MAC: Final = "this host's Docker Engine takes one for a container, that of its first network"


def anonymous(name: str) -> bool:
    """Whether a volume got its name from the engine."""
    return _ANONYMOUS.match(name) is not None


def _without_start_interval(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    check = part(body, "Healthcheck")
    if not check.get("StartInterval"):
        return body, ()
    kept = {key: value for key, value in check.items() if key != "StartInterval"}
    return {**body, "Healthcheck": kept}, (NO_START_INTERVAL,)


def _mac(endpoint: object) -> str:
    said = endpoint.get("MacAddress") if isinstance(endpoint, dict) else None
    return said if isinstance(said, str) else ""
