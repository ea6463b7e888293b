"""Dual stack overlays on two hosts, as typed: names, virtual IPs, containers, published ports."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Interface, IPv6Network, ip_interface
from typing import Any

import pytest
from docker_hosts import WEB, Hosts

from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
NAME = "mndual"
REPLICAS = 4
LAN = {"h1": "fd50::11", "h2": "fd50::12", "client": "fd50::100"}
ON_BOTH = "busybox httpd -f -p [::]:80 -h /www"
"""A server that answers clients of both families; that of the image does those of IPv4 alone."""


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """
    Name: hosts; Scope: module; Depends: nothing.

    A manager and a worker with tasks of a service on a dual stack network on both, gone afterwards.
    """
    lab = Lab(Layout(NAME, 2))
    lab.down(lambda *_: None)
    try:
        lab.up(lambda *_: None)
        made = Hosts(lab)
        made.sh("h1", "docker swarm init >/dev/null")
        token = made.sh("h1", "docker swarm join-token -q worker")
        made.sh("h2", f"docker swarm join --token {token} h1:2377")
        for host, address in LAN.items():
            made.sh(host, f"ip addr add {address}/64 dev eth0 nodad")
        made.sh("h1", "yes | docker network rm ingress")
        made.docker("h1", "network create -d overlay --ingress --ipv6 ingress")
        made.docker("h1", "network create -d overlay --attachable --ipv6 dual")
        made.docker("h1", "network create -d overlay --attachable plain")
        made.sh(
            "h1",
            f"docker service create -q --no-resolve-image --name web --replicas {REPLICAS}"
            f" --network dual --placement-pref spread=node.hostname {WEB} {ON_BOTH}",
        )
        made.sh(
            "h1",
            f"docker service create -q --no-resolve-image --name pub --replicas {REPLICAS}"
            f" -p 8080:80 --placement-pref spread=node.hostname {WEB} {ON_BOTH}",
        )
        made.docker("h1", "run -d --name one --network dual meshnet/tools:1")
        yield made
    finally:
        lab.down(lambda *_: None)


def inspected(hosts: Hosts, words: str) -> Any:
    return json.loads(hosts.docker("h1", words))[0]


def subnet(hosts: Hosts) -> IPv6Network:
    network = inspected(hosts, "network inspect dual")
    assert network["EnableIPv6"] is True
    four, six = network["IPAM"]["Config"]
    assert ":" not in four["Subnet"]
    return IPv6Network(six["Subnet"])


def test_networks_services_tasks_and_containers_show_both_addresses(hosts: Hosts) -> None:
    space = subnet(hosts)
    assert space.prefixlen == 64
    assert space.subnet_of(IPv6Network("fd00::/8"))
    vips = [
        vip["Addr"] for vip in inspected(hosts, "service inspect web")["Endpoint"]["VirtualIPs"]
    ]
    assert len(vips) == 2
    assert ip_interface(vips[1]).ip in space
    tasks = hosts.docker("h1", "service ps -q web").split()
    own = [inspected(hosts, f"inspect {task}")["NetworksAttachments"][0] for task in tasks]
    assert all(len(each["Addresses"]) == 2 for each in own)
    assert len({each["Addresses"][1] for each in own}) == REPLICAS
    here = inspected(hosts, "inspect one")["NetworkSettings"]["Networks"]["dual"]
    assert IPv6Address(here["GlobalIPv6Address"]) in space
    assert here["GlobalIPv6PrefixLen"] == 64
    shown = inspected(hosts, "network inspect dual")["Containers"].values()
    assert f"{here['GlobalIPv6Address']}/64" in {each["IPv6Address"] for each in shown}
    assert inspected(hosts, "network inspect plain")["EnableIPv6"] is False


def test_names_lead_by_ipv6_through_the_virtual_ip_to_the_tasks_of_both_hosts(hosts: Hosts) -> None:
    space = subnet(hosts)
    (vip,) = hosts.docker("h1", "exec one dig +short web AAAA").split()
    tasks = hosts.docker("h1", "exec one dig +short tasks.web AAAA").split()
    assert IPv6Address(vip) in space
    assert len(set(tasks)) == REPLICAS
    assert hosts.docker("h1", f"exec one dig +short -x {vip}").strip() == "web.dual."
    curl = "for n in $(seq 12); do curl -6 -sS -m 5 http://web/cgi-bin/index.cgi || exit; done"
    said = hosts.sh("h1", f"docker exec one sh -c '{curl}'").splitlines()
    own = inspected(hosts, "inspect one")["NetworkSettings"]["Networks"]["dual"]
    assert all(f"sees [{own['GlobalIPv6Address']}]" in line for line in said), said
    answered = Counter(line.split()[1] for line in said)
    assert answered == dict.fromkeys(answered, 12 // REPLICAS), "strictly in turn"
    assert len(answered) == REPLICAS
    on = {host: hosts.docker(host, "ps -q --filter name=web").split() for host in ("h1", "h2")}
    assert all(len(containers) == REPLICAS // 2 for containers in on.values())
    curl = "curl -4 -sS -m 5 http://web/cgi-bin/index.cgi"
    assert hosts.docker("h1", f"exec one {curl}").split()[1] in answered, "by IPv4 as ever"


def test_a_container_has_the_address_that_it_asks_for_and_is_reached_from_the_other_host(
    hosts: Hosts,
) -> None:
    at = subnet(hosts)[0xBEEF]
    hosts.docker("h2", f"run -d --name two --network dual --ip6 {at} {WEB} {ON_BOTH}")
    assert f"inet6 {at}/64" in hosts.docker("h2", "exec two ip -6 addr show eth0")
    assert hosts.docker("h1", "exec one dig +short two AAAA") == str(at)
    said = hosts.docker("h1", "exec one curl -6 -sS -m 5 http://two/cgi-bin/index.cgi")
    assert "sees [fd" in said
    outside = "run -d --network dual --ip6 fd00:dead::1 meshnet/tools:1"
    assert "is not in the network's subnet" in hosts.refused("h1", outside)
    on_plain = f"run -d --network plain --ip6 {at} meshnet/tools:1"
    assert "is not in the network's subnet" in hosts.refused("h1", on_plain)


def test_subnets_of_both_families_are_had_as_they_were_asked_for(hosts: Hosts) -> None:
    hosts.docker(
        "h1",
        "network create -d overlay --attachable --ipv6 --subnet fd00:7::/64 --subnet 10.7.0.0/24"
        " --gateway fd00:7::fe --ip-range fd00:7::100/120 --aux-address router=fd00:7::101 asked",
    )
    hosts.docker("h1", "run -d --name four --network asked --ip 10.7.0.44 meshnet/tools:1")
    network = inspected(hosts, "network inspect asked")
    four, six = network["IPAM"]["Config"]
    assert (four["Subnet"], four["Gateway"]) == ("10.7.0.0/24", "10.7.0.1")
    assert (six["Subnet"], six["Gateway"]) == ("fd00:7::/64", "fd00:7::fe")
    assert (six["IPRange"], six["AuxiliaryAddresses"]) == (
        "fd00:7::100/120", {"router": "fd00:7::101"},
    )  # fmt: skip
    (own,) = network["Containers"].values()
    assert (own["IPv4Address"], own["IPv6Address"]) == ("10.7.0.44/24", "fd00:7::102/64")
    said = hosts.refused("h1", "network create -d overlay --ipv6 --subnet fd00:7::/80 more")
    assert "subnet fd00:7::/80 overlaps with fd00:7::/64 of network asked" in said
    said = hosts.refused("h1", "network create -d overlay --subnet fd00:8::/64 more")
    assert "--ipv6 must be given, too" in said


def test_containers_without_it_have_no_ipv6_and_no_such_names(hosts: Hosts) -> None:
    hosts.docker("h1", "run -d --name three --network plain meshnet/tools:1")
    assert hosts.docker("h1", "exec three ip -6 addr show") == ""
    assert hosts.docker("h1", "exec three dig +short three AAAA") == ""


def test_a_published_port_leads_by_ipv6_to_all_tasks_and_each_sees_its_client(
    hosts: Hosts,
) -> None:
    asked = "for n in $(seq 8); do curl -g -sS -m 5 http://{}:8080/cgi-bin/index.cgi || exit; done"
    ways = [
        *(("client", f"[{LAN[host]}]", f"[{LAN['client']}]") for host in ("h1", "h2")),
        ("h2", f"[{LAN['h1']}]", f"[{LAN['h2']}]"),
        *((host, "[::1]", "[fd") for host in ("h1", "h2")),
        *(("client", host, "192.168.50.100") for host in ("h1", "h2")),
    ]
    for where, at, seen in ways:
        said = hosts.sh(where, asked.format(at)).splitlines()
        assert all(seen in line.partition("sees")[2] for line in said), (where, at, said)
        answered = Counter(line.split()[1] for line in said)
        assert answered == dict.fromkeys(answered, 2), "strictly in turn"
        assert len(answered) == REPLICAS


def test_the_ingress_network_shows_its_subnet_and_its_end_on_a_host(hosts: Hosts) -> None:
    network = inspected(hosts, "network inspect ingress")
    assert (network["Ingress"], network["EnableIPv6"]) == (True, True)
    space = IPv6Network(network["IPAM"]["Config"][1]["Subnet"])
    ends = [IPv6Interface(each["IPv6Address"]) for each in network["Containers"].values()]
    assert all(end.ip in space for end in ends)
    assert f"inet6 {network['Containers']['ingress-sbox']['IPv6Address']}" in hosts.sh(
        "h1", "ip -6 addr show dev mn-ingress"
    )
