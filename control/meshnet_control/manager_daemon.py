"""``meshnet-manager``: the manager's side of a host that is one, beside meshnetd.

```
 gateway (meshnetd) ── manager.sock ──> StoreService, LogService ─┐
 gossip  (meshnetd) ── hosts, certificate ─> ManagerService ──────┼─ Lead: store, orchestration
 nodes ── TLS, 2377 ──> ControlServer ────────────────────────────┘
```
Its crash, its load and its interpreter's lock touch neither gossip nor the data plane, agent or
gateway, which are meshnetd's. Whoever keeps it starts it where ``MARK`` is: on managers, and on
hosts in no cluster, where it stands by (``host/standby.py``).

Be aware: SIGTERM stops the process and nothing else. What cannot be begun (a port that is taken, a
store that cannot be read) is said to meshnetd and tried again; this process stays.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import grpc.aio

from meshnet import ends, measures
from meshnet.errors import ControlError, MeshnetError
from meshnet.process import garbage, turns
from meshnet_control.api import manager_pb2_grpc
from meshnet_control.host import standby
from meshnet_control.host.paths import MANAGER, MANAGER_SOCKET
from meshnet_control.host.program import Program, parsed, parser
from meshnet_control.host.standby import Standby
from meshnet_control.identity import identity
from meshnet_control.identity.identity import Identity
from meshnet_control.link.manager_link import OPTIONS
from meshnet_control.manager import archive
from meshnet_control.manager.lead import Lead
from meshnet_control.manager.private_service import ImageService, LogService, ManagerService
from meshnet_control.manager.store_service import StoreService

_log = logging.getLogger(__name__)
END_S: Final = 8.0
GRACE_S: Final = 0.2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT; exit status 0 then, 1: cannot start or failed."""
    line = parser(MANAGER, "Manages the cluster, on a host that is a manager.")
    asked = parsed(line, arguments)
    garbage.rare()
    try:
        daemon = ManagerDaemon(asked.run_dir, asked.state_dir)
        turns.run(daemon.run(), measures.manager_loop_turns.observe)
    except (MeshnetError, OSError) as error:
        line.exit(1, f"{MANAGER}: {error}\n")


class ManagerDaemon:
    """The parts of meshnet-manager.

    Args:
        run_dir: sockets.
        state_dir: who this node is, and the store.
    """

    def __init__(self, run_dir: Path, state_dir: Path) -> None:
        self._run_dir, self._state_dir = run_dir, state_dir
        self._program = Program(END_S)

    async def run(self) -> None:
        """Serve until a signal comes.

        Raises:
            MeshnetError: this node is no manager; one sentence.
            Exception: a part failed.
        """
        program = self._program
        self._run_dir.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            program.begin(stack)
            who = _manager(self._state_dir) or await self._standing_by()
            if who is None:
                return
            archive.sweep(self._state_dir)  # not before: meshnetd writes the keys of an init
            lead = Lead(who, self._run_dir, self._state_dir, program.spawn)
            stack.push_async_callback(ends.closed, lead.stop)
            program.starting("opening the store and port 2377")
            if not await lead.begin():
                _log.error("cannot manage, trying again: %s", lead.error)
                again = program.spawn(lead.begin_again(), "begin again")
                stack.push_async_callback(ends.ended, again)
            server = PrivateServer(lead, self._run_dir / MANAGER_SOCKET)
            await server.start()
            stack.push_async_callback(ends.closed, server.stop)
            garbage.put_aside()
            _log.info("serving %s", self._run_dir / MANAGER_SOCKET)
            await program.serve(stack)

    async def _standing_by(self) -> Identity | None:
        """Who this node is as soon as it is a manager; None: a signal came before that."""
        standby.load()
        garbage.put_aside()  # what is loaded: that takes longer than all else of a beginning
        _log.info("standing by: this node is in no cluster")
        with Standby(self._run_dir) as there:
            while (who := _manager(self._state_dir)) is None:
                if not await self._program.idle(there.woken()):
                    return None
        return who


class PrivateServer:
    """The socket for meshnetd, root's alone.

    Args:
        lead: what it serves.
        path: of the socket.
    """

    def __init__(self, lead: Lead, path: Path) -> None:
        self._path = path
        self._server = grpc.aio.server(options=OPTIONS)
        add = manager_pb2_grpc
        add.add_StoreServicer_to_server(
            StoreService(lead.store, lambda: lead.trouble), self._server
        )
        add.add_LogsServicer_to_server(LogService(lead), self._server)
        add.add_ImagesServicer_to_server(ImageService(lead), self._server)
        add.add_ManagerServicer_to_server(ManagerService(lead), self._server)

    async def start(self) -> None:
        """Serve."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)  # root's alone from its first moment on
        try:
            self._server.add_insecure_port(f"unix:{self._path}")
        finally:
            os.umask(before)
        await self._server.start()

    async def stop(self) -> None:
        """End all calls; gRPC removes the socket."""
        await self._server.stop(GRACE_S)


def _manager(state_dir: Path) -> Identity | None:
    """Who this node is; None: it is in no cluster.

    Raises:
        ControlError: it is a worker.
    """
    try:
        found = identity.load(state_dir)
    except (OSError, ValueError) as error:
        raise ControlError(f"cannot read this node's identity: {error}", 500) from error
    if found is not None and found.role != "manager":
        raise ControlError("this node is not a manager", 500)
    return found


if __name__ == "__main__":
    main()
