"""A population of gossip engines on an in-memory network and a virtual clock.

No socket, no sleep: ``Cluster.run`` jumps from deadline to deadline.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from meshnet.errors import WireError
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.events import Event
from meshnet.gossip.members import Address, State
from meshnet.model.ids import NodeId

KEY = b"0123456789abcdef"


@dataclass(order=True)
class _Flight:
    when: float
    order: int
    to: Address = field(compare=False)
    data: bytes = field(compare=False)
    sender: Address = field(compare=False)


class Cluster:
    """Engines by number; everybody joins number 0 unless told otherwise."""

    def __init__(self, size: int, *, loss: float = 0.0, seed: int = 1, duplicate: float = 0.0):
        self.now = 0.0
        self.loss, self.duplicate = loss, duplicate
        self.packets = 0
        self.refused = 0
        self.events: list[tuple[float, Address, Event]] = []
        self._random = random.Random(seed)
        self._flights: list[_Flight] = []
        self._order = 0
        self._starts = 0
        self._cut: set[frozenset[Address]] = set()
        self.engines: dict[Address, GossipEngine] = {}
        for number in range(size):
            self.start(number)

    @staticmethod
    def address(number: int) -> Address:
        return (f"10.0.{number // 250}.{number % 250 + 1}", 7946)

    @staticmethod
    def id_of(number: int) -> NodeId:
        return NodeId(f"node-{number}")

    def start(self, number: int) -> GossipEngine:
        """Starts (or starts again, with nothing remembered) one engine."""
        self._starts += 1
        address = self.address(number)
        engine = GossipEngine(
            GossipConfig.lan(),
            self.id_of(number),
            address,
            generation=self._starts,
            rng=random.Random(number * 1000 + self._starts),
            now=self.now,
        )
        engine.set_keys([KEY])
        others = [a for a in self.engines if a != address]
        engine.join([self.address(0)] if number else others[:1])
        self.engines[address] = engine
        return engine

    def kill(self, number: int) -> None:
        self.engines.pop(self.address(number), None)

    def partition(self, left: list[int], right: list[int]) -> None:
        for a in left:
            self._cut |= {frozenset({self.address(a), self.address(b)}) for b in right}

    def heal(self) -> None:
        self._cut.clear()

    def engine(self, number: int) -> GossipEngine:
        return self.engines[self.address(number)]

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Runs until ``until`` holds or ``seconds`` are over; returns the seconds it took."""
        begin, end = self.now, self.now + seconds
        self._settle()
        while not until():
            timers = [t for e in self.engines.values() if (t := e.next_timer()) is not None]
            when = min([*timers, *(f.when for f in self._flights[:1]), end])
            self.now = max(self.now, when)
            if self.now >= end:
                break
            while self._flights and self._flights[0].when <= self.now:
                flight = heapq.heappop(self._flights)
                if flight.to in self.engines and not self._is_cut(flight.to, flight.sender):
                    self.engines[flight.to].receive_datagram(flight.data, flight.sender, self.now)
            for engine in list(self.engines.values()):
                engine.handle_timer(self.now)
            self._settle()
        return self.now - begin

    def agree(self) -> bool:
        """Everybody believes exactly the running engines alive, and holds the same records."""
        running = {e.members()[i].id for e in self.engines.values() for i in [_self(e)]}
        records = None
        for engine in self.engines.values():
            alive = {m.id for m in engine.members().values() if m.state is State.ALIVE}
            if alive != running or (records is not None and engine.records() != records):
                return False
            records = engine.records()
        return True

    def states_of(self, number: int) -> set[State]:
        """What the others believe of one."""
        views = [e.members().get(self.id_of(number)) for e in self.engines.values()]
        return {member.state for member in views if member is not None}

    def _is_cut(self, a: Address, b: Address) -> bool:
        return frozenset({a, b}) in self._cut

    def _settle(self) -> None:
        for address, engine in list(self.engines.items()):
            for data, to in engine.datagrams_to_send(self.now):
                self.packets += 1
                copies = 1 + (self._random.random() < self.duplicate)
                for _ in range(copies):
                    if self._random.random() >= self.loss:
                        self._order += 1
                        delay = 0.0005 + self._random.random() * 0.004
                        heapq.heappush(
                            self._flights,
                            _Flight(self.now + delay, self._order, to, data, address),
                        )
            for to in engine.streams_to_open():
                peer = self.engines.get(to)
                if peer is None or self._is_cut(address, to):
                    continue
                try:
                    reply = peer.receive_stream(engine.stream_request(), address, self.now)
                    rest = engine.receive_stream_reply(reply, to, self.now)
                except WireError:
                    self.refused += 1
                    continue
                peer.receive_datagram(rest, address, self.now)
            while (event := engine.next_event()) is not None:
                self.events.append((self.now, address, event))


def _self(engine: GossipEngine) -> NodeId:
    return engine._self_id
