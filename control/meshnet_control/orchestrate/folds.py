"""How what is kept of objects follows their changes (``kept``): one function for each index. Pure.

An entry depends on its object alone, so an index that was kept is the one that is built anew.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple, TypeAlias, TypeVar

from immutables import Map

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.attachments import is_attachment
from meshnet_control.cluster.buckets import Buckets, BucketsEdit
from meshnet_control.orchestrate import ports
from meshnet_control.orchestrate.addresses import BLOCK, number_of
from meshnet_control.orchestrate.kept import Pairs

K = TypeVar("K", bound=Hashable)
Id = TypeVar("Id", bound=Hashable)
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


Holders: TypeAlias = Buckets[Block, Held, Hold]
"""Who has addresses, and how."""
Spread: TypeAlias = Buckets[str, str, int]
"""Numbers by service and node."""
Tasks: TypeAlias = Buckets[str, str, pb.Task]
Room: TypeAlias = tuple[Spread, Map[str, Usage]]
"""How many tasks of a service take room of a node, and what is taken of each."""
Addresses: TypeAlias = tuple[Holders, Map[str, tuple[int, ...]]]
"""Who has which, and by network the blocks that anybody has some of, ascending."""
Published: TypeAlias = tuple[Map[str, pb.Service], Buckets[ports.PortKey, str, bool]]
"""Services that want a task on each node, and services by the ports that they have or want."""
_NOWHERE: Map[str, int] = Map()
_FAILED: Final = frozenset({pb.TASK_STATE_FAILED, pb.TASK_STATE_REJECTED})


def listed(
    keys: Callable[[pb.Task], tuple[K, ...]],
) -> Callable[[Buckets[K, str, pb.Task], Pairs[pb.Task]], Buckets[K, str, pb.Task]]:
    """Keeps tasks by keys of theirs; one that stays where it is, is put there in its place."""

    def after(
        before: Buckets[K, str, pb.Task], changes: Pairs[pb.Task]
    ) -> Buckets[K, str, pb.Task]:
        edit = BucketsEdit(before)
        for name, (old, new) in changes.items():
            now = () if new is None else keys(new)
            for key in () if old is None else keys(old):
                if key not in now:
                    edit.drop(key, name)
            if new is not None:
                for key in now:
                    edit.put(key, name, new)
        return edit.finish()

    return after


def used(before: Room, changes: Pairs[pb.Task]) -> Room:
    """What tasks take of nodes, and how many of each service do."""
    more: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    of_service: Counter[tuple[str, str]] = Counter()
    for pair in changes.values():
        for task, sign in zip(pair, (-1, 1), strict=True):
            if task is None or not takes_room(task):
                continue
            reserved, goes_on = task.spec.resources.reservations, _goes_on(task)
            sums = more[task.node_id]
            sums[0] += sign * reserved.nano_cpus
            sums[1] += sign * reserved.memory_bytes
            sums[2] += sign * goes_on
            of_service[task.service_id, task.node_id] += sign * goes_on
    usage = before[1].mutate()
    for node_id, (cpus, memory, tasks) in more.items():
        had = usage.pop(node_id, Usage())
        has = Usage(had.cpus + cpus, had.memory + memory, had.tasks + tasks)
        if has != Usage():
            usage[node_id] = has
    spread = BucketsEdit(before[0])
    for (service, node_id), tasks in of_service.items():
        count = before[0].get(service, _NOWHERE).get(node_id, 0) + tasks
        _enter(spread, service, node_id, count, put=bool(count))
    return spread.finish(), usage.finish()


def given(
    before: Addresses,
    changes: Pairs[pb.Task | pb.Service | pb.Node],
) -> Addresses:
    """Who has which address of what has one: the same id is the same object."""
    edit, touched = BucketsEdit(before[0]), set[Block]()
    for name, (old, new) in changes.items():
        had = () if old is None else tuple(_held(old))
        has = () if new is None else tuple(_held(new))
        if had == has:
            continue
        for held, put in ((had, False), (has, True)):
            for network_id, number, hold in held:
                block = network_id, number >> BLOCK
                touched.add(block)
                _enter(edit, block, (number, name), hold, put=put)
    holders = edit.finish()
    return holders, _blocks(before[1], touched, holders)


def _held(message: pb.Task | pb.Service | pb.Node) -> Iterator[tuple[str, int, Hold]]:
    """Its addresses: network, number, how it has it."""
    if isinstance(message, pb.Task):
        for attachment in message.networks_attachments:
            for address in attachment.addresses:
                yield attachment.network.id, number_of(address), _hold(message)
    elif isinstance(message, pb.Service):
        for vip in message.endpoint.virtual_ips:
            yield vip.network_id, number_of(vip.addr), Hold.FIRM
    else:
        for address in (message.ingress_address, message.ingress_address6):
            if address:
                yield OF_NODES, number_of(address), Hold.FIRM


def looked_at(before: Map[str, Facts], changes: Pairs[pb.Node]) -> Map[str, Facts]:
    """What nodes have."""
    found = before.mutate()
    for name, (_, new) in changes.items():
        if new is None:
            found.pop(name, None)
            continue
        has = new.description.resources
        ready = new.status.state == "ready" and new.spec.availability in {"", "active"}
        found[name] = Facts(ready, has.nano_cpus, has.memory_bytes)
    return found.finish()


def published(
    before: Published,
    changes: Pairs[pb.Service],
) -> Published:
    """Of services: who wants tasks everywhere, and who has which port."""
    everywhere, edit = before[0].mutate(), BucketsEdit(before[1])
    for name, pair in changes.items():
        for service, put in zip(pair, (False, True), strict=True):
            for port in () if service is None else ports.taken([service]):
                _enter(edit, port, name, value=True, put=put)
        everywhere.pop(name, None)
        new = pair[1]
        if new is not None and _everywhere(new):
            everywhere[name] = new
    return everywhere.finish(), edit.finish()


def of_ingress(before: Map[str, pb.Network], changes: Pairs[pb.Network]) -> Map[str, pb.Network]:
    """The networks of published ports."""
    found = before.mutate()
    for name, (_, new) in changes.items():
        found.pop(name, None)
        if new is not None and new.spec.ingress:
            found[name] = new
    return found.finish()


def _blocks(
    before: Map[str, tuple[int, ...]],
    touched: Iterable[Block],
    addresses: Holders,
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


def waits(task: pb.Task) -> tuple[Waiting, ...]:
    """What a task waits for."""
    found: list[Waiting] = []
    if _goes_on(task):
        state = task.status.state
        if state == pb.TASK_STATE_NEW:
            found.append(Waiting.ADDRESS)
        if state == pb.TASK_STATE_PENDING:
            found.append(Waiting.NODE)
        if task.displaced:
            found.append(Waiting.RETURN)
    if not task.version.index:
        found.append(Waiting.STORE)
    return tuple(found)


def _goes_on(task: pb.Task) -> bool:
    return bool(task.desired_state <= pb.TASK_STATE_COMPLETE)


def takes_room(task: pb.Task) -> bool:
    """The task is on a node, or may still be, and takes what it reserved."""
    if not task.node_id:
        return False
    state = task.status.state
    if state > pb.TASK_STATE_RUNNING or is_attachment(task):
        return False
    return not (state == pb.TASK_STATE_PENDING and _goes_on(task))


def _claims(task: pb.Task) -> tuple[str, ...]:
    """The node of which a task holds ports or generic resources."""
    if not takes_room(task):
        return ()
    claims = task.endpoint_spec.ports or task.generic_resources
    if claims or task.spec.resources.reservations.generic_resources:
        return (task.node_id,)
    return ()


KEYS: Final[Mapping[str, Callable[[pb.Task], tuple[str, ...]]]] = {
    "service": lambda task: (task.service_id,),
    "node": lambda task: (task.node_id,),
    "failed": lambda task: (task.service_id,) if task.status.state in _FAILED else (),
    "claims": _claims,
}
"""Under what tasks stand in each list."""


def _hold(task: pb.Task) -> Hold:
    if task.status.state <= pb.TASK_STATE_RUNNING:
        return Hold.FIRM
    orphaned = task.status.state == pb.TASK_STATE_ORPHANED
    return Hold.UNSURE if orphaned else Hold.REMEMBERED


def _everywhere(service: pb.Service) -> bool:
    mode = service.spec.mode
    return bool(mode.HasField("global") or mode.HasField("global_job"))


def _enter(edit: BucketsEdit[K, Id, V], key: K, item: Id, value: V, *, put: bool) -> None:
    if put:
        edit.put(key, item, value)
    else:
        edit.drop(key, item)
