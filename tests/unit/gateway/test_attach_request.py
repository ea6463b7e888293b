"""A container on networks of the cluster, as the engine is asked to make it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshnet.errors import ControlError
from meshnet_control.agent import gate
from meshnet_control.agent.attached_record import LABEL, Place
from meshnet_control.agent.host_ports import FIRST
from meshnet_control.api.control_pb2 import Network
from meshnet_control.gateway import attach_request

IMAGE = {"Entrypoint": ["/init"], "Cmd": ["serve"], "ExposedPorts": {"80/tcp": {}}}
KEY = "k" * 25


def network(name: str, *, internal: bool = False) -> Network:
    made = Network(id=f"{name}-id")
    made.spec.name, made.spec.attachable, made.spec.internal = name, True, internal
    return made


OURS = {"net": network("net"), "other": network("other", internal=True)}


def rewritten(**body: Any) -> attach_request.Made:
    names = attach_request.asked(body).named
    ours = {name: OURS[name] for name in names if name in OURS}
    return attach_request.rewritten(body, IMAGE, ours, KEY, Path("/gate"), ())


def on(name: str = "net", **host: Any) -> dict[str, Any]:
    return {"NetworkMode": name, **host}


def test_the_engine_gives_an_empty_namespace_and_the_program_waits():
    endpoints = {"net": {"Aliases": ["a", "b", "a"], "IPAMConfig": {"IPv4Address": "10.0.1.9"}}}
    made = rewritten(
        Image="i",
        Hostname="h",
        Labels={"mine": "1"},
        HostConfig=on(RestartPolicy={"Name": "always"}, Mounts=[{"Target": "/data"}]),
        NetworkingConfig={"EndpointsConfig": endpoints},
    )
    host = made.body["HostConfig"]
    assert (host["NetworkMode"], host["RestartPolicy"]) == ("none", {"Name": "always"})
    assert made.body["NetworkingConfig"] == {"EndpointsConfig": {}}
    assert (
        made.body["Labels"].pop(gate.COMMAND_LABEL) == '{"Entrypoint": ["/init"], "Cmd": ["serve"]}'
    )
    assert made.body["Labels"] == {"mine": "1", LABEL: KEY}
    assert made.body["Hostname"] == "h"
    assert [mount["Target"] for mount in host["Mounts"]] == [
        "/data",
        gate.SHELL_TARGET,
        gate.GATE_TARGET,
    ]
    assert host["Mounts"][2]["Source"] == "/gate"
    record = made.record
    assert record.places == (Place("net-id", "net", 0, ("a", "b"), "10.0.1.9"),)
    assert (record.gated, record.gateway_number, record.leads_out) == (True, 1, True)


@pytest.mark.parametrize(
    ("asked", "argv"),
    [
        ({}, ["/init", "serve"]),
        ({"Cmd": ["x", "y"]}, ["/init", "x", "y"]),
        ({"Cmd": "x"}, ["/init", "x"]),
        ({"Entrypoint": ["/e"]}, ["/e"]),
        ({"Entrypoint": ["/e"], "Cmd": ["x"]}, ["/e", "x"]),
        ({"Entrypoint": [""], "Cmd": ["x"]}, ["x"]),
        ({"Entrypoint": [], "Cmd": None}, ["serve"]),
    ],
)
def test_it_runs_what_docker_would_run(asked, argv):
    made = rewritten(HostConfig=on(), **asked)
    assert (made.body["Entrypoint"], made.body["Cmd"]) == gate.wrapped(argv, {})


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ({}, False),
        ({"Init": False}, False),
        ({"Init": True}, True),
        ({"Init": True, "PidMode": "host"}, False),
        ({"Init": True, "PidMode": "container:x"}, False),
    ],
)
def test_an_init_is_for_who_asks_and_has_processes_of_its_own(host, wanted):
    assert attach_request.wants_init({"HostConfig": on(**host)}) is wanted


def test_the_gate_becomes_the_init():
    body = {"HostConfig": on(Init=True), "Cmd": ["x"]}
    made = attach_request.rewritten(body, IMAGE, OURS, KEY, Path("/gate"), (), "/usr/bin/tini")
    assert made.body["Cmd"] == ["/sbin/docker-init", "--", "/init", "x"]
    assert made.body["HostConfig"]["Init"] is False
    mount = {"Type": "bind", "Source": "/usr/bin/tini", "Target": "/sbin/docker-init"}
    assert mount | {"ReadOnly": True} in made.body["HostConfig"]["Mounts"]
    assert gate.words_in(made.body["Labels"]) == gate.Words(("/init",), ("x",), init=True)


def test_nothing_to_run_is_docker_s_refusal():
    with pytest.raises(ControlError, match="No command specified"):
        rewritten(HostConfig=on(), Entrypoint=[""])


def test_several_networks_get_interfaces_in_their_order_and_the_gateway_the_last():
    made = rewritten(
        HostConfig=on("other"), NetworkingConfig={"EndpointsConfig": {"net": {}, "other": None}}
    )
    assert [(p.name, p.number) for p in made.record.places] == [("other", 0), ("net", 1)]
    assert made.record.gateway_number == 2
    assert not rewritten(HostConfig=on("other")).record.leads_out


def test_a_network_of_the_engine_s_stays_the_engine_s_with_its_ports():
    made = rewritten(
        HostConfig=on("br", PortBindings={"80/tcp": [{"HostPort": "8080"}]}),
        NetworkingConfig={"EndpointsConfig": {"br": {"Aliases": ["x"]}, "net": {}}},
    )
    assert made.body["HostConfig"]["NetworkMode"] == "br"
    assert made.body["NetworkingConfig"] == {"EndpointsConfig": {"br": {"Aliases": ["x"]}}}
    [place] = made.record.places
    assert (place.number, made.record.ports) == (10, ())


def test_ports_are_published_by_number_or_by_one_that_is_free():
    bindings = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostPort": ""}], "53/udp": None}
    record = rewritten(HostConfig=on(PortBindings=bindings)).record
    assert record.ports == (("tcp", 80, 8080), ("tcp", 80, FIRST), ("udp", 53, FIRST))
    assert {port.mode for port in record.published} == {"host"}
    assert rewritten(HostConfig=on(PublishAllPorts=True)).record.ports == (("tcp", 80, FIRST),)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"MacAddress": "02:42:00:00:00:01"}, "a MAC address"),
        ({"HostConfig": on(PortBindings={"80/tcp": [{"HostIp": "10.1.1.1"}]})}, "one address"),
        ({"HostConfig": on(PortBindings={"80/tcp": [{"HostPort": "70000"}]})}, "invalid port"),
        ({"HostConfig": on(PortBindings={"80/icmp": None})}, "invalid protocol"),
        ({"HostConfig": on(Dns=["nobody"])}, "invalid DNS server: 'nobody'"),
        (
            {
                "HostConfig": on("host"),
                "NetworkingConfig": {"EndpointsConfig": {"net": {}}},
            },
            "user-defined",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(body, why):
    with pytest.raises(ControlError, match=why):
        rewritten(**{"HostConfig": on(), **body})


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"IPAMConfig": {"IPv4Address": "10.0.0"}}, "invalid IPv4 address: 10.0.0"),
        ({"IPAMConfig": {"IPv6Address": "fd00::zz"}}, "invalid IPv6 address: fd00::zz"),
        ({"IPAMConfig": {"IPv6Address": "fd00::5%eth0"}}, "invalid IPv6 address: fd00::5%eth0"),
        ({"IPAMConfig": {"LinkLocalIPs": ["fe80::1"]}}, "a link-local address"),
        ({"Links": ["a:b"]}, "link"),
        ({"MacAddress": "02:42:00:00:00:01"}, "MAC address"),
    ],
)
def test_what_a_place_cannot_have_is_refused(settings, why):
    with pytest.raises(ControlError, match=why):
        attach_request.place(OURS["net"], settings, 0)


def test_an_address_of_ipv6_is_asked_for_beside_one_of_ipv4():
    settings = {"IPAMConfig": {"IPv6Address": "FD00:7:0::9"}}
    place = attach_request.place(OURS["net"], settings, 0)
    assert (place.asked, place.asked6) == ("", "fd00:7::9")


def test_the_mac_address_that_it_gets_anyway_may_be_asked_for():
    settings = {"IPAMConfig": {"IPv4Address": "10.0.1.9"}, "MacAddress": "02:42:0A:00:01:09"}
    assert attach_request.place(OURS["net"], settings, 0).asked == "10.0.1.9"


def test_a_container_of_the_engine_s_is_connected_behind_its_own_interfaces():
    container = {
        "Id": "c" * 64,
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Networks": {"bridge": {}}},
    }
    record = attach_request.connected(container, KEY)
    assert (record.first_number, record.gateway_number, record.gated) == (10, 10, False)
    none = {**container, "NetworkSettings": {"Networks": {"none": {}}}}
    assert attach_request.connected(none, KEY).first_number == 0
    with pytest.raises(ControlError, match="not its own"):
        attach_request.connected({**container, "HostConfig": {"NetworkMode": "host"}}, KEY)
