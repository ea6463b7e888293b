"""Which addresses a node takes for its own: a law, and Docker's sentences."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import SwarmInitRequest
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.node.advertise import (
    advertise_address,
    data_path_address,
    elsewhere,
    listen_address,
)

ANYWHERE = "0.0.0.0"  # noqa: S104 - a value, nothing is bound
ONE = [("eth0", IPv4Interface("192.168.50.11/24"))]
TWO_LINKS = [*ONE, ("eth1", IPv4Interface("10.1.0.1/16"))]
TWO_OF_ONE = [*ONE, ("eth0", IPv4Interface("192.168.51.11/24"))]
ANY = (ANYWHERE, 2377)


def is_sentence(said: str) -> None:
    assert said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", (ANYWHERE, 2377)),
        (ANYWHERE, (ANYWHERE, 2377)),
        (":5000", (ANYWHERE, 5000)),
        (f"{ANYWHERE}:5000", (ANYWHERE, 5000)),
        ("192.168.50.11", ("192.168.50.11", 2377)),
        ("eth1:5000", ("10.1.0.1", 5000)),
        ("127.0.0.1", ("127.0.0.1", 2377)),
    ],
)
def test_listen_address(asked, found):
    assert listen_address(asked, TWO_LINKS) == found


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("eth7", "listen address 'eth7' is neither an IPv4 address nor an interface of this host"),
        ("10.9.9.9", "listen address 10.9.9.9 is not an address of this host"),
        ("eth0:0", "invalid listen address 'eth0:0': the port must be 1 to 65535"),
        ("eth0:65536", "invalid listen address 'eth0:65536': the port must be 1 to 65535"),
        ("eth0:http", "invalid listen address 'eth0:http': the port must be 1 to 65535"),
    ],
)
def test_a_listen_address_that_is_none(asked, said):
    with pytest.raises(ControlError) as refused:
        listen_address(asked, ONE)
    assert str(refused.value) == said


def test_the_only_address_is_advertised():
    assert advertise_address("", ANY, ONE) == ("192.168.50.11", 2377)


def test_the_listen_address_is_advertised_when_it_is_one():
    assert advertise_address("", ("10.1.0.1", 5000), TWO_LINKS) == ("10.1.0.1", 5000)


def test_an_address_behind_nat_may_be_advertised():
    assert advertise_address("203.0.113.7:2378", ANY, ONE) == ("203.0.113.7", 2378)


@pytest.mark.parametrize(
    ("local", "said"),
    [
        ([], "could not find the system's IP address - specify one with --advertise-addr"),
        (
            TWO_LINKS,
            "could not choose an IP address to advertise since this system has multiple addresses "
            "on different interfaces (192.168.50.11 on eth0 and 10.1.0.1 on eth1) - specify one "
            "with --advertise-addr",
        ),
        (
            TWO_OF_ONE,
            "could not choose an IP address to advertise since this system has multiple addresses "
            "on interface eth0 (192.168.50.11 and 192.168.51.11) - specify one with "
            "--advertise-addr",
        ),
    ],
)
def test_no_guess_between_addresses(local, said):
    """Sentences of moby daemon/cluster/listen_addr.go."""
    with pytest.raises(ControlError) as refused:
        advertise_address("", ANY, local)
    assert str(refused.value) == said


def test_an_interface_with_two_addresses_is_no_answer():
    with pytest.raises(ControlError, match="interface eth0 has more than one IPv4 address"):
        advertise_address("eth0", ANY, TWO_OF_ONE)


def test_vxlan_is_sent_from_an_address_of_this_host():
    assert data_path_address("eth1", "192.168.50.11", TWO_LINKS) == IPv4Address("10.1.0.1")
    with pytest.raises(ControlError, match="is not an address of this host"):
        data_path_address("127.0.0.1", "192.168.50.11", ONE)


@pytest.mark.parametrize("advertised", ["127.0.0.1", "203.0.113.7"])
@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        (("10.1.0.1", "192.168.50.11"), "10.1.0.1"),
        ((ANYWHERE, "", "10.1.0.1"), "10.1.0.1"),
        ((ANYWHERE, "198.51.100.7"), "192.168.50.11"),
        ((), "192.168.50.11"),
    ],
)
def test_vxlan_s_address_is_chosen_apart_from_one_that_is_not_of_this_host(
    advertised, others, chosen
):
    assert data_path_address("", advertised, TWO_LINKS, others) == IPv4Address(chosen)


def test_a_host_without_an_address_has_none_for_vxlan():
    with pytest.raises(ControlError, match="could not find the system's IP address"):
        data_path_address("", "127.0.0.1", [], ("127.0.0.1",))


def test_the_port_that_is_advertised_is_that_which_is_listened_on():
    assert advertise_address("eth0", (ANYWHERE, 12345), ONE) == ("192.168.50.11", 12345)
    assert advertise_address("eth0:2378", (ANYWHERE, 12345), ONE) == ("192.168.50.11", 2378)
    assert advertise_address("", (ANYWHERE, 12345), ONE) == ("192.168.50.11", 12345)


interfaces = st.builds(
    lambda number, length: IPv4Interface((number, length)),
    st.integers(1 << 24, (127 << 24) - 1),
    st.integers(8, 30),
)
hosts = st.lists(st.tuples(st.sampled_from(["eth0", "eth1", "br0"]), interfaces), max_size=4)
asks = st.one_of(
    st.just(""),
    st.sampled_from(["eth0", "eth1:5000", ANYWHERE, ":99999", "eth9", "::1", "[::1]:2377"]),
    st.text(alphabet="0123456789.:eth ", max_size=20),
)


@given(hosts, asks, asks, asks)
def test_any_request_gives_addresses_or_one_sentence(local, listen, told, data_path):
    try:
        listening = listen_address(listen, local)
        host, port = advertise_address(told, listening, local)
        underlay = data_path_address(data_path, host, local)
    except ControlError as error:
        is_sentence(str(error))
    else:
        assert 0 < port < 65536
        assert underlay in {address.ip for _, address in local}
        assert str(IPv4Address(host)) == host


def test_a_manager_that_is_forced_to_go_on_alone_moves_only_where_it_is_told():
    who = Identity(
        "n1",
        "c1",
        "manager",
        Certificates(b"", b"", b""),
        managers=("192.168.50.11:2377", "192.168.50.12:2377"),
        advertise_addr="192.168.50.11:2377",
        listen_addr="192.168.50.11:2377",
        data_path_addr="192.168.50.11",
    )
    usual = SwarmInitRequest(listen_addr="0.0.0.0:2377", force_new_cluster=True)
    assert elsewhere(who, usual, TWO_LINKS) == who
    usual.advertise_addr = "10.1.0.1"
    moved = elsewhere(who, usual, TWO_LINKS)
    assert moved.advertise_addr == "10.1.0.1:2377"
    assert (moved.listen_addr, moved.data_path_addr) == (who.listen_addr, "10.1.0.1")
    assert moved.managers == ("10.1.0.1:2377", *who.managers)
