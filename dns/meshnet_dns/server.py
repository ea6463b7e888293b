"""``meshnet-resolver``: the process that answers at 127.0.0.11 in every container of this host.

```
 container's netns: 127.0.0.11:53 ─nft─> 127.0.0.11:41053 ─┐ sockets opened inside
 container's netns: 127.0.0.11:53 ─nft─> 127.0.0.11:41053 ─┤
                                          resolver.sock ───┼─> one epoll loop ──> upstreams
 meshnetd ── zones, sandboxes ────────────────┘            ┘   (the host's: from the host)
```
It knows nothing of clusters: zones and sandboxes are told by ``operations`` (in meshnetd). It is a
process of its own so that neither a busy nor a stopped meshnetd delays an answer.

Be aware: must be root (setns). No answers while it restarts, a quarter of a second; with a
supervisor that holds its sockets (``meshnet.process.notify``) they come late instead of never.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from meshnet.errors import ControlError
from meshnet.process import limits, logs, revival
from meshnet.process.notify import Notifier, inherited
from meshnet.process.starving import Witness
from meshnet_dns.control import NAME, ControlSocket
from meshnet_dns.held import HeldSockets
from meshnet_dns.loop import Loop
from meshnet_dns.resolver import STATE, Resolver

_log = logging.getLogger(__name__)
RUN_DIR: Final = Path("/run/meshnet")
END_S: Final = 1.5
"""Seconds that an end may take once it was asked for; there is little to do."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say one sentence and no usage."""
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT; exit status 0 then, 1: cannot start, 2: bad arguments."""
    parser = _Parser(prog="meshnet-resolver", description="Answers at 127.0.0.11 in containers.")
    parser.add_argument(
        "--run-dir",
        type=Path,
        default=Path(os.environ.get("MESHNET_RUN_DIR", RUN_DIR)),
        help="where resolver.sock and resolver.state are (default: %(default)s)",
    )
    run_dir: Path = parser.parse_args(arguments).run_dir
    logs.begin()
    if os.geteuid() != 0:
        parser.exit(1, "meshnet-resolver: must be run as root\n")
    try:
        serve(run_dir)
    except ControlError as error:
        parser.exit(1, f"meshnet-resolver: {error}\n")


def serve(run_dir: Path) -> None:
    """Answer until a signal comes.

    Raises:
        ControlError: the control socket cannot be had; nothing was changed.
    """
    limits.raise_descriptors()
    loop = Loop()
    loop.stop_on((signal.SIGTERM, signal.SIGINT), lambda: limits.end_within(END_S))
    notifier = Notifier()
    resolver = Resolver(loop, run_dir / STATE, HeldSockets(notifier, inherited()))
    control = ControlSocket(loop, run_dir / NAME, resolver.handle)
    try:
        resolver.restore()
        notifier.ready()
        with Witness(notifier) as witness:
            if notifier.period_s is not None:
                loop.every(notifier.period_s, witness.beat)
            _keep_supervisor(loop)
            loop.run()
    finally:
        notifier.stopping()
        control.close()
        resolver.close()


def _keep_supervisor(loop: Loop) -> None:
    """Look after the supervisor, if we have one that can die."""
    found = revival.told()
    if found is None:
        return
    pace = revival.Pace(time.monotonic())

    def look() -> None:
        try:
            if revival.revive(found):
                _log.warning("%s had died and was started again", found.name)
                pace.started(time.monotonic())
        except OSError as error:
            _log.warning("%s cannot be started: %s", found.name, error)
            pace.started(time.monotonic())
        loop.after(pace.pause_s(time.monotonic()), look)

    look()
