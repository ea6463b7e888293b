"""What decisions look up in the cluster's objects, kept with every change of one. Pure.

    task     its service and its slot, its node, its state, the addresses and the room it holds
    service  its mode, its addresses, its published ports
    node     what it has, its address on the ingress network

An entry depends on its object alone, so an index that was kept is the one that is built anew.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple, TypeAlias, TypeVar

from immutables import Map, MapMutation

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.attachments import is_attachment
from meshnet_control.cluster.buckets import Buckets, BucketsEdit
from meshnet_control.orchestrate import ports
from meshnet_control.orchestrate.addresses import BLOCK, number_of
from meshnet_control.orchestrate.slots import Slot, SlotsEdit, Tally

M = TypeVar("M", pb.Task, pb.Service, pb.Node, pb.Network)
K = TypeVar("K", bound=Hashable)
I = TypeVar("I", bound=Hashable)  # noqa: E741 - of an item
V = TypeVar("V")
Held: TypeAlias = tuple[int, str]
"""An address as a number, and the id of who holds it."""

Block: TypeAlias = tuple[str, int]
"""The id of a network, and the number of a block of its addresses (``addresses.BLOCK``)."""

OF_NODES = ""
"""In place of the ingress network's id: nodes do not say which it is."""


class Hold(Enum):
    """How an address is held."""

    FIRM = 1
    REMEMBERED = 2
    """By a task that has ended."""
    UNSURE = 3
    """By a task that was given up: it depends on its node."""


class Waiting(Enum):
    """What a task waits for, or is to be looked at for."""

    ADDRESS = 1
    NODE = 2
    RETURN = 3
    """Of its node that was lost; it was not told to stop."""
    STORE = 4
    """It was decided just now, and is not written yet."""


class Usage(NamedTuple):
    """What a node's tasks take of it."""

    cpus: int = 0
    memory: int = 0
    tasks: int = 0
    """Those that are to go on."""


class Facts(NamedTuple):
    """A node as the scheduler looks at it."""

    ready: bool
    """It takes tasks."""
    cpus: int
    memory: int


_NO_TASKS: Buckets[str, str, pb.Task] = Map()
_NOWHERE: Map[str, int] = Map()
_FAILED: Final = frozenset({pb.TASK_STATE_FAILED, pb.TASK_STATE_REJECTED})


@dataclass(frozen=True)
class Indexes:
    """All of them."""

    by_service: Buckets[str, str, pb.Task] = _NO_TASKS
    by_node: Buckets[str, str, pb.Task] = _NO_TASKS
    slots: Map[Slot, tuple[pb.Task, ...]] = field(default_factory=Map)
    """Tasks of a slot, the oldest first."""
    tallies: Map[str, Tally] = field(default_factory=Map)
    """Slots by service."""
    spread: Buckets[str, str, int] = field(default_factory=Map)
    """By service, how many tasks take room of each node and are to go on."""
    failed: Buckets[str, str, pb.Task] = field(default_factory=Map)
    """By service, tasks that failed or were refused."""
    waiting: Buckets[Waiting, str, pb.Task] = field(default_factory=Map)
    claims: Buckets[str, str, pb.Task] = _NO_TASKS
    """By node, tasks that hold ports of it, or generic resources."""
    usage: Map[str, Usage] = field(default_factory=Map)
    """By node."""
    facts: Map[str, Facts] = field(default_factory=Map)
    """By node."""
    everywhere: Map[str, pb.Service] = field(default_factory=Map)
    """Services that want a task on each node."""
    ports: Buckets[ports.PortKey, str, bool] = field(default_factory=Map)
    """Published on every node, by the service that has or wants it."""
    addresses: Buckets[Block, Held, Hold] = field(default_factory=Map)
    """By network and block."""
    blocks: Map[str, tuple[int, ...]] = field(default_factory=Map)
    """By network, those that anybody has addresses of, ascending."""
    ingress: Map[str, pb.Network] = field(default_factory=Map)
    """Networks of published ports; one, or none."""
    given_ns: int = 0
    """No address was given later than this, Unix nanoseconds."""


