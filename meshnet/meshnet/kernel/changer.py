"""Makes changes to network namespaces, in order, in as few netlink datagrams as it takes.

Changes that follow each other in one namespace travel together. Link numbers are looked up once
per batch; making a link ends the batch, as nobody knows its number before.

Be aware: a namespace that vanished (its container ended) is no error: there is nothing to change.
Gone already counts as deleted, there already as added.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeAlias

from meshnet.errors import KernelObject, MeshnetError, NotFoundError, about, kernel_error
from meshnet.kernel import encode, netns, sysctl
from meshnet.kernel.encode import Message
from meshnet.kernel.rtnetlink import KERNEL_PROTOCOL
from meshnet.kernel.rtnl import RouteSocket, RtnlClient
from meshnet.netstate.changes import (
    AddAddress,
    AddBridge,
    AddFdb,
    AddNeighbour,
    AddNetns,
    AddRoute,
    AddRule,
    AddVeth,
    AddVxlan,
    Change,
    DelAddress,
    DelFdb,
    DelLink,
    DelNeighbour,
    DelNetns,
    DelQdisc,
    Netns,
    NoLearning,
    SetLink,
    SetPort,
    SetSysctl,
    Unreadable,
)
from meshnet.netstate.objects import Route

_MakesLink: TypeAlias = AddBridge | AddVxlan | AddVeth
_OnLink: TypeAlias = (
    SetLink
    | NoLearning
    | SetPort
    | DelQdisc
    | DelLink
    | AddAddress
    | DelAddress
    | AddNeighbour
    | DelNeighbour
    | AddFdb
    | DelFdb
    | AddRoute
    | AddRule
)
_DELETES: Final = (DelLink, DelAddress, DelNeighbour, DelFdb, DelQdisc)
_GONE: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL})


def apply(rtnl: RtnlClient, changes: Sequence[Change]) -> None:
    """Make ``changes`` in order.

    Raises:
        ExceptionGroup: of the MeshnetErrors of those that failed; the others are made.
    """
    failed: list[MeshnetError] = []
    for batch in _batches(changes):
        rtnl.give_way()
        try:
            failed += _apply(rtnl, batch)
        except MeshnetError as error:
            if not _vanished(rtnl, batch[0]):
                failed.append(about(error, *(each for one in batch for each in _objects(one))))
    if failed:
        raise ExceptionGroup("network namespaces", failed)


def _objects(change: Change) -> list[KernelObject]:
    """What fails when this change does."""
    match change:
        case AddNetns(path=path) | DelNetns(path=path):
            return [(path, "")]
        case AddVeth():
            return [(change.netns, change.name), (change.peer_netns, change.peer)]
        case SetSysctl(netns=path, key=key):
            link = key.partition("/conf/")[2].partition("/")[0]
            return [(path, "" if link == "all" else link)]
        case AddRule(netns=path) | Unreadable(netns=path):
            return [(path, "")]
        case _:
            return [(change.netns, change.name)]


def _batches(changes: Sequence[Change]) -> Iterator[list[Change]]:
    batch: list[Change] = []
    for change in changes:
        alike = batch and type(batch[0]) in _BATCHED and type(change) in _BATCHED
        if batch and not (alike and _kind(batch[0]) == _kind(change)):
            yield batch
            batch = []
        batch.append(change)
    if batch:
        yield batch


def _kind(change: Change) -> tuple[str, Netns]:
    where = None if isinstance(change, AddNetns | DelNetns) else change.netns
    return _BATCHED.get(type(change), ""), where


_BATCHED: Final = {
    SetLink: "link",
    NoLearning: "link",
    SetPort: "link",
    DelQdisc: "link",
    DelLink: "link",
    AddAddress: "link",
    DelAddress: "link",
    AddNeighbour: "link",
    DelNeighbour: "link",
    AddFdb: "link",
    DelFdb: "link",
    AddRoute: "link",
    AddRule: "link",
    SetSysctl: "sysctl",
}


def _apply(rtnl: RtnlClient, batch: Sequence[Change]) -> list[MeshnetError]:
    first = batch[0]
    if isinstance(first, Unreadable):
        raise first.error
    if isinstance(first, AddNetns):
        netns.create(Path(first.path))
    elif isinstance(first, DelNetns):
        netns.delete(Path(first.path))
    elif isinstance(first, AddBridge | AddVxlan | AddVeth):
        _make_link(rtnl, first)
    elif isinstance(first, SetSysctl):
        return _set_sysctls(rtnl, [c for c in batch if isinstance(c, SetSysctl)])
    else:
        return _change_links(rtnl.of(first.netns), [c for c in batch if isinstance(c, _OnLink)])
    return []


def _vanished(rtnl: RtnlClient, change: Change) -> bool:
    """True when the failure is that a container's namespace is no more."""
    paths: list[Netns] = []
    if isinstance(change, AddVeth):
        paths = [change.peer_netns, change.netns]
    elif not isinstance(change, AddNetns | DelNetns):
        paths = [change.netns]
    for path in paths:
        if path is None:
            continue
        try:
            rtnl.of(path)
        except NotFoundError:
            return True
        except MeshnetError:
            return False
    return False


