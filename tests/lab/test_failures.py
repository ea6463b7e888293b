"""When things go wrong: one clear sentence, exit status not 0, nothing half-done; then it works.

Tests build on each other from a host in no cluster to two hosts in one; each leaves it as it says.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from meshnet_control.lab import adapter
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
NAME = "mnfail"
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
FORMED = f"SWMTKN-1-{'1' * 50}-{'2' * 25}"
PORTS = (("tcp", 2377), ("tcp", 7946), ("udp", 7946), ("udp", 4789))
HOLD = """
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
held = socket.socket(socket.AF_INET, kind)
if sys.argv[1] == "tcp":
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
held.bind(("", int(sys.argv[2])))
if sys.argv[1] == "tcp":
    held.listen()
print("held", flush=True)
sys.stdin.read()
"""
END = "p=$(cat /run/meshnet/meshnet-supervisor.pid); kill $p; while kill -0 $p; do sleep 0.05; done"


@pytest.fixture(scope="module")
def play():
    """
    Name: play; Scope: module; Depends: nothing.

    A lab of two hosts in no cluster, removed whatever happens.
    """
    lab = Lab(Layout(NAME, 2))
    lab.down(lambda *_: None)
    try:
        lab.up(lambda *_: None)
        yield Play(lab, show=print)
    finally:
        lab.down(lambda *_: None)


@pytest.fixture(scope="module")
def manager(play):
    """
    Name: manager; Scope: module; Depends: play.

    h1 is the manager of a cluster.
    """
    does(play, "h1", "docker swarm init")
    return play


@pytest.fixture(scope="module")
def cluster(manager):
    """
    Name: cluster; Scope: module; Depends: manager.

    h2 is a worker in it.
    """
    does(manager, "h2", f"docker swarm join --token {token(manager)} h1:2377")
    return manager


def does(play: Play, host: str, command: str) -> str:
    """What a command says that must not fail."""
    code, said = play.attempt(host, command)
    assert code == 0, said
    return said.strip()


def refuses(play: Play, host: str, command: str, *words: str) -> None:
    """A command ends with a status that is not 0, and with one sentence that holds the words."""
    code, said = play.attempt(host, command)
    assert code != 0, said
    lines = [line for line in said.splitlines() if line not in {"", "[]", "exit status 1"}]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    for word in words:
        assert word in lines[0]


def token(play: Play) -> str:
    return does(play, "h1", "docker swarm join-token -q worker")


def swarm(play: Play, host: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(
        does(play, host, "docker info --format '{{json .Swarm}}'")
    )
    return found


def tasks(play: Play, service: str) -> list[str]:
    form = "{{.CurrentState}}: {{.Error}}"
    said = does(play, "h1", f"docker service ps --no-trunc --format '{form}' {service}")
    return said.splitlines()


@contextlib.contextmanager
def held(play: Play, host: str, kind: str, port: int) -> Iterator[None]:
    """Another program on ``host`` holds a port."""
    argv = play.lab.command(host, [sys.executable, "-c", HOLD, kind, str(port)])
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate()  # the end of its input ends it


# ---- before there is a cluster ----


@pytest.mark.parametrize(
    "command", ["up", "down", "status", "lab up", "lab down", "lab exec h1 id"]
)
def test_an_ordinary_user_is_told_to_be_root(play, command):
    refuses(play, "h1", f"{' '.join(NOBODY)} meshnet {command}", "must be run as root")


def test_no_engine(play):
    nowhere = "MESHNET_ENGINE=unix:///run/nowhere.sock MESHNET_RUN_DIR=/run/other"
    sentence = "Cannot connect to the Docker daemon at unix:///run/nowhere.sock"
    refuses(play, "h1", f"env {nowhere} meshnet up", sentence)
    assert play.attempt("h1", "ls /run/other")[0] != 0


@pytest.mark.parametrize(
    "command", ["service ls", "node ls", "secret ls", "swarm join-token worker"]
)
def test_a_node_in_no_cluster_says_how_to_be_in_one(play, command):
    refuses(play, "h1", f"docker {command}", 'Use "docker swarm init" or "docker swarm join"')


def test_leaving_no_cluster(play):
    refuses(play, "h1", "docker swarm leave", "This node is not part of a swarm")


@pytest.mark.parametrize(
    ("given", "remote", "words"),
    [
        ("foo", "h2:2377", "invalid join token"),
        (f"{FORMED}0", "h2:2377", "invalid join token"),
        (FORMED, "h2:2377", "connect: connection refused"),
        (FORMED, "nowhere:2377", "lookup nowhere: no such host"),
        (FORMED, "192.168.50.77:2377", "192.168.50.77:2377: connect: no route to host"),
        (FORMED, "h2:abc", "dial tcp: address h2:abc: invalid port"),
        (FORMED, "h2:99999", "dial tcp: address h2:99999: invalid port"),
    ],
)
def test_a_manager_that_cannot_be_joined(play, given, remote, words):
    began = time.monotonic()
    refuses(play, "h1", f"docker swarm join --token {given} {remote}", words)
    assert time.monotonic() - began < 25
    assert swarm(play, "h1")["LocalNodeState"] == "inactive"


@pytest.mark.parametrize(("kind", "port"), PORTS)
def test_init_when_a_port_is_taken_leaves_nothing(play, kind, port):
    kept = play.lab.layout.state_dir("h1") / "meshnet"
    before = {path.name for path in kept.iterdir()} | {"manages"}  # of one that stands by
    with held(play, "h1", kind, port):
        sentence = f"listen {kind} 0.0.0.0:{port}: bind: address already in use"
        refuses(play, "h1", "docker swarm init", sentence)
    assert swarm(play, "h1")["LocalNodeState"] == "inactive"
    assert {path.name for path in kept.iterdir()} <= before
    assert not before & {"state.json", "store.db", "etcd"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--advertise-addr 300.1.1.1", "neither an IPv4 address nor an interface"),
        ("--listen-addr 10.9.9.9", "listen address 10.9.9.9 is not an address of this host"),
        ("--data-path-addr 10.9.9.9", "10.9.9.9 is not an address of this host"),
        ("--default-addr-pool 10.20.0.0/16 --default-addr-pool-mask-length 40", "out of range: 40"),
        ("--default-addr-pool 10.20.0.0/26", "Subnet size is too small for pool: 24"),
    ],
)
def test_init_with_what_cannot_be(play, options, words):
    refuses(play, "h1", f"docker swarm init {options}", words)
    assert swarm(play, "h1")["LocalNodeState"] == "inactive"


def test_a_cluster_that_is_born_locked_serves_at_once(play):
    said = does(play, "h1", "docker swarm init --autolock")
    assert "SWMKEY-1-" in said
    assert "h1" in does(play, "h1", "docker node ls")
    does(play, "h1", "docker swarm leave --force")


def test_the_ingress_network_keeps_clear_of_the_hosts_own_networks(play):
    route = "10.0.0.0/24 dev own0"
    does(play, "h1", "ip link add own0 type bridge && ip link set own0 up")
    try:
        does(play, "h1", "ip addr add 10.0.0.5/24 dev own0")
        does(play, "h1", "docker swarm init --advertise-addr eth0")
        form = "{{(index .IPAM.Config 0).Subnet}}"

        def subnet() -> str:
            asked = f"docker network inspect -f '{form}' ingress"
            return str(play.attempt("h1", asked)[1]).strip()

        adapter.wait_for("the subnet", lambda: subnet() == "10.0.1.0/24", timeout_s=5)
        network = "docker network create -d overlay --subnet 10.0.0.0/25 n"
        refuses(play, "h1", network, f"overlaps with the route {route} of this host")
        does(play, "h1", "docker swarm leave --force")
    finally:
        play.attempt("h1", "docker swarm leave --force; ip link del own0")
    assert swarm(play, "h1")["LocalNodeState"] == "inactive"


# ---- a manager ----


def test_init_twice(manager):
    refuses(manager, "h1", "docker swarm init", "This node is already part of a swarm")


def test_the_last_manager_leaves_by_force_only(manager):
    refuses(manager, "h1", "docker swarm leave", "Use `--force` to ignore this message")


def test_tokens_that_do_not_open(manager):
    stale = token(manager)
    does(manager, "h1", "docker swarm join-token --rotate -q worker")
    secret, other = stale.rpartition("-")[2], FORMED.rpartition("-")[0]
    necessary = "A valid join token is necessary to join this cluster"
    refuses(manager, "h2", f"docker swarm join --token {stale} h1:2377", necessary)
    foreign = f"docker swarm join --token {other}-{secret} h1:2377"
    refuses(manager, "h2", foreign, "remote CA does not match fingerprint")
    assert swarm(manager, "h2")["LocalNodeState"] == "inactive"
    assert len(does(manager, "h1", "docker node ls -q").splitlines()) == 1


@pytest.mark.parametrize(("kind", "port"), PORTS[1:])
def test_join_when_a_port_is_taken_leaves_nothing(manager, kind, port):
    with held(manager, "h2", kind, port):
        sentence = f"listen {kind} 0.0.0.0:{port}: bind: address already in use"
        refuses(manager, "h2", f"docker swarm join --token {token(manager)} h1:2377", sentence)
    assert swarm(manager, "h2")["LocalNodeState"] == "inactive"
    assert len(does(manager, "h1", "docker node ls -q").splitlines()) == 1


# ---- a manager and a worker ----


@pytest.mark.parametrize("command", ["swarm init", f"swarm join --token {FORMED} h1:2377"])
def test_joining_twice(cluster, command):
    refuses(cluster, "h2", f"docker {command}", "This node is already part of a swarm")


@pytest.mark.parametrize(
    "command",
    ["service ls", "service create meshnet/web:1", "node ls", "network create -d overlay n"],
)
def test_a_worker_is_not_a_manager(cluster, command):
    refuses(cluster, "h2", f"docker {command}", "Worker nodes can't be used to view or modify")


def test_networks_and_services_that_cannot_be(cluster):
    does(cluster, "h1", "docker network create -d overlay --subnet 10.77.0.0/24 n1")
    does(cluster, "h1", "sh -c 'echo hi | docker secret create s1 -'")
    create = "docker service create -q -d"
    uses = "--network n1 --secret s1 -p 8080:80"
    service = does(cluster, "h1", f"{create} --name a {uses} meshnet/web:1").split()[-1]
    network = "docker network create -d overlay"
    for command, words in (
        (f"{network} --subnet 192.168.50.0/24 n2", "192.168.50.0/24 dev eth0 of this host"),
        (f"{network} --subnet 10.77.0.0/25 n2", "overlaps with 10.77.0.0/24 of network n1"),
        (f"{network} --subnet 10.77.1.1/24 n2", "it should be 10.77.1.0/24"),
        (f"{network} n1", "network with name n1 already exists"),
        (f"{create} --name b --secret nope meshnet/web:1", "secret not found: nope"),
        (f"{create} --name b --config nope meshnet/web:1", "config not found: nope"),
        (f"{create} --name a meshnet/web:1", "service a already exists"),
        (
            f"{create} --name b -p 8080:80 meshnet/web:1",
            f"port '8080' is already in use by service 'a' ({service}) as an ingress port",
        ),
        ("docker network rm n1", f"is in use by service {service}"),
        ("docker secret rm s1", "secret 's1' is in use by the following service: a"),
    ):
        refuses(cluster, "h1", command, words)
    # The CLI 20.10 says "No such network: nope", others show our "network nope not found".
    refuses(cluster, "h1", f"{create} --name b --network nope meshnet/web:1", " network", "nope")
    refuses(cluster, "h1", "docker service rm nope", " service", "nope")
    assert does(cluster, "h1", "docker service ls --format '{{.Name}}'") == "a"
    names = does(cluster, "h1", "docker network ls -q --filter driver=overlay")
    assert len(names.splitlines()) == 2


def test_an_unknown_image_is_rejected_in_the_engines_words_and_not_in_a_tight_loop(cluster):
    does(cluster, "h1", "docker service create -q -d --name unknown nosuch/image:1")
    words = "No such image: nosuch/image:1"

    def rejected() -> bool:
        return any("Rejected" in task and words in task for task in tasks(cluster, "unknown"))

    adapter.wait_for("the task to be rejected", rejected, timeout_s=15)
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        assert len(tasks(cluster, "unknown")) <= 2
        time.sleep(0.3)
    does(cluster, "h1", "docker service rm unknown")


def test_a_published_port_that_a_program_of_the_host_holds_stays_its_own_there(cluster):
    def answers(host: str) -> bool:
        code, said = cluster.attempt("client", f"curl -sS -m 2 http://{host}:8081/")
        return bool(code == 0 and said.startswith("web:1 "))

    with held(cluster, "h1", "tcp", 8081):
        does(cluster, "h1", "docker service create -q -d --name held -p 8081:80 meshnet/web:1")
        adapter.wait_for("the service to answer", lambda: answers("h2"), timeout_s=15)
        assert not answers("h1")
        assert "8081/tcp does not lead to its service on this node" in does(
            cluster, "h1", "docker info 2>&1"
        )
    adapter.wait_for("the service to answer there too", lambda: answers("h1"), timeout_s=15)
    does(cluster, "h1", "docker service rm held")


# ---- a port is taken while one is away ----


def test_a_manager_that_cannot_go_on_says_why_and_goes_on_later(cluster):
    who = swarm(cluster, "h1")["NodeID"]
    freeze = "kill -{} $(cat /run/meshnet/meshnet-supervisor.pid)"
    does(cluster, "h1", f"sh -c '{freeze.format('STOP')}'")
    does(cluster, "h1", "sh -c 'kill -9 $(cat /run/meshnet/meshnet-manager.pid)'")
    with held(cluster, "h1", "tcp", 2377):
        does(cluster, "h1", f"sh -c '{freeze.format('CONT')}'")

        def says_why() -> bool:
            return swarm(cluster, "h1")["LocalNodeState"] == "error"

        adapter.wait_for("the manager to say why", says_why, timeout_s=20)
        sentence = "listen tcp 0.0.0.0:2377: bind: address already in use"
        said = swarm(cluster, "h1")
        assert (said["LocalNodeState"], said["NodeID"]) == ("error", who)
        assert sentence in str(said["Error"])
        refuses(cluster, "h1", "docker service ls", "This manager is not ready", sentence)
        refuses(cluster, "h1", "docker swarm init", "This node is already part of a swarm")

    def back() -> bool:
        return bool(cluster.attempt("h1", "docker service ls")[0] == 0)

    adapter.wait_for("the manager to be back", back, timeout_s=20)
    assert swarm(cluster, "h1")["NodeID"] == who


def test_a_worker_that_cannot_go_on_may_leave_and_leaves_nothing(cluster):
    does(cluster, "h2", f"sh -c '{END}' 2>/dev/null")
    with held(cluster, "h2", "tcp", 7946):
        does(cluster, "h2", "meshnet up")
        said = swarm(cluster, "h2")
        assert said["LocalNodeState"] == "error"
        assert "7946" in str(said["Error"])
        does(cluster, "h2", "docker swarm leave")
    assert swarm(cluster, "h2")["LocalNodeState"] == "inactive"
    assert does(cluster, "h2", "ip netns") == ""
    assert "mn-ingress" not in does(cluster, "h2", "ip -o link")
    assert "meshnet" not in does(cluster, "h2", "nft list tables")
    label = "label=com.docker.swarm.task.id"
    assert does(cluster, "h2", f"docker ps -aq --filter {label}") == ""
    does(cluster, "h2", f"docker swarm join --token {token(cluster)} h1:2377")


def test_an_engine_that_dies_is_said_to_be_dead(cluster):
    does(cluster, "h2", "sh -c 'kill -9 $(cat /run/docker.pid)'")
    said = cluster.attempt("h2", "docker ps")
    assert said[0] != 0
    assert "Cannot connect to the Docker daemon at unix:///run/docker.sock" in said[1]
