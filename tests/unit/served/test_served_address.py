"""Where metrics are served: what is an address, and what is kept of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet_control.served.address import METRICS, joined


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("9700", ("127.0.0.1", 9700)),
        (":9700", ("127.0.0.1", 9700)),
        ("192.0.2.1:9700", ("192.0.2.1", 9700)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
    ],
)
def test_an_address_is_read(text, found):
    assert METRICS.parsed(text) == found


@pytest.mark.parametrize(
    "text",
    ["", ":", "0", "65536", "h1:9700", "192.0.2.1", "192.0.2.1:", "::1:9700", "a@192.0.2.1:9700",
     "192.0.2.1:9700/metrics", "192.0.2.1:9700?", "192.0.2.1:+9700", "192.0.2.1:09700", "٣", "on"],
)  # fmt: skip
def test_what_is_none_is_refused_in_a_sentence(text, tmp_path):
    with pytest.raises(ControlError, match="is no place to serve metrics at: give a port"):
        METRICS.keep(tmp_path, text)
    assert METRICS.kept(tmp_path) == ""


@given(st.text())
def test_any_text_is_an_address_or_refused(text):
    try:
        host, port = METRICS.parsed(text)
    except ControlError:
        return
    assert METRICS.parsed(joined(host, port)) == (host, port)


def test_it_is_kept_until_it_is_ended(tmp_path):
    state = tmp_path / "state"
    assert METRICS.kept(state) == ""
    assert METRICS.keep(state, "9700") == "127.0.0.1:9700"
    assert METRICS.kept(state) == "127.0.0.1:9700"
    assert METRICS.keep(state, "192.0.2.1:9701") == METRICS.kept(state) == "192.0.2.1:9701"
    assert METRICS.keep(state, "off") == METRICS.kept(state) == ""
    assert METRICS.keep(state, "off") == ""


def test_a_file_that_is_no_text_is_no_address(tmp_path):
    (tmp_path / METRICS.file).write_bytes(b"\xff")
    assert METRICS.kept(tmp_path) == ""


@pytest.mark.parametrize("text", ["2377", "192.0.2.1:7946", "[2001:db8::1]:2380"])
def test_ports_that_nodes_speak_on_are_not_given_to_what_is_served(text, tmp_path):
    with pytest.raises(ControlError, match="one of those that nodes speak to each other on"):
        METRICS.keep(tmp_path, text)
    assert METRICS.kept(tmp_path) == ""
