"""A cluster from the request of a client to the desired state of a kernel, in one process.

    request ─> gateway ─> store ─> orchestration ─> assignments ─> containers, Snapshot ─> rules

Everything but the engine and the kernel is the product's own code, and nothing waits.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlencode

import from_scratch
from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from meshnet.errors import ControlError
from meshnet.gwbridge.desired import desired as gwbridge_state
from meshnet.model.ids import NodeId, TaskId
from meshnet.model.snapshot import Gwbridge, Sandbox, Snapshot
from meshnet.overlay.desired import desired as overlay_state
from meshnet_control.agent import container, mounts, task_networks
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import assignments, gossip_records
from meshnet_control.cluster.node_state import NodeState, merge
from meshnet_control.gateway.app import application
from meshnet_control.gateway.engine_http import EngineVersion
from meshnet_control.gateway.routes import swarm_events
from meshnet_control.orchestrate import pipeline
from meshnet_control.orchestrate.allocate import ingress_network
from meshnet_control.orchestrate.store_view import StoreView
from meshnet_control.store.memory import Memory
from meshnet_control.store.store import Change, Delete, Expect, Key, Object, Put, Where
from meshnet_dns import operations as resolver
from meshnet_dns import redirect
from meshnet_lb import rules

NODE, WORKER = "c05ykilrz2cfspy1oomwnmsyg", "7oq94r9c0b8adccmhpv7nniat"
CLUSTER, OVERLAY = "j0cgxhrut7w9ohuidf9b99ohh", "overlay0overlay0overlay00"
SECRET, CONFIG = "secret00secret00secret000", "config00config00config000"
SERVICE = "service0service0service00"
BRIDGE = Gwbridge("docker_gwbridge", IPv4Network("172.18.0.0/16"), IPv4Network("172.18.0.0/16")[1])
IMAGE = {"Config": {"Cmd": ["sh"], "Entrypoint": None}}
_STEP_S = 3.0


class VolatileStore:
    """A store without a file: the product's own memory of objects, committed at once."""

    def __init__(self, objects: Sequence[Object]) -> None:
        self._memory = Memory(0, ())
        self._now_ns = 10**18
        self.changes: list[Change] = []
        self._write([Put(each) for each in objects], {})

    @property
    def revision(self) -> int:
        return self._memory.revision

    @property
    def trouble(self) -> str:
        return ""

    async def get(self, kind: Any, id: str) -> Any:  # noqa: A002 - the protocol's
        return self._memory.get(kind, id)

    async def list(self, kind: Any, where: Where | None = None) -> Any:
        return self._memory.all(kind, where)

    async def commit(self, writes: Sequence[Put | Delete], expect: Expect | None = None) -> int:
        return self._write(writes, expect or {})

    def _write(self, writes: Sequence[Put | Delete], expect: Expect) -> int:
        self._now_ns += 10**6
        changes = self._memory.prepare(writes, expect, self._now_ns)
        for change in changes:
            if change.message is not None:  # what a file would hold
                type(change.message).FromString(change.message.SerializeToString())
        if changes:
            self._memory.apply(changes)
            self.changes.extend(changes)
        return self.revision

    def watch(self, from_revision: int) -> AsyncIterator[Sequence[Change]]:
        return self._memory.watch(from_revision)

    async def close(self) -> None:
        self._memory.close()


