"""What a user says of an overlay network, as typed, and what containers of two hosts have of it.

The cluster's pools are small: 10.20.0.0/24 and 10.30.0.0/26 in networks of 64 addresses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from docker_hosts import WEB, Hosts
from lab_swarm import swarm_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
NAME = "mnnets"
TOOLS = "meshnet/tools:1"
CREATE = "network create -d overlay"
SERVICE = "service create -d --no-resolve-image"
NO_ADDRESS = "could not find an available IP"


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """
    Name: hosts; Scope: module; Depends: nothing.

    A manager and a worker, removed whatever happens.
    """
    pools = "--default-addr-pool 10.20.0.0/24 --default-addr-pool 10.30.0.0/26"
    with swarm_of(NAME, init=f"{pools} --default-addr-pool-mask-length 26") as swarm:
        yield Hosts(swarm.lab)


@contextmanager
def gone_after(hosts: Hosts, services: str, networks: str) -> Iterator[None]:
    try:
        yield
    finally:
        hosts.ask("h1", "docker", "service", "rm", *services.split())
        for each in networks.split():
            hosts.soon(
                f"{each} is gone",
                lambda: "not found" in hosts.ask("h1", "docker", "network", "rm", each)[1].lower(),  # noqa: B023
            )


def task(hosts: Hosts, service: str, host: str) -> str:
    """A running container of a service on a host."""
    listed = f"ps -q --filter name={service}."
    hosts.soon(f"a task of {service} on {host}", lambda: hosts.docker(host, listed) != "")
    return hosts.docker(host, listed).split()[0]


def anywhere(hosts: Hosts, service: str) -> tuple[str, str]:
    """Host and container of a running task."""
    found: list[tuple[str, str]] = []

    def looked() -> bool:
        for host in hosts.cli:
            listed = hosts.docker(host, f"ps -q --filter name={service}.").split()
            found.extend((host, each) for each in listed)
        return bool(found)

    hosts.soon(f"a task of {service}", looked)
    return found[0]


def inside(hosts: Hosts, host: str, container: str, command: str) -> str:
    return hosts.sh(host, f"docker exec {container} {command}")


def interfaces(hosts: Hosts, host: str, container: str) -> dict[str, str]:
    """Name -> address with its prefix length, in order of their numbers."""
    lines = inside(hosts, host, container, "ip -4 -o addr show scope global").splitlines()
    found = {line.split()[1]: line.split()[3] for line in lines}
    return dict(sorted(found.items()))


def test_subnets_come_from_the_pools_until_none_is_left(hosts: Hosts) -> None:
    names = [f"p{number}" for number in range(5)]
    with gone_after(hosts, "waits", " ".join(names)):
        for name in names:
            hosts.docker("h1", f"{CREATE} {name}")
        form = "{{(index .IPAM.Config 0).Subnet}}"
        asked = f"docker network inspect -f '{form}' ingress {' '.join(names[:4])}"
        said = hosts.sh("h1", asked)
        pool = [f"10.20.0.{start}/26" for start in (0, 64, 128, 192)]
        assert said.splitlines() == [*pool, "10.30.0.0/26"]
        hosts.docker("h1", f"{SERVICE} --name waits --network p4 {WEB}")
        words = "could not find an available, non-overlapping IPv4 address pool among the defaults"
        hosts.soon("why", lambda: words in hosts.docker("h1", "service ps --no-trunc waits"))
        hosts.docker("h1", "network rm p1")
        task_runs = "service ps -f desired-state=running --format {{.CurrentState}} waits"
        hosts.soon("it runs", lambda: "Running" in hosts.docker("h1", task_runs))


def test_a_network_of_several_subnets_fills_them_all(hosts: Hosts) -> None:
    """In the order in which the CLI sends them, which is that of a map in Go: any."""
    asked = (
        "--attachable --subnet 10.77.0.0/24 --ip-range 10.77.0.8/30 --gateway 10.77.0.254 "
        "--aux-address router=10.77.0.9 --subnet 10.78.0.0/29 --label a=b "
        "--opt com.docker.network.driver.mtu=1300 "
        "--opt com.docker.network.driver.overlay.vxlanid_list=5000"
    )
    with gone_after(hosts, "both", "two"):
        hosts.docker("h1", f"{CREATE} {asked} two")
        hosts.docker("h1", f"{SERVICE} --name both --network two --replicas 7 {TOOLS} sleep 1000")
        hosts.soon("seven run", lambda: "7/7" in hosts.docker("h1", "service ls -f name=both"))
        shown = json.loads(hosts.docker("h1", "network inspect two"))[0]
        configs = {config.pop("Subnet"): config for config in shown["IPAM"]["Config"]}
        assert configs == {
            "10.77.0.0/24": {
                "Gateway": "10.77.0.254",
                "IPRange": "10.77.0.8/30",
                "AuxiliaryAddresses": {"router": "10.77.0.9"},
            },
            "10.78.0.0/29": {"Gateway": "10.78.0.1"},
        }
        assert shown["Labels"] == {"a": "b"}
        assert shown["Options"]["com.docker.network.driver.overlay.vxlanid_list"] == "5000"
        assert shown["Status"]["IPAM"]["Subnets"] == {
            "10.77.0.0/24": {"IPsInUse": 7, "DynamicIPsAvailable": 0},
            "10.78.0.0/29": {"IPsInUse": 8, "DynamicIPsAvailable": 0},
        }
        form = "{{(index .Endpoint.VirtualIPs 0).Addr}}"
        vip = hosts.sh("h1", f"docker service inspect -f '{form}' both")
        listed = "ps -q --filter name=both."
        places = {
            interfaces(hosts, host, each)["eth0"]: (host, each)
            for host in hosts.cli
            for each in hosts.docker(host, listed).split()
        }
        every = {f"10.77.0.{number}/24" for number in (8, 10, 11)}
        every |= {f"10.78.0.{number}/29" for number in range(2, 7)}
        assert {vip, *places} == every
        for host, container in places.values():
            assert inside(hosts, host, container, "cat /sys/class/net/eth0/mtu") == "1300"
            for other in places:
                assert hosts.pings(host, container, other.partition("/")[0])
        full = f"run --rm --network two {TOOLS} true"
        assert NO_ADDRESS in hosts.refused("h2", full)
        hosts.docker("h1", "service scale -d both=6")
        hosts.soon("there is room", lambda: hosts.ask("h2", "docker", *full.split())[0] == 0)


def test_an_internal_network_has_no_way_out(hosts: Hosts) -> None:
    with gone_after(hosts, "in", "closed"):
        hosts.docker("h1", f"{CREATE} --internal closed")
        hosts.docker("h1", f"{SERVICE} --name in --mode global --network closed {TOOLS} sleep 999")
        one = {host: task(hosts, "in", host) for host in hosts.cli}
        assert [*interfaces(hosts, "h1", one["h1"])] == ["eth0"]
        assert "default" not in inside(hosts, "h1", one["h1"], "ip route")
        other = interfaces(hosts, "h2", one["h2"])["eth0"].partition("/")[0]
        hosts.soon("its network", lambda: hosts.pings("h1", one["h1"], other))


def test_interfaces_are_in_the_order_of_the_networks_and_names_of_each_alone(hosts: Hosts) -> None:
    with gone_after(hosts, "many asks", "aaa bbb ccc"):
        ids: dict[str, str] = {}
        for name, net in (("aaa", "61"), ("bbb", "62"), ("ccc", "63")):
            ids[hosts.docker("h1", f"{CREATE} --subnet 10.{net}.0.0/24 {name}")] = net

        def asked() -> list[str]:
            """The service's networks in its order, by which the CLI means that of their IDs."""
            form = "{{range .Spec.TaskTemplate.Networks}}{{println .Target}}{{end}}"
            said = hosts.sh("h1", f"docker service inspect -f '{form}' many")
            return [ids[each] for each in said.split()]

        on = "--network name=bbb,alias=bees --network name=aaa,alias=ants -p 8099:80"
        hosts.docker("h1", f"{SERVICE} --name many {on} {WEB}")
        hosts.docker("h1", f"{SERVICE} --name asks --network aaa {TOOLS} sleep 1000")

        where, task_of_many = anywhere(hosts, "many")
        has = interfaces(hosts, where, task_of_many)
        assert sorted(asked()) == ["61", "62"]
        found_on = [address.split(".")[1] for address in has.values()]
        assert found_on == ["20", *asked(), "18"], "the ingress network first, the way out last"
        where, caller = anywhere(hosts, "asks")
        lookup = "dig +short +search"
        for name, found in (("ants", "10.61."), ("bees", ""), ("many", "10.61.")):
            hosts.soon(
                name,
                lambda: inside(hosts, where, caller, f"{lookup} {name}")[:6] == found,  # noqa: B023
            )
        hosts.docker("h1", "service update -q -d --network-add ccc --network-rm bbb many")

        def now() -> list[str]:
            try:
                return [*interfaces(hosts, *anywhere(hosts, "many")).values()]
            except AssertionError:  # the old task goes at this moment
                return []

        assert sorted(asked()) == ["61", "63"]
        hosts.soon("ccc, not bbb", lambda: [e.split(".")[1] for e in now()] == [
            "20", *asked(), "18"
        ])  # fmt: skip
        hosts.docker("h1", "network rm bbb")
        refused = hosts.refused("h1", "network rm ccc")
        assert "is in use by service" in refused
        hosts.docker("h1", f"{CREATE} --subnet 10.62.0.0/24 bbb")


