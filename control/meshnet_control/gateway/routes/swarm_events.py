"""Changes of the store as Docker's events of scope ``swarm``. Pure.

    service, node, network, secret, config   x   create, update, remove

Source: moby daemon/events.go (generateClusterEvent and the log*Event after it).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi import filters
from meshnet_control.store.store import Change, Kind, Object

KINDS: Final[Mapping[Kind, str]] = {
    pb.Service: "service",
    pb.Node: "node",
    pb.Network: "network",
    pb.Secret: "secret",
    pb.Config: "config",
}
_OTHERS: Final = frozenset({"container", "image", "volume", "plugin", "daemon"})
"""Filters on what only an engine has."""
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Known:
    """As much of an object as its next event tells."""

    revision: int
    name: str
    watched: Mapping[str, str]
    """Fields whose old and new value are told."""


def known(message: Object) -> Known:
    """An object as it is now."""
    return Known(message.version.index, _name(message), dict(_fields(message)))


def event(before: Known | None, change: Change, now_ns: int) -> dict[str, Any] | None:
    """One change as Engine JSON; None: Docker says nothing of it.

    Args:
        before: the object as it was; None: it is new.
        change: what a commit made of it.
        now_ns: Unix nanoseconds, for an object that is gone.
    """
    kind = KINDS.get(change.kind)
    after = None if kind is None or change.message is None else known(change.message)
    shown = after or before
    if kind is None or shown is None:
        return None
    action = "remove" if after is None else "update" if before is not None else "create"
    attributes = {"name": shown.name}
    if before is not None and after is not None:
        old, new = before.watched, after.watched
        for key in sorted(old.keys() | new.keys()):
            if old.get(key, "") != new.get(key, ""):
                attributes[f"{key}.old"], attributes[f"{key}.new"] = (
                    old.get(key, ""),
                    new.get(key, ""),
                )
    at = now_ns if change.message is None else change.message.updated_at.ToNanoseconds()
    return {
        "Type": kind,
        "Action": action,
        "Actor": {"ID": change.id, "Attributes": attributes},
        "scope": "swarm",
        "time": at // _SECOND_NS,
        "timeNano": at,
    }


def matches(said: Mapping[str, Any], wanted: filters.Filters) -> bool:
    """Whether an event passes the filters of ``GET /events``."""
    kind, actor = said["Type"], said["Actor"]
    if any(wanted.get(key) for key in _OTHERS):
        return False
    if any(wanted.get(key) for key in KINDS.values() if key != kind):
        return False
    return (
        filters.exact(wanted.get("type"), kind)
        and filters.exact(wanted.get("scope"), said["scope"])
        and filters.exact(wanted.get("event"), said["Action"])
        and filters.exact(wanted.get(kind), actor["ID"], actor["Attributes"]["name"])
        and filters.labels(wanted.get("label"), actor["Attributes"])
    )


def line(said: Mapping[str, Any]) -> bytes:
    """An event as it is written into the stream."""
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _name(message: Object) -> str:
    if isinstance(message, pb.Node):
        return message.description.hostname or message.spec.name
    return message.spec.name if not isinstance(message, pb.Task) else message.name


def _fields(message: Object) -> Iterator[tuple[str, str]]:
    if isinstance(message, pb.Service):
        yield "image", message.spec.task_template.container_spec.image
        if message.spec.mode.HasField("replicated"):
            yield "replicas", str(message.spec.mode.replicated.replicas)
        yield "updatestate", message.update_status.state
    elif isinstance(message, pb.Node):
        yield "availability", message.spec.availability
        yield "role", message.spec.role
        yield "state", message.status.state
        yield "leader", str(message.manager_status.leader).lower()
        yield "reachability", message.manager_status.reachability
