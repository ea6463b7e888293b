"""The scenario that shows what meshnet is for: from nothing to a service that survives its host.

Each step runs real commands through :class:`Play` and raises :class:`StepError` when what it sees
is not what a user was promised. ``meshnet lab demo`` plays steps 1 to 9 aloud; the end-to-end test
plays all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from meshnet_control.lab.play import Play, StepError, answers, in_container, requests, round_robin

POOL = IPv4Network("10.0.0.0/8")
"""Where overlay subnets come from unless told otherwise."""

_NODE_NAMES = "docker service ps server -f desired-state=running --format '{{.Node}}'"
_CONTAINERS = "docker ps -q -f label=com.docker.swarm.service.name="


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it shows, and how."""

    title: str
    play: Callable[[Play], None]


def make_lab(play: Play) -> None:
    """1: hosts and an outside client."""
    play.show(f"$ meshnet lab up --hosts {play.lab.layout.size}")
    play.lab.up(lambda name, what: play.show(f"{name}: {what}") if what == "ready" else None)


def form_cluster(play: Play) -> None:
    """2: init on h1, join on the others."""
    first, *others = play.lab.layout.hosts
    play.on(first.name, f"docker swarm init --advertise-addr {first.address.ip}")
    token = play.on(first.name, "docker swarm join-token -q worker").strip()
    if not token.startswith("SWMTKN-1-"):
        raise StepError(f"not a join token: {token!r}")
    play.notes["token"] = token
    for host in others:
        play.on(host.name, f"docker swarm join --token {token} {first.name}:2377", secret=token)


def list_nodes(play: Play) -> None:
    """3: all nodes Ready, the first one leads."""
    names = [host.name for host in play.lab.layout.hosts]

    def ready(output: str) -> bool:
        lines = output.splitlines()[1:]
        leads = [line for line in lines if "Leader" in line]
        good = [line for line in lines if "Ready" in line and "Active" in line]
        return (
            len(lines) == len(good) == len(names)
            and len(leads) == 1
            and names[0] in leads[0].split()
        )

    play.until("h1", "docker node ls", ready)


def make_network(play: Play) -> None:
    """4: an overlay network beside the engine's own."""
    play.on("h1", "docker network create -d overlay --attachable discovery")
    wanted = {
        ("ingress", "overlay", "swarm"),
        ("discovery", "overlay", "swarm"),
        ("docker_gwbridge", "bridge", "local"),
        ("bridge", "bridge", "local"),
        ("host", "host", "local"),
        ("none", "null", "local"),
    }

    def shown(output: str) -> bool:
        return {tuple(line.split()[1:]) for line in output.splitlines()[1:]} == wanted

    play.until("h1", "docker network ls", shown, timeout_s=10)


def make_service(play: Play) -> None:
    """5: four replicas behind a published port."""
    said = play.on(
        "h1",
        "docker service create --name server --replicas 4 --network discovery"
        " -p 8080:80 meshnet/web:1",
    )
    if "converged" not in said:
        raise StepError("docker service create did not end in: verify: Service … converged")
    listed = play.on("h1", "docker service ls")
    if "4/4" not in listed:
        raise StepError("docker service ls does not say 4/4")
    placed = play.on("h1", "docker service ps server")
    hosts = {host.name for host in play.lab.layout.hosts}
    nodes = {word for line in placed.splitlines()[1:] for word in line.split() if word in hosts}
    if len(nodes) < min(4, len(hosts)):
        raise StepError(f"four tasks are on {sorted(nodes)} only")


def reach_by_name(play: Play) -> None:
    """6: the name leads to the VIP, the VIP to all tasks round robin, across hosts."""
    play.on("h1", "docker service create --name client --network discovery meshnet/tools:1")
    node, container = container_of(play, "client")
    found = play.on(node, in_container(container, "dig +short server")).split()
    if found != [service_vip(play, "server")]:
        raise StepError(f"server resolves to {found}, its VIP is {service_vip(play, 'server')}")
    if "127.0.0.11" not in play.on(node, in_container(container, "dig server | grep SERVER")):
        raise StepError("the answer did not come from 127.0.0.11")
    said = play.on(node, in_container(container, requests("http://server/", 8)))
    need_round_robin([answer.hostname for answer in answers(said)], 4)


def reach_from_outside(play: Play) -> None:
    """7: every node leads to all tasks round robin, and a task sees the client's own address."""
    for host in play.lab.layout.hosts:
        seen = answers(play.on("client", requests(f"http://{host.name}:8080/", 8)))
        need_round_robin([answer.hostname for answer in seen], 4)
        need_client_address(play, [answer.peer for answer in seen])
    play.on(
        "h1",
        "docker service create --name solo --constraint node.hostname==h1 -p 8081:80 meshnet/web:1",
    )
    for host in play.lab.layout.hosts:  # only h1 runs a task of solo
        seen = answers(play.on("client", requests(f"http://{host.name}:8081/", 2)))
        need_client_address(play, [answer.peer for answer in seen])
    play.on("h1", "docker service rm solo")


def scale_and_update(play: Play) -> None:
    """8: more replicas are found at once; an update goes one by one."""
    play.on("h1", "docker service scale server=6")
    node, container = container_of(play, "client")
    said = play.on(node, in_container(container, requests("http://server/", 12)))
    need_round_robin([answer.hostname for answer in answers(said)], 6)
    seen = answers(play.on("client", requests("http://h2:8080/", 12)))
    need_round_robin([answer.hostname for answer in seen], 6)
    play.on("h1", "docker service update --image meshnet/web:2 server", timeout_s=180)
    seen = answers(play.on("client", requests("http://h3:8080/", 12)))
    need_round_robin([answer.hostname for answer in seen], 6)
    if {answer.version for answer in seen} != {"2"}:
        raise StepError("a task of the old version still answers")


