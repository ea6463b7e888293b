"""meshnet on one real host, as its user types it: up, status, down, and what is left after each.

The host is a machine of a lab with an engine and nothing of ours; ``traces`` reads everything that
meshnet may make on it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshnet.process.revival import LOOK_S
from meshnet_control.host import units
from meshnet_control.lab import adapter
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
NAME = "mnsingle"
ENGINE = "unix:///run/docker.sock"
OURS = "unix:///run/meshnet/docker.sock"
PROCESSES = ("meshnetd", "meshnet-manager", "meshnet-resolver", "meshnet-supervisor")
"""Of a manager."""
STARTS_S = 8.0
"""Until a process that was started serves, on a machine with two busy cores."""
TRACES = f"""
ip -o link | awk '{{ print "link", $2 }}'
ip netns | awk '{{ print "netns", $1 }}'
ip rule | sed 's/^/rule /'
ip -4 route show table all | sed 's/^/route /'
nft list tables | grep -v 'table ip6\\? \\(nat\\|filter\\|mangle\\|raw\\)$'
iptables-save | grep -E -- '-j|^:' | sed 's/ \\[.*//'
cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/route_localnet
awk '$2 ~ "^/run/meshnet/|/engine(/docker.sock)?$" {{ print "mount", $2 }}' /proc/mounts
find /run/meshnet "$HOME" -mindepth 1 ! -path '*/.docker*' 2>/dev/null
ls -d /run/meshnet 2>/dev/null
ps -eo args | grep -E 'meshnet(d|-manager|-resolver|-supervisor)' | grep -v grep
docker -H {ENGINE} ps -aq
docker -H {ENGINE} network ls --format '{{{{.Name}}}}'
docker -H {ENGINE} volume ls -q
"""


class Host:
    """A machine that has a Docker Engine; commands on it and what they say."""

    def __init__(self, lab: Lab, home: Path) -> None:
        self._lab, self._home = lab, home

    def argv(self, *command: str) -> list[str]:
        set_up = ["env", "-u", "DOCKER_HOST", f"HOME={self._home}"]
        return self._lab.command("h1", [*set_up, *command])

    def ask(self, *command: str) -> tuple[int, str]:
        """Exit status and everything said, both streams."""
        done = subprocess.run(
            self.argv(*command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def do(self, *command: str) -> str:
        code, said = self.ask(*command)
        assert code == 0, f"{' '.join(command)}: {said}"
        return said

    def docker(self, *command: str) -> str:
        return self.do("docker", "-H", OURS, *command)

    def traces(self) -> set[str]:
        """Of docker0 whether it carries is left out: the kernel tells a moment later."""
        said = self.do("sh", "-c", TRACES + "true").splitlines()
        return {line.replace(" linkdown", "").rstrip() for line in said}

    def pid(self, name: str) -> str:
        code, said = self.ask("cat", f"/run/meshnet/{name}.pid")
        return "" if code else said.strip()

    def kill(self, *names: str, by: str = "KILL") -> None:
        """At once, so that none can start another again."""
        pids = " ".join(map(self.pid, names))
        freeze = f"kill -STOP {pids}; " if len(names) > 1 else ""
        self.do("sh", "-c", f"{freeze}kill -{by} {pids}")

    def end(self, name: str) -> None:
        """Ask it to end, and wait until it has."""
        self.do("sh", "-c", f"kill {self.pid(name)}; tail --pid={self.pid(name)} -f /dev/null")


@pytest.fixture(scope="module")
def machine() -> Iterator[Lab]:
    """
    Name: machine; Scope: module; Depends: nothing.

    One host with an engine only, gone after the last test.
    """
    lab = Lab(Layout(NAME, 1), engine_only=True)
    lab.down(lambda *_: None)
    try:
        lab.up(lambda *_: None)
        yield lab
    finally:
        lab.down(lambda *_: None)


@pytest.fixture
def host(machine: Lab, tmp_path: Path) -> Iterator[Host]:
    """
    Name: host; Scope: function; Depends: machine.

    The host with meshnet down and in no cluster, before and after the test.
    """
    made = Host(machine, tmp_path)
    try:
        yield made
    finally:
        made.do("sh", "-c", "[ ! -d /run/meshnet ] || meshnet down")
        made.do("sh", "-c", 'rm -rf "$MESHNET_STATE_DIR"')


def until(what: str, host: Host, wanted: str, *command: str) -> None:
    adapter.wait_for(what, lambda: wanted in host.ask(*command)[1], timeout_s=20, interval_s=0.1)


def with_service(host: Host) -> None:
    """A cluster of one, a published service on an overlay, a secret in its tasks."""
    host.do("meshnet", "up")
    host.docker("swarm", "init", "--advertise-addr", "eth0")
    host.docker("network", "create", "-d", "overlay", "inner")
    host.do("sh", "-c", f"echo hush | docker -H {OURS} secret create hush -")
    host.docker(
        "service", "create", "-d", "--no-resolve-image", "--name", "web", "--replicas", "2",
        "--network", "inner", "--secret", "hush", "-p", "8080:80", "meshnet/web:1",
    )  # fmt: skip
    until("two replicas", host, "2/2", "docker", "-H", OURS, "service", "ls")


def test_with_the_capabilities_of_its_unit_it_does_all_it_has_to(host: Host) -> None:
    before = host.traces()
    only = ",".join(["-all", *(f"+{name[4:].lower()}" for name in units.CAPABILITIES)])
    host.do("setpriv", f"--bounding-set={only}", "--no-new-privs", "meshnet", "up")
    with_service(host)
    host.do("docker", "-H", OURS, "service", "update", "-d", "--replicas", "3", "web")
    until("three replicas", host, "3/3", "docker", "-H", OURS, "service", "ls")
    need_secrets_out_of_reach(host, 3)
    until("an answer", host, "sees", "curl", "-s", "-m", "5", "http://127.0.0.1:8080/")
    shown = json.loads(host.do("meshnet", "status", "--format", "json"))
    assert [loop["error"] for loop in shown["reconcilers"] if loop["error"]] == []
    assert shown["last_ends"] == {}
    host.do("meshnet", "down")
    assert host.traces() == before


def need_secrets_out_of_reach(host: Host, tasks: int = 2) -> None:
    """Root reads the secret of all tasks; another user of the host reads neither."""
    pattern = "/run/meshnet/tasks/*/files/0"
    assert host.do("sh", "-c", f"cat {pattern}") == "hush\n" * tasks
    paths = host.do("sh", "-c", f"ls {pattern}").split()
    code, said = host.ask("setpriv", "--reuid=65534", "--clear-groups", "cat", *paths)
    assert code != 0
    assert "hush" not in said


def stands_by(host: Host) -> None:
    """Until it has a meshnet-manager that waits for a cluster."""
    until("one that stands by", host, "manager.standby", "ls", "/run/meshnet")


def test_up_twice_and_down_twice_leave_the_host_as_it_was(host: Host) -> None:
    before = host.traces()
    assert f"meshnet is up: {OURS}\n" in host.do("meshnet", "up")
    stands_by(host)
    pids = host.do("sh", "-c", "cat /run/meshnet/*.pid")
    assert f"meshnet is up: {OURS}\n" in host.do("meshnet", "up")
    assert host.do("sh", "-c", "cat /run/meshnet/*.pid") == pids
    assert "meshnet" in host.do("docker", "context", "ls")
    shell = 'eval "$(meshnet env)" && docker info --format "{{.Swarm.LocalNodeState}}"'
    assert "inactive" in host.do("sh", "-c", shell)
    assert host.do("meshnet", "down").splitlines() == [
        "removed docker context: meshnet",
        "stopped processes: meshnet-supervisor, meshnetd, meshnet-manager, meshnet-resolver",
        "meshnet is down",
    ]
    assert host.traces() == before
    assert host.do("meshnet", "down") == "meshnet is down\n"
    assert host.traces() == before


AT_ONCE = f"""
export DOCKER_HOST={OURS}
docker swarm init --advertise-addr eth0 >/dev/null
docker node inspect self --format '{{{{.Description.Hostname}}}} {{{{.Status.State}}}} {{{{.Version.Index}}}}'
docker node update --label-add a=b h1 >/dev/null
docker network create -d overlay inner >/dev/null
for n in 1 2 3 4 5 6 7 8 9 10; do
  docker service create -d --no-resolve-image --name s$n --network inner meshnet/web:1 >/dev/null
  docker service update -d --no-resolve-image --label-add n=$n s$n >/dev/null