class IndexesEdit:
    """Indexes on their way to others.

    Args:
        start: of the objects before.
    """

    def __init__(self, start: Indexes) -> None:
        self._start = start
        self._by_service = BucketsEdit(start.by_service)
        self._by_node = BucketsEdit(start.by_node)
        self._slots = SlotsEdit(start.slots, start.tallies)
        self._spread: Counter[tuple[str, str]] = Counter()
        self._failed = BucketsEdit(start.failed)
        self._waiting = BucketsEdit(start.waiting)
        self._claims = BucketsEdit(start.claims)
        self._ports = BucketsEdit(start.ports)
        self._addresses = BucketsEdit(start.addresses)
        self._blocks: set[Block] = set()
        self._more: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._facts = start.facts.mutate()
        self._everywhere = start.everywhere.mutate()
        self._ingress = start.ingress.mutate()
        self._given_ns = start.given_ns

    def task(self, old: pb.Task | None, new: pb.Task | None) -> None:
        """A task was made, changed or removed."""
        if old is not None:
            self._task(old, put=False)
        if new is not None:
            self._task(new, put=True)

    def _task(self, task: pb.Task, *, put: bool) -> None:
        name = task.id
        _enter(self._by_service, task.service_id, name, task, put=put)
        _enter(self._by_node, task.node_id, name, task, put=put)
        self._slots.task(task, put=put)
        if task.status.state in _FAILED:
            _enter(self._failed, task.service_id, name, task, put=put)
        for wait in waits(task):
            _enter(self._waiting, wait, name, task, put=put)
        hold = _hold(task)
        for network_id, number in _addresses(task):
            self._address(network_id, (number, name), hold, put=put)
        if put and task.HasField("allocated_at"):
            self._given_ns = max(self._given_ns, task.allocated_at.ToNanoseconds())
        if not takes_room(task):
            return
        reserved, sign = task.spec.resources.reservations, 1 if put else -1
        more = self._more[task.node_id]
        more[0] += sign * reserved.nano_cpus
        more[1] += sign * reserved.memory_bytes
        goes_on = task.desired_state <= pb.TASK_STATE_COMPLETE
        more[2] += sign * goes_on
        self._spread[task.service_id, task.node_id] += sign * goes_on
        if task.endpoint_spec.ports or task.generic_resources or reserved.generic_resources:
            _enter(self._claims, task.node_id, name, task, put=put)

    def _address(self, network_id: str, held: Held, hold: Hold, *, put: bool) -> None:
        block = network_id, held[0] >> BLOCK
        self._blocks.add(block)
        _enter(self._addresses, block, held, hold, put=put)

    def service(self, old: pb.Service | None, new: pb.Service | None) -> None:
        """A service was made, changed or removed."""
        for service, put in ((old, False), (new, True)):
            if service is None:
                continue
            for port in ports.taken([service]):
                _enter(self._ports, port, service.id, value=True, put=put)
            for vip in service.endpoint.virtual_ips:
                held = number_of(vip.addr), service.id
                self._address(vip.network_id, held, Hold.FIRM, put=put)
        _set(self._everywhere, old, new if new is not None and _everywhere(new) else None)

    def node(self, old: pb.Node | None, new: pb.Node | None) -> None:
        """A node joined, changed or is gone."""
        for node, put in ((old, False), (new, True)):
            if node is not None and node.ingress_address:
                held = number_of(node.ingress_address), node.id
                self._address(OF_NODES, held, Hold.FIRM, put=put)
        if new is not None:
            has = new.description.resources
            ready = new.status.state == "ready" and new.spec.availability in {"", "active"}
            self._facts[new.id] = Facts(ready, has.nano_cpus, has.memory_bytes)
        elif old is not None:
            del self._facts[old.id]

    def network(self, old: pb.Network | None, new: pb.Network | None) -> None:
        """A network was made, changed or removed."""
        _set(self._ingress, old, new if new is not None and new.spec.ingress else None)

    def finish(self) -> Indexes:
        """Of the objects now."""
        usage = self._start.usage.mutate()
        for node_id, (cpus, memory, tasks) in self._more.items():
            had = usage.pop(node_id, Usage())
            has = Usage(had.cpus + cpus, had.memory + memory, had.tasks + tasks)
            if has != Usage():
                usage[node_id] = has
        spread = BucketsEdit(self._start.spread)
        for (service, node_id), tasks in self._spread.items():
            count = self._start.spread.get(service, _NOWHERE).get(node_id, 0) + tasks
            _enter(spread, service, node_id, count, put=bool(count))
        slots, tallies = self._slots.finish()
        addresses = self._addresses.finish()
        return Indexes(
            slots=slots,
            tallies=tallies,
            spread=spread.finish(),
            failed=self._failed.finish(),
            by_service=self._by_service.finish(),
            by_node=self._by_node.finish(),
            waiting=self._waiting.finish(),
            claims=self._claims.finish(),
            usage=usage.finish(),
            facts=self._facts.finish(),
            everywhere=self._everywhere.finish(),
            ports=self._ports.finish(),
            addresses=addresses,
            blocks=_blocks(self._start.blocks, self._blocks, addresses),
            ingress=self._ingress.finish(),
            given_ns=self._given_ns,
        )


