"""Every container of this node that is attached to overlay networks without being a task.

```
 gateway ── create, connect, start ──> Attachments ──> one Attached each ──> data plane
                                          │  ^
                    the whole, each time  │  │ addresses (assignments), and how it is with each
                            it changes    v  │
                                        managers
```

What the managers say is kept in ``attachment_states``.

Be aware: nothing is said to the managers before all containers of an earlier life are known: what
is not said is given back. While no manager is connected nothing is given back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from http import HTTPStatus
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Final

from meshnet import ends
from meshnet.errors import ControlError
from meshnet_control.agent import gate, gate_fifo
from meshnet_control.agent.attached import LINGER_S, Attached, Surroundings
from meshnet_control.agent.attached_record import ATTACHED, LABEL, Place, Record, RecordDir, load
from meshnet_control.agent.attachment_states import ATTACH_S, AttachmentStates
from meshnet_control.agent.collaborators import DataPlane, Engine
from meshnet_control.agent.gateway_addresses import GatewayAddresses
from meshnet_control.agent.task_networks import BEHIND_ENGINES
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.attachments import MOST
from meshnet_control.engine.client import EngineError, Event

_log = logging.getLogger(__name__)

_RETRY_S: Final = 0.5


class Attachments:
    """The attached containers of a node.

    Args:
        engine: the local engine.
        dataplane: wires them.
        node_id: this node.
        state_dir: directory for what outlives a reboot; ``attached`` in it is ours.
        run_dir: directory for what lives as long as the host is up; ``attached`` in it is ours.
        gateways: addresses of docker_gwbridge.
    """

    def __init__(
        self,
        engine: Engine,
        dataplane: DataPlane,
        *,
        node_id: str,
        state_dir: Path,
        run_dir: Path,
        gateways: GatewayAddresses,
    ) -> None:
        self._gateways = gateways
        self._mark = run_dir / ATTACHED
        self.dirty = asyncio.Event()
        """What ``wanted`` says may be something else."""
        self._around = Surroundings(
            engine=engine,
            dataplane=dataplane,
            node_id=node_id,
            parent=state_dir / ATTACHED,
            gateway=gateways.of,
            changed=self.dirty.set,
        )
        self._all: dict[str, tuple[Attached, asyncio.Task[None]]] = {}
        """By container ID."""
        self._unmade: dict[str, Record] = {}
        """By key: containers that are being made."""
        self._states = AttachmentStates()
        self.adopted = False
        """All containers of an earlier life are known."""

    # ---- the gateway's requests ----

    def directory(self, key: str) -> RecordDir:
        """Where what is remembered of a container is."""
        return RecordDir(self._around.parent, key)

    def prepare(self, record: Record) -> None:
        """A container is about to be made: its gate is there from now on.

        Raises:
            OSError: the disk does not take it.
            ControlError: this node has as many as it may have.
        """
        self._bound(record)
        directory = self.directory(record.key)
        directory.write(record)
        if record.gated:
            gate_fifo.make(directory.gate)
        self._unmade[record.key] = record

    def abandon(self, key: str) -> None:
        """It was not made."""
        if self._unmade.pop(key, None) is not None:
            self.directory(key).remove()

    async def made(self, key: str, container: str) -> None:
        """It is made; returns when it has an address on each of its networks.

        Raises:
            ControlError: the managers do not give it one. It is to be removed again.
        """
        record = replace(self._unmade.pop(key), container=container)
        self.directory(key).write(record)
        attached = self._employ(record)
        await self._states.addressed(attached)
        attached.hold(LINGER_S)

    async def about_to_start(self, container: str) -> None:
        """Returns when a container that is about to be started has its addresses.

        Raises:
            ControlError: the managers do not give it one.
        """
        found = self._all.get(container)
        if found is not None:
            await self._states.addressed(found[0])

    async def settled(self, container: str) -> None:
        """Returns when a container is as it should be, or after a while."""
        found = self._all.get(container)
        if found is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(ATTACH_S):
                    await found[0].settled()

    def record(self, container: str) -> Record | None:
        """What is remembered of a container, by its ID; None: it is no such one."""
        found = self._all.get(container)
        return found[0].record if found is not None else None

    @property
    def records(self) -> dict[str, Record]:
        """What is remembered of all containers, by ID; of one that is being made, by key."""
        made = {container: attached.record for container, (attached, _) in self._all.items()}
        return self._unmade | made

    async def connect(self, fresh: Record, place: Place, *, running: bool) -> None:
        """A container gets a place on one more network.

        Args:
            fresh: of a container that is on none so far; else it is not looked at.
            place: its number is chosen here.
            running: the container runs.

        Raises:
            ControlError: it is there already, or the managers do not give it an address.
        """
        self._bound(fresh)
        found = self._all.get(fresh.container)
        if found is None:
            self.directory(fresh.key).write(fresh)
            attached = self._employ(fresh)
        else:
            attached = found[0]
        before = attached.record
        present = before.place(place.network)
        if (
            present is not None and not running
        ):  # as Docker does: it is to be so from the next start
            attached.remember(before.with_place(replace(place, number=present.number)))
            self.dirty.set()
            return
        if present is not None:
            short = fresh.container[:12]
            words = f"endpoint with name {short} already exists in network {place.name}"
            raise ControlError(words, HTTPStatus.FORBIDDEN)
        attached.remember(before.with_place(replace(place, number=before.free_number)))
        self.dirty.set()
        if not running:
            return
        try:
            await self._states.addressed(attached)
        except ControlError:
            attached.remember(attached.record.without(place.network))
            raise
        await self.settled(fresh.container)

    @asynccontextmanager
    async def room(self, container: str) -> AsyncGenerator[None]:
        """While the engine connects a container to a network of its own, or takes it off."""
        found = self._all.get(container)
        if found is None:
            yield
            return
        attached = found[0]
        if attached.record.first_number < BEHIND_ENGINES:
            attached.remember(attached.record.behind(BEHIND_ENGINES))
        attached.yields = True
        try:
            await self.settled(container)
            yield
        finally:
            attached.yields = False
            await self.settled(container)

    async def disconnect(self, container: str, network: str) -> bool:
        """Take a container off a network; whether it was there."""
        found = self._all.get(container)
        if found is None or found[0].record.place(network) is None:
            return False
        found[0].remember(found[0].record.without(network))
        await self.settled(container)
        self.dirty.set()
        return True

    # ---- the agent's ----

    @property
    def survived(self) -> bool:
        """Containers may run that an earlier life attached: the host has not booted since."""
        return self._mark.exists()

    async def adopt(self) -> None:
        """Finds the containers of an earlier life, and says what runs."""
        records = load(self._around.parent)
        unsaid = any(not record.container for record in records)
        made = await self._made_before() if unsaid else {}
        for record in records:
            container = record.container or made.get(record.key, "")
            if not container:
                self.directory(record.key).remove()
                continue
            if not record.container:  # we ended before we wrote it
                self.directory(record.key).write(replace(record, container=container))
            address = record.gateway
            if address and not self._gateways.keep(record.key, IPv4Interface(address)):
                address = ""  # the bridge is another one
            found = replace(record, container=container, gateway=address)
            await self._until_known(self._employ(found))
        self.adopted = True
        self.dirty.set()

    def heard(self, event: Event) -> None:
        """The engine says something of a container."""
        found = self._all.get(event.container)
        if found is not None and not event.action.startswith("exec_"):
            found[0].poke()

    def refresh(self) -> None:
        """Events may have been missed."""
        for attached, _ in self._all.values():
            attached.poke()

    def assign(self, tasks: Iterable[pb.Task]) -> None:
        """The managers' word: addresses."""
        self._states.assign(tasks)
        places = {
            (container, place.network)
            for container, (attached, _) in self._all.items()
            for place in attached.record.places
        }
        if self._states.assigned - places or self._states.unsure:
            self.dirty.set()  # what nobody wants is to be given back, what is new is to be sure
        self._take()

    async def leave(self) -> None:
        """The node leaves its cluster: the containers run on, without networks."""
        self.adopted = False
        await self.close()
        for attached, _ in self._all.values():
            attached.withdraw()
            with suppress(OSError):
                attached.give_back()
        self._mark.unlink(missing_ok=True)

    async def close(self) -> None:
        """Stops looking after them; they run on, wired as they are."""
        await ends.ended(*(running for _, running in self._all.values()))

    # ---- the managers' ----

    @property
    def keys(self) -> frozenset[str]:
        """What the data plane calls their sandboxes."""
        return frozenset(attached.record.key for attached, _ in self._all.values())

    @property
    def lacking(self) -> bool:
        """A container waits for an address."""
        return any(attached.wants and attached.lacking for attached, _ in self._all.values())

    def wanted(self) -> list[pb.Attachment]:
        """The whole of what containers of this node are to be attached to, to be said now."""
        said: list[pb.Attachment] = []
        for container, (attached, _) in self._all.items():
            if not attached.wants:
                with suppress(OSError):
                    attached.give_back()
                continue
            said += [
                pb.Attachment(
                    container_id=container,
                    network_id=p.network,
                    address=p.asked,
                    address6=p.asked6,
                )
                for p in attached.record.places
            ]
        return said

    def answered(self, states: Iterable[pb.AttachmentState]) -> None:
        """How the managers say that it is with each, now."""
        self._states.answered(states)
        self._take()

    # ---- inside ----

    def _bound(self, more: Record) -> None:
        """Raises ControlError: with that one there are more places than a node may have."""
        known = [attached.record for attached, _ in self._all.values()]
        if sum(len(each.places) for each in (*known, *self._unmade.values(), more)) >= MOST:
            words = f"containers of this node have {MOST} places on networks: remove some first"
            raise ControlError(words, HTTPStatus.SERVICE_UNAVAILABLE)

    async def _made_before(self) -> Mapping[str, str]:
        """Key -> container that waits at its gate; one of an image of it has its labels alone."""
        while True:
            try:
                found = await self._around.engine.containers([LABEL])
            except EngineError as error:
                _log.warning("containers cannot be listed: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                return {
                    str(each["Labels"][LABEL]): str(each["Id"])
                    for each in found
                    if str(each.get("Command")).startswith(f"{gate.SHELL_TARGET} ")
                }

    async def _until_known(self, attached: Attached) -> None:
        while True:
            try:
                await attached.adopt()
            except EngineError as error:
                _log.warning("container %s: %s", attached.record.container[:12], error)
                await asyncio.sleep(_RETRY_S)
            else:
                return

    def _employ(self, record: Record) -> Attached:
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        self._mark.touch()
        attached = Attached(self._around, record)
        running = asyncio.create_task(attached.run(), name=f"attached {record.container[:12]}")
        self._all[record.container] = (attached, running)
        running.add_done_callback(lambda _: self._dismiss(record.container))
        return attached

    def _dismiss(self, container: str) -> None:
        attached, _ = self._all[container]
        if attached.gone:
            del self._all[container]
            self._gateways.release(attached.record.key)
            try:
                attached.forget()
            except OSError as error:
                _log.warning("container %s: %s", container[:12], error)
            self.dirty.set()

    def _take(self) -> None:
        """What the managers give, and have said to be so, is the containers' own."""
        for (container, network), given, made in self._states.given():
            attached = self._all[container][0] if container in self._all else None
            place = attached.record.place(network) if attached is not None else None
            if attached is None or place is None or not attached.wants:
                continue
            fresh = replace(
                place,
                given=given.addresses[0],
                given6=next((each for each in given.addresses if ":" in each), ""),
                made=made,
                internal=given.network.spec.internal,
            )
            try:
                attached.remember(attached.record.with_place(fresh))
            except OSError as error:
                _log.warning("container %s: %s", container[:12], error)
        self._states.tell()
