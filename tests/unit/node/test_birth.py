"""What a cluster is born with, and what no cluster is born with."""

from __future__ import annotations

import random
from ipaddress import IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.identity import ca, tokens
from meshnet_control.node.birth import Birth, birth
from meshnet_control.orchestrate.addresses import subnet_for

ANYWHERE = "0.0.0.0"  # noqa: S104 - a value, nothing is bound
NOW = 1_700_000_000.0


def is_sentence(said: str) -> None:
    assert said
    assert "\n" not in said


def born(request: pb.SwarmInitRequest | None = None, seed: int = 1) -> Birth:
    return birth(
        request or pb.SwarmInitRequest(),
        (ANYWHERE, 2377),
        ("192.168.50.11", 2377),
        "192.168.50.11",
        NOW,
        random.Random(seed),
    )


def test_the_first_node_is_a_manager_whose_certificate_the_cluster_signed():
    found = born()
    who = ca.peer(found.identity.certs.certificate, found.cluster.ca_certificate, {})
    assert who is not None
    assert (who.node_id, who.role) == (found.node.id, "manager")
    assert found.identity.node_id == found.node.id
    assert found.identity.cluster_id == found.cluster.id
    assert found.node.manager_status.leader


def test_both_tokens_pin_the_root_and_differ():
    found = born()
    worker = tokens.parse(found.cluster.join_tokens.worker)
    manager = tokens.parse(found.cluster.join_tokens.manager)
    assert worker.digest == manager.digest
    assert worker.secret != manager.secret


def test_swarms_defaults():
    cluster = born().cluster
    assert list(cluster.default_addr_pool) == ["10.0.0.0/8"]
    assert (cluster.subnet_size, cluster.data_path_port) == (24, 4789)
    assert cluster.spec.orchestration.task_history_retention_limit == 5
    assert cluster.spec.dispatcher.heartbeat_period == 5_000_000_000
    assert cluster.spec.ca_config.node_cert_expiry == 7_776_000_000_000_000
    assert len(cluster.gossip_keys[0]) == 16
    raft = cluster.spec.raft  # what `docker info` prints of a fresh cluster
    assert (raft.snapshot_interval, raft.log_entries_for_slow_followers) == (10000, 500)
    assert raft.HasField("keep_old_snapshots")
    assert (raft.keep_old_snapshots, raft.election_tick, raft.heartbeat_tick) == (0, 10, 1)


def test_a_history_of_none_is_not_the_default():
    request = pb.SwarmInitRequest()
    request.spec.orchestration.task_history_retention_limit = 0
    assert born(request).cluster.spec.orchestration.task_history_retention_limit == 0


def test_two_clusters_share_no_secret():
    one, other = born(seed=1).cluster, born(seed=2).cluster
    assert one.id != other.id
    assert one.join_tokens.worker != other.join_tokens.worker
    assert set(one.gossip_keys).isdisjoint(other.gossip_keys)


@pytest.mark.parametrize(
    ("pools", "size", "said"),
    [
        (["10.20.0.0/16"], 30, "subnet size is out of range: 30 (at most 29)"),
        (["10.20.0.0/16"], 40, "subnet size is out of range: 40 (at most 29)"),
        (["10.20.0.0/26"], 24, "invalid CIDR: '10.20.0.0/26'. Subnet size is too small for pool:"),
        (["banana"], 24, "invalid base pool 'banana': not an IPv4 subnet"),
        (["fd00::/16"], 24, "invalid base pool 'fd00::/16': not an IPv4 subnet"),
        (["10.0.0.0/8", "10.1.0.0/16"], 24, "default address pools 10.0.0.0/8 and 10.1.0.0/16"),
    ],
)
def test_pools_no_network_could_be_made_of_are_refused(pools, size, said):
    with pytest.raises(ControlError) as refused:
        born(pb.SwarmInitRequest(default_addr_pool=pools, subnet_size=size))
    assert str(refused.value).startswith(said)


def test_the_ingress_network_keeps_clear_of_the_hosts_routes():
    """Its gateway is in the host's own namespace: a LAN that is 10.0.0.0/24 would be cut off."""
    address = ("192.168.50.11", 2377)
    first = (pb.SwarmInitRequest(), address, address, address[0], NOW)
    routes = [IPv4Network("10.0.0.0/23"), IPv4Network("172.17.0.0/16")]
    ingress = birth(*first, random.Random(1), routes).ingress
    assert [config.subnet for config in ingress.spec.ipam_options.configs] == ["10.0.2.0/24"]
    assert not birth(*first, random.Random(1), routes[1:]).ingress.spec.ipam_options.configs
    with pytest.raises(ControlError, match="specify another pool with --default-addr-pool"):
        birth(*first, random.Random(1), [IPv4Network("10.0.0.0/8")])


subnets = st.builds(
    lambda number, length: str(IPv4Network((number, length), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(4, 32),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(subnets | st.text(max_size=12), max_size=3), st.integers(0, 64))
def test_accepted_pools_have_room_for_a_network(pools, size):
    """Whatever was asked for: refused in one sentence, or the first network has its subnet."""
    try:
        found = born(pb.SwarmInitRequest(default_addr_pool=pools, subnet_size=size))
    except ControlError as error:
        is_sentence(str(error))
    else:
        given_subnet = subnet_for(found.cluster, [])
        assert given_subnet is not None
        assert given_subnet.prefixlen == (size or 24)


def test_a_node_that_the_engine_described_is_born_ready():
    described = pb.NodeDescription(hostname="h1")
    at = ("192.168.50.11", 2377)
    made = birth(pb.SwarmInitRequest(), at, at, at[0], NOW, random.Random(1), described=described)
    assert (made.node.status.state, made.node.description.hostname) == ("ready", "h1")
    assert born().node.status.state == "unknown"
