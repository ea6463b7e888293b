"""One container of ``docker run`` on overlay networks: looks, makes it so, looks again.

```
 runs  ── addresses there? ── sandbox, endpoints ── wired? ── hosts, resolv.conf ── gate open
 ended ── withdrawn; its addresses are given back after a moment, unless the engine restarts it
 gone  ── forgotten
```

The engine starts and ends it, as its user or its restart policy says; nothing here does. Each start
has a network namespace of its own, which is wired before the gate is opened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, ip_interface
from pathlib import Path
from typing import Final

from meshnet.errors import MeshnetError
from meshnet.model.ids import TaskId
from meshnet.model.snapshot import Endpoint, Sandbox
from meshnet_control.agent import attached_files, gate_fifo
from meshnet_control.agent.attached_look import Look, endpoint_of, look_of, sandbox_of
from meshnet_control.agent.attached_record import Record, RecordDir
from meshnet_control.agent.collaborators import DataPlane, Engine
from meshnet_control.engine.client import EngineGoneError, EngineNotFoundError

_log = logging.getLogger(__name__)

LINGER_S: Final = 2.0
"""After its end a container keeps its addresses for so long: it may be started again at once."""
_RETRY_S: Final = 0.5
_GONE_S: Final = 10.0
_ALL: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all attached containers of a node share."""

    engine: Engine
    dataplane: DataPlane
    node_id: str
    parent: Path
    """Directory of all records."""
    gateway: Callable[[str], IPv4Interface]
    """Allocates an address of docker_gwbridge for a key."""
    changed: Callable[[], None]
    """What is wanted of the managers may be something else."""


