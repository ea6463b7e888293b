"""Requests to make, join or change a cluster: refused before anything is made, in Docker's way."""

from __future__ import annotations

from typing import Any

import pytest

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi.specs import cluster_checks

SECOND_NS = 10**9
INIT = [
    ({"data_path_port": 80}, "Datapath port number is not in valid range (1024-49151) : 80"),
    ({"data_path_port": 49152}, "is not in valid range"),
    ({"data_path_port": 7946}, "data path port 7946 is gossip's on every node"),
    ({"subnet_size": 30}, "subnet size is out of range: 30"),
    ({"default_addr_pool": ["10.0.0"]}, "invalid base pool '10.0.0': not an IPv4 subnet"),
    ({"default_addr_pool": ["224.0.0.0/8"]}, "no host can have these addresses"),
    ({"default_addr_pool": ["10.0.0.0/8"] * 65}, "at most 64 default address pools"),
    ({"advertise_addr": "0.0.0.0:2377"}, "advertise address must be a non-zero IP address"),
    ({"advertise_addr": "224.0.0.1"}, "advertise address must be a non-zero IP address"),
    ({"listen_addr": "a b"}, "invalid address 'a b'"),
    ({"availability": "busy"}, 'invalid Availability: "busy"'),
    (
        {"spec": pb.ClusterSpec(ca_config=pb.CAConfig(signing_ca_cert="x"))},
        "bring it later, with 'docker swarm ca --rotate --ca-cert FILE --ca-key FILE'",
    ),
]
SETTINGS = [
    (pb.ClusterSpec(dispatcher=pb.DispatcherConfig(heartbeat_period=1)), "less than 100ms"),
    (pb.ClusterSpec(dispatcher=pb.DispatcherConfig(heartbeat_period=-1)), "negative duration"),
    (pb.ClusterSpec(ca_config=pb.CAConfig(node_cert_expiry=SECOND_NS)), "minimum certificate"),
    (pb.ClusterSpec(ca_config=pb.CAConfig(node_cert_expiry=-1)), "minimum certificate"),
    (
        pb.ClusterSpec(ca_config=pb.CAConfig(external_cas=[pb.ExternalCA(url="https://ca")])),
        "an external CA is not supported by this version of meshnet: leave out --external-ca",
    ),
]


@pytest.mark.parametrize(("fields", "said"), INIT)
def test_no_cluster_is_made_from_what_cannot_be_used(fields: dict[str, Any], said: str):
    with pytest.raises(ControlError) as refused:
        cluster_checks.check_init(pb.SwarmInitRequest(**fields))
    assert said in refused.value.message


@pytest.mark.parametrize(("spec", "said"), SETTINGS)
def test_settings_are_checked_when_a_cluster_is_made_and_when_it_is_changed(
    spec: pb.ClusterSpec, said: str
):
    with pytest.raises(ControlError, match=said):
        cluster_checks.check(spec)
    with pytest.raises(ControlError, match=said):
        cluster_checks.check_init(pb.SwarmInitRequest(spec=spec))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "at least 1 RemoteAddr is required to join"),
        ({"remote_addrs": ["10.0.0.1:2377"] * 65}, "at most 64 RemoteAddrs"),
        ({"remote_addrs": ["x" * 300]}, "invalid address"),
        ({"remote_addrs": ["h:2377"], "advertise_addr": "0.0.0.0"}, "non-zero IP address"),  # noqa: S104
    ],
)
def test_no_node_joins_with_what_cannot_be_used(fields: dict[str, Any], said: str):
    with pytest.raises(ControlError, match=said):
        cluster_checks.check_join(pb.SwarmJoinRequest(**fields))


def test_ordinary_requests_pass():
    cluster_checks.check_init(
        pb.SwarmInitRequest(
            listen_addr="0.0.0.0:2377",
            advertise_addr="eth0:2377",
            data_path_port=4789,
            default_addr_pool=["10.10.0.0/16"],
            subnet_size=24,
            availability="Drain",
        )
    )
    cluster_checks.check_join(
        pb.SwarmJoinRequest(remote_addrs=["192.168.50.11:2377"], advertise_addr="192.168.50.12")
    )


@pytest.mark.parametrize("mtu", ["0", "575", "65536", "1400 ", "²", "-1", "99999"])
def test_an_mtu_is_one_of_ipv4(mtu: str):
    from meshnet_control.controlapi.networks import MTU_OPTION, Networks

    request = pb.NetworkCreateRequest(name="n", driver="overlay", options={MTU_OPTION: mtu})
    with pytest.raises(ControlError, match="must be 576 to 65535"):
        Networks._check(None, request)  # type: ignore[arg-type] # looks at the request alone
