"""The docker CLIs of this machine against the gateway: what a user types and what they print.

Every distinct CLI found plays the same commands on one lab of two hosts. Refusals and listings are
read from the CLI's own output; hijacked streams (exec, attach, run, logs -f, build, cp) are real.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import every_key
import pytest
from docker_clis import distinct_clis
from update_flags import ADDED, ELSEWHERE, REMOVED, value_at

from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.lab, pytest.mark.timeout(150)]
NAME = "mncli"
LIMIT_S = 20
"""No scripted command of the CLI waits longer."""
TIMED_OUT = 124
"""Exit status of timeout(1)."""
STACK = """
version: "3.8"
services:
  front:
    image: meshnet/web:1
    ports: ["PORT:80"]
    networks: [inner]
    configs: [page]
    deploy: {replicas: 2}
  back:
    image: meshnet/tools:1
    command: sleep 1000
    networks: [inner]
    secrets: [word]
    deploy: {mode: global}
networks: {inner: {driver: overlay, attachable: true}}
secrets: {word: {file: ./word}}
configs: {page: {file: ./page}}
"""
REFUSED = [
    ("node demote h1", "attempting to demote the last manager"),
    ("swarm update --external-ca protocol=cfssl,url=https://ca", "an external CA is not"),
    ("swarm init", "already part of a swarm"),
    ("swarm leave", "Use `--force`"),
    (
        "service create --mode replicated-job --update-delay 1s meshnet/web:1",
        "update and rollback configuration is not supported for jobs",
    ),
    ("service create --endpoint-mode dnsrr -p 80:80 meshnet/web:1", "can't be used with dnsrr"),
    ("service create --constraint nothing meshnet/web:1", "constraint expected one operator"),
    ("service create --network none meshnet/web:1", "The network none cannot be used with serv"),
    ("network create -d overlay --scope local n", "cannot downgrade network scope for overlay"),
    ("service inspect nosuch", "no such service: nosuch"),
    ("network create -d overlay --opt encrypted=so n", "invalid value 'so' of option encrypted"),
    ("network inspect nosuch", "nosuch"),
    ("node rm h2", "is not down and can't be removed"),
    ("node inspect nosuch", "nosuch"),
]

STATE = "'{{with .UpdateStatus}}{{.State}}{{end}}'"
TASK = "json .Spec.TaskTemplate"
UPDATES = [
    # what is typed, where it is seen, what is seen there
    ("--image meshnet/web:2", f"{TASK}.ContainerSpec.Image", r"meshnet/web:2"),
    ("--env-add A=1 --env-add B=2", f"{TASK}.ContainerSpec.Env", r'(?=.*"A=1").*"B=2"'),
    ("--env-rm B --label-add x=y", f"{TASK}.ContainerSpec.Env", r'^\["A=1"\]$'),
    ("--publish-add 8095:80", "json .Endpoint.Ports", r'"PublishedPort":8095'),
    ("--publish-rm 80 --secret-add {secret}", "json .Endpoint.Ports", r"^(null|\[\])$"),
    ("--network-add {second}", "len .Endpoint.VirtualIPs", r"^2$"),
    (
        "--network-rm {first} --mount-add type=tmpfs,target=/t",
        f"{TASK}.ContainerSpec",
        r'"Target":"/t"[\s\S]*"SecretName":',
    ),
    ("--secret-rm {secret}", "len .Endpoint.VirtualIPs", r"^1$"),
    # forced: a task that fits by chance is not replaced, and then there is no update to speak of
    ("--constraint-add node.labels.{label}==b --force", f"{TASK}.Placement", r"==b"),
    ("--constraint-rm node.labels.{label}==b --force", f"{TASK}.Placement", r"^[^=]*$"),
    ("--update-order start-first --env-add C=3", "json .Spec.UpdateConfig", r"start-first"),
    ("--rollback", f"{TASK}.ContainerSpec.Env", r'^\["A=1"\]$'),
]


def says(words: str) -> Callable[[str], bool]:
    """True for an output with these words in it."""
    return lambda output: words in output


class Cli:
    """One docker CLI on one host of the lab.

    Args:
        play: the lab's.
        path: the CLI.
        mark: what the names of its objects end in, so that two CLIs share a lab.
    """

    def __init__(self, play: Play, path: str, mark: str) -> None:
        self.play, self.path, self.mark = play, path, mark
        self.docker = f"timeout {LIMIT_S} {path}"
        """The CLI in a shell command: none waits for ever."""

    def __call__(self, line: str, host: str = "h1") -> str:
        return self.play.on(host, f"{self.docker} {line}")

    def refused(self, line: str, host: str = "h1") -> str:
        """What a command that fails says."""
        code, said = self.play.attempt(host, f"{self.docker} {line}")
        assert code not in {0, TIMED_OUT}, f"{line}: exit {code}: {said}"
        return said

    def until(self, line: str, pattern: str) -> str:
        """The output of a command once the pattern is in it."""
        return self.play.until(
            "h1", f"{self.docker} {line}", lambda o: bool(re.search(pattern, o)), timeout_s=20
        )

    def terminal(self, line: str, typed: bytes) -> tuple[int, str]:
        """Exit status and screen of a command on a terminal; ``typed`` answers its prompt."""
        argv = self.play.lab.command("h1", [self.path, *line.split()])
        ours, theirs = pty.openpty()
        try:
            process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs)
        finally:
            os.close(theirs)
        try:
            screen = _screen(ours, typed, time.monotonic() + 15)
            return process.wait(timeout=5), screen
        finally:
            os.close(ours)
            process.kill()
            process.wait()


def _screen(terminal: int, typed: bytes, deadline: float) -> str:
    seen, waiting = b"", True
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.5)[0]:
            continue
        try:
            said = os.read(terminal, 4096)
        except OSError:  # EIO: the last user of the other end has gone
            return seen.decode(errors="replace")
        seen += said
        if waiting and b"#" in seen:
            os.write(terminal, typed)
            waiting = False
    raise AssertionError(f"no end: {seen!r}")


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """
    Name: play; Scope: module; Depends: nothing.

    Two hosts, one swarm; removed also when a test fails.
    """
    lab = Lab(Layout(NAME, size=2))
    lab.down(lambda *_: None)
    try:
        lab.up(lambda *_: None)
        made = Play(lab, show=print)
        made.on("h1", "docker swarm init --advertise-addr 192.168.50.11")
        token = made.quietly("h1", "docker swarm join-token -q worker")
        made.on("h2", f"docker swarm join --token {token} h1:2377")
        made.until("h1", "docker node ls", lambda said: said.count(" Ready ") == 2)
        yield made
    finally:
        lab.down(lambda *_: None)


@pytest.fixture(scope="module", params=distinct_clis())
def cli(play: Play, request: pytest.FixtureRequest) -> Cli:
    """
    Name: cli; Scope: module; Depends: play.

    Each docker CLI of this machine in turn.
    """
    return Cli(play, request.param, f"m{distinct_clis().index(request.param)}")


def test_what_is_not_done_is_refused_in_one_sentence(cli: Cli) -> None:
    for line, sentence in REFUSED:
        assert sentence in cli.refused(line), line
    token = cli("swarm join-token -q manager").strip()
    assert "already part of a swarm" in cli.refused(f"swarm join --token {token} h1:2377", "h2")
    assert "This node is not a swarm manager" in cli.refused("service ls", "h2")


def test_swarm_and_nodes(cli: Cli) -> None:
    assert re.search(r"h1 +Ready +Active +Leader", cli("node ls"))
    assert re.search(r"h2 +Ready +Active", cli("node ls --filter role=worker"))
    assert "Hostname:              \th2" in cli("node inspect --pretty h2")
    before = cli("swarm join-token -q worker")
    assert "Successfully rotated" in cli("swarm join-token --rotate worker")
    assert cli("swarm join-token -q worker") != before
    assert "Swarm updated." in cli("swarm update --task-history-limit 4 --cert-expiry 48h")
    info = cli("info")
    assert re.search(r"Swarm: active[\s\S]*Nodes: 2[\s\S]*Task History Retention Limit: 4", info)
    assert re.search(r"Heartbeat Tick: 1\n +Election Tick: 10\n", info)
    cli("events --since 1m --until 0s --filter type=service")  # ends
    assert "BEGIN CERTIFICATE" in cli("swarm ca")
    assert "no unlock key is set" in cli.play.attempt("h1", f"{cli.docker} swarm unlock-key")[1]
    cli("node update --label-add rack=1 --availability pause h2")
    assert "Availability:         \tPause" in cli("node inspect --pretty h2")
    cli("node update --label-rm rack --availability active h2")


def test_service_from_create_to_rm(cli: Cli) -> None:
    name, net, mark = f"web{cli.mark}", f"net{cli.mark}", cli.mark
    cli(f"network create -d overlay --attachable --label a=b {net}")
    cli.play.on("h1", f"echo topsecret | {cli.docker} secret create s{mark} -")
    cli.play.on("h1", f"echo page | {cli.docker} config create c{mark} -")
    cli(
        f"service create -d --name {name} --replicas 2 --network {net} --env A=1 -p 8090:80 "
        f"--publish published=8091,target=80,mode=host --secret s{mark} "
        f"--config source=c{mark},target=/page,mode=0440 --mount type=tmpfs,target=/t "
        "--constraint node.platform.os==linux --limit-memory 64M --health-cmd true "
        "--health-interval 500ms --update-delay 0s --update-monitor 500ms "
        "--update-failure-action rollback --rollback-monitor 500ms --stop-grace-period 1s "
        "--restart-delay 1s --hostname '{{.Node.Hostname}}-{{.Task.Slot}}' "
        "--with-registry-auth --label l=1 meshnet/web:1"
    )
    cli.until("service ls", rf"{name} +replicated +2/2 +meshnet/web:1 +\*:8090->80/tcp")
    assert cli(f"service ps {name}").count("*:8091->80/tcp") == 2
    pretty = cli(f"service inspect --pretty {name}")
    for part in (
        "Env:\t\tA=1",
        "On failure:\trollback",
        f"Networks: {net}",
        "PublishedPort = 8091",
    ):
        assert part in pretty, part
    inside = cli.play.on(
        "h1",
        f"{cli.docker} exec $({cli.docker} ps -q --filter name={name}) "
        "sh -c 'cat /run/secrets/* /page; hostname; echo $A'",
    )
    assert re.fullmatch(r"topsecret\npage\nh1-[12]\n1\n", inside)
    seen = json.loads(cli(f"network inspect --verbose {net}"))[0]
    assert sorted(peer["Name"] for peer in seen["Peers"]) == ["h1", "h2"]
    assert len(seen["Services"][name]["Tasks"]) == 2
    (used,) = seen["Status"]["IPAM"]["Subnets"].values()
    assert used == {"IPsInUse": 6, "DynamicIPsAvailable": 250}  # with a VIP and two tasks
    assert "in use by service" in cli.refused(f"network rm {net}")
    assert "in use by the following service" in cli.refused(f"secret rm s{mark}")
    cli(f"service update -d --env-add B=2 {name}")
    cli.until(f"service inspect {name}", r'"State": "completed"')
    cli(f"service rollback -d {name}")
    cli.until(f"service inspect {name}", r'"State": "rollback_completed"')
    assert "B=2" not in cli(f"service inspect {name} --format '{{{{json .Spec}}}}'")
    cli(f"service scale -d {name}=1")
    cli.until("service ls", rf"{name} +replicated +1/1")
    assert name in cli("node ps h1 h2")
    assert cli(f"service rm {name}") == f"{name}\n"
    cli.until("ps", r"^(?![\s\S]*" + name + ")")
    events = f"events --since 5m --until 0s --filter service={name} --filter type=service"
    cli.until(events, "service remove")  # an end is a whole second
    past = cli(events)
    assert [re.sub(r".* service (\w+) \w+ \(", r"\1 (", line) for line in past.splitlines()] == [
        f"create (name={name})",
        f"update (name={name})",
        f"update (name={name}, updatestate.new=updating)",
        f"update (name={name}, updatestate.new=completed, updatestate.old=updating)",
        f"update (name={name}, updatestate.new=rollback_started, updatestate.old=completed)",
        f"update (name={name}, updatestate.new=rollback_completed, "
        "updatestate.old=rollback_started)",
        f"update (name={name}, replicas.new=1, replicas.old=2)",
        f"remove (name={name})",
    ]
    cli(f"secret rm s{mark}")
    cli(f"config rm c{mark}")
    cli.until(f"network prune -f; {cli.docker} network ls", rf"^(?![\s\S]*\s{net}\s)[\s\S]*ingress")


def test_what_a_worker_says_of_networks_and_of_tasks(cli: Cli) -> None:
    net, name = f"v{cli.mark}", f"view{cli.mark}"
    cli(f"network create -d overlay {net}")
    cli(f"service create -d --name {name} --mode global --network {net} meshnet/web:1")
    try:
        cli.until("service ls", rf"{name} +global +2/2")
        assert net in cli("network ls", "h2")
        seen = json.loads(cli(f"network inspect --verbose {net}", "h2"))[0]
        ((container, here),) = seen["Containers"].items()
        there = json.loads(cli(f"network inspect {net}"))[0]["Containers"]
        tasks = {task["EndpointID"]: task for task in seen["Services"][name]["Tasks"]}
        assert tasks.keys() == {each["EndpointID"] for each in (here, *there.values())}
        assert tasks[here["EndpointID"]]["Info"] == {"Host IP": "192.168.50.12"}
        assert [peer["Name"] for peer in seen["Peers"]] == ["h1", "h2"]
        ours = f"ps -q --no-trunc --filter network={net}"
        assert cli(f"{ours} --filter is-task=true", "h2").split() == [container]
        assert cli(f"{ours} --filter is-task=false", "h2") == ""
        assert cli(f"ps --filter id={container} --format '{{{{.Networks}}}}'", "h2") == f"{net}\n"
        inside = json.loads(cli(f"inspect {container}", "h2"))[0]["NetworkSettings"]["Networks"]
        assert inside[net]["EndpointID"] == here["EndpointID"]
        assert inside[net]["IPAddress"] in here["IPv4Address"]
        cli(f"exec {container} sh -c 'for i in 1 2 3 4 5 6 7 8 9; do wget -qO- {name}; done'", "h2")
        moved = cli(f"stats --no-stream --format '{{{{.NetIO}}}}' {container}", "h2")
        assert re.fullmatch(r"[\d.]+kB / [\d.]+kB\n", moved), moved
        assert "has active endpoints" in cli.refused(f"network rm {net}", "h2")
    finally:
        cli(f"service rm {name}")
        cli.until(f"network rm {net}", r"(?m)^" + net)


def test_each_kind_of_service_update(cli: Cli) -> None:
    mark = cli.mark
    words = {
        "first": f"u1{mark}",
        "second": f"u2{mark}",
        "secret": f"us{mark}",
        "label": f"l{mark}",
    }
    for net in (words["first"], words["second"]):
        cli(f"network create -d overlay {net}")
    cli.play.on("h1", f"echo s | {cli.docker} secret create {words['secret']} -")
    cli(f"node update --label-add {words['label']}=b h2")
    name = f"up{mark}"
    cli(
        f"service create -d --name {name} --network {words['first']} --update-monitor 100ms "
        "--rollback-monitor 100ms --stop-grace-period 1s meshnet/web:1"
    )
    cli.until("service ls", rf"{name} +replicated +1/1")
    for typed, place, seen in UPDATES:
        typed = typed.format(**words)  # noqa: PLW2901 - the same row, filled in
        cli(f"service update -d {typed} {name}")
        state = "rollback_completed" if typed == "--rollback" else "completed"
        cli.until(f"service inspect {name} --format {STATE}", rf"^{state}\s")
        said = cli(f"service inspect {name} --format '{{{{{place}}}}}'").strip()
        assert re.search(seen, said), f"{typed}: {said}"
        tasks = cli(f"service ps --filter desired-state=running {name}")
        assert tasks.count("Running ") == 2, tasks  # desired and current, of one task
        if "==b" in typed and "-add" in typed:
            assert " h2 " in tasks
    cli(f"service rm {name}")
    cli(f"node update --label-rm {words['label']} h2")
    cli(f"secret rm {words['secret']}")


def test_every_flag_of_service_update(cli: Cli) -> None:
    name, net, kept = f"fl{cli.mark}", f"fnet{cli.mark}", f"fs{cli.mark}"
    words = {"net": net, "config": kept, "secret": kept}
    has = set(re.findall(r"^ +(?:-\w, +)?--([a-z-]+)", cli("service update --help"), re.MULTILINE))
    known = {flag.name for flag in (*ADDED, *REMOVED)} | set(ELSEWHERE)
    assert not has - known, "a flag that is not tried"
    cli(f"network create -d overlay {net}")
    for kind in ("secret", "config"):
        cli.play.on("h1", f"echo x | {cli.docker} {kind} create {kept} -")
    cli(f"service create -d --name {name} --replicas 0 meshnet/web:1")
    for flags in (ADDED, REMOVED):
        tried = [flag for flag in flags if flag.name in has]
        cli(f"service update -d {' '.join(flag.typed for flag in tried).format(**words)} {name}")
        spec = json.loads(cli(f"service inspect {name} --format '{{{{json .Spec}}}}'"))
        wrong = {
            flag.typed: value_at(spec, flag.place)
            for flag in tried
            if value_at(spec, flag.place) != flag.seen
        }
        assert not wrong
    running = cli.until(
        f"service ps --no-trunc --filter desired-state=running {name}", "Running +Running"
    )
    host = re.findall(r" (h\d) ", running)[0]
    made = f"$({cli.docker} ps -q --filter name={name})"
    seen = json.loads(cli.play.on(host, f"{cli.docker} inspect {made}"))[0]
    assert (seen["Path"], seen["Args"]) == ("env", ["A=B", "sleep", "1000"])
    assert (seen["Config"]["User"], seen["Config"]["WorkingDir"]) == ("1000", "/srv")
    assert (seen["Config"]["Hostname"], seen["Config"]["StopSignal"]) == (name, "SIGUSR1")
    assert seen["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}
    assert seen["HostConfig"]["ReadonlyRootfs"]
    assert seen["Config"]["Tty"]
    assert seen["HostConfig"]["PidsLimit"] == 50
    cli(f"service rm {name}")
    for kind, what in (("secret", kept), ("config", kept)):
        cli(f"{kind} rm {what}")
    cli.until(f"network rm {net}; {cli.docker} network ls", rf"^(?![\s\S]*\s{net}\s)[\s\S]*ingress")


def test_nodes_that_may_no_longer_keep_their_tasks(cli: Cli) -> None:
    name, label = f"dr{cli.mark}", f"z{cli.mark}"
    running = f"service ps --filter desired-state=running {name}"
    cli(f"service create -d --name {name} --replicas 2 --stop-grace-period 1s meshnet/web:1")
    cli.until(running, r"^(?=[\s\S]* h1 )(?=[\s\S]* h2 )(?:[\s\S]*Running +Running){2}")
    cli("node update --availability drain h2")
    cli.until(running, r"^(?![\s\S]* h2 )(?:[\s\S]*Running +Running){2}")
    before = cli(f"service ps -q --filter desired-state=running {name}")
    cli("node update --availability active h2")
    cli(f"service scale -d {name}=3")
    cli.until(running, r"(?:[\s\S]*Running +Running){3}")
    after = cli(f"service ps -q --filter desired-state=running {name}")
    assert set(before.split()) < set(after.split()), "an active node takes no task back"
    cli(f"service rm {name}")
    cli(f"node update --label-add {label}=a h1")
    cli(f"service create -d --name {name} --constraint node.labels.{label}==a meshnet/web:1")
    cli.until(running, r" h1 +Running +Running")
    cli(f"node update --label-add {label}=a h2")
    cli(f"node update --label-rm {label} h1")
    cli.until(running, r" h2 +Running +Running")
    cli(f"service rm {name}")
    cli(f"node update --label-rm {label} h2")


def test_ports_a_host_chooses_and_the_hosts_network(cli: Cli) -> None:
    name, net = f"dyn{cli.mark}", f"dnet{cli.mark}"
    cli(f"network create -d overlay {net}")
    cli(
        f"service create -d --name {name} --replicas 3 --network {net} --stop-grace-period 1s "
        "--publish mode=host,target=80 meshnet/web:1"
    )
    ports = f"service ps --format '{{{{.Node}}}} {{{{.Ports}}}}' {name}"
    given = cli.until(ports, r"(?:h\d \*:\d+->80/tcp\s+){3}").split()
    pairs = list(zip(given[::2], [port[2:7] for port in given[1::2]], strict=True))
    assert len(set(pairs)) == 3
    cli.play.on("h1", "kill -9 $(cat /run/meshnet/meshnetd.pid); meshnet up --no-context")
    assert cli.until(ports, r"(?:h\d \*:\d+->80/tcp\s+){3}").split() == given
    for host, port in pairs:
        assert 32768 <= int(port) <= 60999
        cli.play.until("client", f"curl -sS -m 3 {host}:{port}", says("web:1"))
    cli(f"service rm {name}")
    cli(f"service create -d --name {name} --mode global --network host meshnet/web:1")
    for host in ("h1", "h2"):
        cli.play.until("client", f"curl -sS -m 3 {host}", says(f"web:1 {host} "))
    assert cli(f"service inspect {name} --format '{{{{len .Endpoint.VirtualIPs}}}}'") == "0\n"
    cli(f"service rm {name}")
    cli.play.until("client", "curl -sS -m 3 h1 || echo gone", says("gone"))


def test_global_without_a_vip(cli: Cli) -> None:
    name, net = f"all{cli.mark}", f"anet{cli.mark}"
    cli(f"network create -d overlay {net}")
    cli(
        f"service create -d --name {name} --mode global --endpoint-mode dnsrr --network {net} "
        "meshnet/tools:1 sh -c 'echo it says so; sleep 1000'"
    )
    cli.until("service ls", rf"{name} +global +2/2")
    assert "scale can only be used" in cli.refused(f"service scale {name}=3")
    cli.until(f"service logs {name}", r"\| it says so")
    cli(f"service rm {name}")
    cli.until(f"network rm {net}; {cli.docker} network ls", rf"^(?![\s\S]*\s{net}\s)[\s\S]*ingress")


def test_jobs(cli: Cli, tmp_path: Path) -> None:
    one, every = f"job{cli.mark}", f"ejob{cli.mark}"
    listed = f"service ls --filter name={one}"
    begun = f"service inspect {one} --format '{{{{.JobStatus.JobIteration.Index}}}}'"
    made = cli(
        f"service create --name {one} --mode replicated-job --replicas 3 --max-concurrent 2 "
        "meshnet/tools:1 true"
    )
    assert "job complete" in made  # the CLI waited for the third of them, which is slot 2
    assert re.search(rf"{one} +replicated job +0/2 \(3/3 completed\)", cli(listed))
    tasks = cli(f"service ps {one}")
    assert len(re.findall(r" h\d +Complete +Complete ", tasks)) == 3, tasks
    assert all(f" {one}.{slot} " in tasks for slot in (1, 2)), tasks
    assert "job complete" in cli(f"service scale {one}=2")
    assert re.search(rf"{one} +replicated job +0/2 \(2/2 completed\)", cli(listed))
    assert cli(begun) == "1\n"
    assert "job complete" in cli(f"service rollback {one}")
    assert re.search(r"\(3/3 completed\)", cli(listed))
    assert "Jobs may not have an update config" in cli.refused(
        f"service update --update-delay 1s {one}"
    )
    assert "job complete" in cli(
        f"service create --name {every} --mode global-job meshnet/tools:1 sh -c 'echo on $HOSTNAME'"
    )
    cli.until("service ls --filter mode=global-job", rf"{every} +global job +0/0 \(2/2 completed")
    assert "job complete" in cli(f"service update --force {every}")
    assert cli(f"service ps -q {every}").count("\n") == 4
    cli(f"service create -d --name {one}f --mode replicated-job --restart-delay 1s "
        "--restart-max-attempts 1 meshnet/tools:1 false")  # fmt: skip
    cli.until(f"service ps {one}f", r"(?:[\s\S]*Shutdown +Failed ){2}")
    assert "(0/1 completed)" in cli(f"service ls --filter name={one}f")
    cli(f"service rm {one} {every} {one}f")
    stack = {"image": "meshnet/tools:1", "command": "true", "deploy": {"mode": "replicated-job"}}
    (tmp_path / "stack.yml").write_text(json.dumps({"version": "3.8", "services": {one: stack}}))
    deployed = cli.play.attempt("h1", f"{cli.docker} stack deploy -c {tmp_path}/stack.yml {every}")
    if "Unknown mode: replicated-job" not in deployed[1]:  # a CLI that knows jobs in a file
        cli.until(f"stack services {every}", rf"{every}_{one} .* 0/1 \(1/1 completed\)")
    cli(f"stack rm {every}")
    cli.until("ps -a", rf"^(?![\s\S]*{one})")


def test_stack(cli: Cli, tmp_path: Path) -> None:
    name = f"st{cli.mark}"
    stack = STACK.replace("PORT", str(8085 + int(cli.mark[1:])))
    for file, text in (("stack.yml", stack), ("word", "hush"), ("page", "hello")):
        (tmp_path / file).write_text(text)
    try:
        cli(f"stack deploy -c {tmp_path}/stack.yml {name}")
        cli.until(
            f"stack services {name}", rf"{name}_back +global +2/2[\s\S]*_front +replicated +2/2"
        )
        assert re.search(rf"{name} +2", cli("stack ls"))
        assert cli(f"stack ps {name}").count("Running") >= 4
    finally:
        said = cli(f"stack rm {name}")
    for part in (f"service {name}_back", f"secret {name}_word", f"network {name}_inner"):
        assert f"Removing {part}" in said
    assert name not in cli("stack ls")


def test_every_key_of_a_stack_file(cli: Cli, tmp_path: Path) -> None:
    name = f"ek{cli.mark}"
    for file, text in every_key.FILES.items():
        (tmp_path / file).write_text(text)
    body = every_key.stack(8230 + 2 * int(cli.mark[1:]), f"{name}own")
    (tmp_path / "stack.yml").write_text(json.dumps(body))  # JSON is YAML
    more = {"version": "3.9", "services": {"more": {"image": "meshnet/tools:1"}}}
    (tmp_path / "more.yml").write_text(json.dumps(more))
    deploy = f"cd {tmp_path}; {cli.docker} stack deploy --resolve-image never -c stack.yml"
    try:
        cli.play.on("h1", f"{deploy} -c more.yml --with-registry-auth {name}")
        cli.until(
            f"stack services {name}",
            rf"{name}_full +replicated +2/2 \(max 1 per node\)[\s\S]*{name}_one +global +2/2",
        )
        of_h2 = f"$({cli.docker} ps -q --filter name={name}_full.)"
        inside = f"{cli.docker} exec {of_h2} sh -c"
        said = cli.play.on("h2", f"{inside} {shlex.quote(every_key.INSIDE)}").splitlines()
        assert sorted(said) == sorted(line.replace("NAME", name) for line in every_key.SEEN)
        # Asked of the engine: now and then its runtime gives a process the hard limit.
        ulimits = f"{cli.docker} inspect {of_h2} --format '{{{{json .HostConfig.Ulimits}}}}'"
        limit = {"Name": "nofile", "Hard": 2000, "Soft": 1000}
        assert json.loads(cli.play.on("h2", ulimits)) == [limit]
        spec = json.loads(cli(f"service inspect {name}_full --format '{{{{json .Spec}}}}'"))
        assert spec["UpdateConfig"]["Order"] == spec["RollbackConfig"]["Order"] == "start-first"
        assert spec["TaskTemplate"]["Placement"]["MaxReplicas"] == 1
        pruned = cli.play.on("h1", f"{deploy} --prune {name}")
        assert f"Removing service {name}_more" in pruned
        assert cli(f"stack services -q {name}").count("\n") == 2
        piped = cli.play.on(
            "h1", f"cd {tmp_path}; {cli.docker} stack deploy -c - {name} < more.yml"
        )
        assert f"Creating service {name}_more" in piped
    finally:
        cli(f"stack rm {name}")
    cli.until("ps -a", rf"^(?![\s\S]*{name})")
    for host in ("h1", "h2"):
        volumes = f"{name}_data {name}own"
        cli.play.until(host, f"{cli.docker} volume rm -f {volumes}", says(f"{name}own"))


def test_streams_through_the_proxy(cli: Cli, tmp_path: Path) -> None:
    box = f"box{cli.mark}"
    count = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo $i; sleep 0.2; done"
    cli(f"run -d --name {box} --network none --init meshnet/tools:1 sh -c '{count}'")
    cli(f"run -dit --name {box}t --network none meshnet/tools:1 sh")
    try:
        code, screen = cli.terminal(f"exec -it {box} sh", b"echo he''llo; tty; exit 4\n")
        assert (code, "hello\r\n/dev/pts/0" in screen) == (4, True), screen
        run = f"run -it --rm --name {box}r --network none meshnet/tools:1 sh"
        code, screen = cli.terminal(run, b"echo he''llo; exit 3\n")
        assert (code, "hello\r\n" in screen) == (3, True), screen
        # its prompt is drawn anew: the CLI resizes the terminal when it attaches
        code, screen = cli.terminal(f"attach {box}t", b"exit\n")
        assert code == 0, screen
        followed = cli.play.attempt("h1", f"timeout 2 {cli.path} logs -f --tail 1 {box}")[1].split()
        assert len(followed) > 3
        assert cli.play.on("h1", f"echo piped | {cli.docker} exec -i {box} cat") == "piped\n"
        (tmp_path / "data").write_bytes(os.urandom(1 << 20))
        (tmp_path / "Dockerfile").write_text("FROM meshnet/tools:1\nCOPY data /data\n")
        built = cli.play.on(
            "h1", f"DOCKER_BUILDKIT=0 {cli.docker} build -t meshnet/built:{cli.mark} {tmp_path}"
        )
        assert "Successfully tagged" in built
        cli(f"cp {tmp_path}/data {box}:/data")
        cli(f"cp {box}:/data {tmp_path}/back")
        assert (tmp_path / "back").read_bytes() == (tmp_path / "data").read_bytes()
    finally:
        cli.play.attempt("h1", f"{cli.docker} rm -f {box} {box}t {box}r")
