"""Answers questions about this node from what is really there: kernel, resolver, gossip.

Everything is read when it is asked, in a thread of its own that enters namespaces and changes
nothing; what it means is decided in ``meshnet_control.explain``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message

from meshnet import ends, happened
from meshnet.errors import ControlError
from meshnet.kernel import flow_reader
from meshnet.model.families import FAMILIES, Address, Family
from meshnet.model.ids import NetworkId, TaskId
from meshnet.model.snapshot import Endpoint, Snapshot
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.explain import arrival, balancing, checks, containers, departure, names
from meshnet_control.node import gathering, looking
from meshnet_dns import client, operations, wire
from meshnet_dns.answer import A
from meshnet_dns.control import NAME

UNKNOWN: Final = "this node is of another version and does not know the question"


class Answers:
    """Of one node.

    Args:
        snapshot: the newest.
        run_dir: where the resolver's socket is.
        state_dir: whose disk is looked at.
        told: what the node knows of itself and of others; asked in the event loop.
        managers: ``host:port`` of each.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        run_dir: Path,
        state_dir: Path,
        told: Callable[[], xpb.HostFacts],
        managers: Callable[[], Sequence[str]],
    ) -> None:
        self._snapshot, self._resolver = snapshot, run_dir / NAME
        self._state_dir, self._told, self._managers = state_dir, told, managers
        self._readings: Mapping[str, Callable[[Any], Message]] = {
            "balancing": self._balancing,
            "name": self._name,
            "names": self._names,
            "path": self._path,
            "arrival": self._arrival,
            "probe": self._probe,
            "sight": self._sight,
            "facts": self._facts,
            "events": self._events,
            "traffic": self._traffic,
        }
        """What a question is about -> who answers it."""
        self._first_seen: Mapping[str, float] = {}
        """What the last look for facts found -> when it was found first."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explain")

    def at(self, question: xpb.Question) -> str:
        """Which node a question is about, by id; empty: whichever is asked.

        Raises:
            ControlError: it is about a container that is not there.
        """
        match question.WhichOneof("about"):
            case "name":
                return containers.endpoint(self._snapshot(), question.name.container).node
            case "names" if question.names.container:
                return containers.endpoint(self._snapshot(), question.names.container).node
            case "path" if question.path.source == containers.CLIENT:
                node = containers.host(self._snapshot(), question.path.to)
                return node.id if node is not None else ""
            case "path":
                return containers.caller(self._snapshot(), question.path.source).node
            case "probe":
                return containers.endpoint(self._snapshot(), question.probe.task).node
        return ""

    async def answer(self, question: xpb.Question) -> xpb.Answer:
        """What is asked.

        Raises:
            MeshnetError: it cannot be read.
        """
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._thread, self._read, question)
        if answer.WhichOneof("about") == "facts":
            answer.facts.MergeFrom(self._told())
            self._first_seen = checks.seen(answer.facts, self._first_seen, time.time())
            answer.facts.first_seen.update(self._first_seen)
        return answer

    async def close(self) -> None:
        """Wait for what is being read."""
        await ends.executed(self._thread, lambda: None, "the kernel does not answer")

    def _read(self, question: xpb.Question) -> xpb.Answer:
        about = question.WhichOneof("about") or ""
        reading = self._readings.get(about)
        if reading is None:
            return xpb.Answer(error=UNKNOWN)
        answer = xpb.Answer()
        getattr(answer, about).CopyFrom(reading(getattr(question, about)))
        return answer

    def _balancing(self, _: xpb.BalancingQuestion) -> xpb.BalancingAnswer:
        snapshot = self._snapshot()
        paths = [None, *(sandbox.netns for sandbox in snapshot.sandboxes.values())]
        flows, errors = flow_reader.flows(paths)
        return balancing.answer(snapshot, flows, map(str, errors))

    def _name(self, asked: xpb.NameQuestion) -> xpb.NameAnswer:
        snapshot, kind = self._snapshot(), asked.type.upper() or "A"
        of = containers.endpoint(snapshot, asked.container)
        sandbox = containers.sandbox(snapshot, of)
        try:
            question = names.question(asked.name, wire.type_number(kind))
            heard = client.ask(sandbox.netns, asked.name, kind)
        except ValueError as error:
            raise ControlError(str(error)) from error
        explained = operations.explained(self._resolver, of.task, question)
        found = names.answer(snapshot, of, sandbox, question, explained, heard)
        found.name, found.type = asked.name, kind
        return found

    def _names(self, asked: xpb.NamesQuestion) -> xpb.NamesAnswer:
        reference = asked.container
        snapshot, held = self._snapshot(), operations.held_zones(self._resolver)
        if not reference:
            return names.dump(snapshot, held, sorted(held))
        of = containers.endpoint(snapshot, reference)
        sandbox = containers.sandbox(snapshot, of)
        found = names.dump(snapshot, held, [network for network, _ in sandbox.networks])
        anywhere = names.question("a.name.of.nobody.invalid", A)
        explained = operations.explained(self._resolver, of.task, anywhere)
        found.container = of.name
        found.upstreams.extend(explained.upstreams)
        return found

    def _path(self, asked: xpb.PathQuestion) -> xpb.PathAnswer:
        snapshot, protocol = self._snapshot(), asked.protocol or "tcp"
        family: Family = 6 if asked.ipv6 else 4
        if asked.source == containers.CLIENT:
            to = asked.to
            if _is_address6(to):  # one of this host's, which nobody is told of
                to, family = "", 6
            service, port = departure.published(snapshot, to, asked.port, protocol)
            mesh = [snapshot.ingress.id] if snapshot.ingress is not None else []
            return departure.from_client(looking.look(snapshot, [], mesh), service, port, family)
        of = containers.caller(snapshot, asked.source)
        sandbox = containers.sandbox(snapshot, of)
        addresses, steps = self._addresses(snapshot, of, asked.to, family)
        seen = looking.look(snapshot, [sandbox], [network for network, _ in sandbox.networks])
        for step in steps:
            step.host = seen.hostname
        if not addresses:
            return xpb.PathAnswer(steps=steps, task=of.task, port=asked.port)
        found = departure.from_container(seen, of, sandbox, addresses, asked.port, protocol)
        whole = xpb.PathAnswer(steps=steps)
        whole.MergeFrom(found)
        return whole

    def _addresses(
        self, snapshot: Snapshot, of: Endpoint, to: str, family: Family
    ) -> tuple[list[Address], list[xpb.Step]]:
        """What a name leads to: as the container hears it, else of the container that is meant."""
        with suppress(ValueError):
            return [ip_address(to)], []
        kind = "A" if family == FAMILIES[0] else "AAAA"
        said = self._name(xpb.NameQuestion(container=of.task, name=to, type=kind))
        heard = names.addresses(said)
        if heard:
            return heard, [names.step(said, of.name)]
        known = [each.name for each in snapshot.services.values()]
        try:
            other = containers.endpoint(snapshot, to, known)
        except ControlError as error:
            return [], [names.step(said, of.name, str(error))]
        return [containers.common(snapshot, of, other, family)], []

    def _arrival(self, asked: xpb.ArrivalQuestion) -> xpb.ArrivalAnswer:
        snapshot, found = self._snapshot(), xpb.ArrivalAnswer()
        here = [each for each in asked.targets if each.node == snapshot.self_id]
        known = (snapshot.sandboxes.get(TaskId(each.task)) for each in here)
        networks = {NetworkId(each.network) for each in here}
        boxes = {box.netns: box for box in known if box is not None}
        seen = looking.look(snapshot, boxes.values(), networks)
        for target in here:
            found.steps.extend(arrival.steps(seen, target))
        return found

    def _probe(self, asked: xpb.ProbeQuestion) -> xpb.ProbeAnswer:
        snapshot = self._snapshot()
        sandbox = containers.sandbox(snapshot, containers.endpoint(snapshot, asked.task))
        return looking.probe(sandbox.netns, asked.address, asked.port)

    def _sight(self, asked: xpb.SightQuestion) -> xpb.SightAnswer:
        return looking.sight(self._snapshot(), asked.address, asked.source_port)

    def _traffic(self, _: xpb.TrafficQuestion) -> xpb.TrafficAnswer:
        return looking.traffic(self._snapshot())

    def _facts(self, _: xpb.FactsQuestion) -> xpb.HostFacts:
        return gathering.facts(self._snapshot(), self._managers(), self._state_dir)

    def _events(self, asked: xpb.EventsQuestion) -> xpb.EventsAnswer:
        found = xpb.EventsAnswer()
        for change in happened.journal.after(asked.after.get(self._snapshot().self_id, 0)):
            found.events.add(
                number=change.number,
                at=change.at,
                part=change.part,
                who=change.who,
                what=change.what,
                repaired_s=change.repaired_s,
            )
        return found


def _is_address6(said: str) -> bool:
    try:
        return ip_address(said).version == FAMILIES[1]
    except ValueError:
        return False
