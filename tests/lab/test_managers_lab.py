"""Three managers on three hosts, as their user types it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play, requests

pytestmark = [pytest.mark.lab, pytest.mark.etcd, pytest.mark.timeout(400)]
NAME = "mnmgrs"
HOSTS = ("h1", "h2", "h3")
NODES = "docker node ls --format '{{.Hostname}} {{.Self}} {{.Status}} {{.ManagerStatus}}'"
INFO = (
    "docker info --format '{{.Swarm.ControlAvailable}} {{.Swarm.Managers}} {{.Swarm.Nodes}} "
    "{{len .Swarm.RemoteManagers}}'"
)
STARTED = "docker -H unix:///run/docker.sock ps -q | xargs docker inspect -f '{{.State.StartedAt}}'"


@pytest.fixture(scope="module")
def play() -> Iterator[Play]:
    """
    Name: play; Scope: module; Depends: nothing.

    Three hosts: a manager, two more that join as managers; a service seen from outside.
    """
    lab = Lab(Layout(NAME, 3))
    lab.down(lambda *_: None)
    try:
        lab.up(lambda *_: None)
        made = Play(lab, show=print)
        made.on("h1", "docker swarm init >/dev/null")
        token = made.quietly("h1", "docker swarm join-token -q manager")
        for host in ("h2", "h3"):
            said = made.on(host, f"time docker swarm join --token {token} h1:2377")
            assert "joined a swarm as a manager" in said
        made.until("h1", NODES, lambda said: said.count(" Ready ") == 3)
        made.on("h1", "docker service create -q --name web --replicas 3 -p 8080:80 meshnet/web:1")
        made.until("client", requests("http://h1:8080/", 4), lambda said: said.count("sees") == 4)
        yield made
    finally:
        lab.down(lambda *_: None)


def managers(play: Play, on: str) -> dict[str, list[str]]:
    """Host to its MANAGER STATUS, as one manager says it."""
    said = play.quietly(on, NODES).splitlines()
    return {host: rest for host, _, _, *rest in (line.split() for line in said)}


def leader(play: Play, on: str, among: Sequence[str] = HOSTS) -> str:
    """Who leads, by the word of a manager, once it is one of these."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        code, said = play.attempt(on, NODES)
        found = [line.split()[0] for line in said.splitlines() if line.endswith("Leader")]
        if code == 0 and len(found) == 1 and found[0] in among:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"nobody leads, says {on}")


def serves(play: Play, *hosts: str) -> None:
    """Each of them answers from outside."""
    for host in hosts:
        said = play.quietly("client", requests(f"http://{host}:8080/", 6))
        assert said.count("sees") == 6, said


def written(play: Play, host: str, name: str) -> float:
    """Create a config there, trying again; seconds it took."""
    began = time.monotonic()
    while True:
        code, said = play.attempt(host, f"echo x | docker config create {name} -")
        if code == 0 or "already exists" in said:
            return time.monotonic() - began
        assert time.monotonic() - began < 15, said


def test_every_manager_says_the_same_and_itself(play: Play) -> None:
    for host in HOSTS:
        play.until(host, NODES, lambda said: said.count("Reachable") == 2)
        said = play.quietly(host, NODES).splitlines()
        assert {line.split()[0] for line in said} == set(HOSTS)
        assert sum(line.endswith(" Leader") for line in said) == 1
        assert [line.split()[0] for line in said if line.split()[1] == "true"] == [host]
        assert all(line.split()[2] == "Ready" for line in said)
        assert play.quietly(host, INFO).split() == ["true", "3", "3", "3"]


def test_what_one_has_written_the_others_read_at_once(play: Play) -> None:
    for number, (here, there) in enumerate(zip(HOSTS, HOSTS[1:] + HOSTS[:1], strict=True)):
        name = f"own{number}"
        play.on(here, f"docker service create -d -q --name {name} --replicas 1 meshnet/web:1")
        assert name in play.quietly(there, "docker service ls --format '{{.Name}}'").split()
        play.on(there, f"docker service rm {name}")
        assert name not in play.quietly(here, "docker service ls --format '{{.Name}}'").split()


def test_logs_are_read_at_any_manager(play: Play) -> None:
    serves(play, "h1")
    for host in HOSTS:
        code, said = play.attempt(host, "docker service logs web 2>&1 | tail -3")
        assert code == 0, said
        assert "incomplete" not in said, said


