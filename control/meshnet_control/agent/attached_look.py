"""An attached container as the engine describes it, and what the data plane hears of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import Any, Final

from meshnet.model.ids import NetworkId, NodeId, TaskId
from meshnet.model.snapshot import Endpoint, Sandbox
from meshnet.model.wellknown import RESOLVER_ADDRESS
from meshnet_control.agent import inspected
from meshnet_control.agent.attached_record import Record
from meshnet_control.agent.step import Seen

_NAMELESS: Final = frozenset({"bridge", "none", "host"})
"""Networks of the engine on which it answers for no names."""


@dataclass(frozen=True, slots=True)
class Look:
    """A container as the engine describes it."""

    seen: Seen
    restarting: bool
    """It ended, and the engine starts it again in a moment."""
    started_at: str
    name: str
    hostname: str
    netns: str
    """Path of its network namespace; empty: it has none now."""
    hosts_path: str
    """Of its /etc/hosts, on the host."""
    resolv_path: str
    engines: tuple[str, ...]
    """Its addresses on the engine's networks."""
    way_out: bool = False
    """One of them leads out."""
    engine_names: bool = False
    """The engine's own resolver answers in it, for names of a network that a user made."""

    @property
    def runs(self) -> bool:
        """It has a process; moby says of one that it is about to start again that it runs, too."""
        return self.seen.running and not self.restarting


def look_of(found: Mapping[str, Any]) -> Look:
    """A container as ``GET /containers/{id}/json`` describes it.

    Raises:
        EngineError: it describes none.
    """
    seen = inspected.seen_of(found, None)
    try:
        settings = found.get("NetworkSettings") or {}
        networks = settings.get("Networks") or {}
        return Look(
            seen=seen,
            restarting=bool(found["State"].get("Restarting")),
            started_at=str(found["State"]["StartedAt"]),
            name=str(found.get("Name", "")).removeprefix("/"),
            hostname=inspected.hostname_of(found),
            netns=str(settings.get("SandboxKey") or ""),
            hosts_path=str(found.get("HostsPath") or ""),
            resolv_path=str(found.get("ResolvConfPath") or ""),
            engines=tuple(
                str(each["IPAddress"]) for each in networks.values() if each.get("IPAddress")
            ),
            way_out=any(each.get("Gateway") for each in networks.values()),
            engine_names=any(
                each.get("IPAddress") and name not in _NAMELESS for name, each in networks.items()
            ),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise inspected.nonsense(error) from error


def sandbox_of(record: Record, look: Look) -> Sandbox | None:
    """The namespace to wire; None: there is none.

    One that is on no network any more stays ours while it lives: what we put into it must go, and
    who answers for names in it is we.
    """
    if not look.netns:
        return None
    there = [place for place in record.places if place.given]
    servers = (RESOLVER_ADDRESS,) if look.engine_names else record.upstreams
    own_way = record.gateway and record.leads_out and not look.way_out
    gateway = IPv4Interface(record.gateway) if own_way else None
    return Sandbox(
        task=TaskId(record.key),
        netns=look.netns,
        networks=tuple((NetworkId(p.network), IPv4Interface(p.given)) for p in there),
        gateway_address=gateway,
        ports=record.published,
        upstreams=tuple(ip_address(server) for server in servers),
        numbers=(*(place.number for place in there), record.gateway_number),
        networks6=tuple((NetworkId(p.network), IPv6Interface(p.given6)) for p in there if p.given6),
    )


def endpoint_of(record: Record, node_id: str, look: Look) -> Endpoint | None:
    """What this node says of the container to the cluster; None: it has no address.

    Of several networks the managers' last word counts: who had it before was in the cluster when
    the last one was given, so nobody was given the others meanwhile.
    """
    there = {NetworkId(place.network): place for place in record.places if place.given}
    if not there:
        return None
    return Endpoint(
        task=TaskId(record.key),
        name=look.name,
        node=NodeId(node_id),
        service=None,
        addresses={net: IPv4Interface(place.given).ip for net, place in there.items()},
        container=record.container,
        hostname=look.hostname,
        aliases={net: place.aliases for net, place in there.items() if place.aliases},
        made=max(place.made for place in there.values()),
        addresses6={
            net: IPv6Interface(place.given6).ip for net, place in there.items() if place.given6
        },
    )
