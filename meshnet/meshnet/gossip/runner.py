"""The engine's only hands: sockets on port 7946, UDP here and TCP in streams.py, and the clock.

The UDP socket is read until it is empty before a timer is handled, so that a process that slept
hears what came in before it judges anybody.

Be aware: what peers do wrong is counted and dropped. An error of our own ends ``run``, and with it
the process: half a gossip would be worse than the next process's whole one.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from meshnet import drops, measures
from meshnet.errors import CapacityError, ConfigError
from meshnet.gossip.audiences import Audiences
from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.events import (
    Acknowledged,
    Changes,
    MemberChanged,
    MemberForgotten,
    RecordsChanged,
    Refused,
    Synced,
)
from meshnet.gossip.members import Address, Member
from meshnet.gossip.shares import Share
from meshnet.gossip.streams import Streams
from meshnet.gossip.table import Mark, Place
from meshnet.model.ids import NodeId

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 256
"""Datagrams read before others get their turn on the loop."""
_DATAGRAM_BYTES: Final = 65535


class GossipRunner:
    """Drives one engine.

    Args:
        engine: the protocol.
        bind_host: local address to listen on.
        port: UDP and TCP port.
        on_change: called on the loop whenever members or records changed, our own among them,
            with which; must not block. The first whole-state exchange is told, too, whatever
            it brought.
        on_acknowledged: called whenever a member said that it has applied more of our changes.
    """

    def __init__(
        self,
        engine: GossipEngine,
        bind_host: str,
        port: int,
        on_change: Callable[[Changes], None],
        on_acknowledged: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._host, self._port = bind_host, port
        self._on_change = on_change
        self._on_acknowledged = on_acknowledged
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._streams = Streams(engine, self._pump, self._failed)
        self._large: set[str] = set()
        self._counted: Counter[str] = Counter()

    async def start(self) -> None:
        """Binds both sockets.

        Raises:
            ConfigError: the port is taken or the address is not ours.
        """
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            udp.bind((self._host, self._port))
            await self._streams.start(self._host, self._port)
        except OSError as error:
            udp.close()
            await self.close()
            why = f"cannot listen for gossip on port {self._port}: {error.strerror}"
            raise ConfigError("gossip", f"{self._host}:{self._port}", "meshnetd", why) from error
        self._socket = udp
        self._loop.add_reader(udp, self._guarded, self._readable)
        self._pump()

    async def run(self) -> None:
        """Waits for an error of our own and raises it."""
        await self._failure

    async def close(self) -> None:
        """Closes the sockets; the engine stays as it is."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        await self._streams.close()

    def join(self, seeds: Sequence[Address]) -> None:
        """Addresses that must be members (see Engine.join)."""
        self._engine.join(seeds)
        self._pump()

    def expect(self, hands: Mapping[NodeId, bytes]) -> None:
        """Who belongs to the cluster, and the public key of each (see Engine.expect)."""
        self._engine.expect(hands, self._loop.time())
        self._pump()

    def leave(self) -> None:
        """Says goodbye to everybody at once."""
        self._engine.leave(self._loop.time())
        self._pump()

    def pause(self) -> None:
        """Tells everybody that this process ends and another will come."""
        self._engine.announce_restart(self._loop.time())
        self._pump()

    def set_keys(self, keys: Sequence[bytes]) -> None:
        """Replaces the key ring; the first seals."""
        self._engine.set_keys(keys)
        self._pump()

    def take_part(self, networks: Collection[str]) -> None:
        """The networks that this node is on (see Engine.take_part)."""
        try:
            self._engine.take_part(networks, self._loop.time())
        except CapacityError as error:
            _log.error("this node does not hear of all its networks: %s", error)
        self._pump()

    @property
    def audiences(self) -> Audiences:
        """Who is on which network."""
        return self._engine.audiences

    def set_record(self, key: str, value: bytes | None) -> None:
        """Changes one of our own records; one that is too large for peers is logged, not said."""
        try:
            self._engine.set_record(key, value, self._loop.time())
        except CapacityError as error:
            if key not in self._large:
                self._large.add(key)
                _log.error("not told to other nodes: %s", error)
            return
        self._large.discard(key)
        self._pump()

    def applied(self, marks: Mapping[Share, Mark]) -> None:
        """What of each member's changes this node has applied, told to whoever asks."""
        self._engine.applied(marks)
        self._pump()

    def ask(self, wanted: Mapping[Share, Mark]) -> None:
        """Asks exactly these from now on, until each has applied its mark (see Engine.ask)."""
        self._engine.ask(wanted, self._loop.time())
        self._pump()

    def acknowledged(self) -> Mapping[Share, Mark]:
        """What of our changes each member that was asked has applied."""
        return self._engine.acknowledged

    def members(self) -> Mapping[NodeId, Member]:
        """Every member known."""
        return self._engine.members()

    def records(self) -> Mapping[tuple[NodeId, str], bytes]:
        """Records of all members that take part."""
        return self._engine.records()

    def all_records(self) -> Mapping[tuple[NodeId, str], bytes]:
        """Records of every member known: what each last said."""
        return self._engine.all_records()

    def record(self, owner: NodeId, key: str) -> bytes | None:
        """One record of a member known, as ``all_records`` has it."""
        return self._engine.record(owner, key)

    def told(self, key: str) -> Mapping[NodeId, bytes]:
        """What all that take part say in their record ``key``."""
        return self._engine.told(key)

    @property
    def synced(self) -> bool:
        """A whole-state exchange with some peer is done."""
        return self._engine.synced

    # ---- inside ----

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - ours; run() raises it
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    def _readable(self) -> None:
        self._receive()
        self._pump()

    def _receive(self) -> None:
        for _ in range(_AT_ONCE):
            if self._socket is None:
                return
            try:
                data, peer = self._socket.recvfrom(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError as error:  # an ICMP error came back: probes find who is dead
                self._count("datagram not received", error)
                continue
            measures.received(len(data))
            self._engine.receive_datagram(data, peer, self._loop.time())

    def _pump(self) -> None:
        now = self._loop.time()
        if self._socket is not None:
            for packet, address in self._engine.datagrams_to_send(now):
                try:
                    self._socket.sendto(packet, address)
                except OSError as error:
                    self._count("datagram not sent", error)
                else:
                    measures.sent(len(packet))
            for address in self._engine.streams_to_open():
                self._streams.open(address)
        for reason, times in (self._engine.dropped - self._counted).items():
            drops.count(f"gossip: {reason}", times)
        self._counted = self._engine.dropped.copy()
        self._tell()
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None and (when := self._engine.next_timer()) is not None:
            self._timer = self._loop.call_at(when, self._guarded, self._tick)

    def _tell(self) -> None:
        """Passes on what happened."""
        members: set[NodeId] = set()
        records: set[Place] = set()
        synced = acknowledged = False
        while (event := self._engine.next_event()) is not None:
            match event:
                case MemberChanged(member):
                    members.add(member.id)
                    way = "" if member.direct else ", not reached from here"
                    _log.info("member %s is %s%s", member.id, member.state.value, way)
                case MemberForgotten(id_):
                    members.add(id_)
                case RecordsChanged(places):
                    records |= places
                case Refused(peer, why):
                    _log.warning("gossip from %s is not taken: %s", peer[0], why)
                case Acknowledged():
                    acknowledged = True
                case Synced():
                    synced = True
        if members or records or synced:
            self._on_change(Changes(frozenset(members), frozenset(records)))
        if acknowledged:
            self._on_acknowledged()

    def _tick(self) -> None:
        self._receive()
        self._engine.handle_timer(self._loop.time())
        self._pump()

    def _count(self, what: str, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, "unknown error")
        self._engine.refusals.count(f"{what}: {name}")