def test_a_full_network_holds_up_nobody_else_and_goes_on_when_there_is_room(hosts: Hosts) -> None:
    with gone_after(hosts, "fills small other", "tiny"):
        hosts.docker("h1", f"{CREATE} --subnet 10.79.0.0/29 tiny")
        hosts.docker("h1", f"{SERVICE} --name fills --network tiny --replicas 3 {WEB}")
        hosts.soon("3/3", lambda: "3/3" in hosts.docker("h1", "service ls -f name=fills"))
        hosts.docker("h1", f"{SERVICE} --name small --network tiny --endpoint-mode dnsrr "
                           f"--replicas 2 {WEB}")  # fmt: skip
        ps = "service ps --no-trunc small"
        hosts.soon("why", lambda: NO_ADDRESS in hosts.docker("h1", ps))
        hosts.docker("h1", f"{SERVICE} --name other -p 8098:80 {WEB}")
        hosts.soon(
            "another starts", lambda: "1/1" in hosts.docker("h1", "service ls -f name=other")
        )
        assert "1/2" in hosts.docker("h1", "service ls -f name=small")
        shown = json.loads(hosts.docker("h1", "network inspect tiny"))[0]["Status"]["IPAM"]
        assert shown["Subnets"]["10.79.0.0/29"]["DynamicIPsAvailable"] == 0
        hosts.docker("h1", "service scale -d fills=2")
        hosts.soon("2/2", lambda: "2/2" in hosts.docker("h1", "service ls -f name=small"))
        assert NO_ADDRESS not in hosts.docker("h1", ps)


