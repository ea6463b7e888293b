"""Keeps docker_gwbridge: the engine's network and the bridge that belongs to it.

```
 link events of the host ──┐
 every 30 s ───────────────┴─> network there? bridge there? ──> the engine makes it again
```
The bridge is the engine's (docs/decisions/0005-gwbridge-is-the-engines-network.md), so what
``docker network prune``, ``network rm`` at the engine's own socket or ``ip link del`` took is made
again by the engine, as it was last seen: containers that run have addresses and a default route in
it. What that was is also on disk, for as long as the host is up. Ports, addresses and rules are
none of this: the gwbridge reconciler puts them back once there is a bridge (``meshnet.gwbridge``).

Be aware: a bridge deleted under its network costs the network, too, as the engine would never look
at it again; containers a user attached to docker_gwbridge himself must be detached first. An engine
whose own iptables chains were flushed makes no network until it is restarted; a bridge that is
there works on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from meshnet.backoff import Backoff
from meshnet.errors import KernelError
from meshnet.kernel import netns
from meshnet.kernel.events import Watchers
from meshnet.model.snapshot import Gwbridge
from meshnet_control.engine.client import EngineClient, EngineError, EngineGoneError, gwbridge_of

_log = logging.getLogger(__name__)

MEMORY: Final = "docker_gwbridge.json"
"""In the run directory: the network as last seen."""
_RESYNC_S: Final = 30.0
_RETRY: Final = Backoff(0.1, 30.0)
_KEPT: Final = ("Driver", "Options", "Labels", "IPAM", "Internal", "EnableIPv6")
"""Of an inspected network: what it is made anew with."""


class GwbridgeKeeper:
    """Sees to it that docker_gwbridge is there and stays the same.

    Args:
        engine: the local engine.
        run_dir: where what it looked like is kept.
        host_netns: path of the namespace that stands for the host; None: the process's own.
    """

    def __init__(self, engine: EngineClient, run_dir: Path, host_netns: str | None = None) -> None:
        self._engine = engine
        self._memory = run_dir / MEMORY
        self._host = host_netns
        self._wake = asyncio.Event()
        self._network: dict[str, Any] | None = None

    async def start(self) -> Gwbridge:
        """The bridge, made if it is not there.

        Raises:
            EngineError: it cannot be made.
        """
        self._network = _read(self._memory)
        await self._keep()
        return self._bridge()

    async def started(self, tell: Callable[[str], None]) -> Gwbridge:
        """The bridge, as soon as the engine makes it.

        Args:
            tell: called with why it does not, in a sentence, and with nothing when it does.
        """
        said = ""
        for delay in _RETRY.delays(random.random):
            try:
                made = await self.start()
            except EngineError as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("docker_gwbridge cannot be made, trying again: %s", said)
                    tell(f"no task can begin here, as docker_gwbridge cannot be made: {said}")
                await asyncio.sleep(delay)
            else:
                tell("")
                return made
        raise AssertionError("there is always another delay")

    async def run(self) -> None:
        """Keep it until cancelled; after ``start``."""
        watchers = Watchers(lambda _reason, _where: self._wake.set())
        watchers.watch([self._host])
        pause, said = 0.0, ""  # what came before the watcher was missed
        delays = _RETRY.delays(random.random)
        try:
            while True:
                if await self._woken(pause) and self._link_is_there():
                    continue
                try:
                    await self._keep()
                    pause, delays, said = _RESYNC_S, _RETRY.delays(random.random), ""
                except EngineError as error:
                    if str(error) != said and not isinstance(error, EngineGoneError):
                        _log.warning("docker_gwbridge cannot be kept: %s", error)
                    pause, said = 0.0, str(error)
                    await asyncio.sleep(next(delays))
        finally:
            watchers.close()

    # ---- inside ----

    async def _woken(self, pause: float) -> bool:
        """True: by a link's event; False: it is time to look at everything."""
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def _keep(self) -> None:
        before = self._network
        self._network = await self._engine.gwbridge_network(before)
        if not self._link_is_there():
            _log.warning("the bridge of docker_gwbridge is gone: the engine makes it again")
            await self._engine.remove_network(self._network["Id"])
            self._network = await self._engine.gwbridge_network(self._network)
        if before is not None and gwbridge_of(before) != self._bridge():
            _log.error(
                "docker_gwbridge is another network now (%s, was %s): containers of services have "
                "no way out until the node has left the swarm and joined again",
                self._bridge().subnet,
                gwbridge_of(before).subnet,
            )
        if before is None or recipe(before) != recipe(self._network):
            self._memory.write_text(json.dumps(recipe(self._network)))

    def _bridge(self) -> Gwbridge:
        if self._network is None:
            raise RuntimeError("start() comes first")
        return gwbridge_of(self._network)

    def _link_is_there(self) -> bool:
        """False only when it was looked for; without a descriptor to look with nothing is known."""
        try:
            with netns.inside(self._host), socket.socket():
                try:
                    return socket.if_nametoindex(self._bridge().name) > 0
                except OSError:  # has no errno, so what asking needs was had before
                    return False
        except (OSError, KernelError) as error:
            _log.warning("docker_gwbridge cannot be looked for: %s", error)
            return True


def recipe(network: Mapping[str, Any]) -> dict[str, Any]:
    """What a network is made anew with. Pure.

    Args:
        network: as the engine's ``GET /networks/{id}`` says it.
    """
    return {key: network[key] for key in _KEPT if key in network}


def _read(memory: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(memory.read_text())
        return found
    return None
