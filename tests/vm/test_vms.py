"""Two virtual machines that boot Debian: what namespaces cannot show.

Here they are installed, made a cluster, and their units put through what ends units. Tests build on
each other in the order of the files, from machines that have an engine only to ones that have been
through everything; one boot serves all. Requests go on meanwhile, and each is accounted for.

Be aware: without KVM a machine is some twenty times slower than this one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from vm_cluster import HOSTS, STARTS_S, UNITS, show, until_quiet
from vm_traffic import PORT, send, traffic

from meshnet_control.lab.play import Play, answers, requests

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]
CLONE = Path(__file__).parents[2]


# ---- install ----


def test_the_first_cards_are_alike_and_the_second_ones_are_not(play):
    for host in HOSTS:
        assert "10.0.2.15/24" in play.on(host, "ip -4 -o addr show dev eth0")
        own = play.lab.layout.machine(host).address
        assert str(own) in play.on(host, "ip -4 -o addr show dev eth1")
    assert play.on("h1", "cat /sys/class/net/eth0/address") == play.on(
        "h2", "cat /sys/class/net/eth0/address"
    )


def test_install_starts_units_that_outlive_a_boot(play):
    play.on("h1", "meshnet up --install", timeout_s=300)
    until_installed(play, "h1")


def test_the_script_of_a_vagrant_machine_does_it_too(play, tmp_path):
    """With wheels from another host, as a machine here reaches no index."""
    carry_project(play, "h2", tmp_path)
    names = " ".join(f"{host.name}={host.address.ip}" for host in play.lab.layout.hosts)
    provision = f"bash /vagrant/vagrant/provision.sh {names}"
    assert "taking meshnet's wheels" in play.on("h2", provision, timeout_s=300)
    until_installed(play, "h2")
    pid = show(play, "h2", "meshnetd", "MainPID")
    assert "installing" not in play.on("h2", provision, timeout_s=300)
    assert show(play, "h2", "meshnetd", "MainPID") == pid
    assert play.on("h2", "grep -c h2 /etc/hosts").strip() == "1"


def until_installed(play: Play, host: str) -> None:
    for unit in UNITS:
        said = play.on(host, f"systemctl is-active {unit} && systemctl is-enabled {unit}")
        assert said.split() == ["active", "enabled"]
    assert "meshnet" in play.on(host, "DOCKER_HOST= docker context ls -q").split()
    assert "meshnet up" not in play.on(host, "meshnet up --install", timeout_s=120)


def carry_project(play: Play, host: str, work: Path) -> None:
    """The clone as Vagrant's rsync leaves it in /vagrant, with a wheel of another host."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(work)]
    subprocess.run([*pip, str(CLONE)], check=True)
    digest = subprocess.run([CLONE / "vagrant/sources", CLONE], check=True, capture_output=True)
    (work / "sources").write_bytes(digest.stdout)
    wheels = packed(work, ".")
    names = ["pyproject.toml", "README.md", "meshnet", "control", "dns", "lb", "packaging"]
    send(play, host, "mkdir -p /vagrant && tar -xf - -C /vagrant", packed(CLONE, *names, "vagrant"))
    send(play, host, "cat > /vagrant/vagrant/wheels.tar && chown -R vagrant: /vagrant", wheels)


def packed(directory: Path, *names: str) -> bytes:
    argv = ["tar", "-C", str(directory), "--exclude=__pycache__", "-c", *names]
    return subprocess.run(argv, capture_output=True, check=True).stdout


def test_units_are_what_they_ask_to_be(play):
    for unit in UNITS:
        pid = show(play, "h1", unit, "MainPID")
        limits = play.on("h1", f"grep 'open files' /proc/{pid}/limits").split()
        assert limits[3:5] == ["1048576", "1048576"]
        status = play.on("h1", f"cat /proc/{pid}/status")
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        assert "CapBnd:\t000001ffffffffff" not in status
        assert show(play, "h1", unit, "Type") == "notify"
        assert play.on("h1", f"cat /proc/{pid}/oom_score_adj").strip() == "-500"


def test_the_journal_has_priorities_and_no_warning_of_an_ordinary_start(play):
    form = "journalctl -u meshnetd -u meshnet-resolver -o json --no-pager"
    lines = [json.loads(line) for line in play.quietly("h1", form).splitlines()]
    ours = [line for line in lines if line.get("_SYSTEMD_UNIT", "").startswith("meshnet")]
    assert ours
    assert [line["MESSAGE"] for line in ours if int(line["PRIORITY"]) <= 4] == []


# ---- a cluster ----


def test_init_asks_which_of_two_cards(play):
    code, said = play.attempt("h1", "docker swarm init")
    assert code != 0, said
    assert "could not choose an IP address to advertise" in said