def _blocks(
    before: Map[str, tuple[int, ...]],
    touched: Iterable[Block],
    addresses: Buckets[Block, Held, Hold],
) -> Map[str, tuple[int, ...]]:
    """Of which blocks there are addresses now."""
    found = before.mutate()
    for network_id, block in touched:
        had = found.get(network_id, ())
        if ((network_id, block) in addresses) == (block in had):
            continue
        has = tuple(sorted({*had} ^ {block}))
        if has:
            found[network_id] = has
        else:
            del found[network_id]
    return found.finish()


def waits(task: pb.Task) -> Iterator[Waiting]:
    """What a task waits for."""
    wanted = task.desired_state <= pb.TASK_STATE_COMPLETE
    if wanted and task.status.state == pb.TASK_STATE_NEW:
        yield Waiting.ADDRESS
    if wanted and task.status.state == pb.TASK_STATE_PENDING:
        yield Waiting.NODE
    if wanted and task.displaced:
        yield Waiting.RETURN
    if not task.version.index:
        yield Waiting.STORE


def takes_room(task: pb.Task) -> bool:
    """The task is on a node, or may still be, and takes what it reserved."""
    state = task.status.state
    if not task.node_id or state > pb.TASK_STATE_RUNNING or is_attachment(task):
        return False
    return not (state == pb.TASK_STATE_PENDING and task.desired_state <= pb.TASK_STATE_COMPLETE)


def _hold(task: pb.Task) -> Hold:
    if task.status.state <= pb.TASK_STATE_RUNNING:
        return Hold.FIRM
    orphaned = task.status.state == pb.TASK_STATE_ORPHANED
    return Hold.UNSURE if orphaned else Hold.REMEMBERED


def _addresses(task: pb.Task) -> Iterator[tuple[str, int]]:
    for attachment in task.networks_attachments:
        for address in attachment.addresses:
            yield attachment.network.id, number_of(address)


def _everywhere(service: pb.Service) -> bool:
    mode = service.spec.mode
    return bool(mode.HasField("global") or mode.HasField("global_job"))


def _enter(edit: BucketsEdit[K, I, V], key: K, item: I, value: V, *, put: bool) -> None:
    if put:
        edit.put(key, item, value)
    else:
        edit.drop(key, item)


def _set(objects: MapMutation[str, M], old: M | None, new: M | None) -> None:
    if old is not None:
        objects.pop(old.id, None)
    if new is not None:
        objects[new.id] = new
