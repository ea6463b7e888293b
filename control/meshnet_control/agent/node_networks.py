"""Networks of the cluster that this node's engine makes: there while containers are on them.

```
 a task, docker run, network connect ── held ──> the engine's network, as its configuration says
 a container is gone ── heard ──> sweep: those that no container is on are removed
```
Of the engine's networks ours have a label with the ID that they have in the cluster. Each is made
from the engine's network that it names (``--config-only``), copied: the engine lets no label be
given beside ``ConfigFrom``.

Source: moby daemon/cluster/executor/container/adapter.go createNetworks, removeNetworks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from meshnet_control.agent.collaborators import Engine
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import node_local
from meshnet_control.convert.engine_json import to_engine
from meshnet_control.engine.client import (
    RESYNC,
    EngineConflictError,
    EngineError,
    EngineNotFoundError,
    Event,
)
from meshnet_control.engine.labels import CONFIG_LABEL, NETWORK_LABEL, OURS

_log = logging.getLogger(__name__)

_RETRY_S: Final = 0.5
_FREED: Final = frozenset({"destroy", RESYNC})
"""Events after which a network may be nobody's."""


class NodeNetworks:
    """Those of one node.

    Args:
        engine: the local engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changing = asyncio.Lock()
        self._held: Counter[str] = Counter()
        self._freed = asyncio.Event()
        self._freed.set()
        self._any = True
        """There may be some."""

    @asynccontextmanager
    async def held(self, networks: Collection[pb.Network]) -> AsyncGenerator[None]:
        """They are there, and stay while a container that is to be on them is made.

        Raises:
            EngineError: one cannot be made, in the engine's words.
        """
        held = Counter(network.id for network in networks)
        self._held += held
        try:
            if networks:
                async with self._changing:
                    self._any = True
                    for network in networks:
                        await self._make(network)
            yield
        finally:
            self._held -= held
            if networks:
                self._freed.set()

    def freed(self) -> None:
        """A container is off a network, or a network is not the cluster's any more."""
        self._freed.set()

    def heard(self, event: Event) -> None:
        """The engine says something of a container."""
        if event.action in _FREED and self._any:
            self._freed.set()

    async def run(self) -> None:
        """Remove what nobody uses, until cancelled."""
        while True:
            await self._freed.wait()
            self._freed.clear()
            try:
                await self.sweep()
            except EngineError as error:
                _log.debug("networks of this node: %s", error)
                await asyncio.sleep(_RETRY_S)
                self._freed.set()

    async def sweep(self) -> None:
        """Remove those that no container is on.

        Raises:
            EngineError: the engine does not answer.
        """
        async with self._changing:
            found = await self._engine.networks(NETWORK_LABEL)
            self._any = bool(found)
            for each in found:
                if not self._held[each["Labels"][NETWORK_LABEL]]:
                    await self._drop(each)

    # ---- inside ----

    async def _drop(self, network: Mapping[str, Any]) -> None:
        try:
            if not await self._engine.on_network(str(network["Name"]), str(network["Id"])):
                await self._engine.remove_network(str(network["Id"]))
        except EngineNotFoundError:
            return
        except EngineError as error:
            if error.status != HTTPStatus.FORBIDDEN:  # somebody got on it meanwhile
                raise

    async def _make(self, network: pb.Network) -> None:
        name = network.spec.name
        there = await self._engine.network(name)
        if there is not None:
            label = (there.get("Labels") or {}).get(NETWORK_LABEL)
            if label == network.id:
                return
            if label:  # of one that had the name before
                await self._drop(there)
            if not label or await self._engine.network(name) is not None:
                words = f"network with name {name} already exists"
                raise EngineConflictError(words, HTTPStatus.CONFLICT)
        source = network.spec.config_from
        configuration: Mapping[str, Any] | None = {}
        if source:
            configuration = await self._engine.network(source)
            if configuration is None or not configuration.get("ConfigOnly"):
                words = f"configuration network {_quoted(source)} does not exist"
                raise EngineNotFoundError(words, HTTPStatus.NOT_FOUND)
        await self._engine.create_network(body_of(network, configuration or {}))


def body_of(network: pb.Network, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """PURE: ``POST /networks/create`` for a network of the cluster on this node.

    Args:
        network: the cluster's.
        configuration: the ``--config-only`` network that it is from, inspected; empty: from none.
    """
    spec = network.spec
    driver = spec.driver_configuration
    asked = spec.ipam_options
    ipam = {
        "Driver": asked.driver.name or "default",
        "Options": dict(asked.driver.options),
        "Config": [to_engine(config) for config in asked.configs],
    }
    return {
        "Name": spec.name,
        "CheckDuplicate": True,
        "Driver": node_local.driver_of(network),
        "EnableIPv6": bool(configuration.get("EnableIPv6") or spec.ipv6_enabled),
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "IPAM": configuration.get("IPAM") or ipam,
        "Options": dict(configuration.get("Options") or driver.options),
        "Labels": {
            **(configuration.get("Labels") or {}),
            **spec.labels,
            OURS: "1",
            NETWORK_LABEL: network.id,
            CONFIG_LABEL: spec.config_from,
        },
    }


def _quoted(name: str) -> str:
    return '"' + name.replace('"', "'") + '"'
