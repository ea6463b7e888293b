"""meshnetd's side of the resolver: one Operations, so zones are reconciled like kernel state.

desired = zones and sandboxes of the Snapshot with their digests; observe = the digests that the
resolver has; plan = what differs; apply = messages on its socket, one after the other.

Be aware: until the Snapshot is complete, a zone that the resolver has is left alone, as it may know
more than a meshnetd that has just started; new ones are put.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgpack

from meshnet.errors import MeshnetError
from meshnet.model.ids import NetworkId, TaskId
from meshnet.model.snapshot import Sandbox, Snapshot
from meshnet_dns.control import MOST_BYTES, NAME
from meshnet_dns.state import Payload, SandboxDns, digest, sandbox_payload, zone_payload
from meshnet_dns.zone import zones

TIMEOUT_S: Final = 5.0

Op = Literal["put-zone", "drop-zone", "put-sandbox", "drop-sandbox"]


@dataclass
class ResolverError(MeshnetError):
    """The resolver cannot be reached, or refused something."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"meshnet-resolver: {self.what}: {self.why}"


@dataclass(frozen=True, slots=True)
class Told:
    """A zone or a sandbox as it travels."""

    payload: Payload
    digest: str


@dataclass(frozen=True, slots=True)
class Desired:
    """What the resolver should know."""

    zones: Mapping[NetworkId, Told]
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
            asked[self.op.removeprefix("put-")] = self.payload
        return asked


def desired(snapshot: Snapshot) -> Desired:
    """Zones of the networks that a container here is on, and those containers. Pure."""
    known = zones(snapshot)
    sandboxes = {
        task: sandbox_dns(sandbox, known.keys()) for task, sandbox in snapshot.sandboxes.items()
    }
    used = {network for sandbox in sandboxes.values() for network in sandbox.networks}
    return Desired(
        zones={network: _told(zone_payload(known[network])) for network in sorted(used)},
        sandboxes={task: _told(sandbox_payload(sandboxes[task])) for task in sorted(sandboxes)},
    )


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
        Change("put-zone", network, told.payload)
        for network, told in desired.zones.items()
        if network not in observed.zones or (prune and observed.zones[network] != told.digest)
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


class ResolverOperations:
    """The resolver as a reconciler sees it (``meshnet.reconcile.Operations``)."""

    name = "resolver"
    chooses = True

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / NAME

    def desired(self, snapshot: Snapshot) -> Desired:
        """See ``desired``."""
        return desired(snapshot)

    def observe(self, desired: Desired) -> Observed:
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