def test_a_leader_whose_process_is_killed_is_followed_by_another_one(play: Play) -> None:
    started = {host: play.quietly(host, STARTED) for host in HOSTS}
    old = leader(play, "h1")
    others = [host for host in HOSTS if host != old]
    play.quietly(old, "kill -9 $(cat /run/meshnet/meshnet-manager.pid)")
    assert written(play, others[0], "after-a-kill") < 8
    began = time.monotonic()
    play.on(others[0], "docker service create -q --name after --replicas 3 meshnet/web:1")
    play.show(f"its tasks run on all after {time.monotonic() - began:.1f} s")
    play.on(others[0], "docker service rm after")
    for host in HOSTS:
        ps = "docker -H unix:///run/docker.sock ps -q --filter name=after. | wc -l"
        play.until(host, ps, lambda said: said.strip() == "0", timeout_s=20)
    serves(play, *HOSTS)
    for host in HOSTS:  # the old one is back, and follows or leads
        play.until(host, NODES, lambda said: said.count("Ready") == 3, timeout_s=15)
        play.until(host, NODES, lambda said: said.count("Reachable") == 2, timeout_s=15)
    assert {host: play.quietly(host, STARTED) for host in HOSTS} == started
    assert "after-a-kill" in play.quietly(old, "docker config ls --format '{{.Name}}'")


def test_a_leader_whose_host_is_off_is_followed_and_comes_back_as_a_follower(play: Play) -> None:
    old = leader(play, "h1")
    others = [host for host in HOSTS if host != old]
    play.lab.kill(old)
    assert written(play, others[0], "after-a-host") < 8
    new = leader(play, others[1], others)
    down = f"{old} false Down Unreachable"
    for host in others:
        play.until(host, NODES, lambda said: down in said, timeout_s=15)
        ready = [line for line in play.quietly(host, NODES).splitlines() if " Ready " in line]
        assert len(ready) == 2
    running = "docker service ps web --filter desired-state=running --format '{{.CurrentState}}'"
    play.until(others[0], running, lambda said: said.count("Running") == 3, timeout_s=30)
    serves(play, *others)
    code, said = play.attempt(others[0], f"docker node demote {others[1]}")
    assert (code, "this would result in a loss of quorum" in said) == (1, True), said
    code, said = play.attempt(others[0], "docker swarm leave")
    assert (code, "leaves 1 managers out of 3" in said) == (1, True), said
    play.lab.start(old, lambda *_: None)
    play.until(others[0], NODES, lambda said: said.count("Reachable") == 2, timeout_s=60)
    assert managers(play, old)[old] == ["Reachable"]
    assert managers(play, old)[new] == ["Leader"]
    assert "after-a-host" in play.quietly(old, "docker config ls --format '{{.Name}}'")


def test_the_leader_is_demoted_and_becomes_a_worker_without_a_trace_of_the_store(
    play: Play,
) -> None:
    old = leader(play, "h1")
    others = [host for host in HOSTS if host != old]
    started = play.quietly(old, STARTED)
    said = play.on(old, f"docker node demote {old}")
    assert f"Manager {old} demoted in the swarm." in said
    play.until(others[0], NODES, line(f"{old} false Ready "), timeout_s=30)
    play.until(old, "docker info --format '{{.Swarm.ControlAvailable}}'", is_false, timeout_s=30)
    code, said = play.attempt(old, "docker node ls")
    assert (code, "This node is not a swarm manager" in said) == (1, True), said
    play.until(old, "ls -a $MESHNET_STATE_DIR", without("etcd", "store", "manages"), timeout_s=20)
    code, _ = play.attempt(old, "kill -0 $(cat /run/meshnet/meshnet-manager.pid)")
    assert code != 0
    assert play.quietly(old, STARTED) == started
    assert written(play, others[0], "after-a-demotion") < 8
    said = play.on(others[0], f"docker node promote {old}")
    assert f"Node {old} promoted to a manager in the swarm." in said
    play.until(others[0], NODES, lambda said: said.count("Reachable") == 2, timeout_s=60)
    play.until(old, INFO, lambda said: said.split() == ["true", "3", "3", "3"], timeout_s=30)
    assert "after-a-demotion" in play.quietly(old, "docker config ls --format '{{.Name}}'")
    assert play.quietly(old, STARTED) == started


