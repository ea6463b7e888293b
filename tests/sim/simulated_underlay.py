"""The network under a simulated cluster: who reaches whom, how late, what is lost, what it cost.

Datagrams get lost, streams wait: what is sent on a stream whose way is cut arrives when it is whole
again, unless one of its ends gives it up before. Nothing here touches a socket.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from meshnet.errors import WireError
from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.events import Changes
from meshnet.gossip.members import Address
from meshnet.gossip.runner import GossipRunner
from meshnet.model.wellknown import GOSSIP_PORT

RETRY_S = 0.2
"""TCP sends again what was not acknowledged."""
KEEPALIVE_S = 15.0
"""A server's pings tell it by then that nobody is there (``identity.channel.SERVER_OPTIONS``)."""


class Breakable(Protocol):
    """A stream between two hosts."""

    ends: tuple[str, str]

    def check(self) -> None:
        """The way was cut a while ago: whoever asks for signs of life gives up if it still is."""
        ...


class Underlay:
    """Hosts by their addresses.

    Args:
        rng: of delays and losses.
    """

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self.loss = 0.0
        """Part of the datagrams that is lost."""
        self.off: set[str] = set()
        """Hosts without power."""
        self._part: dict[str, int] = {}
        self._sockets: dict[Address, Datagrams] = {}
        self.runners: dict[Address, SimulatedRunner] = {}
        self.servers: dict[Address, Any] = {}
        """What answers calls at ``host, port``."""
        self.streams: set[Breakable] = set()
        self.packets: Counter[str] = Counter()
        """Datagrams that a host sent."""
        self.gossip_bytes: Counter[str] = Counter()
        """Of datagrams and of gossip's streams, by who sent them."""
        self.call_bytes: Counter[str] = Counter()
        """Of calls between nodes and managers, by who sent them."""
        self.messages: Counter[str] = Counter()
        """Of those calls."""

    # ---- what happens to it ----

    def partition(self, *parts: Iterable[str]) -> None:
        """Hosts of different parts do not reach each other; hosts in none are in the first."""
        self._part = {host: number for number, part in enumerate(parts) for host in part}
        self._changed()

    def heal(self) -> None:
        """All reach all."""
        self.partition()

    def switch(self, host: str, *, on: bool) -> None:
        """A host's power."""
        (self.off.discard if on else self.off.add)(host)
        self._changed()

    def reaches(self, a: str, b: str) -> bool:
        """Whether packets pass between two hosts."""
        if a in self.off or b in self.off:
            return False
        return a == b or self._part.get(a, 0) == self._part.get(b, 0)

    def delay_s(self) -> float:
        """Of one packet."""
        return 0.0005 + self._random.random() * 0.004

    def _changed(self) -> None:
        loop = asyncio.get_running_loop()
        for stream in self.streams:
            if not self.reaches(*stream.ends):
                loop.call_later(KEEPALIVE_S, stream.check)

    # ---- datagrams ----

    def bind(self, at: Address, readable: Callable[[], None]) -> Datagrams:
        """A socket."""
        made = self._sockets[at] = Datagrams(self, at, readable)
        return made

    def unbind(self, at: Address) -> None:
        """It is closed; what comes for it is lost."""
        self._sockets.pop(at, None)

    def send(self, data: bytes, sender: Address, to: Address) -> None:
        """A datagram."""
        self.packets[sender[0]] += 1
        self.gossip_bytes[sender[0]] += len(data)
        if self._random.random() < self.loss:
            return
        asyncio.get_running_loop().call_later(self.delay_s(), self._arrive, data, sender, to)

    def _arrive(self, data: bytes, sender: Address, to: Address) -> None:
        socket = self._sockets.get(to)
        if socket is not None and self.reaches(sender[0], to[0]):
            socket.take(data, sender)


class Datagrams:
    """What a UDP socket is to the runner."""

    def __init__(self, underlay: Underlay, at: Address, readable: Callable[[], None]) -> None:
        self._underlay, self._at, self._readable = underlay, at, readable
        self._queue: list[tuple[bytes, Address]] = []

    def take(self, data: bytes, sender: Address) -> None:
        self._queue.append((data, sender))
        self._readable()

    def recvfrom(self, _: int) -> tuple[bytes, Address]:
        if not self._queue:
            raise BlockingIOError
        return self._queue.pop(0)

    def sendto(self, data: bytes, to: Address) -> int:
        self._underlay.send(data, self._at, to)
        return len(data)

    def close(self) -> None:
        self._underlay.unbind(self._at)


class SimulatedRunner(GossipRunner):
    """The runner of a gossip engine, with the underlay for its sockets."""

    def __init__(
        self,
        engine: GossipEngine,
        underlay: Underlay,
        on_change: Callable[[Changes], None],
        on_acknowledged: Callable[[], None],
    ) -> None:
        at = engine.members()[engine.self_id].address
        super().__init__(engine, at[0], GOSSIP_PORT, on_change, on_acknowledged)
        self._at, self._underlay = at, underlay
        self._streams = _Exchanges(self, underlay, at)  # type: ignore[assignment]

    @property
    def engine(self) -> GossipEngine:
        return self._engine

    async def start(self) -> None:
        self._socket = self._underlay.bind(self._at, self._arrived)  # type: ignore[assignment]
        self._underlay.runners[self._at] = self
        self._pump()

    async def close(self) -> None:
        self.die()

    def die(self) -> None:
        """The process is gone: nothing is sent and nothing read any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._underlay.unbind(self._at)
        if self._underlay.runners.get(self._at) is self:
            del self._underlay.runners[self._at]
        self._socket = None

    def pump(self) -> None:
        self._pump()

    def _arrived(self) -> None:
        self._guarded(self._readable)


class _Exchanges:
    """Streams between engines: frames to and fro at once, after the way there and back."""

    def __init__(self, runner: SimulatedRunner, underlay: Underlay, at: Address) -> None:
        self._runner, self._underlay, self._at = runner, underlay, at
        self._open: set[Address] = set()

    def open(self, address: Address) -> None:
        if address not in self._open:
            self._open.add(address)
            delay = 2 * self._underlay.delay_s()
            asyncio.get_running_loop().call_later(delay, self._exchange, address)

    async def close(self) -> None:
        """Nothing is left behind."""

    def _exchange(self, address: Address) -> None:
        self._open.discard(address)
        there = self._underlay.runners.get(address)
        alive = self._underlay.runners.get(self._at) is self._runner
        if there is None or not alive or not self._underlay.reaches(self._at[0], address[0]):
            return
        now = asyncio.get_running_loop().time()
        ours = self._runner.engine.open_stream(address)
        theirs = there.engine.accept_stream(self._at)
        try:
            frames = ours.begin(now)
            while frames:
                self._underlay.gossip_bytes[self._at[0]] += sum(map(len, frames))
                back = [f for frame in frames for f in theirs.receive_frame(frame, now)]
                self._underlay.gossip_bytes[address[0]] += sum(map(len, back))
                frames = [f for frame in back for f in ours.receive_frame(frame, now)]
        except WireError as error:
            there.engine.refuse(error, self._at)
        for runner in (self._runner, there):
            runner.pump()
