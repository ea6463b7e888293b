"""Two virtual machines that boot Debian: what namespaces cannot show.

Tests build on each other in the order of this file, from machines that have an engine only to ones
that have been through everything; one boot serves all. Requests go on meanwhile, and each is
accounted for.

Be aware: without KVM a machine is some twenty times slower than this one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from vm_traffic import PORT, Account, send, traffic

from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import VM_SUBNET, Layout
from meshnet_control.lab.play import Play, StepError, answers, requests
from meshnet_control.lab.vms import hosts

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]
CLONE = Path(__file__).parents[2]
FIREWALLS = CLONE / "docs" / "firewalls.md"
NAME = os.environ.get("MESHNET_LAB", "mnvm")
HOSTS = ("h1", "h2")
UNITS = ("meshnetd", "meshnet-resolver")
EMULATED = hosts.accelerator() == "tcg"
PATIENCE = 10.0 if EMULATED else 1.0
"""What takes a host a second takes an emulated one that shares its processor ten, and more."""
RECOVERS_S = 30.0 if EMULATED else 5.0
LATE_S = 30.0 if EMULATED else 5.0
"""A request that has waited longer is lost."""
STARTS_S = 300.0
"""A request waits while a daemon starts, which takes an emulated machine a minute: late, not lost.
"""


@pytest.fixture(scope="module")
def play():
    """
    Name: play; Scope: module; Depends: nothing.

    Two machines with engines and images, nothing of meshnet running; removed whatever happens,
    unless MESHNET_KEEP asks for them to be left for another run of some of these tests.
    """
    layout = Layout(NAME, len(HOSTS))
    kept = bool(os.environ.get("MESHNET_KEEP"))
    if not kept:
        Lab.known(layout).down(lambda *_: None)
    began = time.monotonic()
    bare = Lab.of_vms(layout, engine_only=True)
    made = Play(Lab.of_vms(layout), show=print, patience=PATIENCE)

    def told(name: str, what: str) -> None:
        made.show(f"{time.monotonic() - began:.0f} s {name}: {what}")

    try:
        bare.up(told)
        yield made
    finally:
        if not kept:
            bare.down(lambda *_: None)


@pytest.fixture(autouse=True)
def journal(play, request):
    """
    Name: journal; Scope: function; Depends: play.

    What the machines' own logs say of a test that failed.
    """
    began = time.time()
    failed = request.session.testsfailed
    yield
    play.show(f"{request.node.name}: {time.time() - began:.0f} s")
    if request.session.testsfailed > failed:
        units = " ".join(f"-u {unit}" for unit in (*UNITS, "meshnet-manager", "docker"))
        log = f"journalctl -b {units} --no-pager -n 60"
        for host in HOSTS:
            with contextlib.suppress(Exception):
                play.show(f"--- {host}\n{play.attempt(host, log)[1]}")


def each(work) -> None:
    """Do it for both machines at once."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(work, HOSTS))


def show(play: Play, host: str, unit: str, name: str) -> str:
    return play.quietly(host, f"systemctl show -P {name} {unit}")


def until_quiet(play: Play) -> None:
    """All nodes are Ready, and every replica runs."""
    form = "docker node ls --format '{{.Status}}'"
    play.until("h1", form, lambda said: said.split() == ["Ready", "Ready"], timeout_s=120)
    listed = "docker service ls --format '{{.Replicas}}'"
    play.until("h1", listed, lambda said: said.split() == ["2/2", "4/4"], timeout_s=120)
    for host in HOSTS:
        seen = f"curl -sS -m 5 http://{play.lab.layout.machine(host).address.ip}:{PORT}/"
        play.until("client", seen, lambda said: "sees" in said, timeout_s=60)


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


# ---- what others do to a host ----


def test_a_flushed_ruleset_is_back(play):
    until_quiet(play)
    with traffic(play, inside=("h2",)) as seen:
        play.on("h2", "nft flush ruleset")
        seen.cause_ends()
    assert seen.recovery_s <= RECOVERS_S
    # The engine's own chains are gone until it is told to write them again.
    play.on("h2", "systemctl restart docker", timeout_s=200)
    until_quiet(play)


def test_the_engine_is_restarted(play):
    until_quiet(play)
    with traffic(play, inside=("h1",)) as seen:
        play.on("h2", "systemctl restart docker", timeout_s=200)
        seen.cause_ends()
    assert seen.recovery_s <= RECOVERS_S
    until_quiet(play)


@pytest.mark.parametrize("host", HOSTS)
def test_the_clock_steps(play, host):
    until_quiet(play)
    play.quietly(host, "timedatectl set-ntp false || true")
    (other,) = set(HOSTS) - {host}
    with traffic(play, inside=(other,), limit_s=LATE_S) as seen:
        play.on(host, "date -s '+1 hour'")
        time.sleep(5)
        play.on(host, "date -s '-1 hour'")
        time.sleep(5)
        play.on(host, "date -s '-1 hour'")
        time.sleep(5)
        play.on(host, "date -s '+1 hour'")
        seen.cause_ends()
    assert seen.lost == {}
    until_quiet(play)