def _set_sysctls(rtnl: RtnlClient, changes: Sequence[SetSysctl]) -> list[MeshnetError]:
    failed: list[MeshnetError] = []
    with netns.inside(changes[0].netns or rtnl.host_netns):
        for change in changes:
            try:
                sysctl.write(change.key, change.value)
            except MeshnetError as error:
                failed.append(about(error, *_objects(change)))
    return failed


def _make_link(rtnl: RtnlClient, change: _MakesLink) -> None:
    with ExitStack() as stack:

        def descriptor(path: Netns) -> int:
            fd = netns.open_netns(path or rtnl.host_netns or "/proc/self/ns/net")
            stack.callback(os.close, fd)
            return fd

        if isinstance(change, AddVxlan):
            at = rtnl.of(None)
            message = encode.new_vxlan(
                change.name, change.vxlan, change.mtu, descriptor(change.netns)
            )
        elif isinstance(change, AddBridge):
            at = rtnl.of(change.netns)
            message = encode.new_bridge(change.name, change.mtu)
        else:
            at = rtnl.of(change.netns)
            message = encode.new_veth(
                change.name,
                change.peer,
                change.peer_mac,
                change.mtu,
                _numbers(at)[change.master] if change.master else 0,
                descriptor(change.peer_netns),
            )
        [result] = at.send([message])
    if result:
        raise kernel_error(type(change).__name__, change.name, result)


class _Numbers(dict[str, int]):
    def __missing__(self, name: str) -> int:
        raise NotFoundError("link", name, errno.ENODEV)


def _numbers(at: RouteSocket) -> _Numbers:
    return _Numbers({link.name: link.index for link in at.links()})


def _change_links(at: RouteSocket, changes: Sequence[_OnLink]) -> list[MeshnetError]:
    numbers = _numbers(at)
    failed: list[MeshnetError] = []
    sent: list[tuple[_OnLink, Message]] = []
    for change in changes:
        try:
            sent.append((change, _message(change, numbers)))
        except NotFoundError as error:
            if not isinstance(change, _DELETES):
                failed.append(about(error, *_objects(change)))
    results = at.send([message for _, message in sent])
    for (change, _), result in zip(sent, results, strict=True):
        deleted = isinstance(change, _DELETES) and result in _GONE
        if result and not deleted and result != errno.EEXIST:
            refused = kernel_error(type(change).__name__, _target(change), result)
            failed.append(about(refused, *_objects(change)))
    return failed


def _target(change: _OnLink) -> str:
    return f"table {change.rule.table}" if isinstance(change, AddRule) else change.name


def _message(change: _OnLink, numbers: _Numbers) -> Message:  # noqa: PLR0911, PLR0912
    match change:
        case SetLink(name=name, mtu=mtu, mac=mac, master=master):
            port_of = numbers[master] if master else None
            return encode.set_link(numbers[name], mtu=mtu, mac=mac, master=port_of)
        case NoLearning(name=name):
            return encode.no_learning(numbers[name])
        case SetPort(name=name, port=port, forward=forward):
            return encode.set_port(numbers[name], port, forward=forward)
        case DelQdisc(name=name):
            return encode.del_qdisc(numbers[name])
        case DelLink(name=name):
            return encode.del_link(numbers[name])
        case AddAddress(name=name, address=address):
            return encode.new_address(numbers[name], address)
        case DelAddress(name=name, address=address):
            return encode.del_address(numbers[name], address)
        case AddNeighbour(name=name, address=at, mac=mac):
            return encode.new_neighbour(numbers[name], at, mac)
        case DelNeighbour(name=name, address=at):
            return encode.del_neighbour(numbers[name], at)
        case AddFdb(name=name, mac=mac, vtep=vtep):
            return encode.new_fdb(numbers[name], mac, vtep)
        case DelFdb(name=name, mac=mac, vtep=vtep):
            return encode.del_fdb(numbers[name], mac, vtep)
        case AddRoute():
            route = Route(
                table=change.table,
                destination=change.destination,
                gateway=change.gateway,
                index=numbers[change.name],
                protocol=KERNEL_PROTOCOL if change.source else encode.OUR_PROTOCOL,
                source=change.source,
                local=change.local,
            )
            return encode.new_route(route, onlink=change.onlink)
        case AddRule(rule=rule):
            return encode.new_rule(rule)
