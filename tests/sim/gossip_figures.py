"""What a population of gossip engines costs and how fast it is; for tests and benchmarks.

Every figure is of the virtual clock: it says what the protocol does where machines keep up.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass

from simulated_gossip import Cluster

from meshnet.gossip.events import MemberChanged
from meshnet.gossip.members import Address, State
from meshnet.model.ids import NodeId

_STEP_S = 0.01


def population(size: int, *, records: int = 1, seed: int = 1, settle_s: float = 2.0) -> Cluster:
    """Nodes that know each other, each with this many records of 250 bytes."""
    c = Cluster(size, seed=seed)
    for number in range(size):
        for task in range(records):
            c.engine(number).set_record(f"ep/{task}", bytes([number % 256]) * 250, c.now)
    c.introduce()
    c.run(settle_s)  # the turns of all timers are apart by then
    return c


def rest_bytes_per_s(size: int, seconds: float, *, records: int = 1) -> float:
    """What a node sends when nothing changes, datagrams and streams, bytes a second."""
    c = population(size, records=records, settle_s=4.0)
    before = c.bytes
    c.run(seconds)
    return (c.bytes - before) / seconds / size


def death_s(size: int, seed: int, within_s: float = 6.0) -> float:
    """From a node's end until half of the others take it for dead."""
    c = population(size, seed=seed)
    c.run(1 + random.Random(seed).random())
    begun, killed = c.now, size - 1 - seed % (size - 1)
    c.kill(killed)
    id_ = c.id_of(killed)
    c.run(within_s, until=lambda: len(c.verdicts(State.DEAD, begun)) > size / 2)
    times = [when - begun for when, _, of in c.verdicts(State.DEAD, begun) if of == id_]
    return statistics.median(times) if len(times) > size / 2 else within_s


def spread_s(c: Cluster, changes: int) -> list[float]:
    """Of each of some changes the time until every node has it, ascending."""
    found, size = [], len(c.engines)
    for number in range(changes):
        begun, owner = c.now, number % size
        c.engine(owner).set_record("new", str(number).encode(), c.now)
        lacking = list(c.engines.values())
        while lacking and c.now - begun < 5:
            c.run(_STEP_S)
            value = str(number).encode()
            lacking = [e for e in lacking if e._entropy.table.value(c.id_of(owner), "new") != value]
        found.append(c.now - begun)
    return sorted(found)


def p99(times: list[float]) -> float:
    """99 of 100 are not above it."""
    return sorted(times)[min(len(times) - 1, int(len(times) * 0.99))]


@dataclass
class _Write:
    owner: int
    number: int
    at: float
    lacking: set[int]


def churn_s(size: int, seconds: float) -> list[float]:
    """Nodes are killed and come back every two seconds, and ten times a second one says something.

    Of each thing said the time until every node has it that was there then and still is.
    """
    c = population(size)
    draw = random.Random(3)
    away: dict[int, float] = {}
    open_writes: list[_Write] = []
    found: list[float] = []
    begun, count = c.now, 0
    next_write, next_kill = c.now, c.now + 1
    while c.now - begun < seconds or (open_writes and c.now - begun < seconds + 10):
        there = [n for n in range(size) if n not in away]
        if c.now >= next_kill and c.now - begun < seconds:
            next_kill += 2
            gone = draw.choice([n for n in there if n])
            c.kill(gone)
            away[gone] = c.now + 3
            open_writes = [w for w in open_writes if w.owner != gone]
        for number in [n for n, back in away.items() if c.now >= back]:
            del away[number]
            c.start(number)
        if c.now >= next_write and c.now - begun < seconds:
            next_write += 0.1
            owner = draw.choice([n for n in range(size) if n not in away])
            count += 1
            c.engine(owner).set_record("new", str(count).encode(), c.now)
            others = {n for n in range(size) if n not in away} - {owner}
            open_writes.append(_Write(owner, count, c.now, others))
        c.run(_STEP_S)
        for write in list(open_writes):
            id_ = c.id_of(write.owner)
            write.lacking = {
                n
                for n in write.lacking
                if n not in away
                and int(c.engine(n)._entropy.table.value(id_, "new") or b"0") < write.number
            }
            if not write.lacking:
                found.append(c.now - write.at)
                open_writes.remove(write)
    return sorted(found + [c.now - write.at for write in open_writes])


def evicted_s(size: int, seconds: float, loss: float = 0.1) -> float:
    """The longest that some node took one that was there for dead, while packets got lost."""
    c = population(size)
    c.loss = loss
    begun = c.now
    c.run(seconds)
    c.loss = 0.0
    end = c.now
    since: dict[tuple[Address, NodeId], float] = {}
    longest = 0.0
    for when, by, event in c.events:
        if when < begun or not isinstance(event, MemberChanged):
            continue
        member = event.member
        place = (by, member.id)
        if member.state is State.DEAD:
            since.setdefault(place, when)
        elif place in since:
            longest = max(longest, when - since.pop(place))
    return max([longest, *(end - when for when in since.values())])


def deaths_beside_a_stalled_one(size: int, seconds: float, stall_s: float = 5.0) -> int:
    """How often a node that was well was taken for dead, beside one that stalls again and again."""
    c = population(size)
    begun = c.now
    while c.now - begun < seconds:
        c.stall(0, stall_s)
        c.run(stall_s + 2)
    return sum(of != c.id_of(0) for _, _, of in c.verdicts(State.DEAD, begun))


def healed_s(size: int, seconds: float = 60.0) -> float:
    """From the end of a partition in halves, with changes on both sides, until all are equal."""
    c = population(size)
    c.partition(list(range(size // 2)), list(range(size // 2, size)))
    begun = c.now
    while c.now - begun < seconds:
        c.run(seconds / 6)
        for number in range(size):
            c.engine(number).set_record("new", str(c.now).encode(), c.now)
    c.run(1)
    c.heal()
    healed = c.now
    while not c.agree() and c.now - healed < 30:
        c.run(0.05)
    return c.now - healed