def test_two_machines_form_a_cluster(play):
    first, second = play.lab.layout.hosts
    began = time.monotonic()
    play.on("h1", f"docker swarm init --advertise-addr {first.address.ip}")
    play.show(f"init {time.monotonic() - began:.1f} s")
    token = play.quietly("h1", "docker swarm join-token -q worker")
    began = time.monotonic()
    join = f"docker swarm join --token {token} --advertise-addr {second.address.ip}"
    play.on("h2", f"{join} {first.address.ip}:2377")
    play.show(f"join {time.monotonic() - began:.1f} s")
    ready = "docker node ls --format '{{.Hostname}} {{.Status}}'"
    play.until("h1", ready, lambda said: sorted(said.split("\n")[:2]) == ["h1 Ready", "h2 Ready"])
    form = "docker node inspect --format '{{.Status.Addr}}' h1 h2"
    addresses = [str(host.address.ip) for host in play.lab.layout.hosts]
    assert play.on("h1", form).split() == addresses


def test_a_service_is_reached_by_port_name_and_vip(play):
    play.on("h1", "docker network create -d overlay app")
    create = "docker service create --detach --quiet --network app"
    play.on("h1", f"{create} --name client --mode global meshnet/tools:1")
    play.on("h1", f"{create} --name web --replicas 4 -p {PORT}:80 meshnet/web:1")
    until_quiet(play)
    for host in HOSTS:
        url = f"http://{play.lab.layout.machine(host).address.ip}:{PORT}/"
        seen = answers(play.on("client", requests(url, 8)))
        assert len({one.hostname for one in seen}) == 4
        assert {one.peer for one in seen} == {str(play.lab.layout.client.address.ip)}
        container = play.quietly(host, "docker ps -qf name=client. | head -1")
        inside = f"docker exec {container} sh -c '{requests('http://web/', 4)}'"
        assert len({one.hostname for one in answers(play.on(host, inside))}) == 4


def test_the_machines_know_each_other_by_name(play):
    said = play.on("h1", "meshnet status")
    assert "192.168.56.12" in said
    assert "h2" in said


# ---- units ----


@pytest.mark.parametrize("unit", UNITS)
def test_a_restart_costs_nothing(play, unit):
    until_quiet(play)
    with traffic(play, inside=("h2",), limit_s=STARTS_S) as seen:
        began = time.monotonic()
        play.on("h2", f"systemctl restart {unit}", timeout_s=200)
        play.show(f"restart of {unit}: {time.monotonic() - began:.1f} s")
        seen.cause_ends()
    assert seen.lost == {}


def test_a_stop_is_short_and_costs_nothing(play):
    with traffic(play, inside=("h2",), limit_s=STARTS_S) as seen:
        began = time.monotonic()
        play.on("h2", "systemctl stop meshnetd")
        play.show(f"stop of meshnetd: {time.monotonic() - began:.1f} s")
        play.on("h2", "systemctl start meshnetd", timeout_s=200)
        seen.cause_ends()
    assert seen.lost == {}
    assert show(play, "h2", "meshnetd", "Result") == "success"


@pytest.mark.parametrize("unit", [*UNITS, "meshnet-manager"])
def test_a_killed_daemon_is_started_again_and_costs_nothing(play, unit):
    until_quiet(play)
    with traffic(play, limit_s=STARTS_S) as seen:
        before = show(play, "h1", unit, "MainPID")
        play.on("h1", f"systemctl kill -s KILL --kill-whom=main {unit}")
        active = f"systemctl is-active {unit}; systemctl show -P MainPID {unit}"
        play.until(
            "h1", active, lambda said: said.split() not in (["active", before], ["active", "0"])
            and said.split()[0] == "active", timeout_s=60,
        )  # fmt: skip
        seen.cause_ends()
    assert seen.lost == {}
    assert f"last end of {unit}" in play.on("h1", "meshnet status")


def test_a_hung_daemon_is_ended_by_the_watchdog(play):
    until_quiet(play)
    with traffic(play, inside=("h2",), limit_s=STARTS_S) as seen:
        before = show(play, "h2", "meshnetd", "MainPID")
        play.on("h2", f"kill -STOP {before}")
        active = "systemctl is-active meshnetd; systemctl show -P MainPID meshnetd"
        play.until(
            "h2", active, lambda said: said.split()[0] == "active"
            and said.split()[1] not in {before, "0"}, timeout_s=90,
        )  # fmt: skip
        seen.cause_ends()
    assert seen.lost == {}
    assert "watchdog" in play.on("h2", "meshnet status")


def test_a_manager_is_backed_up_and_restored(play):
    """By the confined meshnet-manager, and by what runs as root when it is away."""
    until_quiet(play)
    listed = "docker service ls -q | sort"
    before = play.quietly("h1", listed)
    play.on("h1", "rm -f /root/*.tar; meshnet backup /root/manager.tar", timeout_s=200)
    assert play.on("h1", "stat -c %a /root/manager.tar").strip() == "600"
    play.on("h1", "meshnet down", timeout_s=200)
    play.on("h1", "meshnet backup /root/again.tar", timeout_s=200)
    play.on("h1", "meshnet restore --replace /root/manager.tar", timeout_s=200)
    play.on("h1", "meshnet up --install", timeout_s=300)
    until_quiet(play)
    assert play.quietly("h1", listed) == before
