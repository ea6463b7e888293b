"""Names and addresses of a lab."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.lab.errors import LabError
from meshnet_control.lab.layout import MAX_HOSTS, Layout


@given(st.integers(1, MAX_HOSTS))
def test_addresses_and_macs_are_all_different_and_in_the_subnet(size):
    layout = Layout(size=size)
    addresses = [machine.address.ip for machine in layout.machines] + [layout.lans[0].gateway.ip]
    assert len(set(addresses)) == size + 2
    assert len({machine.mac for machine in layout.machines}) == size + 1
    assert all(address in layout.subnet for address in addresses)


@given(st.integers(1, MAX_HOSTS))
def test_socket_paths_fit_a_socket_address(size):
    layout = Layout("a" * 10, size)
    for machine in layout.machines:
        assert len(str(layout.run_dir(machine.name) / "meshnet" / "docker.sock")) <= 107


def test_every_machine_knows_every_other_by_name():
    assert Layout(size=2).hosts_file() == (
        "127.0.0.1\tlocalhost\n192.168.50.11\th1\n192.168.50.12\th2\n192.168.50.100\tclient\n"
    )


@pytest.mark.parametrize("name", ["", "Lab", "my-lab", "../x", "1lab", "a" * 11])
def test_a_name_that_is_no_name_is_refused(name):
    with pytest.raises(LabError, match="no name for a lab"):
        Layout(name)


@pytest.mark.parametrize("size", [0, -1, MAX_HOSTS + 1])
def test_a_size_that_is_no_size_is_refused(size):
    with pytest.raises(LabError, match="a lab has 1 to"):
        Layout(size=size)


def test_an_unknown_host_is_refused_by_name():
    with pytest.raises(
        LabError, match=r"no host 'h9' in this lab; did you mean h1\? \(it has h1, client\)"
    ):
        Layout(size=1).machine("h9")