def lose_a_task(play: Play) -> None:
    """9a: a container removed behind our back comes back; nothing leads to the dead one."""
    node = play.quietly("h1", _NODE_NAMES).splitlines()[-1]
    victim = play.quietly(node, _CONTAINERS + "server").splitlines()[0]
    play.on(node, f"docker rm -f {victim}")
    play.until("h1", "docker service ls -f name=server", lambda said: "6/6" in said, timeout_s=60)
    need_only_living(play, avoid=victim, via="h1")


def lose_a_host(play: Play) -> None:
    """9b: a host dies; its tasks come back elsewhere."""
    dead = play.lab.layout.hosts[-1].name
    lost = play.quietly(dead, _CONTAINERS + "server").split()
    play.show(f"$ meshnet lab kill {dead}")
    play.lab.kill(dead)
    play.until(
        "h1",
        "docker node ls",
        lambda said: any(dead in row and "Down" in row for row in said.splitlines()),
        timeout_s=60,
    )

    def elsewhere(said: str) -> bool:
        rows = [row.split() for row in said.splitlines()]
        living = [row for row in rows if row[0] != dead and row[1] == "Running"]
        return len(living) == len(rows) == 6  # noqa: PLR2004

    states = "docker service ps server -f desired-state=running --format"
    play.until("h1", states + " '{{.Node}} {{.CurrentState}}'", elsewhere, timeout_s=60)
    for victim in lost:
        need_only_living(play, avoid=victim, via="h2")


def remove_services(play: Play) -> None:
    """10: services go, and with them their containers."""
    play.on("h1", "docker service rm server client")
    play.until("h1", "docker ps -q -f label=com.docker.swarm.service.name", lambda said: not said)


def remove_lab(play: Play) -> None:
    """10: the lab goes."""
    play.show("$ meshnet lab down")
    play.lab.down(lambda name, what: play.show(f"{name}: {what}"))


STEPS = (
    Step("Hosts on this machine", make_lab),
    Step("One cluster of them", form_cluster),
    Step("Its nodes", list_nodes),
    Step("An overlay network", make_network),
    Step("A service with four replicas", make_service),
    Step("By name, through the VIP, round robin", reach_by_name),
    Step("By port, on every node, with the client's own address", reach_from_outside),
    Step("Scaled and updated", scale_and_update),
    Step("A container is lost", lose_a_task),
    Step("A host is lost", lose_a_host),
    Step("Services removed", remove_services),
    Step("Nothing is left", remove_lab),
)
DEMO_STEPS = STEPS[:-2]
"""What ``meshnet lab demo`` plays: it leaves the lab up."""


def container_of(play: Play, service: str) -> tuple[str, str]:
    """Host and container id of a service's first running task."""
    listed = f"docker service ps {service} -f desired-state=running --format '{{{{.Node}}}}'"
    node = play.quietly("h1", listed).splitlines()[0]
    return node, play.quietly(node, _CONTAINERS + service).splitlines()[0]


def service_vip(play: Play, service: str, network: str = "discovery") -> str:
    """The VIP of a service on a network, as ``docker service inspect`` says it.

    Raises:
        StepError: it has none.
    """
    each = "{{range .Endpoint.VirtualIPs}}{{.NetworkID}} {{.Addr}}\n{{end}}"
    wanted = play.quietly("h1", f"docker network inspect -f '{{{{.ID}}}}' {network}")
    said = play.quietly("h1", f"docker service inspect -f '{each}' {service}")
    for row in said.splitlines():
        network_id, _, address = row.partition(" ")
        if network_id == wanted:
            vip = address.partition("/")[0]
            break
    else:
        raise StepError(f"{service} has no VIP on {network}: {said}")
    try:
        inside = IPv4Address(vip) in POOL
    except AddressValueError:
        inside = False
    if not inside:
        raise StepError(f"{service}: VIP {vip!r} is not in {POOL}")
    return vip


def need_round_robin(names: list[str], members: int) -> None:
    """Insist on strict round robin.

    Raises:
        StepError: the order that was seen.
    """
    if not round_robin(names, members):
        raise StepError(f"not {members} tasks in strict round robin: {' '.join(names)}")


def need_client_address(play: Play, peers: list[str]) -> None:
    """Insist on the outside client's own address.

    Raises:
        StepError: another address was seen by a task.
    """
    own = str(play.lab.layout.client.address.ip)
    if set(peers) != {own}:
        raise StepError(f"the tasks see {sorted(set(peers))}, the client is {own}")


def need_only_living(play: Play, *, avoid: str, via: str) -> None:
    """Insist that neither the mesh nor the VIP leads to a dead container, and that all six answer.

    Raises:
        StepError: a request failed, or was answered by fewer than six, or by the dead one.
    """
    seen = answers(play.on("client", requests(f"http://{via}:8080/", 12)))
    node, container = container_of(play, "client")
    inside = answers(play.on(node, in_container(container, requests("http://server/", 12))))
    for names in ([answer.hostname for answer in seen], [answer.hostname for answer in inside]):
        need_round_robin(names, 6)
        if avoid[:12] in names:
            raise StepError(f"{avoid[:12]} is dead and was answered for")
