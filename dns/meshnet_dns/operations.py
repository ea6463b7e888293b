"""meshnetd's side of the resolver: one Operations, so zones are reconciled like kernel state.

desired = zones and sandboxes of the Snapshot with their digests; observe = the digests that the
resolver has; plan = what differs; apply = messages on its socket, one after the other. A zone whose
digest is the one before ours is sent as what changed in it, any other one whole.

Be aware: until the Snapshot is complete, a zone that the resolver has is left alone, as it may know
more than a meshnetd that has just started; new ones are put.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgpack

from meshnet.errors import MeshnetError
from meshnet.model.ids import NetworkId, TaskId
from meshnet.model.since import Since
from meshnet.model.snapshot import Sandbox, Snapshot
from meshnet_dns.answer import Question, Why
from meshnet_dns.control import MOST_BYTES, NAME
from meshnet_dns.explained import Explained
from meshnet_dns.kept_zones import KeptZones, Known
from meshnet_dns.state import (
    Payload,
    SandboxDns,
    change_payload,
    digest,
    sandbox_payload,
    zone_of,
    zone_payload,
)
from meshnet_dns.zone import Zone

_log = logging.getLogger(__name__)
TIMEOUT_S: Final = 5.0

Op = Literal["put-zone", "change-zone", "drop-zone", "put-sandbox", "drop-sandbox"]


@dataclass
class ResolverError(MeshnetError):
    """The resolver cannot be reached, or refused something."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"meshnet-resolver: {self.what}: {self.why}"


@dataclass(frozen=True, slots=True)
class Told:
    """A sandbox as it travels."""

    payload: Payload
    digest: str


@dataclass(frozen=True, slots=True)
class Desired:
    """What the resolver should know."""

    zones: Mapping[NetworkId, Known]
    sandboxes: Mapping[TaskId, Told]


