"""``meshnetd``: the process that makes a host a node. Puts the parts together and keeps them alive.

```
 docker.sock ── Gateway ──┐
 admin.sock ─── Admin ────┼── Node ── ClusterMember (while in a cluster)
 engine ── EngineClient ──┘
```
A part that fails by a programming error ends the process; the next one finds kernel and containers
as they are and goes on.

Be aware: SIGTERM stops the process and nothing else. ``--cleanup`` is what removes the data plane
and the task containers.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from meshnet import ends
from meshnet.errors import MeshnetError
from meshnet.kernel import host
from meshnet.kernel.rtnl import RtnlClient
from meshnet.process import limits, logs, revival
from meshnet.process.notify import Notifier
from meshnet_control.admin import Admin, AdminServer
from meshnet_control.engine.client import EngineClient
from meshnet_control.gateway.app import Gateway
from meshnet_control.host.processes import engine as engine_url
from meshnet_control.host.processes import run_dir, state_dir
from meshnet_control.host.supervisor_keeper import keep, live
from meshnet_control.node.cleanup import clean_up
from meshnet_control.node.member import Places
from meshnet_control.node.node import Node, hostname

_log = logging.getLogger(__name__)
_NAME: Final = "meshnetd"
END_S: Final = 12.0
"""Seconds that an end may take once it was asked for; the log says what took longer."""
CLEANS_S: Final = 300.0
"""For all that ``--cleanup`` does; the kernel and the engine have shorter limits in there."""
CLEANED_S: Final = 5.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT; exit status 0 then, 1: cannot start or failed."""
    parser = argparse.ArgumentParser(prog=_NAME, description="Makes this host a meshnet node.")
    parser.add_argument("--run-dir", type=Path, default=run_dir(), help="sockets")
    parser.add_argument("--state-dir", type=Path, default=state_dir(), help="what outlives a boot")
    parser.add_argument("--cleanup", action="store_true", help="remove all kernel state, then end")
    parser.add_argument("--debug", action="store_true", help="log more")
    asked = parser.parse_args(arguments)
    logs.begin(logging.DEBUG if asked.debug else logging.INFO)
    for noisy in ("asyncio", "grpc"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if os.geteuid() != 0:
        parser.exit(1, f"{_NAME}: must be run as root\n")
    limits.raise_descriptors()
    places = Places(run_dir=asked.run_dir, state_dir=asked.state_dir)
    try:
        if asked.cleanup:
            raise SystemExit(asyncio.run(_clean_up(places)))
        asyncio.run(Daemon(places).run())
    except (MeshnetError, OSError) as error:
        parser.exit(1, f"{_NAME}: {error}\n")


class Daemon:
    """The parts of meshnetd.

    Args:
        places: directories.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._notifier = Notifier()
        self._ended: asyncio.Future[None]
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until a signal comes.

        Raises:
            MeshnetError: it cannot start; one sentence.
            Exception: a part failed.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        self._places.run_dir.mkdir(parents=True, exist_ok=True)  # docker.sock is for its group
        self._places.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with AsyncExitStack() as stack:
            living = self._spawn(live(self._notifier), "signs of life")
            stack.callback(living.cancel)
            engine = EngineClient(engine_url())
            stack.push_async_callback(ends.closed, engine.close)
            self._starting("asking the Docker Engine what it is")
            name = hostname()
            described = await engine.describe(name)
            node = Node(self._places, engine, name, self._spawn)
            stack.push_async_callback(node.stop)
            self._starting("taking up this node's place in its cluster")
            await node.resume()
            self._starting("opening its sockets")
            admin = AdminServer(
                Admin(node, described.engine.engine_version, name), self._places.run_dir
            )
            await admin.start()
            stack.push_async_callback(ends.closed, admin.stop)
            gateway = Gateway(
                node,
                self._places.run_dir / "docker.sock",
                engine,
                conflicting_route,
            )
            await gateway.start()
            stack.push_async_callback(ends.closed, gateway.stop)
            supervisor = revival.told()
            if supervisor is not None:
                keeping = self._spawn(keep(partial(revival.revive, supervisor)), "keep supervisor")
                stack.callback(keeping.cancel)
            self._notifier.ready()
            _log.info("serving the Engine API on %s", self._places.run_dir / "docker.sock")
            await self._ended

    def _starting(self, doing: str) -> None:
        self._notifier.starting(doing)
        _log.info("%s", doing)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self._ended.done():
            _log.error("%s failed", task.get_name(), exc_info=error)
            self._ended.set_exception(error)

    def _end(self) -> None:
        self._notifier.stopping()
        limits.end_within(END_S)
        if not self._ended.done():
            self._ended.set_result(None)


def conflicting_route(subnet: str) -> str | None:
    """Destination and link of a route of this host that overlaps ``subnet`` (CIDR), or None."""
    rtnl = RtnlClient()
    try:
        found = host.conflicting_route(IPv4Network(subnet, strict=False), host.host_routes(rtnl))
    finally:
        rtnl.close()
    return f"{found[0]} dev {found[1]}" if found is not None else None


async def _clean_up(places: Places) -> int:
    """The exit status; from when it is known, the process ends within ``CLEANED_S``.

    A thread that hangs in the kernel would be waited for at the end of loop and interpreter.
    """
    limits.end_within(CLEANS_S)
    engine = EngineClient(engine_url())
    try:
        for line in await clean_up(places.run_dir, engine):
            print(line, flush=True)  # noqa: T201 - the command's output
    except (MeshnetError, OSError) as error:
        print(f"{_NAME}: {error}", file=sys.stderr, flush=True)  # noqa: T201 - before it may hang
        return 1
    else:
        return 0
    finally:
        limits.end_within(CLEANED_S)
        await ends.closed(engine.close)


if __name__ == "__main__":
    main()