done
docker service ls --filter label=n -q | wc -l
"""  # noqa: E501 - as it is typed


def test_what_was_just_made_is_ready_and_can_be_changed_at_once(host: Host) -> None:
    host.do("meshnet", "up")
    first, *_, last = host.do("sh", "-e", "-c", AT_ONCE).splitlines()
    assert (first, last) == ("h1 ready 1", "10")


REGISTRY = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {path}/images}}}}
http: {{addr: "127.0.0.1:5000"}}
auth: {{htpasswd: {{realm: basic-realm, path: {path}/users}}}}
"""


@pytest.fixture
def private(host: Host, tmp_path: Path) -> Iterator[str]:
    """
    Name: private; Scope: function; Depends: host.

    An image in a registry of this host that asks for a login, and not on the engine.
    """
    for program in ("docker-registry", "htpasswd"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program} (Debian: docker-registry, apache2-utils)")
    (tmp_path / "registry.yml").write_text(REGISTRY.format(path=tmp_path))
    users = subprocess.run(["htpasswd", "-Bbn", "ada", "hush"], stdout=subprocess.PIPE, check=True)
    (tmp_path / "users").write_bytes(users.stdout)
    image, engine = "127.0.0.1:5000/private/web:1", f"docker -H {ENGINE}"
    registry = subprocess.Popen(
        host.argv("docker-registry", "serve", f"{tmp_path}/registry.yml"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        asking = ("curl", "-s", "http://127.0.0.1:5000/v2/")
        until("the registry serves", host, "authentication required", *asking)
        host.do(
            "sh",
            "-e",
            "-c",
            f"""
            echo hush | {engine} login -u ada --password-stdin 127.0.0.1:5000
            {engine} tag meshnet/web:1 {image}
            {engine} push -q {image}
            {engine} rmi {image}""",
        )
        yield image
    finally:
        registry.terminate()
        registry.wait()
        host.ask("docker", "-H", ENGINE, "rmi", image)


def test_a_private_image_is_pulled_with_the_login_that_came_with_its_service(
    host: Host, private: str, tmp_path: Path
) -> None:
    host.do("meshnet", "up")
    host.docker("swarm", "init", "--advertise-addr", "eth0")
    host.docker(
        "service", "create", "-d", "--name", "without", "--restart-condition", "none", private
    )
    seen = ("docker", "-H", OURS, "service", "ps", "--no-trunc", "without")
    until("no login, no image", host, f"No such image: {private}", *seen)
    host.docker("service", "create", "-d", "--with-registry-auth", "--name", "web", private)
    until("a replica", host, "1/1", "docker", "-H", OURS, "service", "ls", "-f", "name=web")
    host.do("sh", "-c", f"rm -r {tmp_path}/.docker")
    host.docker("service", "update", "-d", "--force", "web")
    host.docker("service", "scale", "-d", "web=2")
    until("two replicas", host, "2/2", "docker", "-H", OURS, "service", "ls", "-f", "name=web")
    said = host.docker("service", "inspect", "web") + host.docker("node", "ps", "-q")
    assert "aHVzaA" not in said
    assert host.ask("grep", "-rl", "eyJ1c2VybmFtZSI", "/run/meshnet/tasks")[1] == ""
    found = "ls $MESHNET_STATE_DIR/store.db && grep -rls eyJ1c2VybmFtZSI $MESHNET_STATE_DIR"
    assert host.ask("sh", "-c", found)[1].splitlines()[1:] == [], "a socket is there, too: -s"


def test_a_service_runs_is_shown_and_leaves_nothing(host: Host) -> None:
    before = host.traces()
    with_service(host)
    assert "sees" in host.do("curl", "-s", "-m", "5", "http://127.0.0.1:8080/")
    shown = json.loads(host.do("meshnet", "status", "--format", "json"))
    assert (shown["hostname"], shown["role"], shown["tasks"]) == ("h1", "manager", 2)
    assert shown["networks"] == ["ingress", "inner"]
    loops = {loop["name"]: loop for loop in shown["reconcilers"]}
    assert set(loops) == {"overlay", "gwbridge", "lb", "resolver"}
    assert all(loop["error"] == "" and loop["last_round"] > 0 for loop in loops.values())
    need_secrets_out_of_reach(host)
    table = host.do("meshnet", "status")
    assert "manager" in table
    assert max(map(len, table.splitlines())) <= 80
    said = host.do("meshnet", "down")
    for line in (
        "removed containers of tasks: 2",
        "removed nftables tables: ip meshnet",
        "removed iptables rules: ours in DOCKER-USER",
        "removed network docker_gwbridge",
    ):
        assert line in said
    assert "mn-ingress" in said
    assert host.traces() == before


def test_a_daemon_that_was_stopped_comes_back_to_its_tasks_and_down_removes_them_without_it(
    host: Host,
) -> None:
    before = host.traces()
    with_service(host)
    running = host.do("docker", "-H", ENGINE, "ps", "-q")
    host.end("meshnet-supervisor")
    assert host.pid("meshnetd") == host.pid("meshnet-resolver") == ""
    code, said = host.ask("meshnet", "status")
    assert code == 1
    assert said.endswith("(meshnet up starts it)\n")
    assert "sees" in host.do("curl", "-s", "-m", "5", "http://127.0.0.1:8080/")
    host.do("meshnet", "up")
    until("the tasks", host, "2/2", "docker", "-H", OURS, "service", "ls")
    assert host.do("docker", "-H", ENGINE, "ps", "-q") == running
    host.kill("meshnet-supervisor", "meshnetd")
    assert "removed containers of tasks: 2" in host.do("meshnet", "down")
    assert host.traces() == before


def test_a_host_that_lost_its_run_directory_as_in_a_reboot_comes_back(host: Host) -> None:
    before = host.traces()
    with_service(host)
    host.kill(*PROCESSES)
    host.do("sh", "-c", f"docker -H {ENGINE} stop -t 0 $(docker -H {ENGINE} ps -q)")
    host.do("sh", "-c", "umount /run/meshnet/tasks/*/files && rm -r /run/meshnet")
    host.do("sh", "-c", "ip -all netns del && nft delete table ip meshnet")
    host.do("meshnet", "up")
    until("the service", host, "sees", "curl", "-s", "-m", "1", "http://127.0.0.1:8080/")
    until("all replicas", host, "2/2", "docker", "-H", OURS, "service", "ls")
    host.do("meshnet", "down")
    assert host.traces() == before


@pytest.mark.parametrize("ended_by", ["SIGINT", "down"])
def test_in_the_foreground_it_ends_with_its_terminal(host: Host, ended_by: str) -> None:
    before = host.traces()
    with subprocess.Popen(
        host.argv("meshnet", "up", "--foreground"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as terminal:  # fmt: skip
        try:
            until("the Engine API", host, "none", "meshnet", "status")
            assert "meshnet is up" in host.do("meshnet", "up")
            if ended_by == "down":
                host.do("meshnet", "down")
            else:
                os.killpg(terminal.pid, signal.Signals[ended_by])
            log, _ = terminal.communicate(timeout=20)
        finally:
            terminal.kill()
    assert "Traceback" not in log
    if ended_by != "SIGINT":
        assert terminal.returncode in {0, -signal.SIGTERM}
    deadline = time.monotonic() + 10
    while "meshnetd" in host.do("sh", "-c", "ps -eo args") and time.monotonic() < deadline:
        time.sleep(0.1)
    host.do("meshnet", "down")
    assert host.traces() == before


def test_without_an_engine_up_is_refused_in_docker_s_words(host: Host) -> None:
    before = host.traces()
    refused = host.ask("env", "MESHNET_ENGINE=unix:///run/none.sock", "meshnet", "up")
    assert refused == (
        1,
        "meshnet: Cannot connect to the Docker daemon at unix:///run/none.sock. "
        "Is the docker daemon running?\n",
    )
    assert host.traces() == before


def returned(host: Host, name: str, before: str, within_s: float) -> str:
    """The process id of another ``name`` that serves, at most ``within_s`` after now."""
    began = time.monotonic()
    while host.pid(name) in {before, ""} or host.ask("meshnet", "status")[0] != 0:
        assert time.monotonic() - began < within_s, f"{name}: not back within {within_s} s"
        time.sleep(0.05)
    return host.pid(name)


def manages(host: Host) -> None:
    """All processes of a manager run, and it serves."""
    host.do("meshnet", "up")
    host.docker("swarm", "init", "--advertise-addr", "eth0")


def test_meshnet_manager_manages_on_managers_alone(host: Host) -> None:
    before = host.traces()
    for _ in range(2):
        manages(host)
        assert "meshnet-manager" in host.do("ps", "-eo", "args")
        until("its own session", host, "1 node connected", "meshnet", "status")
        host.docker("swarm", "leave", "--force")
        stands_by(host)
        assert not host.ask("ss", "-Hltn", "sport = 2377")[1]
        assert host.ask("docker", "-H", OURS, "service", "ls")[0] == 1
    host.do("meshnet", "down")
    assert host.traces() == before


@pytest.mark.parametrize("how", ["KILL", "TERM"])
def test_nobody_notices_that_meshnet_manager_ends(host: Host, how: str) -> None:
    """Requests wait for the next one, a stream of events goes on, nothing else is touched."""
    before = host.traces()
    with_service(host)
    others = {name: host.pid(name) for name in PROCESSES if name != "meshnet-manager"}
    running = host.do("docker", "-H", ENGINE, "ps", "-q")
    events = host.argv("docker", "-H", OURS, "events", "--filter", "type=service")
    create = ("service", "create", "-d", "-q", "--replicas", "0", "--name")
    with subprocess.Popen(events, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        try:
            time.sleep(1)  # until it listens
            for name in ("first", "second"):
                host.do("kill", f"-{how}", host.pid("meshnet-manager"))
                host.docker(*create, name, "meshnet/web:1")
                assert name in host.do("docker", "-H", OURS, "service", "ls")
                while f"name={name}" not in (line := listening.stdout.readline()):
                    assert line, "the stream has ended"
        finally:
            listening.terminate()
    assert {name: host.pid(name) for name in others} == others
    assert host.do("docker", "-H", ENGINE, "ps", "-q") == running
    host.do("meshnet", "down")
    assert host.traces() == before


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("meshnetd", "KILL"),
        ("meshnet-resolver", "KILL"),
        ("meshnet-manager", "KILL"),
        ("meshnet-supervisor", "KILL"),
        ("meshnetd", "TERM"),
        ("meshnet-resolver", "TERM"),
    ],
)
def test_a_process_that_somebody_ends_is_started_again_within_two_seconds(
    host: Host, name: str, by: str
) -> None:
    before = host.traces()
    manages(host)
    others = {other for other in PROCESSES if other != name}
    kept = {other: host.pid(other) for other in others}
    for _ in range(2):
        killed = host.pid(name)
        host.kill(name, by=by)
        host.do("tail", f"--pid={killed}", "-f", "/dev/null")
        adapter.wait_for(
            name, lambda killed=killed: host.pid(name) not in {killed, ""}, timeout_s=2.0
        )
        returned(host, name, killed, STARTS_S)
    assert {other: host.pid(other) for other in others} == kept
    if name != "meshnet-supervisor":
        shown = json.loads(host.do("meshnet", "status", "--format", "json"))
        how = "killed by SIGKILL " if by == "KILL" else "exit status 0 "
        assert shown["last_ends"][name].startswith(how)
        assert shown["last_ends"][name].endswith(" in all")
    assert "meshnet is up" in host.do("meshnet", "up")
    assert {other: host.pid(other) for other in others} == kept
    host.do("meshnet", "down")
    assert host.traces() == before


@pytest.mark.parametrize("survivor", PROCESSES)
def test_any_one_survivor_brings_back_the_others_within_two_seconds_but_not_after_down(
    host: Host, survivor: str
) -> None:
    before = host.traces()
    manages(host)
    kept = host.pid(survivor)
    killed = {name: host.pid(name) for name in PROCESSES if name != survivor}
    host.kill(*killed)
    for name, pid in killed.items():
        adapter.wait_for(name, lambda n=name, p=pid: host.pid(n) not in {p, ""}, timeout_s=2.0)
    for name, pid in killed.items():
        returned(host, name, pid, STARTS_S)
    assert host.pid(survivor) == kept
    others = "|".join(f"[{name[0]}]{name[1:]}" for name in PROCESSES)  # but not this line itself
    running = host.do("sh", "-c", f"ps -eo args | grep -cE '{others}'")
    assert int(running) == len(PROCESSES), "none of them twice"
    host.kill(*killed)
    host.do("meshnet", "down")
    time.sleep(2 * LOOK_S + 1)
    assert host.traces() == before


def test_a_meshnetd_that_hangs_is_replaced_and_says_where_it_hung(host: Host) -> None:
    before = host.traces()
    host.do("env", "MESHNET_WATCHDOG_S=3", "meshnet", "up")
    hung = host.pid("meshnetd")
    host.do("kill", "-STOP", hung)
    returned(host, "meshnetd", hung, 3 + 2 + STARTS_S)
    shown = json.loads(host.do("meshnet", "status", "--format", "json"))
    assert shown["last_ends"]["meshnetd"].startswith("killed by SIG")
    log = host.do("sh", "-c", 'cat "$MESHNET_STATE_DIR/meshnet-supervisor.log"')
    assert f"meshnetd (process {hung}) gives no sign of life: it is aborted" in log
    host.do("meshnet", "down")
    assert host.traces() == before


def test_up_that_fails_says_why_and_leaves_nothing_running(host: Host) -> None:
    before = host.traces()
    host.do("sh", "-c", 'mkdir -p "$MESHNET_STATE_DIR" && touch "$MESHNET_STATE_DIR/identity"')
    host.do("sh", "-c", "mkdir -p /run/meshnet/docker.sock/x")
    code, said = host.ask("meshnet", "up")
    assert code == 1
    assert said.startswith("meshnet: ")
    assert "Traceback" not in said
    assert "meshnet" not in host.do("ps", "-eo", "comm")
    host.do("sh", "-c", "rm -r /run/meshnet/docker.sock")
    host.do("meshnet", "down")
    assert host.traces() == before