def test_a_manager_leaves_by_force_and_joins_again(play: Play) -> None:
    old = leader(play, "h1")
    others = [host for host in HOSTS if host != old]
    code, said = play.attempt(old, "docker swarm leave")
    assert (code, "reinitialize it with `--force-new-cluster`" in said) == (1, True), said
    play.on(old, "docker swarm leave --force")
    assert written(play, others[0], "after-a-leave") < 8
    down = f"{old} false Down Unreachable"
    play.until(others[0], NODES, lambda said: down in said, timeout_s=20)
    play.until(old, "ls -a $MESHNET_STATE_DIR", without("etcd", "store", "state.json"))
    code, said = play.attempt(others[0], f"docker node rm {old}")
    assert (code, "must be demoted to worker before removal" in said) == (1, True), said
    play.on(others[0], f"docker node demote {old}")
    play.until(others[0], f"docker node rm {old}", lambda _: True, timeout_s=20)
    token = play.quietly(others[0], "docker swarm join-token -q manager")
    join = f"docker swarm join --token {token} {others[1]}:2377"

    # what it lacks is one sentence, and nothing is left of it here or there
    taken = "python3 -m http.server 2377 >/dev/null 2>&1 & echo $! >/tmp/taken; sleep 1"
    for spoil, mend, why in (
        ("mount --bind /dev/null /usr/bin/etcd", "umount /usr/bin/etcd", "install etcd-server"),
        (f"({taken})", "kill $(cat /tmp/taken)", "2377: bind: address already in use"),
    ):
        play.on(old, spoil)
        code, said = play.attempt(old, join)
        play.on(old, mend)
        assert (code, why in said) == (1, True), said
        assert "inactive" in play.quietly(old, "docker info --format '{{.Swarm.LocalNodeState}}'")
        left = play.quietly(old, "ls -a $MESHNET_STATE_DIR")
        assert without("etcd", "store", "state.json")(left), left
        play.until(others[0], NODES, without(old))

    said = play.on(old, join)
    assert "joined a swarm as a manager" in said
    play.until(old, INFO, lambda said: said.split() == ["true", "3", "3", "3"], timeout_s=30)
    # Its mesh is made when who had it join has been answered.
    play.until("client", f"curl -sS -m 2 http://{old}:8080/", lambda said: "sees" in said)
    serves(play, *HOSTS)


def test_a_manager_that_was_demoted_while_it_was_off_comes_back_as_a_worker(play: Play) -> None:
    first = leader(play, "h1")
    old = next(host for host in HOSTS if host != first)
    play.lab.kill(old)
    play.until(first, NODES, lambda said: f"{old} false Down Unreachable" in said, timeout_s=15)
    play.on(first, f"docker node demote {old}")
    play.until(first, NODES, line(f"{old} false Down "), timeout_s=30)
    play.lab.start(old, lambda *_: None)
    play.until(first, NODES, line(f"{old} false Ready "), timeout_s=60)
    play.until(old, "ls -a $MESHNET_STATE_DIR", without("etcd", "store", "manages"), timeout_s=30)
    play.until(old, INFO, lambda said: said.split()[0] == "false", timeout_s=20)
    serves(play, *HOSTS)


def test_back_to_one_that_cannot_be_demoted(play: Play) -> None:
    asked = next(host for host in HOSTS if play.attempt(host, NODES)[0] == 0)
    first = leader(play, asked)
    others = [host for host in HOSTS if host != first]
    for host in others:
        if managers(play, first)[host]:
            play.on(first, f"docker node demote {host}")
        play.until(first, NODES, line(f"{host} false Ready "), timeout_s=30)
    code, said = play.attempt(first, f"docker node demote {first}")
    assert (code, "attempting to demote the last manager of the swarm" in said) == (1, True), said
    play.until(first, INFO, lambda said: said.split() == ["true", "1", "3", "1"], timeout_s=20)
    for host in others:
        play.until(host, INFO, lambda said: said.split()[0] == "false", timeout_s=20)
    assert written(play, first, "alone") < 5
    serves(play, *HOSTS)


def line(expected: str) -> Callable[[str], bool]:
    """One of the lines is this one."""
    return lambda said: expected in said.split("\n")


def is_false(said: str) -> bool:
    """Docker says no."""
    return said.strip() == "false"


def without(*words: str) -> Callable[[str], bool]:
    """A listing of files none of which begins with these."""
    return lambda said: not any(line.startswith(words) for line in said.split())
