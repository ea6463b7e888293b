"""What ufw and firewalld print, and which ports of the cluster they keep closed."""

from __future__ import annotations

import pytest

from meshnet_control.host.firewalls import (
    GOSSIP,
    MANAGERS,
    firewalld_refuses,
    ufw_refuses,
    zones,
)

UFW = """Status: active
Logging: on (low)
Default: deny (incoming), allow (outgoing), deny (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW IN    Anywhere
2377,2380/tcp              ALLOW IN    192.168.56.0/24
7946                       ALLOW IN    192.168.56.0/24
4789/udp                   ALLOW IN    192.168.56.0/24
"""
"""As ufw 0.36.2 prints it after the commands of docs/firewalls.md."""
FIREWALLD = """block
  target: %%REJECT%%
  interfaces:
  sources:
  services:
  ports:

meshnet (active)
  target: default
  icmp-block-inversion: no
  interfaces:
  sources: 192.168.56.0/24
  services: meshnet ssh
  ports:

public (default)
  target: default
  interfaces:
  sources:
  services: dhcpv6-client ssh
  ports:

trusted (active)
  target: ACCEPT
  interfaces: docker_gwbridge
  sources:
  services:
  ports:
"""
"""As firewalld 1.3 prints it after them, shortened."""
SERVICES = {
    "meshnet": ["2377/tcp", "2380/tcp", "7946/tcp", "7946/udp", "4789/udp"], "ssh": ["22/tcp"],
}  # fmt: skip
NODES = (*GOSSIP, (4789, "udp"))
ALL = (*NODES, *MANAGERS)


def ports_of(service: str) -> list[str]:
    return SERVICES.get(service, [])


def test_the_documented_commands_are_enough():
    assert ufw_refuses(UFW, ALL) == []
    assert firewalld_refuses(zones(FIREWALLD), ports_of, ALL) == []


@pytest.mark.parametrize(
    ("rule", "refused"),
    [
        ("2377,2380/tcp", [(2377, "tcp"), (2380, "tcp")]),
        ("7946 ", [(7946, "tcp"), (7946, "udp")]),
        ("4789/udp", [(4789, "udp")]),
    ],
)
def test_a_rule_that_is_missing_is_told(rule, refused):
    text = "\n".join(line for line in UFW.splitlines() if not line.startswith(rule))
    assert ufw_refuses(text, ALL) == refused


@pytest.mark.parametrize(
    "line",
    [
        "7000:8000/udp              ALLOW IN    Anywhere",
        "Anywhere                   ALLOW IN    192.168.56.0/24",
        "7946/udp                   LIMIT IN    Anywhere\n7946 ALLOW IN Anywhere",
    ],
)
def test_ranges_and_whole_networks_count(line):
    text = "\n".join(row for row in UFW.splitlines() if not row.startswith("7946"))
    assert (7946, "udp") not in ufw_refuses(f"{text}\n{line}\n", NODES)


@pytest.mark.parametrize(
    "line", ["7946 ALLOW OUT Anywhere", "7946 DENY IN Anywhere", "7946/tcp ALLOW IN Any"]
)
def test_what_does_not_let_in_does_not_count(line):
    text = "\n".join(row for row in UFW.splitlines() if not row.startswith("7946"))
    assert (7946, "udp") in ufw_refuses(f"{text}\n{line}\n", NODES)


@pytest.mark.parametrize(
    "text", ["", "Status: inactive\n", UFW.replace("deny (incoming)", "allow (incoming)")]
)
def test_a_ufw_that_is_off_refuses_nothing(text):
    assert ufw_refuses(text.replace("7946", "1"), NODES) == []


def test_a_zone_of_containers_opens_nothing_for_other_hosts():
    text = FIREWALLD.replace("services: meshnet ssh", "services: ssh")
    assert firewalld_refuses(zones(text), ports_of, NODES) == list(NODES)


def test_a_zone_that_accepts_all_from_other_hosts_refuses_nothing():
    text = FIREWALLD.replace("services: meshnet ssh", "services: ssh")
    text = text.replace("interfaces: docker_gwbridge", "interfaces: docker_gwbridge eth1")
    assert firewalld_refuses(zones(text), ports_of, NODES) == []


def test_a_zone_that_is_not_used_counts_for_nothing():
    text = FIREWALLD.replace("meshnet (active)", "meshnet")
    assert firewalld_refuses(zones(text), ports_of, NODES) == list(NODES)
