"""The resolver's state and how messages change it: zones, views, sandboxes.

```
 put-zone ──> zones ──> views of the containers that have the network: swapped whole, caches emptied
 put-sandbox ──> memory ──> Sandbox (sockets), if its namespace is there
```
What it was told is its memory; ``<run dir>/resolver.state`` has it whole, and behind that the
messages that came since, appended a moment after they came. When these are more than the whole, it
is written anew. It is read at the start, so that a restart answers the same without anybody's help,
and a restart of meshnetd changes nothing. Sockets outlive the process (``meshnet_dns.held``): the
next one answers what waits in them.

Be aware: a namespace that is not there (any more) is no error of the teller: the container ended.
It is remembered, reported under ``errors`` and looked for again every ``CHECK_S`` seconds, until it
is dropped. Any other failure is an error: the sandbox is not remembered, so that it is told again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgpack

from meshnet.errors import KernelError, MeshnetError, NotFoundError, WireError
from meshnet.model.ids import NetworkId, TaskId
from meshnet_dns.answer import Question
from meshnet_dns.counters import Counters
from meshnet_dns.forward import Forwarder
from meshnet_dns.held import HeldSockets
from meshnet_dns.loop import Loop, Timer
from meshnet_dns.mmsg import Batch
from meshnet_dns.sandbox import Sandbox, Shared
from meshnet_dns.state import (
    VERSION,
    Memory,
    SandboxDns,
    change_of,
    changed,
    decode_memory,
    digest,
    encode_memory,
    sandbox_of,
    sandbox_payload,
    sum_of,
    zone_digest,
    zone_of,
    zone_payload,
    zone_sum,
)
from meshnet_dns.upstreams import HostUpstreams
from meshnet_dns.views import View
from meshnet_dns.zone import Zone

STATE: Final = "resolver.state"
CHECK_S: Final = 10.0
SAVE_S: Final = 0.05
"""A burst of changes is written once."""

LEAST_BYTES: Final = 1 << 16
"""Messages behind the whole that are not worth writing it anew."""

_log = logging.getLogger(__name__)


class Resolver:
    """Everything between the control messages and the sandboxes' sockets."""

    def __init__(self, loop: Loop, state: Path, held: HeldSockets) -> None:
        self._loop = loop
        self._state = state
        self._counters = Counters()
        forwarder = Forwarder(loop, self._counters, HostUpstreams())
        self._shared = Shared(loop, Batch(), forwarder, held)
        self._zones: dict[NetworkId, Zone] = {}
        self._sums: dict[NetworkId, int] = {}
        self._told: dict[TaskId, SandboxDns] = {}
        self._digests: dict[str, dict[str, str]] = {"zones": {}, "sandboxes": {}}
        self._views: dict[tuple[tuple[NetworkId, ...], str], View] = {}
        self._open: dict[TaskId, Sandbox] = {}
        self._errors: dict[str, str] = {}
        self._unsaved: list[bytes] = []
        self._whole: int | None = None
        """Bytes of the state file's whole part; None: it must be written anew."""
        self._appended = 0
        self._save: Timer | None = None
        self._check: Timer | None = None
        self._operations: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "put-zone": lambda asked: self._put_zone(asked["id"], asked["zone"]),
            "change-zone": lambda asked: self._change_zone(asked["id"], asked["change"]),
            "drop-zone": lambda asked: self._drop_zone(asked["id"]),
            "put-sandbox": lambda asked: self._put_sandbox(asked["id"], asked["sandbox"]),
            "drop-sandbox": lambda asked: self._drop_sandbox(asked["id"]),
        }
        self._readings: dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
            "status": lambda _: self.status(),
            "zones": lambda _: {id_: zone_payload(zone) for id_, zone in self._zones.items()},
            "explain": self._explain,
        }

    def handle(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to one control message: ``{}`` when done, ``{"error": sentence}`` when not."""
        reading = self._readings.get(str(asked.get("op")))
        if reading is not None:
            return reading(asked)
        if wrong := self._done(asked):
            return {"error": wrong}
        self._changed(asked)
        return {}

    def _done(self, asked: Mapping[str, Any]) -> str:
        """Do what is asked; why it was not, or empty."""
        operation = self._operations.get(str(asked.get("op")))
        if operation is None:
            return f"no such operation: {asked.get('op')!r}"
        if not isinstance(asked.get("id"), str):
            return f"{asked['op']}: id must be a string"
        try:
            operation(asked)
        except KeyError as missing:
            return f"{asked['op']}: {missing} is missing"
        except MeshnetError as error:
            return str(error)
        return ""

    def status(self) -> Mapping[str, Any]:
        """Digests of what is remembered, what does not work, and the counters."""
        return {
            "version": VERSION,
            "pid": os.getpid(),
            **{kind: dict(digests) for kind, digests in self._digests.items()},
            "errors": dict(self._errors),
            "forwarding": self._shared.forwarder.bound.used,
            "connections": self._shared.connections.used,
            "loads": {task: box.load for task, box in self._open.items() if any(box.load.values())},
            "counters": self._counters.as_dict(),
        }

    def _explain(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a sandbox is answered to a question, why, and whom it would be forwarded to."""
        task, sandbox = TaskId(str(asked.get("id"))), self._open.get(TaskId(str(asked.get("id"))))
        if sandbox is None:
            return {"error": self._errors.get(task, f"nobody told of task {task}")}
        try:
            question = Question(str(asked["name"]), int(asked["type"]))
        except (KeyError, TypeError, ValueError) as wrong:
            return {"error": f"explain: {wrong!r}"}
        decision = sandbox.view.decide(question)
        said = decision.answer
        return {
            "why": decision.why.value,
            "network": decision.zone.network if decision.zone is not None else "",
            "addresses": list(said.told) if said is not None else [],
            "own": bool(sandbox.settings.upstreams),
            "upstreams": list(sandbox.upstreams) if said is None else [],
        }

    def restore(self) -> None:
        """Go on from the state file; without one, or with an unreadable one, from nothing.

        Sockets that were left and are nobody's now wait ``CHECK_S`` for meshnetd to tell of them.
        """
        self._loop.after(CHECK_S, self._drop_unclaimed)
        try:
            memory, messages = decode_memory(self._state.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, WireError) as error:
            _log.warning("starting empty: %s: %s", self._state, error)
            return
        for network, zone in memory.zones.items():
            self._put_zone(network, zone_payload(zone))
        for task, told in memory.sandboxes.items():
            try:
                self._put_sandbox(task, sandbox_payload(told))
            except KernelError as error:
                _log.warning("task %s: %s", task, error)
                self._errors[task] = str(error)
        for message in messages:
            said = self._done(message)
            if said:
                _log.warning("not restored: %s", said)
        _log.info("restored %d zones, %d sandboxes", len(self._zones), len(self._told))

    def save(self) -> None:
        """Append what came since the last time, or write the file whole or not at all."""
        self._save = None
        fresh, self._unsaved = b"".join(self._unsaved), []
        self._appended += len(fresh)
        try:
            if self._whole is None or self._appended > max(self._whole, LEAST_BYTES):
                self._whole = None
                packed = encode_memory(Memory(self._zones, self._told))
                partial = self._state.with_suffix(".partial")
                partial.touch(mode=0o600)
                partial.write_bytes(packed)
                partial.replace(self._state)
                self._whole, self._appended = len(packed), 0
            else:
                whole, self._whole = self._whole, None  # half a message would hide those behind it
                with self._state.open("r+b") as file:
                    file.seek(0, os.SEEK_END)
                    file.write(fresh)
                self._whole = whole
        except OSError as error:
            self._errors["state"] = f"{self._state}: {error.strerror}"
            _log.warning("a restart would forget: %s: %s", self._state, error)
        else:
            self._errors.pop("state", None)

    def close(self) -> None:
        """Write what is remembered; the sockets stay, the next process goes on with them."""
        if self._save is not None:
            self._save.cancel()
            self.save()

    def _changed(self, asked: Mapping[str, Any]) -> None:
        self._unsaved.append(msgpack.packb(asked))
        if self._save is None:
            self._save = self._loop.after(SAVE_S, self.save)

    def _put_zone(self, network: NetworkId, payload: Mapping[str, Any]) -> None:
        zone = zone_of(payload)
        self._keep_zone(network, zone, zone_sum(zone))

    def _change_zone(self, network: NetworkId, payload: Mapping[str, Any]) -> None:
        """What changed in a zone that we have as the teller knows it.

        Raises:
            WireError: we have another one, or none: it is to be told whole.
        """
        change = change_of(payload)
        zone = self._zones.get(network)
        if zone is None or self._digests["zones"].get(network) != change.before:
            raise WireError("meshnetd", f"a change of another zone than {network} is here")
        now = changed(zone, change)
        total = self._sums[network] - sum_of(zone, change.keys)
        self._keep_zone(network, now, total + sum_of(now, change.keys))

    def _keep_zone(self, network: NetworkId, zone: Zone, total: int) -> None:
        self._zones[network] = zone
        self._sums[network] = total
        self._digests["zones"][network] = zone_digest(total)
        self._refresh(network)

    def _drop_zone(self, network: NetworkId) -> None:
        self._zones.pop(network, None)
        self._sums.pop(network, None)
        self._digests["zones"].pop(network, None)
        self._refresh(network)

    def _refresh(self, network: NetworkId) -> None:
        for view in self._views.values():
            if network in view.networks:
                view.refresh(self._zones)

    def _put_sandbox(self, task: TaskId, payload: Mapping[str, Any]) -> None:
        told = sandbox_of(payload)
        sandbox = self._open.get(task)
        if sandbox is not None and sandbox.settings.netns == told.netns and not sandbox.gone:
            sandbox.settings, sandbox.view = told, self._view(told)  # no query is lost by a change
        else:
            self._drop_sandbox(task)
            self._answer_in(task, told)
        self._told[task] = told
        self._digests["sandboxes"][task] = digest(payload)
        self._forget_views()
        if self._check is None:
            self._check = self._loop.after(CHECK_S, self._look)

    def _answer_in(self, task: TaskId, told: SandboxDns) -> None:
        """Open the sandbox; a namespace that is not there is noted, anything else is raised."""
        view = self._view(told)
        try:
            self._open[task] = Sandbox(self._shared, view, told)
        except NotFoundError as error:
            self._errors[task] = str(error)
        else:
            self._errors.pop(task, None)

    def _view(self, told: SandboxDns) -> View:
        key = told.networks, told.stack
        if key not in self._views:
            view = self._views[key] = View(told.networks, told.stack)
            view.refresh(self._zones)
        return self._views[key]

    def _drop_sandbox(self, task: TaskId) -> None:
        told = self._told.pop(task, None)
        self._digests["sandboxes"].pop(task, None)
        self._errors.pop(task, None)
        sandbox = self._open.pop(task, None)
        if sandbox is not None:
            sandbox.close()
        if told is not None:
            self._forget_views()

    def _forget_views(self) -> None:
        used = {(other.networks, other.stack) for other in self._told.values()}
        self._views = {key: view for key, view in self._views.items() if key in used}

    def _drop_unclaimed(self) -> None:
        if number := self._shared.held.drop_unclaimed():
            _log.info("let go of the sockets of %d sandboxes that nobody told of", number)

    def _look(self) -> None:
        """Close what answers in a namespace that has gone, open what has come (back)."""
        self._check = None
        if not self._told:
            return
        for task, told in self._told.items():
            sandbox = self._open.get(task)
            if sandbox is not None and sandbox.gone:
                sandbox.close()
                del self._open[task]
                self._errors[task] = f"{told.netns} has gone"
                _log.info("task %s: %s has gone", task, told.netns)
            if task not in self._open:
                try:
                    self._answer_in(task, told)
                except KernelError as error:
                    self._errors[task] = str(error)
        self._check = self._loop.after(CHECK_S, self._look)
