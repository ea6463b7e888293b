"""Containers of ``docker run`` on overlay networks, as tasks that only hold an address. Pure.

    what a node's containers want ──changes()──> tasks of its own: made, kept, or deleted

A node says the whole of what its containers are to be attached to; each place, a container on a
network, is a task without a service, whose id follows from the place: said again it is the same.
The allocator gives it an address and it is ASSIGNED at once, as its node is known. It is deleted
when its node no longer wants it, or is no longer in the cluster; the address is held till then.

Source: swarmkit manager/resourceapi/allocator.go (one task for each place, made by its node).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Final, TypeAlias

from meshnet.model.families import FAMILIES
from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import encryption
from meshnet_control.cluster.attachments import (
    MOST,
    attachment_id,
    is_attachment,
    not_attachable,
    not_found,
)
from meshnet_control.orchestrate.addresses import configs_of, family_of
from meshnet_control.orchestrate.store_view import Delete, Put, Step, StoreView, Write
from meshnet_control.orchestrate.tasks import stamp

_NOBODYS: Final = 3
"""Of a subnet: its own address, the broadcast's and the gateway's."""
Place: TypeAlias = tuple[str, str]
"""Container ID and network ID."""


@dataclass
class Changes:
    """What makes the store agree with a node's word."""

    writes: list[Write] = field(default_factory=list)
    expect: dict[tuple[type[pb.Task], str], int] = field(default_factory=dict)
    """Versions that the tasks written must have; 0: none is there."""
    states: dict[Place, tuple[int, str]] = field(default_factory=dict)
    """When a place was given its address, in nanoseconds (0: not yet), and why not."""


def changes(
    node_id: str,
    wanted: Iterable[pb.Attachment],
    tasks: Iterable[pb.Task],
    networks: Mapping[str, pb.Network],
    now: float,
    *,
    alone: bool = False,
    esp: bool = True,
) -> Changes:
    """What a node's word changes.

    Args:
        node_id: who speaks.
        wanted: everything that its containers are to be attached to.
        tasks: of the cluster; of other nodes' none is touched.
        networks: by id.
        now: Unix seconds.
        alone: the cluster has no other node.
        esp: its kernel can encrypt.
    """
    found = Changes()
    places: Counter[str] = Counter()
    fresh: list[tuple[pb.Attachment, pb.Task | None]] = []
    there = {t.id: t for t in tasks if t.node_id == node_id and is_attachment(t)}
    for each in wanted:
        place = (each.container_id, each.network_id)
        task_id = attachment_id(node_id, *place)
        old = there.pop(task_id, None)
        if old is not None and list(old.spec.networks[0].addresses) == _asked(each):
            found.states[place] = (old.allocated_at.ToNanoseconds(), old.status.err)
            places[each.network_id] += 1
            continue
        fresh.append((each, old))
    for each, old in fresh:
        trouble = refusal(each, networks, esp=esp)
        if not trouble:
            trouble = _too_many(places[each.network_id], networks[each.network_id], alone=alone)
        found.states[each.container_id, each.network_id] = (0, trouble)
        if not trouble:
            task_id = attachment_id(node_id, each.container_id, each.network_id)
            places[each.network_id] += 1
            found.writes.append(Put(_task(task_id, node_id, each, now)))
            found.expect[pb.Task, task_id] = old.version.index if old is not None else 0
        elif old is not None:
            there[old.id] = old
    for old in there.values():
        found.writes.append(Delete(pb.Task, old.id))
        found.expect[pb.Task, old.id] = old.version.index
    return found


def refusal(wanted: pb.Attachment, networks: Mapping[str, pb.Network], *, esp: bool) -> str:
    """Why a container may not have a place; empty: it may."""
    network = networks.get(wanted.network_id)
    if network is None:
        return not_found(wanted.network_id)
    if not network.spec.attachable:
        return not_attachable(network.spec.name)
    if encryption.is_encrypted(network) and not esp:
        return "it is encrypted, and this node has a kernel without ESP (module esp4)"
    for address in _asked(wanted):
        if not _inside(address, network):
            return f"requested address {address} is not in the network's subnet"
    return ""


def share(network: pb.Network, *, alone: bool) -> int:
    """How many addresses of a network containers of one node may have beside its tasks.

    Half of them, so that no node takes a network from the others and from services; the only node
    of a cluster may have them all. A network that nodes make for themselves has no addresses.
    """
    configs = configs_of(network, FAMILIES[0])
    if not configs:
        return MOST
    spaces = [IPv4Network(each.ip_range or each.subnet, strict=False) for each in configs]
    there = max(1, sum(space.num_addresses - _NOBODYS for space in spaces))
    return there if alone else max(1, there // 2)


def _too_many(has: int, network: pb.Network, *, alone: bool) -> str:
    """Why a node's containers get no more addresses of a network; empty: they do."""
    most = share(network, alone=alone)
    if has < most:
        return ""
    return (
        f"containers of this node have {has} addresses of network {network.spec.name}, of which "
        f"one node may have {most}: remove some first"
    )


def step(view: StoreView, _now: float, _rng: Rng) -> Step:
    """Forget the places of nodes that are gone."""
    return Step(
        tuple(
            Delete(pb.Task, task.id)
            for task in view.due_tasks()
            if is_attachment(task) and task.node_id not in view.nodes
        )
    )


def _inside(address: str, network: pb.Network) -> bool:
    try:
        asked = ip_address(address)
    except ValueError:
        return False
    configs = network.ipam_options.configs
    family = configs_of(network, family_of(address))
    return not configs or any(asked in ip_network(each.subnet) for each in family)


def _asked(wanted: pb.Attachment) -> list[str]:
    return list(filter(None, (wanted.address, wanted.address6)))


def _task(task_id: str, node_id: str, wanted: pb.Attachment, now: float) -> pb.Task:
    task = pb.Task(
        id=task_id,
        name=task_id,
        node_id=node_id,
        desired_state=pb.TASK_STATE_RUNNING,
        status=pb.TaskStatus(state=pb.TASK_STATE_NEW, timestamp=stamp(now), message="created"),
        created_at=stamp(now),
        updated_at=stamp(now),
    )
    task.spec.network_attachment_spec.container_id = wanted.container_id
    task.spec.networks.add(target=wanted.network_id, addresses=_asked(wanted))
    return task
