"""Changes of the store as Docker's events of scope ``swarm``. Pure.

    service, node, network, secret, config   x   create, update, remove

An update is what a user asked for, or what changes a field that is told; the addresses that the
cluster gives, say, are none.

Tasks have events of type ``task``, which Docker does not know: only who asks for that type by a
filter is told of them. They pass the filters ``service`` and ``node`` of where they belong.

Source: moby daemon/events.go (generateClusterEvent and the log*Event after it).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi import filters
from meshnet_control.store.index import task_name
from meshnet_control.store.store import Change, Kind, Object

KINDS: Final[Mapping[Kind, str]] = {
    pb.Service: "service",
    pb.Node: "node",
    pb.Network: "network",
    pb.Secret: "secret",
    pb.Config: "config",
}
TASKS: Final[Mapping[Kind, str]] = {pb.Task: "task"}
_NAMED: Final[Mapping[Kind, str]] = {**KINDS, **TASKS}
_TASK: Final = "task"
_OTHERS: Final = frozenset({"container", "image", "volume", "plugin", "daemon"})
"""Filters on what only an engine has."""
_NEWS: Final = frozenset({"updatestate"})
"""Fields that are told although they were not there before."""
_SECOND_NS: Final = 1_000_000_000
_NANO_DIGITS, _MOST_DIGITS = 9, 11


@dataclass(frozen=True, slots=True)
class Known:
    """As much of an object as its next event tells."""

    revision: int
    asked: int
    name: str
    watched: Mapping[str, str]
    """Fields whose old and new value are told."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """What is told with every event."""

    def since(self, before: Known) -> dict[str, str] | None:
        """What is told of the fields that changed; None: nothing happened that is told."""
        told: dict[str, str] = {}
        for key, value in self.watched.items():
            was = before.watched.get(key)
            if value == was or (was is None and key not in _NEWS):
                continue
            told |= {f"{key}.new": value} if was is None else _both(key, was, value)
        same = (before.asked, before.name) == (self.asked, self.name)
        return None if same and not told else told


@dataclass(frozen=True, slots=True)
class Window:
    """What a client asks for of the past, Unix nanoseconds; None: it does not ask.

    As the engine has it, an end at 0 is none, but asks for the past.
    Source: moby daemon/events/events.go loadBufferedEvents.
    """

    since: int | None = None
    until: int | None = None

    @property
    def past(self) -> bool:
        """Whether it asks for what was before, too."""
        return self.since is not None or self.until is not None

    def holds(self, at: int) -> bool:
        """Whether something of that time is in it."""
        return (self.since or 0) <= at and (not self.until or at <= self.until)


def window(since: str, until: str) -> Window:
    """The window of a request that the engine has accepted: ``1795220801.000000123``, or empty."""
    return Window(_instant(since), _instant(until))


def _instant(said: str) -> int | None:
    before_1970 = said.startswith("-")
    seconds, _, fraction = said.removeprefix("-").partition(".")
    digits = all(part.isascii() and part.isdigit() for part in (seconds, fraction or "0"))
    if not digits or len(seconds) > _MOST_DIGITS:
        return None
    if before_1970:
        return None if int(seconds) == 1 else 0  # -1 is the engine's word for none
    return int(seconds) * _SECOND_NS + int(fraction.ljust(_NANO_DIGITS, "0")[:_NANO_DIGITS])


def _both(key: str, was: str, value: str) -> dict[str, str]:
    return {f"{key}.old": was, f"{key}.new": value}


def known(message: Object) -> Known:
    """An object as it is now."""
    version = message.version
    if isinstance(message, pb.Task):
        return Known(version.index, 0, _name(message), _of_task(message), dict(_place(message)))
    return Known(version.index, version.asked, _name(message), dict(_fields(message)))


def event(before: Known | None, change: Change, now_ns: int) -> dict[str, Any] | None:
    """One change as Engine JSON; None: Docker says nothing of it.

    Args:
        before: the object as it was; None: it is new.
        change: what a commit made of it.
        now_ns: Unix nanoseconds, for an object that is gone.
    """
    kind = _NAMED.get(change.kind)
    after = None if kind is None or change.message is None else known(change.message)
    shown = after or before
    if kind is None or shown is None:
        return None
    told = after.since(before) if before is not None and after is not None else {}
    if told is None:
        return None
    action = "remove" if after is None else "update" if before is not None else "create"
    attributes = {"name": shown.name, **shown.shown, **told}
    if kind == _TASK:
        attributes |= shown.watched
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
    if kind == _TASK:
        return _matches_task(actor, said, wanted)
    if any(wanted.get(key) for key in _OTHERS):
        return False
    if any(wanted.get(key) for key in KINDS.values() if key != kind):
        return False
    return (
        filters.exact(wanted.get("type"), kind)
        and filters.exact(wanted.get("scope"), said["scope"])
        and filters.exact(wanted.get("event"), said["Action"])
        and filters.prefix(wanted.get(kind), actor["ID"], actor["Attributes"]["name"])
        and filters.labels(wanted.get("label"), actor["Attributes"])
    )


def wants_tasks(wanted: filters.Filters) -> bool:
    """Whether a client asks for the events of tasks."""
    return _TASK in wanted.get("type", ())


def _matches_task(
    actor: Mapping[str, Any], said: Mapping[str, Any], wanted: filters.Filters
) -> bool:
    has = actor["Attributes"]
    others = _OTHERS.union(KINDS.values()) - {"service", "node"}
    return (
        wants_tasks(wanted)
        and not any(wanted.get(key) for key in others)
        and filters.exact(wanted.get("scope"), said["scope"])
        and filters.exact(wanted.get("event"), said["Action"])
        and filters.prefix(wanted.get("service"), has.get("service", ""), has.get("serviceid", ""))
        and filters.prefix(wanted.get("node"), has["node"])
        and filters.labels(wanted.get("label"), has)
    )


def line(said: Mapping[str, Any]) -> bytes:
    """An event as it is written into the stream."""
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _name(message: Object) -> str:
    if isinstance(message, pb.Node):
        return message.spec.name or message.description.hostname
    return task_name(message) if isinstance(message, pb.Task) else message.spec.name


def _of_task(task: pb.Task) -> dict[str, str]:
    return {
        "node": task.node_id,
        "state": _state(task.status.state),
        "desiredstate": _state(task.desired_state),
        "err": task.status.err,
    }


def _place(task: pb.Task) -> Iterator[tuple[str, str]]:
    yield "service", task.service_name
    yield "serviceid", task.service_id
    if task.slot:
        yield "slot", str(task.slot)


def _state(state: pb.TaskState) -> str:
    return pb.TaskState.Name(state).removeprefix("TASK_STATE_").lower()


def _fields(message: Object) -> Iterator[tuple[str, str]]:
    if isinstance(message, pb.Service):
        yield "image", message.spec.task_template.container_spec.image
        if message.spec.mode.HasField("replicated"):
            yield "replicas", str(message.spec.mode.replicated.replicas)
        if message.update_status.state:
            yield "updatestate", message.update_status.state
    elif isinstance(message, pb.Node):
        yield "availability", message.spec.availability
        yield "role", message.spec.role
        yield "state", message.status.state
        if message.HasField("manager_status"):
            yield "leader", str(message.manager_status.leader).lower()
            yield "reachability", message.manager_status.reachability