class QuietEngine:
    """An engine with a bridge, and a polite answer to everything that is passed on."""

    path = Path("/run/engine.sock")

    async def version(self) -> EngineVersion:
        return EngineVersion((1, 41), "20.10.24+dfsg1")

    async def json(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        if path == "/networks" or path.endswith("/networks/"):
            return [{"Name": "bridge", "Id": "4a09de50c461"}]
        if path.startswith("/networks/"):
            if path.endswith(("/bridge", "/4a09de50c461")):
                return {"Name": "bridge", "Id": "4a09de50c461"}
            raise ControlError("network not found", 404)
        return {"ApiVersion": "1.41", "Version": "20.10.24+dfsg1"}

    async def told(self, method: str, path: str, body: object = None) -> None:
        """It does it."""

    async def relay(self, request: web.Request, body: bytes) -> web.Response:
        listed = request.path.endswith("/containers/json")
        return web.Response(body=b"[]" if listed else b"{}", status=200)


class Host:
    """This node, a manager."""

    gives_way = False

    def __init__(self, store: VolatileStore | None) -> None:
        self._store = store

    def answering(self, method: str) -> AbstractContextManager[None]:
        return nullcontext()

    @property
    def state(self) -> str:
        return "manager" if self._store is not None else "inactive"

    async def init(self, request: pb.SwarmInitRequest) -> str:
        return NODE

    async def join(self, request: pb.SwarmJoinRequest) -> None:
        return None

    async def leave(self, *, force: bool) -> None:
        return None

    def swarm_info(self) -> pb.SwarmInfo:
        return pb.SwarmInfo(node_id=NODE, local_node_state="active", control_available=True)

    def store(self) -> VolatileStore | None:
        return self._store

    def logs(self) -> None:
        return None

    def attaching(self) -> None:
        return None

    def overlays(self) -> None:
        return None

    def warnings(self) -> list[str]:
        return []


def first_objects(rng: random.Random) -> list[Object]:
    """A cluster of two nodes with one object of each kind that services refer to."""
    cluster = pb.Cluster(id=CLUSTER, subnet_size=24, data_path_port=4789)
    cluster.spec.name = "default"
    cluster.spec.ca_config.node_cert_expiry = 7776000000000000
    cluster.spec.orchestration.task_history_retention_limit = 5
    cluster.join_tokens.worker = f"SWMTKN-1-{'a' * 50}-{'b' * 25}"
    cluster.join_tokens.manager = f"SWMTKN-1-{'a' * 50}-{'c' * 25}"
    nodes = []
    for number, (name, role) in enumerate(((NODE, "manager"), (WORKER, "worker")), start=1):
        node = pb.Node(id=name)
        node.spec.role, node.spec.availability = role, "active"
        node.description.hostname, node.status.state = f"h{number}", "ready"
        node.description.resources.nano_cpus = 64 * 10**9
        node.description.resources.memory_bytes = 2**40
        node.status.addr = f"192.168.50.{10 + number}"
        nodes.append(node)
    overlay = pb.Network(id=OVERLAY)
    overlay.spec.name, overlay.spec.driver_configuration.name = "net", "overlay"
    secret, config = pb.Secret(id=SECRET), pb.Config(id=CONFIG)
    secret.spec.name, secret.spec.data = "secret", b"s"
    config.spec.name, config.spec.data = "config", b"c"
    service = pb.Service(id=SERVICE)
    service.spec.name = "old"
    service.spec.task_template.container_spec.image = "web:1"
    service.spec.task_template.runtime = "container"
    service.spec.mode.replicated.replicas = 1
    return [cluster, *nodes, ingress_network(rng), overlay, secret, config, service]


class WholeCluster:
    """One cluster, and every stage a request's effects go through."""

    def __init__(self, seed: int = 1, *, inactive: bool = False) -> None:
        self._rng = random.Random(seed)
        self.store = VolatileStore(first_objects(self._rng))
        host: Any = Host(None if inactive else self.store)
        engine: Any = QuietEngine()
        self._app = application(host, engine)
        self._app.freeze()
        self._now = 2_000_000_000.0
        self._before: dict[str, pb.Assignments] = {}

    async def ask(
        self, method: str, path: str, body: bytes = b"", query: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request, as a client's; whatever is raised comes out."""
        loop = asyncio.get_running_loop()
        payload = StreamReader(Mock(_reading_paused=False), 2**16, loop=loop)
        payload.feed_data(body)
        payload.feed_eof()
        target = path + (f"?{urlencode(query)}" if query else "")
        request = make_mocked_request(method, target, app=self._app, payload=payload)
        try:
            answer = await self._app._handle(request)
        except web.HTTPException as error:  # aiohttp answers with it
            answer = error
        assert isinstance(answer, web.Response)
        said = answer.body or b""
        assert isinstance(said, bytes)
        return answer.status, said

    async def version(self, kind: Any, name: str) -> int:
        """``Version.Index`` of an object; 0: there is none."""
        found = await self.store.get(kind, name)
        return 0 if found is None else found.version.asked

    async def settle(self, rounds: int = 4) -> None:
        """Orchestrate, run what was assigned, let time pass; again."""
        for _ in range(rounds):
            view = await self.view()
            step = pipeline.converge(view, self._now, self._rng)
            await self.store.commit(step.writes)
            assert not pipeline.converge(await self.view(), self._now, self._rng).writes
            await self._run_tasks()
            self._now += _STEP_S

    async def view(self) -> StoreView:
        """Everything the orchestration looks at."""
        kinds = (pb.Cluster, pb.Node, pb.Service, pb.Task, pb.Network)
        return StoreView.of([each for kind in kinds for each in await self.store.list(kind)])

    async def _run_tasks(self) -> None:
        moved = []
        for task in await self.store.list(pb.Task):
            if pb.TASK_STATE_ASSIGNED <= task.status.state < pb.TASK_STATE_RUNNING:
                task.status.state = pb.TASK_STATE_RUNNING
                moved.append(Put(task))
            elif task.desired_state > pb.TASK_STATE_RUNNING >= task.status.state:
                task.status.state = pb.TASK_STATE_SHUTDOWN
                moved.append(Put(task))
        await self.store.commit(moved)

    async def reach_the_kernel(self) -> list[Snapshot]:
        """What both nodes make of the store: messages, containers, Snapshots, desired states."""
        kinds = (pb.Node, pb.Service, pb.Task, pb.Network, pb.Secret, pb.Config)
        by_id = [{each.id: each for each in await self.store.list(kind)} for kind in kinds]
        objects = assignments.Objects((await self.store.list(pb.Cluster))[0], *by_id)
        records: dict[tuple[NodeId, str], bytes] = {}
        told, sandboxes = {}, {}
        for name in (NODE, WORKER):
            told[name] = self._told(objects, name)
            sandboxes[name] = dict(_contained(task, name, records) for task in told[name].tasks)
        decoded = gossip_records.decode_endpoints(records)
        assert len(decoded) == len(records), "every record of ours can be read"
        return [_realised(name, told[name], records, sandboxes[name]) for name in told]

    def _told(self, objects: assignments.Objects, name: str) -> pb.Assignments:
        new = assignments.node_assignments(objects, name)
        old = self._before.get(name)
        message = new if old is None else assignments.difference(old, new)
        wired = pb.Assignments.FromString((message or pb.Assignments()).SerializeToString())
        if old is not None and message is not None:
            assert merge(NodeState.of(old), wired) == NodeState.of(new)
        self._before[name] = new
        return new

    def events(self) -> None:
        """Every change so far as clients of ``/events`` read it."""
        known: dict[Key, swarm_events.Known] = {}
        for change in self.store.changes:
            key = (change.kind, change.id)
            said = swarm_events.event(known.get(key), change, 0)
            if change.message is not None:
                known[key] = swarm_events.known(change.message)
            if said is not None:
                assert swarm_events.line(said).count(b"\n") == 1


def _contained(
    task: pb.Task, node: str, records: dict[tuple[NodeId, str], bytes]
) -> tuple[TaskId, Sandbox]:
    """A task's container, its files, its namespace and its record, as its node makes them."""
    gateway = IPv4Interface("172.18.0.3/16") if task_networks.needs_gateway(task) else None
    place = container.Place(node_id=node, hostname="h1", architecture="x86_64")
    try:
        container.create_arguments(task, IMAGE, place, Path("/run/t"), gateway)
    except ControlError as refused:
        assert refused.message, "the task is rejected, and says why"  # noqa: PT017
    task_networks.hosts_file(task, "h1", IPv4Address("172.18.0.1")).encode()
    for _, _, file, _ in mounts.file_targets(task):
        for number in (file.uid, file.gid):
            assert 0 <= int(number or 0) < 2**32 - 1, "chown(2) takes it"
        assert file.mode <= 0o7777, "chmod(2) takes it"
    endpoint = task_networks.endpoint_of(task, node, "c" * 64, hostname="h1", ready=True)
    records[NodeId(node), gossip_records.endpoint_key(endpoint.task)] = (
        gossip_records.encode_endpoint(endpoint)
    )
    return endpoint.task, task_networks.sandbox_of(task, f"/run/netns/{task.id}", gateway)


def _realised(
    name: str,
    told: pb.Assignments,
    records: Mapping[tuple[NodeId, str], bytes],
    sandboxes: Mapping[TaskId, Sandbox],
) -> Snapshot:
    """The Snapshot of a node, and everything its reconcilers want for it."""
    built = from_scratch.build(
        revision=1,
        self_id=NodeId(name),
        assignments=NodeState.of(told),
        records=records,
        sandboxes={task: box for task, box in sandboxes.items() if box.networks},
        gwbridge=BRIDGE,
        complete=True,
    )
    overlay_state(built, Path("/run/meshnet/netns"))
    gwbridge_state(built)
    for rulesets in (rules.rulesets(built), redirect.rulesets(built)):
        assert all("\n" not in str(path) for path in rulesets)
    resolver.plan(resolver.desired(built), resolver.Observed(), prune=True)
    return built