class Attached:
    """One container.

    Args:
        around: what it shares with the others.
        record: what is remembered of it.
    """

    def __init__(self, around: Surroundings, record: Record) -> None:
        self.record = record
        self.gone = False
        """The engine has it no more, or it is on no network of ours any more."""
        self.yields = False
        """Its default route is the engine's to give."""
        self._around = around
        self._dir = RecordDir(around.parent, record.key)
        self._key = TaskId(record.key)
        self._changed = asyncio.Event()
        self._look: Look | None = None
        self._said: Endpoint | None = None
        self._sandbox: Sandbox | None = None
        self._held_until: float | None = None
        """When it no longer wants its addresses, the loop's time; None: it runs."""
        self._knocked = ""
        """The start whose gate is open, as far as we know."""
        self._asked, self._answered = 0, 0
        self._answer = asyncio.Event()
        self.hold(LINGER_S)

    # ---- what others ask ----

    @property
    def wants(self) -> bool:
        """Its addresses are to be held: it runs, is about to, or did a moment ago."""
        until = self._held_until
        return not self.gone and (until is None or asyncio.get_running_loop().time() < until)

    @property
    def lacking(self) -> list[str]:
        """Networks that it has no address on yet, by id."""
        return [place.network for place in self.record.places if not place.given]

    def hold(self, seconds: float) -> None:
        """It ended, or is about to start: its addresses are wanted for that long at least."""
        self._held_until = asyncio.get_running_loop().time() + seconds
        self._around.changed()
        self.poke()

    def poke(self) -> None:
        """Something about it may have changed."""
        self._changed.set()

    def remember(self, record: Record) -> None:
        """Another word on where it is to be.

        Raises:
            OSError: it cannot be kept.
        """
        if record != self.record:
            self._dir.write(record)
            self.record = record
            self.poke()

    async def settled(self) -> None:
        """Returns when it is, as it is from now on, on its networks and let go; or not running."""
        self._asked += 1
        mine = self._asked
        self.poke()
        while self._answered < mine:
            await self._answer.wait()

    # ---- its life ----

    async def run(self) -> None:
        """Until the engine has it no more."""
        try:
            while not self.gone:
                self._changed.clear()
                try:
                    asked = self._asked
                    if await self._advance():
                        self._tell(asked)
                except EngineGoneError:
                    await asyncio.sleep(_RETRY_S)
                    await self._around.engine.answers(_GONE_S)
                except (MeshnetError, OSError) as error:
                    _log.warning("container %s: %s", self.record.container[:12], error)
                    await asyncio.sleep(_RETRY_S)
                except Exception:  # noqa: BLE001 - a container's fault is that container's alone
                    _log.exception("container %s", self.record.container[:12])
                    await asyncio.sleep(_GONE_S)
                else:
                    await self._wait()
        finally:
            self._tell(_ALL)

    async def adopt(self) -> None:
        """Says what runs already, as far as it is known without the managers.

        Raises:
            EngineError: the engine does not say.
        """
        await self._see()
        if self._look is not None and self._look.runs:
            self._held_until = None
            self._announce(self._look)

    def withdraw(self) -> None:
        """Nothing of it is announced any more."""
        if self._sandbox is not None:
            self._around.dataplane.sandbox_removed(self._key)
            self._sandbox = None
        self._say(None)

    def give_back(self) -> None:
        """What it was given is the managers' again.

        Raises:
            OSError: it cannot be kept.
        """
        self.remember(self.record.without_addresses())

    def forget(self) -> None:
        """Removes what is remembered of it."""
        self.withdraw()
        self._dir.remove()

    # ---- inside ----

    def _tell(self, asked: int) -> None:
        self._answered = max(asked, self._answered)
        answer, self._answer = self._answer, asyncio.Event()
        answer.set()

    async def _wait(self) -> None:
        """For something to happen, or for the end of its claim."""
        if self.gone:
            return
        until, now = self._held_until, asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(until - now if until is not None and until > now else None):
                await self._changed.wait()
        except TimeoutError:
            self._around.changed()

    async def _advance(self) -> bool:
        """Makes it so; whether it is."""
        await self._see()
        look = self._look
        if look is None:
            self.gone = True
            self.withdraw()
            return True
        if not look.runs:
            self.withdraw()
            if not look.restarting and self._held_until is None:
                self.hold(LINGER_S)
            self.gone = not self.record.places and not self.record.gated  # it is the engine's alone
            return not look.restarting
        if self._held_until is not None:
            self._held_until = None
            self._around.changed()
        self._learn_servers(look)
        self._announce(look)
        if self.lacking or not await self._unless_changed(self._wired()):
            return False
        self._write_files(look)
        return await self._let_go(look)

    async def _wired(self) -> None:
        if self._sandbox is not None:
            await self._around.dataplane.ready(self._key)

    async def _let_go(self, look: Look) -> bool:
        """Opens the gate of this start; whether it is open."""
        if not self.record.gated:
            return True
        if self._knocked == look.started_at:
            return True
        if (
            self.record.opened == look.started_at
        ):  # by an earlier life, which may not have got to it
            with suppress(FileNotFoundError):
                gate_fifo.knock(self._dir.gate)
        else:
            opening = gate_fifo.open_gate(self._dir.gate, lambda: self._opened(look.started_at))
            if not await self._unless_changed(opening):
                return False
        self._knocked = look.started_at
        return True

    def _opened(self, started_at: str) -> None:
        self.record = replace(self.record, opened=started_at)
        self._dir.write(self.record)

    async def _unless_changed(self, work: Awaitable[None]) -> bool:
        """Whether it was done before something changed."""
        doing, changed = asyncio.ensure_future(work), asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({doing, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            if not doing.done():
                doing.cancel()
            await asyncio.wait({doing})
        if doing.cancelled():
            return False
        doing.result()
        return True

    async def _see(self) -> None:
        try:
            self._look = look_of(await self._around.engine.inspect(self.record.container))
        except EngineNotFoundError:
            self._look = None

    def _announce(self, look: Look) -> None:
        """Says sandbox and endpoints, as far as there are addresses."""
        if self.record.leads_out and not look.way_out and not self.record.gateway:
            gateway = str(self._around.gateway(self.record.key))
            self.remember(replace(self.record, gateway=gateway))
        sandbox = sandbox_of(self.record, replace(look, way_out=look.way_out or self.yields))
        if sandbox is None:
            self.withdraw()
        elif sandbox != self._sandbox:
            self._around.dataplane.sandbox_added(sandbox)
            self._sandbox = sandbox
        self._say(endpoint_of(self.record, self._around.node_id, look))

    def _say(self, endpoint: Endpoint | None) -> None:
        if endpoint != self._said:
            self._said = endpoint
            self._around.dataplane.endpoint(self._key, endpoint)

    def _learn_servers(self, look: Look) -> None:
        """Name servers that the engine chose for it, before we are asked instead."""
        theirs = look.engines and not look.engine_names
        if theirs and not self.record.upstreams and look.resolv_path:
            servers = attached_files.name_servers(Path(look.resolv_path).read_text())
            if servers:
                self.remember(replace(self.record, upstreams=servers))

    def _write_files(self, look: Look) -> None:
        """Its /etc/hosts and /etc/resolv.conf, in place: they are mounted."""
        given = [each for p in self.record.places for each in (p.given, p.given6) if each]
        addresses = [str(ip_interface(each).ip) for each in given]
        if look.hosts_path:
            _rewrite(
                Path(look.hosts_path),
                lambda text: attached_files.hosts(text, look.hostname, addresses, look.engines),
            )
        if look.resolv_path and self._sandbox is not None:
            _rewrite(Path(look.resolv_path), attached_files.resolv)


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text()
    after = change(before)
    if after != before:
        path.write_text(after)
