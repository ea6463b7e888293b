"""A population of gossip engines on an in-memory network and a virtual clock.

No socket, no sleep: ``Cluster.run`` jumps from deadline to deadline. An engine may be asleep: then
its timers wait and its datagrams queue, and on waking it reads them first, as the runner does.
"""

from __future__ import annotations

import copy
import dataclasses
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from meshnet.errors import WireError
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.events import Event, MemberChanged
from meshnet.gossip.members import Address, State
from meshnet.gossip.records import Owned
from meshnet.gossip.shares import parts
from meshnet.gossip.signing import SEED_BYTES, Signer
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

    def __init__(
        self,
        size: int,
        *,
        loss: float = 0.0,
        seed: int = 1,
        duplicate: float = 0.0,
        config: GossipConfig | None = None,
    ) -> None:
        self.now = 0.0
        self.config = config or GossipConfig.lan()
        self.loss, self.duplicate = loss, duplicate
        self.jitter_s = 0.0
        self.packets = self.bytes = self.longest = self.streams = self.frames = 0
        self.refused = 0
        self.dialled: Counter[Address] = Counter()
        self.drowsy: tuple[float, float] | None = None
        """Every engine wakes this much later than it should, drawn anew each time."""
        self._asleep: dict[Address, float] = {}
        self._queues: dict[Address, list[_Flight]] = {}
        self.events: list[tuple[float, Address, Event]] = []
        self._random = random.Random(seed)
        self._flights: list[_Flight] = []
        self._order = 0
        self._starts = 0
        self._cut: set[frozenset[Address]] = set()
        self.engines: dict[Address, GossipEngine] = {}
        self.hands = {self.id_of(n): self.signer_of(n).public for n in range(size)}
        """Who belongs to the cluster, as the managers tell every engine."""
        for number in range(size):
            self.start(number)

    @staticmethod
    def address(number: int) -> Address:
        return (f"10.0.{number // 250}.{number % 250 + 1}", 7946)

    @staticmethod
    def id_of(number: int) -> NodeId:
        return NodeId(f"node-{number}")

    @staticmethod
    @cache
    def signer_of(number: int) -> Signer:
        return Signer(number.to_bytes(SEED_BYTES, "big"))

    def start(self, number: int) -> GossipEngine:
        """Starts (or starts again, with nothing remembered) one engine."""
        self._starts += 1
        address = self.address(number)
        engine = GossipEngine(
            self.config,
            self.id_of(number),
            address,
            generation=self._starts,
            rng=random.Random(number * 1000 + self._starts),
            now=self.now,
            signer=self.signer_of(number),
        )
        engine.set_keys([KEY])
        engine.expect(self.hands, self.now)
        if self.id_of(number) not in self.hands:  # the managers let it in, and tell all
            self.hands[self.id_of(number)] = self.signer_of(number).public
            for each in (engine, *self.engines.values()):
                each.expect(self.hands, self.now)
        others = [a for a in self.engines if a != address]
        engine.join([self.address(0)] if number else others[:1])
        self.engines[address] = engine
        return engine

    def introduce(self) -> None:
        """Everybody knows everybody and what each has said, as if they had been there for long."""
        first, *others = self.engines.values()
        for engine in others:
            first._membership.keep(engine.members()[engine.self_id])
            said = engine._entropy.table.above(engine.self_id, 0)
            hand = self.hands[engine.self_id]
            first._entropy.table.merge(said, self.now, hand, self.address(0))
        for engine in others:  # what the first has learnt, member by member and record by record
            mine, known = engine._membership, first._membership
            mine.all, mine._at = dict(known.all), dict(known._at)
            mine.sums = copy.deepcopy(known.sums)
            mine._changed()
            for share, owned in first._entropy.table._shares.items():
                if share in first.members():  # what goes to all
                    self._give(engine, share, owned)
        for owner in self.engines.values():
            table = owner._entropy.table
            for share in table.shares_of(owner.self_id):
                table.above(share, 0)  # it is signed
                for member in owner.audiences.hearers(parts(share)[1]):
                    at = owner.members()[member].address
                    self._give(self.engines[at], share, table._shares[share])
        for engine in self.engines.values():
            engine._entropy._changed.clear()
            engine.streams_to_open()

    @staticmethod
    def _give(engine: GossipEngine, share: str, owned: Owned) -> None:
        table = engine._entropy.table
        if share not in table._shares:
            copied = dataclasses.replace(owned, records=dict(owned.records), counts=False)
            table._keep(share, copied)
            table._moved(share, owned.records)

    def kill(self, number: int) -> None:
        self.engines.pop(self.address(number), None)
        self._asleep.pop(self.address(number), None)
        self._queues.pop(self.address(number), None)

    def stall(self, number: int, seconds: float) -> None:
        """One process gets no processor for a time."""
        self._asleep[self.address(number)] = self.now + seconds

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
        self._settle(list(self.engines))
        due = {address: self._wakes(address) for address in self.engines}
        turn = [(when, address) for address, when in due.items()]
        heapq.heapify(turn)
        while not until():
            while turn and due[turn[0][1]] != turn[0][0]:
                heapq.heappop(turn)  # it wakes at another time by now
            nearest = [turn[0][0]] if turn else []
            self.now = max(self.now, min([*nearest, *(f.when for f in self._flights[:1]), end]))
            if self.now >= end:
                break
            awake = self._arrived()
            while turn and turn[0][0] <= self.now:
                when, address = heapq.heappop(turn)
                if due[address] == when:
                    awake.add(address)
            if self.drowsy is not None:
                for address in awake:
                    self._asleep.setdefault(address, self.now + self._nap())
            moved = set(awake)
            for address in sorted(awake):
                if self._asleep.get(address, 0.0) <= self.now:
                    self._asleep.pop(address, None)
                    engine = self.engines[address]
                    for flight in self._queues.pop(address, []):
                        engine.receive_datagram(flight.data, flight.sender, self.now)
                    engine.handle_timer(self.now)
                    moved |= self._settle([address])
            for address in moved:
                due[address] = self._wakes(address)
                heapq.heappush(turn, (due[address], address))
        return self.now - begin

    def agree(self) -> bool:
        """Everybody believes exactly the running engines alive, and holds the same records."""
        running = {engine.self_id for engine in self.engines.values()}
        marks = {engine._entropy.fingerprint() for engine in self.engines.values()}
        if len(marks) > 1:
            return False
        records = None
        for engine in self.engines.values():
            alive = {m.id for m in engine.members().values() if m.state is State.ALIVE}
            if alive != running or (records is not None and engine.records() != records):
                return False
            records = engine.records()
        return True

    def verdicts(self, state: State, since: float = 0.0) -> list[tuple[float, Address, NodeId]]:
        """(when, by whom, of whom): every time somebody came to believe ``state``."""
        return [
            (when, by, event.member.id)
            for when, by, event in self.events
            if isinstance(event, MemberChanged) and event.member.state is state and when >= since
        ]

    def reached(self, by: int, number: int) -> bool:
        """Whether one engine reaches another itself, as it believes."""
        return self.engine(by).members()[self.id_of(number)].direct

    def states_of(self, number: int) -> set[State]:
        """What the others believe of one."""
        views = [e.members().get(self.id_of(number)) for e in self.engines.values()]
        return {member.state for member in views if member is not None}

    def _is_cut(self, a: Address, b: Address) -> bool:
        return frozenset({a, b}) in self._cut

    def _nap(self) -> float:
        low, high = self.drowsy or (0.0, 0.0)
        return low + (high - low) * self._random.random()

    def _wakes(self, address: Address) -> float:
        due = self.engines[address].next_timer()
        return self._asleep.get(address, due if due is not None else self.now)

    def _arrived(self) -> set[Address]:
        """Puts what arrives now into the queues of its receivers, and says who they are."""
        to = set()
        while self._flights and self._flights[0].when <= self.now:
            flight = heapq.heappop(self._flights)
            if flight.to in self.engines and not self._is_cut(flight.to, flight.sender):
                self._queues.setdefault(flight.to, []).append(flight)
                to.add(flight.to)
        return to

    def _settle(self, woken: list[Address]) -> set[Address]:
        """Sends what engines want to send; an exchange gives its other side something to say."""
        moved = set(woken)
        while woken:
            address = woken.pop()
            engine = self.engines[address]
            if self._asleep.get(address, 0.0) > self.now:
                continue
            for data, to in engine.datagrams_to_send(self.now):
                self.packets += 1
                self.bytes += len(data)
                self.longest = max(self.longest, len(data))
                assert len(data) <= self.config.packet_bytes
                copies = 1 + (self._random.random() < self.duplicate)
                for _ in range(copies):
                    if self._random.random() >= self.loss:
                        self._order += 1
                        delay = 0.0005 + self._random.random() * (0.004 + self.jitter_s)
                        heapq.heappush(
                            self._flights,
                            _Flight(self.now + delay, self._order, to, data, address),
                        )
            for to in engine.streams_to_open():
                self.dialled[to] += 1
                awake = self._asleep.get(to, 0.0) <= self.now
                if to in self.engines and awake and not self._is_cut(address, to):
                    self._exchange(address, to)
                    woken += [address, to]
                    moved.add(to)
            while (event := engine.next_event()) is not None:
                self.events.append((self.now, address, event))
        return moved

    def _exchange(self, opener: Address, acceptor: Address) -> None:
        """Frames to and fro until the opener is done; the acceptor's last frames go nowhere."""
        self.streams += 1
        ours = self.engines[opener].open_stream(acceptor)
        theirs = self.engines[acceptor].accept_stream(opener)
        try:
            frames = ours.begin(self.now)
            while frames:
                self._count(frames)
                back = [f for frame in frames for f in theirs.receive_frame(frame, self.now)]
                self._count(back)
                frames = [f for frame in back for f in ours.receive_frame(frame, self.now)]
        except WireError:
            self.refused += 1

    def _count(self, frames: list[bytes]) -> None:
        self.frames += len(frames)
        self.bytes += sum(map(len, frames))