@dataclass(frozen=True, slots=True)
class Observed:
    """What it knows: id -> digest, and what does not work: task -> sentence."""

    zones: Mapping[NetworkId, str] = field(default_factory=dict)
    sandboxes: Mapping[TaskId, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    counters: Mapping[str, Any] = field(default_factory=dict)
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One message to the resolver."""

    op: Op
    id: str
    payload: Payload | None = None

    def message(self) -> Payload:
        """As it is sent."""
        asked: dict[str, Any] = {"op": self.op, "id": self.id}
        if self.payload is not None:
            asked["change" if self.op == "change-zone" else self.op.removeprefix("put-")] = (
                self.payload
            )
        return asked


def desired(snapshot: Snapshot) -> Desired:
    """Zones of the networks that a container here is on, and those containers. Pure."""
    return Desires().of(snapshot)


class Desires:
    """What should be, Snapshot after Snapshot: what did not change is the same object."""

    def __init__(self) -> None:
        self._zones = KeptZones()
        self._made = Desired({}, {})
        self._of: tuple[object, object] = (None, None)
        self._used: set[NetworkId] = set()

    def of(self, snapshot: Snapshot) -> Desired:
        """Zones of the networks that a container here is on, and those containers."""
        sandboxes = self._made.sandboxes
        named = {network.id for network in snapshot.networks.values() if not network.ingress}
        if self._of[0] is not snapshot.sandboxes or self._of[1] != named:
            self._of = (snapshot.sandboxes, named)
            every = ((t, snapshot.sandboxes[t]) for t in sorted(snapshot.sandboxes))
            sandboxes = {t: _told(sandbox_payload(sandbox_dns(box, named))) for t, box in every}
            used = {on for told in sandboxes.values() for on in told.payload["networks"]}
            self._used = {NetworkId(network) for network in used}
        zones = dict(self._zones.of(snapshot, self._used))
        had = self._made.zones
        same = zones.keys() == had.keys() and all(had[n] is known for n, known in zones.items())
        if not same or sandboxes != self._made.sandboxes:
            self._made = Desired({network: zones[network] for network in sorted(zones)}, sandboxes)
        return self._made


def sandbox_dns(sandbox: Sandbox, named: Set[NetworkId]) -> SandboxDns:
    """How ``sandbox`` finds names; only networks in ``named`` have any.

    One with no way out (all its networks are internal) may not ask the host's servers: questions
    are a way out too (CVE-2024-29018 of moby). Its own are asked from inside, where it ends.
    """
    return SandboxDns(
        netns=sandbox.netns,
        networks=tuple(network for network, _ in sandbox.networks if network in named),
        upstreams=tuple(str(upstream) for upstream in sandbox.upstreams),
        forwards=sandbox.gateway_address is not None,
        stack=sandbox.stack.lower(),
    )


def plan(desired: Desired, observed: Observed, *, prune: bool) -> list[Change]:
    """Messages that make the resolver know what it should; ``[]`` when it does. Pure.

    Zones come before the sandboxes that use them, and sandboxes go before their zones. Without
    ``prune`` nothing is dropped and no zone that is there is replaced.
    """
    changes: list[Change] = []
    if prune:
        gone = sorted(observed.sandboxes.keys() - desired.sandboxes.keys())
        changes += [Change("drop-sandbox", task) for task in gone]
    changes += [
        _zone_change(network, known, observed.zones.get(network))
        for network, known in desired.zones.items()
        if network not in observed.zones or (prune and observed.zones[network] != known.digest)
    ]
    changes += [
        Change("put-sandbox", task, told.payload)
        for task, told in desired.sandboxes.items()
        if observed.sandboxes.get(task) != told.digest
    ]
    if prune:
        unused = sorted(observed.zones.keys() - desired.zones.keys())
        changes += [Change("drop-zone", network) for network in unused]
    return changes


def _zone_change(network: NetworkId, known: Known, has: str | None) -> Change:
    if known.change is not None and known.change.before == has:
        return Change("change-zone", network, change_payload(known.change))
    return Change("put-zone", network, zone_payload(known.zone))


def contested(desired: Desired) -> dict[tuple[NetworkId, str], tuple[str, ...]]:
    """Names that several services on a network have -> those services. Pure."""
    return {
        (network, name): services
        for network, known in desired.zones.items()
        for name, services in known.contested.items()
    }


class ResolverOperations:
    """The resolver as a reconciler sees it (``meshnet.reconcile.Operations``)."""

    name = "resolver"
    chooses = True

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / NAME
        self._desires = Desires()
        self._contested: Mapping[tuple[NetworkId, str], tuple[str, ...]] = {}

    def desired(self, snapshot: Snapshot) -> Desired:
        """See ``desired``. A name that another service takes as well is logged once."""
        made = self._desires.of(snapshot)
        told, self._contested = self._contested, contested(made)
        for (network, name), services in sorted(self._contested.items()):
            if told.get((network, name)) != services:
                _log.warning(
                    "%s on %s is a name of %s: containers of a stack get their own stack's",
                    name, made.zones[network].zone.network, ", ".join(services),
                )  # fmt: skip
        return made

    def observe(self, desired: Desired, since: Since[Desired] | None = None) -> Observed:
        """What the resolver knows.

        Raises:
            ResolverError: it does not run or does not answer.
        """
        return status(self._path)

    def plan(self, desired: Desired, observed: Observed, *, prune: bool) -> list[Change]:
        """See ``plan``."""
        return plan(desired, observed, prune=prune)

    def apply(self, changes: Sequence[Change]) -> None:
        """Tell the resolver.

        Raises:
            ExceptionGroup: of ResolverErrors: it refused some, or could not be reached.
        """
        messages = [change.message() for change in changes]
        try:
            refused = [
                ResolverError(f"{change.op} {change.id}", str(said["error"]))
                for change, said in zip(changes, _ask(self._path, messages), strict=True)
                if "error" in said
            ]
        except ResolverError as error:
            refused = [error]
        if refused:
            raise ExceptionGroup("meshnet-resolver", refused)

    def close(self) -> None:
        """Nothing is held between rounds; the resolver goes on answering."""


def status(path: Path) -> Observed:
    """What the resolver that serves ``path`` knows.

    Raises:
        ResolverError: it does not run or does not answer.
    """
    [said] = _ask(path, [{"op": "status"}])
    return Observed(
        zones=said["zones"],
        sandboxes=said["sandboxes"],
        errors=said["errors"],
        counters=said["counters"],
        pid=said["pid"],
    )


def held_zones(path: Path) -> Mapping[NetworkId, Zone]:
    """The names that the resolver has, network by network.

    Raises:
        ResolverError: it does not run or does not answer.
        WireError: it is of another version.
    """
    [said] = _ask(path, [{"op": "zones"}])
    _checked(path, said)
    return {NetworkId(str(id_)): zone_of(payload) for id_, payload in said.items()}


def explained(path: Path, task: TaskId, question: Question) -> Explained:
    """Why the resolver answers as it does.

    Raises:
        ResolverError: it does not run, does not answer, or does not serve that container.
    """
    message = {"op": "explain", "id": task, "name": question.name, "type": question.type}
    [said] = _ask(path, [message])
    _checked(path, said)
    return Explained(
        Why(said["why"]),
        said["network"],
        tuple(said["addresses"]),
        said["own"],
        tuple(said["upstreams"]),
    )


def _checked(path: Path, said: Mapping[str, Any]) -> None:
    if "error" in said:
        raise ResolverError(str(path), str(said["error"]))


def _told(payload: Payload) -> Told:
    return Told(payload, digest(payload))


def _ask(path: Path, messages: Sequence[Payload]) -> Iterator[Mapping[str, Any]]:
    """The answers to ``messages``, in their order; each message is answered before the next."""
    unpacker = msgpack.Unpacker(max_buffer_size=MOST_BYTES)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(TIMEOUT_S)
        try:
            asking.connect(str(path))
            for message in messages:
                asking.sendall(msgpack.packb(message))
                yield _answer(asking, unpacker)
        except OSError as error:
            raise ResolverError(str(path), error.strerror or str(error)) from error


def _answer(asking: socket.socket, unpacker: msgpack.Unpacker) -> Mapping[str, Any]:
    while True:
        for said in unpacker:
            return dict(said)
        more = asking.recv(1 << 18)
        if not more:
            raise ConnectionResetError(None, "the connection was closed")
        unpacker.feed(more)
