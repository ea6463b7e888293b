"""A lab file: what it says, and everything that is wrong with one, with lines."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.lab.lab_file import LabFileError, parsed
from meshnet_control.lab.topology import Impairment, Probe, delay_ms, impairment, loss, rate

WHOLE = """
lans:
  front: 192.168.60.0/24
  back: 192.168.61.0/24
hosts:
  h1: {manager: true}
  h2: {lan: back}
  web: {lan: back, address: 192.168.61.7}
client: {lan: back}
links:
  - between: [h2, h1]
    loss: 0.5%
    rate: 10mbit
  - between: [h2]
    delay: 50ms
  - between: [front, back]
    down: true
probes:
  - run: docker node ls
    on: h1
    expect: Ready
    within: 2s
  - name: nobody answers
    run: curl http://h1:9/
    fails: true
"""


def test_a_whole_file():
    found = parsed(WHOLE, "lab.yaml")
    assert [(host.name, host.lan, str(host.address), host.manager) for host in found.hosts] == [
        ("h1", "front", "192.168.60.11/24", True),
        ("h2", "back", "192.168.61.12/24", False),
        ("web", "back", "192.168.61.7/24", False),
    ]
    assert str(found.client.address) == "192.168.61.100/24"
    assert found.links == {
        ("h1", "h2"): Impairment(loss=50, rate=10_000_000),
        ("h2",): Impairment(delay_ms=50),
        ("back", "front"): Impairment(down=True),
    }
    assert found.probes == (
        Probe("docker node ls", "h1", "docker node ls", "Ready", within_s=2.0),
        Probe("nobody answers", "client", "curl http://h1:9/", fails=True),
    )


def test_a_file_of_hosts_alone_has_the_usual_lan():
    found = parsed("hosts: {h1: , h2: }", "lab.yaml")
    assert [str(lan.subnet) for lan in found.lans] == ["192.168.50.0/24"]
    assert [str(host.address) for host in found.hosts] == ["192.168.50.11/24", "192.168.50.12/24"]


WRONG = [
    ("", ["1: the file is empty"]),
    ("hosts: [", ["1: expected the node content, but found '<stream end>'"]),
    ("lans: {a: 192.168.60.0/24}", ["a lab has hosts"]),
    ("hosts: {}", ["1: hosts: a lab has 1 to 80 hosts, not 0"]),
    ("hosts:\n  h1: {lan: bak}\nlans: {back: 192.168.60.0/24}", ["2: hosts.h1.lan: no LAN 'bak'"]),
    (
        "hosts:\n  h1: {manger: true}",
        ["2: hosts.h1.manger: is no word here; did you mean manager?"],
    ),
    ("hosts:\n  h1:\n    manager: perhaps", ["3: hosts.h1.manager: must be true or false"]),
    ("hosts:\n  web:", ["2: hosts.web: give it an address of 192.168.50.0/24"]),
    ("hosts:\n  client: {}", ["2: hosts.client: a host's name"]),
    ("hosts:\n  h1: {address: 192.168.50.254}", ["192.168.50.254 is the router's"]),
    ("hosts:\n  h1: {address: 192.168.50.100}", ["192.168.50.100 is no address for a host"]),
    (
        "hosts:\n  h1: {}\n  h2: {address: 192.168.50.11}",
        ["3: hosts.h2.address: 192.168.50.11 is h1's"],
    ),
    ("hosts:\n  h1:\n  h1:", ["3: hosts.h1: is there twice"]),
    ("lans:\n  a: 10.0.9.0/24\nhosts: {h1: }", ["2: lans.a: 10.0.9.0/24 is in 10.0.0.0/8"]),
    ("lans:\n  a: 192.168.60.1/24\nhosts: {h1: }", ["2: lans.a: '192.168.60.1/24' is no subnet"]),
    (
        "lans:\n  a: 192.168.0.0/16\n  b: 192.168.9.0/24\nhosts: {h1: }",
        ["3: lans.b: 192.168.9.0/24 overlaps 192.168.0.0/16 of LAN a"],
    ),
    *(
        (f"lans:\n  a: {subnet}\nhosts: {{h1: }}", [f"2: lans.a: {subnet} is not for hosts"])
        for subnet in (
            "127.0.1.0/24",
            "169.254.0.0/16",
            "224.0.0.0/24",
            "240.0.0.0/24",
            "0.0.1.0/24",
        )
    ),
    ("lans:\n  a: 192.168.8.0/32\nhosts: {h1: }", ["2: lans.a: a LAN's subnet is a /16 to /24"]),
    ('hosts: {h1: }\nprobes:\n  - run: "a\\0b"', ["3: probes[0]: run: no command has a NUL"]),
    ("hosts: {h1: }\nlinks:\n  - between: [h1, h9]\n    down: true", ["no machine or LAN 'h9'"]),
    (
        "hosts: {h1: }\nlinks:\n  - between: [h1, lan]\n    down: true",
        ["two machines, or two LANs"],
    ),
    ("hosts: {h1: }\nlinks:\n  - between: [h1]", ["3: links[0]: say what the link does"]),
    ("hosts: {h1: }\nlinks:\n  - between: [h1]\n    loss: 101%", ["'101%' is no loss"]),
    (
        "hosts: {h1: }\nlinks:\n  - between: [h1, client]\n    delay: 5ms",
        ["a delay is of a machine's"],
    ),
    ("hosts: {h1: }\nprobes:\n  - run: x\n    expect: '('", ["4: probes[0].expect: not a regular"]),
    (
        "hosts: {h1: }\nprobes:\n  - on: hl",
        ["on: no machine 'hl' in this file; did you mean h1?", "say what it runs"],
    ),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_said_with_its_line(text, said):
    with pytest.raises(LabFileError) as caught:
        parsed(text, "lab.yaml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("lab.yaml:") for line in lines)
    for sentence in said:
        assert sentence in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.sampled_from(["h1", "lan", "10%", "x"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "lans",
                        "hosts",
                        "client",
                        "links",
                        "probes",
                        "h1",
                        "between",
                        "loss",
                        "run",
                        "on",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_no_file_is_read_otherwise_than_well_or_with_complaints(tree):
    with contextlib.suppress(LabFileError):
        parsed(str(tree).replace("None", "null").replace("'", '"'), "lab.yaml")


rates = st.integers(0, 999_999).map(lambda kbit: kbit * 1000)


@given(st.builds(Impairment, st.integers(0, 10_000), rates, st.integers(0, 99_999), st.booleans()))
def test_a_link_is_read_as_it_is_said(link):
    found = [impairment(part) for part in link.parts()]
    assert max((each.loss for each in found), default=0) == link.loss
    assert max((each.rate for each in found), default=0) == link.rate
    assert max((each.delay_ms for each in found), default=0) == link.delay_ms
    assert any(each.down for each in found) == link.down


def test_words_of_links():
    assert [loss(text) for text in ("10%", "0.5 %", "2.25", "100%")] == [1000, 50, 225, 10_000]
    assert [rate(text) for text in ("64kbit", "10mbit", "1 gbit/s")] == [64_000, 10**7, 10**9]
    assert [delay_ms(text) for text in ("50ms", "2s")] == [50, 2000]
