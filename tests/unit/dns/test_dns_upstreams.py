"""Whom the host asks: what is read from resolv.conf, and that a change of it is seen."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from meshnet_dns.upstreams import HostUpstreams, nameservers


def test_nameservers_of_a_file():
    text = """# nameserver 192.0.2.9
search example.org
nameserver 192.0.2.1
nameserver\t127.0.0.53
  nameserver 2001:db8::1 # with words after it
nameserver fe80::1%eth0
nameserver 127.0.0.11
nameserver 192.0.2.1
nameserver ns.example.org
nameserver
options ndots:2
"""
    assert nameservers(text) == ("192.0.2.1", "127.0.0.53", "2001:db8::1", "fe80::1%eth0")


@given(st.text())
def test_no_text_is_a_fault(text):
    assert "127.0.0.11" not in nameservers(text)


def test_a_change_of_the_file_is_seen(tmp_path):
    path = tmp_path / "resolv.conf"
    host = HostUpstreams(path)
    assert (host.now(), host.version) == ((), 0), "there is none yet"
    path.write_text("nameserver 192.0.2.1\n")
    assert host.now() == ("192.0.2.1",)
    replaced = tmp_path / "new"
    replaced.write_text("nameserver 192.0.2.2\n")
    replaced.replace(path)
    assert host.now() == ("192.0.2.2",), "another file of the same size"
    path.write_text("nameserver 192.0.2.3\n")
    os.utime(path, ns=(1, 1))
    assert host.now() == ("192.0.2.3",), "written in place"
    assert host.now() == ("192.0.2.3",)
    assert host.version == 3
    path.unlink()
    assert (host.now(), host.version) == ((), 4)
    assert (host.now(), host.version) == ((), 4)
