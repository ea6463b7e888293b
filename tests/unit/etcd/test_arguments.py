"""What etcd is started with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from meshnet_control.etcd.arguments import Member, PeerTls, arguments

TLS = PeerTls(Path("/i/cert"), Path("/i/key"), Path("/i/ca"), "swarm-manager")
MEMBER = Member(
    name="n1",
    data_dir=Path("/state/etcd"),
    run_dir=Path("/run/etcd"),
    listen="10.0.0.1:2380",
    advertise="192.0.2.1:2380",
    peers={"n2": "10.0.0.2:2380", "n1": "192.0.2.1:2380"},
    tls=TLS,
)


def given(member: Member) -> dict[str, str]:
    return dict(each.removeprefix("--").split("=", 1) for each in arguments(member))


def test_clients_come_by_a_local_socket_only():
    said = given(MEMBER)
    assert said["listen-client-urls"] == "unix://etcd:0"
    assert MEMBER.target == "unix:/run/etcd/etcd:0"
    assert "listen-metrics-urls" not in said


def test_peers_are_named_as_they_are_reached():
    said = given(MEMBER)
    assert said["listen-peer-urls"] == "https://10.0.0.1:2380"
    assert said["initial-advertise-peer-urls"] == "https://192.0.2.1:2380"
    assert said["initial-cluster"] == "n1=https://192.0.2.1:2380,n2=https://10.0.0.2:2380"


def test_peers_show_a_certificate_that_only_members_have():
    said = given(MEMBER)
    assert said["peer-client-cert-auth"] == "true"
    assert said["peer-cert-allowed-hostname"] == "swarm-manager"
    assert said["peer-trusted-ca-file"] == "/i/ca"


def test_who_joins_and_who_is_alone_from_now():
    assert given(MEMBER)["initial-cluster-state"] == "new"
    assert given(replace(MEMBER, joins=True))["initial-cluster-state"] == "existing"
    assert "force-new-cluster" not in given(MEMBER)
    assert given(replace(MEMBER, alone_from_now=True))["force-new-cluster"] == "true"