def documented(section: str) -> list[str]:
    """The commands that docs/firewalls.md gives for a firewall, for the network of these hosts."""
    text = FIREWALLS.read_text().partition(f"## {section}\n")[2].partition("\n\n")[0]
    typed = [line.strip() for line in text.splitlines() if line.startswith("    sudo ")]
    return [line.replace("192.168.50.0/24", str(VM_SUBNET)) for line in typed]


@pytest.mark.parametrize(
    ("section", "before", "on", "reload", "off"),
    [
        ("ufw", "ufw allow 22/tcp", "ufw --force enable", "ufw reload", "ufw disable"),
        ("firewalld", "true", "systemctl start firewalld", "firewall-cmd --reload",
         "systemctl stop firewalld"),
    ],
    ids=["ufw", "firewalld"],
)  # fmt: skip
def test_a_firewall_is_switched_off_on_and_reloaded(play, section, before, on, reload, off):
    until_quiet(play)
    rules = documented(section)
    assert rules

    def prepare(host: str) -> None:
        play.on(host, before)
        play.on(host, on)  # firewall-cmd speaks to a firewalld that runs
        for rule in rules:
            play.on(host, rule)

    each(prepare)
    until_quiet(play)
    for step in (off, on, reload):
        with traffic(play, inside=("h2",)) as seen:
            began = time.monotonic()
            play.on("h2", step)
            play.show(f"{step}: {time.monotonic() - began:.1f} s")
            seen.cause_ends()
        assert seen.recovery_s <= RECOVERS_S, step
        until_quiet(play)
    each(lambda host: play.on(host, off))
    until_quiet(play)


# ---- power ----


def test_a_worker_is_rebooted(play):
    until_quiet(play)
    with traffic(play, outside=("h1",)) as seen:
        reboot(play, "h2", seen)
    assert_little_was_lost(seen)
    until_quiet(play)
    assert play.on("h2", "systemctl is-active meshnetd meshnet-resolver").split() == ["active"] * 2


def test_a_workers_power_is_cut(play):
    until_quiet(play)
    with traffic(play, outside=("h1",)) as seen:
        play.lab.kill("h2")
        seen.cause_ends()
        form = "docker node ls --format '{{.Hostname}} {{.Status}}'"
        play.until("h1", form, lambda said: "h2 Down" in said, timeout_s=60)
        assert "h2" in play.on("h1", "meshnet status")
    assert seen.recovery_s <= RECOVERS_S
    with traffic(play, outside=("h1",), limit_s=LATE_S) as seen:
        Lab.of_vms(play.lab.layout, engine_only=True).start("h2", lambda *_: None)
        seen.cause_ends()
    assert seen.lost == {}
    until_quiet(play)


def test_the_manager_is_rebooted(play):
    until_quiet(play)
    with traffic(play, outside=("h2",), inside=("h2",)) as seen:
        reboot(play, "h1", seen)
    assert_little_was_lost(seen)
    until_quiet(play)


def assert_little_was_lost(seen: Account) -> None:
    """Nothing once the machine was off; while it goes down, a few."""
    assert seen.recovery_s <= RECOVERS_S
    assert sum(seen.lost.values()) <= 0.05 * len(seen.rows), seen.lost


def reboot(play: Play, host: str, seen: Account) -> None:
    """Have a machine reboot until its meshnetd serves again; the cause ends when it is off."""
    before = play.quietly(host, "cat /proc/sys/kernel/random/boot_id")
    play.attempt(host, "systemctl reboot")
    while boot(play, host)[0] == before:
        time.sleep(0.5)
    seen.cause_ends()
    assert isinstance(play.lab.hosts, hosts.Vms)
    play.lab.hosts.wait(play.lab.layout, host)
    deadline = time.monotonic() + 300 * PATIENCE
    while boot(play, host)[1:] != ["active"]:
        assert time.monotonic() < deadline, f"{host}: meshnetd does not serve"
        time.sleep(2)
    assert boot(play, host)[0] != before


def boot(play: Play, host: str) -> list[str]:
    """Which boot of a machine it is, and the state of its meshnetd; ``["off"]``: it answers not."""
    asked = "cat /proc/sys/kernel/random/boot_id && systemctl is-active meshnetd"
    with contextlib.suppress(StepError):
        said = play.attempt(host, asked)[1].split()
        if len(said) == 2:
            return said
    return ["off"]


# ---- the end ----


def test_down_leaves_nothing(play):
    play.on("h1", "docker service rm web client")
    play.on("h2", "docker swarm leave", timeout_s=120)
    play.on("h2", "meshnet down", timeout_s=120)
    units = play.on("h2", "systemctl list-unit-files --no-legend | cat")
    assert [unit for unit in UNITS if unit in units] == []
    left = play.on("h2", "nft list tables; ip netns; ip -o link | cut -d: -f2")
    assert "mn" not in left
    assert "meshnet" not in left
    assert "meshnet" not in play.on("h2", "DOCKER_HOST= docker context ls -q").split()
