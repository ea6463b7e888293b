"""What must be true of a cluster, by what its clients were told and what was seen of it.

``Ledger``: which services there may be, as each change was acknowledged, refused or left unsure.
``Sightings``: what no look at the cluster may show: an address that two hold, a task in two
containers. ``differences``: where managers that were asked the same do not answer the same. PURE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
OVER = frozenset({"complete", "shutdown", "failed", "rejected", "orphaned", "remove"})
"""States of a task that is done with its addresses."""


@dataclass(frozen=True)
class Wanted:
    """A service as a client asked for it; ``mark`` tells one update from another."""

    replicas: int
    mark: int


State = Wanted | None
"""None: not there."""


@dataclass
class Ledger:
    """Of each service every state that it may be in."""

    _possible: dict[str, frozenset[State]] = field(default_factory=dict)
    _leaving: set[str] = field(default_factory=set)
    """Somebody asked to remove them and was not answered: that may still be done later."""

    def wrote(self, name: str, state: State) -> None:
        """The change was acknowledged."""
        late: set[State] = {None} if name in self._leaving else set()
        self._possible[name] = frozenset({state, *late})
        if state is None:
            self._leaving.discard(name)

    def unsure(self, name: str, state: State) -> None:
        """The change was made, or not, or will be."""
        self._possible[name] = self.possible(name) | {state}
        if state is None:
            self._leaving.add(name)

    def possible(self, name: str) -> frozenset[State]:
        return self._possible.get(name, frozenset({None}))

    def living(self) -> list[str]:
        """Services that may be there."""
        return [name for name, states in self._possible.items() if states != {None}]

    def wrong(self, seen: Mapping[str, Wanted]) -> list[str]:
        """What is lost, brought back or not what was acknowledged, by all services there are."""
        found = []
        for name in sorted(self._possible.keys() | seen.keys()):
            state, possible = seen.get(name), self.possible(name)
            if state in possible:
                continue
            if state is None:
                found.append(f"{name} is lost: {_said(possible)}")
            elif possible == {None}:
                found.append(f"{name} is back: {state}")
            else:
                found.append(f"{name} is {state}, not {_said(possible)}")
        return found


def wanted(services: Iterable[Json], prefix: str) -> dict[str, Wanted]:
    """The services of a name that begins so, as the API lists them."""
    found = {}
    for service in services:
        spec = service["Spec"]
        if spec["Name"].startswith(prefix):
            env = spec["TaskTemplate"]["ContainerSpec"].get("Env") or ["MARK=0"]
            replicas = spec["Mode"]["Replicated"]["Replicas"]
            found[spec["Name"]] = Wanted(replicas, int(env[0].partition("=")[2]))
    return found


@dataclass
class Sightings:
    """What was seen over time.

    Attributes:
        problems: what must not be, each once.
    """

    problems: dict[str, None] = field(default_factory=dict)
    _containers: dict[str, str] = field(default_factory=dict)
    _started: dict[str, str] = field(default_factory=dict)

    def runs(self, task: str, container: str, started: str = "") -> None:
        """A container of a task is there; ``started``: when its program began."""
        first = self._containers.setdefault(task, container)
        if first != container:
            self.problems[f"task {task} started twice: {first[:12]} and {container[:12]}"] = None
        if started and self._started.setdefault(container, started) != started:
            self.problems[f"task {task} started again in {container[:12]}"] = None

    def cluster(self, tasks: Iterable[Json], services: Iterable[Json], networks: list[str]) -> None:
        """One manager's tasks and services, of one moment.

        Args:
            tasks, services: as the API lists them.
            networks: those whose addresses are looked at.
        """
        holders: dict[tuple[str, str], str] = {}
        for service in services:
            for vip in service.get("Endpoint", {}).get("VirtualIPs") or []:
                self._holds(holders, vip["NetworkID"], vip.get("Addr", ""), service["ID"])
        for task in tasks:
            if task["Status"]["State"] in OVER:
                continue
            if container := task["Status"].get("ContainerStatus", {}).get("ContainerID"):
                self.runs(task["ID"], container)
            for attachment in task.get("NetworksAttachments") or []:
                network = attachment["Network"]["ID"]
                for address in attachment.get("Addresses") or []:
                    if network in networks:
                        self._holds(holders, network, address, task["ID"])

    def _holds(
        self, holders: dict[tuple[str, str], str], network: str, address: str, who: str
    ) -> None:
        if not address:
            return
        first = holders.setdefault((network, address.partition("/")[0]), who)
        if first != who:
            self.problems[f"{address} on {network[:12]} is {first}'s and {who}'s"] = None


def differences(answers: Mapping[str, Sequence[Json]]) -> list[str]:
    """Objects that not all managers show alike, by manager -> what it answered to one question."""
    seen = {who: {each["ID"]: each for each in answer} for who, answer in answers.items()}
    found = []
    for ident in sorted(set().union(*seen.values())):
        versions = {
            who: objects[ident]["Version"]["Index"] if ident in objects else None
            for who, objects in seen.items()
        }
        if len(set(versions.values())) > 1:
            found.append(f"{ident}: {versions}")
        elif len({repr(objects[ident]) for objects in seen.values()}) > 1:
            found.append(f"{ident}: the same version, another content")
    return found


def _said(states: Iterable[State]) -> str:
    return " or ".join(sorted(str(state or "gone") for state in states))
