"""What an earlier life of meshnetd left on this host, and its removal: containers, kernel, files.

For when there is no membership that could remove its own: ``meshnetd --cleanup``, a node that
leaves a cluster it could not go on in, and one about to be in a cluster that finds a port taken.
Order: containers of tasks first (their namespaces, tables and veths go with them), then the rest of
the kernel's state as the difference to nothing at all, by the operations that made it, then
docker_gwbridge, then files.

Be aware: blocking work on the kernel runs in a thread; nothing else of meshnet may work on the
kernel meanwhile. The node's identity and the cluster's state are not touched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from threading import Event
from typing import Any, Final

from meshnet.errors import ControlError, MeshnetError, single
from meshnet.gwbridge.operations import SetRules
from meshnet.kernel.nft import NftChange
from meshnet.model.ids import NodeId
from meshnet.model.snapshot import Snapshot
from meshnet.netstate.changes import DelLink, DelNetns
from meshnet.overlay.operations import Encrypt
from meshnet.reconcile import Operations
from meshnet_control.agent.agent import remove_task_containers
from meshnet_control.agent.attached_record import ATTACHED
from meshnet_control.agent.task_dir import TASKS, TaskDir
from meshnet_control.dataplane.reconcilers import kernel_operations
from meshnet_control.engine.client import EngineClient, EngineError
from meshnet_control.engine.gwbridge_keeper import MEMORY as GWBRIDGE_MEMORY
from meshnet_control.node.prerequisites import Port, need_ports
from meshnet_dns.resolver import STATE as RESOLVER_STATE

_log = logging.getLogger(__name__)

KERNEL_S: Final = 120.0
"""For everything in the kernel; what hangs there, iptables say, has a limit of its own."""


async def clean_up(run_dir: Path, engine: EngineClient) -> list[str]:
    """Remove every task container, kernel object and file of a task of ours from this host.

    Args:
        run_dir: of meshnetd.
        engine: the local engine; without it containers stay.

    Returns:
        One line for each kind of thing that was removed; ``[]`` when nothing was there.

    Raises:
        MeshnetError: something could not be removed, in one sentence; what could be is.
    """
    said: list[str] = []
    try:
        if removed := await remove_task_containers(engine):
            said.append(f"removed containers of tasks: {removed}")
    except EngineError as error:
        said.append(f"containers of tasks are left to the Docker Engine: {error}")
    given_up = Event()
    try:
        async with asyncio.timeout(KERNEL_S):
            done = await asyncio.to_thread(_empty_kernel, kernel_operations(), given_up)
        said += describe(done)
    except TimeoutError:
        why = f"the kernel was not emptied within {KERNEL_S:.0f} s: meshnet down again"
        raise ControlError(why, HTTPStatus.INTERNAL_SERVER_ERROR) from None
    finally:
        given_up.set()
    with suppress(EngineError):  # said above: it does not answer
        if await engine.remove_gwbridge():
            said.append("removed network docker_gwbridge")
    await asyncio.to_thread(_remove_files, run_dir)
    return said


async def clear_way(run_dir: Path, engine: EngineClient, ports: Sequence[Port]) -> None:
    """Remove what is in the way of a node that is about to be in a cluster.

    Containers of tasks always; everything else only when a port is taken, for it may be by that.

    Args:
        run_dir: of meshnetd.
        engine: the local engine; without it containers stay.
        ports: that the node will need.

    Raises:
        ControlError: another program holds one of them.
    """
    try:
        need_ports(*ports)
    except ControlError as error:
        _log.warning("%s: is it of an earlier life?", error)
        try:
            for line in await clean_up(run_dir, engine):
                _log.warning("%s", line)
        except* MeshnetError as group:
            _log.warning("not everything could be removed: %s", group.exceptions)
        need_ports(*ports)
    with suppress(EngineError):  # it does not answer: said by what needs it
        await remove_task_containers(engine)


def describe(changes: Iterable[Any]) -> Iterator[str]:
    """What a person should know of changes that removed things. Pure."""
    kinds: dict[str, list[str]] = {}
    for change in changes:
        match change:
            case DelNetns(path=path):
                kinds.setdefault("network namespaces", []).append(Path(path).name)
            case DelLink(netns=None, name=name):
                kinds.setdefault("links", []).append(name)
            case Encrypt():
                kinds.setdefault("XFRM", []).append("keys and policies of encrypted overlays")
            case SetRules(rules=(), second=second):
                chain = "FORWARD (IPv6)" if second else "DOCKER-USER"
                kinds.setdefault("iptables rules", []).append(f"ours in {chain}")
            case NftChange(tables=tables, netns=None) if tables:
                names = [" ".join(each.table) for each in tables]
                kinds.setdefault("nftables tables", []).extend(names)
            case _:
                pass
    for kind, names in kinds.items():
        yield f"removed {kind}: {', '.join(sorted(names))}"


def _empty_kernel(every: Sequence[Operations[Any, Any, Any]], given_up: Event) -> list[Any]:
    """Remove every kind of state, until nobody waits for it any more."""
    nothing = Snapshot(revision=1, self_id=NodeId(""), complete=True)
    made: list[Any] = []
    failed: list[str] = []
    for operations in every:
        try:
            if given_up.is_set():
                continue
            desired = operations.desired(nothing)
            changes = operations.plan(desired, operations.observe(desired), prune=True)
            operations.apply(changes)
            made += changes
        except* MeshnetError as group:
            failed += map(str, single(group))
        finally:
            operations.close()
    if failed:
        raise ControlError("; ".join(failed), HTTPStatus.INTERNAL_SERVER_ERROR)
    return made


def _remove_files(run_dir: Path) -> None:
    for name in (RESOLVER_STATE, GWBRIDGE_MEMORY, ATTACHED):
        (run_dir / name).unlink(missing_ok=True)
    tasks = run_dir / TASKS
    if not tasks.is_dir():
        return
    for directory in tasks.iterdir():
        TaskDir(directory).remove()
    tasks.rmdir()
