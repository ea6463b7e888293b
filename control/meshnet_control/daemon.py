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

import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import ip_network
from typing import Final

from meshnet import ends, happened, measures
from meshnet.errors import MeshnetError
from meshnet.kernel import host
from meshnet.kernel.rtnl import RtnlClient
from meshnet.process import clocks, garbage, limits, turns
from meshnet.process.notify import inherited
from meshnet_control.admin import Admin, AdminServer, Explain
from meshnet_control.dashboard.wiring import of_node
from meshnet_control.engine.client import EngineClient
from meshnet_control.gateway.app import Gateway
from meshnet_control.gateway.listener import Listener, take_back
from meshnet_control.host.processes import engine as engine_url
from meshnet_control.host.program import Program, parsed, parser
from meshnet_control.metrics.facts import read
from meshnet_control.metrics.server import MetricsServer
from meshnet_control.node.cleanup import clean_up
from meshnet_control.node.member import Places
from meshnet_control.node.node import Node, hostname
from meshnet_control.served.address import METRICS

_log = logging.getLogger(__name__)
_NAME: Final = "meshnetd"
END_S: Final = 12.0
"""Seconds that an end may take once it was asked for; the log says what took longer."""
CLEANS_S: Final = 300.0
"""For all that ``--cleanup`` does; the kernel and the engine have shorter limits in there."""
CLEANED_S: Final = 5.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT; exit status 0 then, 1: cannot start or failed."""
    line = parser(_NAME, "Makes this host a meshnet node.")
    line.add_argument("--cleanup", action="store_true", help="remove all kernel state, then end")
    asked = parsed(line, arguments)
    places = Places(run_dir=asked.run_dir, state_dir=asked.state_dir)
    try:
        if asked.cleanup:
            raise SystemExit(asyncio.run(_clean_up(places)))
        turns.run(Daemon(places).run(), measures.loop_turns.observe)
    except (MeshnetError, OSError) as error:
        line.exit(1, f"{_NAME}: {error}\n")


class Daemon:
    """The parts of meshnetd.

    Args:
        places: directories.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._program = Program(END_S)

    async def run(self) -> None:
        """Serve until a signal comes.

        Raises:
            MeshnetError: it cannot start; one sentence.
            Exception: a part failed.
        """
        program = self._program
        self._places.run_dir.mkdir(parents=True, exist_ok=True)  # docker.sock is for its group
        self._places.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with AsyncExitStack() as stack:
            program.begin(stack)
            listener = Listener(program.notifier, inherited(), lending=True)
            engine = EngineClient(engine_url())
            stack.push_async_callback(ends.closed, engine.close)
            program.starting("asking the Docker Engine what it is")
            name = hostname()
            described = await engine.describe(name)
            node = Node(self._places, engine, name, program.spawn)
            stack.push_async_callback(node.stop)
            program.starting("taking up this node's place in its cluster")
            await node.resume()
            program.spawn(clocks.watch(happened.note), "clocks")
            program.starting("opening its sockets")
            admin = AdminServer(
                Admin(node, described.engine.engine_version, name),
                Explain(node),
                self._places.run_dir,
            )
            await admin.start()
            stack.push_async_callback(ends.closed, admin.stop)
            gateway = Gateway(
                node,
                self._places.run_dir / "docker.sock",
                engine,
                conflicting_route,
                listener=listener,
                state_dir=self._places.state_dir,
            )
            await gateway.start()
            stack.push_async_callback(ends.closed, gateway.stop)
            metrics = MetricsServer(
                partial(read, node, name, self._places.run_dir),
                partial(METRICS.kept, self._places.state_dir),
            )
            stack.push_async_callback(ends.ended, program.spawn(metrics.run(), "metrics"))
            dashboard = of_node(node, self._places.state_dir)
            stack.push_async_callback(ends.ended, program.spawn(dashboard.run(), "dashboard"))
            garbage.put_aside()
            _log.info("serving the Engine API on %s", self._places.run_dir / "docker.sock")
            await program.serve(stack)


def conflicting_route(subnet: str) -> str | None:
    """Destination and link of a route of this host that overlaps ``subnet`` (CIDR), or None."""
    rtnl = RtnlClient()
    try:
        found = host.conflicting_route(ip_network(subnet, strict=False), host.host_routes(rtnl))
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
        take_back(places.state_dir)
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