def test_the_ingress_network_is_replaced(hosts: Hosts) -> None:
    with gone_after(hosts, "web", ""):
        hosts.docker("h1", f"{SERVICE} --name web -p 8097:80 --mode global {WEB}")
        for host in hosts.cli:
            task(hosts, "web", host)
        remove = "echo y | docker network rm ingress"
        code, said = hosts.ask("h1", "sh", "-c", remove)
        assert code != 0
        assert "ingress network cannot be removed because service" in said
        hosts.docker("h1", "service rm web")
        hosts.soon("it goes", lambda: hosts.ask("h1", "sh", "-c", remove)[0] == 0)
        own = "--subnet 10.11.0.0/24 --gateway 10.11.0.2 --opt com.docker.network.driver.mtu=1200"
        said = hosts.refused("h1", f"{SERVICE} --name web -p 8097:80 {WEB}")
        assert "no ingress network" in said
        hosts.docker("h1", f"{CREATE} --ingress {own} mine")
        assert "is already present" in hosts.refused("h1", f"{CREATE} --ingress other")
        hosts.docker("h1", f"{SERVICE} --name web -p 8097:80 --mode global {WEB}")
        for host in hosts.cli:
            container = task(hosts, "web", host)
            assert interfaces(hosts, host, container)["eth0"].startswith("10.11.0.")
            assert inside(hosts, host, container, "cat /sys/class/net/eth0/mtu") == "1200"
            got = {
                hosts.sh("client", f"curl -sS -m 5 http://{host}:8097/").split()[1]
                for _ in range(4)
            }
            assert len(got) == len(hosts.cli), "tasks of both hosts"
