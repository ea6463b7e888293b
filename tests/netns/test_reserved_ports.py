"""Published ports are held against processes of the host, and left to one that had it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from meshnet.kernel import netns
from meshnet.kernel.reserved_ports import Holders, ReservedPorts

pytestmark = pytest.mark.netns

PORT = 20080
KIND = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
ANY, IN_USE = "", "Address already in use"
NOBODY = Holders()
EACH = pytest.mark.parametrize("protocol", ["tcp", "udp"])


@pytest.fixture
def host(bed) -> Iterator[str]:
    """
    Name: host; Scope: function; Depends: bed.

    The test's thread is in a namespace of its own, whose ports are all free.
    """
    name = bed.namespace("h")
    bed.run(f"ip -n {name} link set lo up")
    with netns.inside(bed.path(name)):
        yield name


@pytest.fixture
def ports(host) -> Iterator[ReservedPorts]:
    made = ReservedPorts(proc=Path("/proc/thread-self"))
    yield made
    made.close()


def waits_at(protocol, address=ANY, *, only=None):
    """``only``: for IPv6, and for it alone or for IPv4, too."""
    made = socket.socket(socket.AF_INET if only is None else socket.AF_INET6, KIND[protocol])
    try:
        if only is not None:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, PORT))
        if protocol == "tcp":
            made.listen()
    except OSError:
        made.close()
        raise
    return closing(made)


@EACH
def test_a_process_cannot_have_a_published_port(ports, protocol):
    assert ports.hold({(protocol, PORT)}) == NOBODY
    for address in (ANY, "127.0.0.1"):
        with pytest.raises(OSError, match=IN_USE), waits_at(protocol, address):
            pass
    assert ports.others() == frozenset()
    ports.hold(frozenset())
    with waits_at(protocol):
        assert ports.others() == {(protocol, PORT)}


@EACH
@pytest.mark.parametrize("address", [ANY, "127.0.0.1"])
def test_a_process_keeps_what_it_had_before_and_gives_it_back(ports, protocol, address):
    with waits_at(protocol, address):
        assert ports.hold({(protocol, PORT)}).first.keys() == {(protocol, PORT)}
        assert ports.short
    assert ports.hold({(protocol, PORT)}) == NOBODY
    assert not ports.short
    with pytest.raises(OSError, match=IN_USE), waits_at(protocol):
        pass


def test_nobody_gets_through_to_what_only_holds(ports):
    ports.hold({("tcp", PORT)})
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", PORT), timeout=2)


def test_a_connection_of_the_host_s_own_takes_no_port_from_the_mesh(ports):
    """From a port that is published since: nobody waits there, and it ends."""
    with socket.create_server(("127.0.0.1", PORT + 1)) as there, socket.socket() as going:
        going.bind(("127.0.0.1", PORT))
        going.connect(there.getsockname())
        assert ports.hold({("tcp", PORT)}) == NOBODY
        assert ports.short


def test_connections_that_have_ended_are_in_nobody_s_way(ports):
    """The kernel remembers them for a minute (TIME_WAIT), with their port."""
    there = socket.create_server(("127.0.0.1", PORT))
    with there, socket.create_connection(there.getsockname()) as going:
        answering, _ = there.accept()
        answering.close()
        assert going.recv(1) == b""
    assert ports.hold({("tcp", PORT)}) == NOBODY
    assert not ports.short
    with pytest.raises(OSError, match=IN_USE), waits_at("tcp"):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", PORT), timeout=2)


def test_a_protocol_that_the_kernel_lacks_is_nobody_s(ports):
    assert ports.hold({("sctp", PORT)}) == NOBODY


@EACH
def test_each_family_has_its_own_port(ports, protocol):
    port = (protocol, PORT)
    assert ports.hold({port}, {port}) == NOBODY
    for address, only in (("::", True), ("::", False), ("::1", True), (ANY, None)):
        with pytest.raises(OSError, match=IN_USE), waits_at(protocol, address, only=only):
            pass
    assert ports.others() == frozenset(), "ours are nobody else's"
    ports.hold({port}, frozenset())
    with waits_at(protocol, "::", only=True):
        (first, second) = ports.hold({port}, {port})
        assert (first, second.keys()) == ({}, {port})
        assert ports.others() == {port}
    assert ports.hold({port}, {port}) == NOBODY


@EACH
def test_a_process_that_hears_both_families_keeps_both(ports, protocol):
    port = (protocol, PORT)
    with waits_at(protocol, "::", only=False):
        assert [each.keys() for each in ports.hold({port}, {port})] == [{port}, {port}]
    assert ports.hold({port}, {port}) == NOBODY


def test_nobody_gets_through_by_ipv6_to_what_only_holds(ports):
    ports.hold({("tcp", PORT)}, {("tcp", PORT)})
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("::1", PORT), timeout=2)
