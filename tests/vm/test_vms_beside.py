"""What others do to a host: firewalls, the engine, clocks, other networks and resolvers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from vm_cluster import HOSTS, LATE_S, RECOVERS_S, each, until_quiet, until_spread
from vm_traffic import send, traffic

from meshnet_control.lab.layout import VM_SUBNET

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]
FIREWALLS = Path(__file__).parents[2] / "docs" / "firewalls.md"


def test_a_flushed_ruleset_is_back(play):
    until_quiet(play)
    with traffic(play, inside=("h2",)) as seen:
        play.on("h2", "nft flush ruleset")
        seen.cause_ends()
    assert seen.recovery_s <= RECOVERS_S
    assert "was changed by others, and put right" in play.on("h2", "meshnet status")
    # The engine's own chains are gone until it is told to write them again.
    play.on("h2", "systemctl restart docker", timeout_s=200)
    until_quiet(play)


def test_the_engine_is_restarted(play):
    until_quiet(play)
    with traffic(play, inside=("h1",)) as seen:
        play.on("h2", "systemctl restart docker", timeout_s=200)
        seen.cause_ends()
    assert seen.recovery_s <= RECOVERS_S
    assert "the Docker daemon was away" in play.on("h2", "meshnet status")
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
    said = play.on(host, "meshnet status")
    for hour in ("+36", "-36"):
        assert f"the clock of this host was set by {hour}" in said
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
    until_spread(play)
    rules = documented(section)
    assert rules

    def prepare(host: str) -> None:
        play.on(host, before)
        play.on(host, on)  # firewall-cmd speaks to a firewalld that runs
        code, said = play.attempt(host, "meshnet doctor")
        assert code, said  # 2 when the other host is kept out already
        assert f"{section} lets nothing in on 7946/tcp" in " ".join(said.split()), said
        for rule in rules:
            play.on(host, rule)

    each(prepare)
    until_quiet(play)
    assert section not in play.on("h1", "meshnet doctor")
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


@pytest.mark.parametrize("daemon", ["NetworkManager", "systemd-networkd"])
def test_another_keeper_of_networks_looks_after_another_card(play, daemon):
    """It finds our links, routes and rules when it starts, and leaves them alone."""
    until_quiet(play)
    # A card of its own; what it has of ours by itself is the question.
    made = {
        "NetworkManager": "nmcli connection add type dummy ifname other0 con-name other0"
        " ipv4.method manual ipv4.addresses 10.99.0.1/24",
        "systemd-networkd": "networkctl reload",
    }
    network = "/etc/systemd/network/other0"
    with traffic(play, inside=("h2",), limit_s=LATE_S) as seen:
        play.on("h2", f"printf '[NetDev]\\nName=other0\\nKind=dummy\\n' > {network}.netdev")
        settings = "[Match]\\nName=other0\\n[Network]\\nAddress=10.99.0.1/24\\n"
        play.on("h2", f"printf '{settings}' > {network}.network")
        play.on("h2", f"systemctl start {daemon}")
        play.on("h2", made[daemon])
        play.until("h2", "ip -4 -o addr show dev other0", lambda said: "10.99.0.1/24" in said)
        play.on("h2", f"systemctl restart {daemon}")
        play.on("h2", "ip -o link; networkctl --no-pager || true; nmcli device || true")
        play.on("h2", f"systemctl stop {daemon}")
        play.on("h2", f"ip link del other0; rm {network}.*; nmcli --offline c 2>/dev/null; true")
        seen.cause_ends()
    play.on("h2", "rm -f /etc/NetworkManager/system-connections/other0*")
    assert seen.lost == {}
    until_quiet(play)


def test_the_resolver_of_the_host_is_a_stub(play):
    """systemd-resolved at 127.0.0.53, which containers cannot reach: the host's side asks it."""
    until_quiet(play)
    client = play.lab.layout.client.address.ip
    zone = "outside.test. 60 IN A 192.0.2.7"
    server = [sys.executable, "-m", "dnslib.fixedresolver", "--port", "53", "--response", zone]
    outside = subprocess.Popen(play.lab.command("client", server), stdout=subprocess.DEVNULL)
    container = play.quietly("h2", "docker ps -qf name=client. | head -1")
    asked = f"docker exec {container} dig +short +time=20 outside.test web"
    try:
        with traffic(play, inside=("h2",), limit_s=LATE_S) as seen:
            place = "/etc/systemd/resolved.conf.d"
            settings = f"[Resolve]\nDNS={client}\n"
            send(play, "h2", f"mkdir -p {place} && cat > {place}/dns.conf", settings.encode())
            play.on("h2", "systemctl start systemd-resolved")
            play.on("h2", "ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf")
            found = play.until("h2", asked, lambda said: "192.0.2.7" in said, timeout_s=20)
            play.on("h2", "systemctl restart systemd-resolved")
            play.until("h2", asked, lambda said: "192.0.2.7" in said, timeout_s=20)
            play.on("h2", "systemctl stop systemd-resolved")
            play.on("h2", "rm /etc/resolv.conf; : > /etc/resolv.conf")
            seen.cause_ends()
    finally:
        outside.kill()
        outside.wait()
    assert len(found.split()) == 2, "the name of a service, too"
    assert seen.lost == {}


def test_a_vpn_takes_the_default_route(play):
    """WireGuard as wg-quick sets it up: a link, policy rules, a table that marks packets."""
    until_quiet(play)
    place = "/etc/wireguard"
    keys = f"umask 077; cd {place}; wg genkey > key; wg pubkey < key"
    public = {host: play.on(host, keys).strip() for host in HOSTS}
    at = {host: play.lab.layout.machine(host).address.ip for host in HOSTS}
    for host, other, own, routes in (
        ("h1", "h2", "10.77.0.1", "10.77.0.2/32"), ("h2", "h1", "10.77.0.2", "0.0.0.0/0"),
    ):  # fmt: skip
        lines = [
            "[Interface]", f"Address = {own}/24", "ListenPort = 51820",
            f"PostUp = wg set %i private-key {place}/key",
            "[Peer]", f"PublicKey = {public[other]}", f"AllowedIPs = {routes}",
            f"Endpoint = {at[other]}:51820",
        ]  # fmt: skip
        send(play, host, f"umask 077; cat > {place}/wg0.conf", "\n".join(lines).encode())
    with traffic(play, inside=HOSTS, limit_s=LATE_S) as seen:
        for host in HOSTS:
            play.on(host, "wg-quick up wg0")
        play.on("h2", "ping -c 2 -W 20 10.77.0.1")
        play.on("h2", "ip rule; nft list ruleset | grep -A12 wg-quick || true")
        for host in HOSTS:
            play.on(host, "wg-quick down wg0")
        seen.cause_ends()
    assert seen.lost == {}
    until_quiet(play)
