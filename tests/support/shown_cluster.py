"""A cluster to be looked at: nodes, services and tasks, and what was counted of them."""

from __future__ import annotations

from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.store.store import Object

RUNNING, STARTING = pb.TASK_STATE_RUNNING, pb.TASK_STATE_STARTING
FAILED, SHUTDOWN = pb.TASK_STATE_FAILED, pb.TASK_STATE_SHUTDOWN
PENDING = pb.TASK_STATE_PENDING


def node(name: str, number: int, *, role: str = "worker", state: str = "ready") -> pb.Node:
    made = pb.Node(id=f"node{name}")
    made.description.hostname = name
    made.description.platform.os, made.description.platform.architecture = "linux", "x86_64"
    made.description.engine.engine_version = "20.10.24"
    made.description.resources.nano_cpus = 4 * 10**9
    made.description.resources.memory_bytes = 8 * 10**9
    made.spec.role, made.spec.availability = role, "active"
    made.status.state, made.status.addr = state, f"192.168.50.{10 + number}"
    made.manager_status.leader = role == "manager"
    return made


def service(name: str, replicas: int, image: str = "nginx:1.27", *, port: int = 0) -> pb.Service:
    made = pb.Service(id=f"service{name}", spec_version=1)
    made.spec.name = name
    made.spec.mode.replicated.replicas = replicas
    made.spec.task_template.container_spec.image = image
    made.endpoint.virtual_ips.add(network_id="net", addr=f"10.0.1.{2 + len(name)}/24")
    if port:
        made.endpoint.ports.add(target_port=80, published_port=port)
    return made


def task(
    of: pb.Service,
    slot: int,
    at: str,
    state: pb.TaskState = RUNNING,
    wanted: pb.TaskState = RUNNING,
    err: str = "",
) -> pb.Task:
    made = pb.Task(
        id=f"{of.id}-{slot}-{at}-{state}",
        service_id=of.id,
        service_name=of.spec.name,
        slot=slot,
        node_id=f"node{at}" if at else "",
        desired_state=wanted,
        spec_version=of.spec_version,
    )
    made.status.state, made.status.err = state, err
    made.status.timestamp.seconds = 1_700_000_000 + slot
    made.spec.container_spec.image = of.spec.task_template.container_spec.image
    made.spec.container_spec.env.append("PASSWORD=sesame")
    return made


def network() -> pb.Network:
    made = pb.Network(id="net")
    made.spec.name = "shop"
    return made


def answer(of: pb.Service, tasks: list[pb.Task], connections: list[int]) -> xpb.AskReply:
    """What nodes counted of a service."""
    reply = xpb.AskReply()
    said = reply.answers.add(node_id="nodeh1", hostname="h1").answer.balancing
    row = said.services.add(id=of.id, name=of.spec.name, mode="vip")
    for each, count in zip(tasks, connections, strict=True):
        counted = xpb.Counters(open=1, connections=count, packets=9 * count, bytes=700 * count)
        row.backends.add(
            task=each.id,
            name=f"{of.spec.name}.{each.slot}.{each.id}",
            node=each.node_id.removeprefix("node"),
            state="ready",
            counters=counted,
        )
    return reply


def shop() -> list[Object]:
    """Three nodes and a few services, with everything that is drawn differently."""
    nodes = [node("h1", 1, role="manager"), node("h2", 2), node("h3", 3), node("h4", 4)]
    nodes[3].status.state, nodes[2].spec.availability = "down", "drain"
    web, api = service("shop_web", 6, port=8080), service("shop_api", 4, "shop/api:2.1", port=9090)
    cache, jobs = service("shop_cache", 2, "redis:7"), service("mailer", 3, "shop/mailer:5")
    api.update_status.state, api.spec_version = "updating", 2
    rows = [task(web, slot, f"h{1 + slot % 2}") for slot in range(1, 7)]
    rows += [task(api, slot, f"h{1 + slot % 2}") for slot in range(1, 4)]
    rows += [task(api, 4, "h2", STARTING), task(api, 4, "h3", RUNNING, SHUTDOWN)]
    rows[6].spec_version = 1
    rows += [task(cache, 1, "h1"), task(cache, 2, "h2")]
    rows += [task(jobs, 1, "h2"), task(jobs, 2, "", PENDING, err="no suitable node")]
    rows += [task(jobs, 3, "h1", FAILED, err="task: non-zero exit (1)")]
    return [*nodes, web, api, cache, jobs, network(), *rows]


def traffic(at: float, bytes_s: dict[tuple[str, str], float]) -> xpb.AskReply:
    """What nodes counted of each other ``at`` seconds: sender and receiver -> bytes a second."""
    reply = xpb.AskReply()
    for host in sorted({to for _, to in bytes_s}):
        said = reply.answers.add(node_id=f"node{host}", hostname=host).answer.traffic
        said.at = at
        for (sender, to), rate in bytes_s.items():
            if to == host:
                count = int(at * rate)
                said.links.add(node=f"node{sender}", packets=count // 100, bytes=count)
        through = int(at * sum(bytes_s.values()))
        said.overlays.add(network="shop", sent_packets=through // 100, sent_bytes=through)
    return reply
