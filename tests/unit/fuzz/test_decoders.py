"""Whatever bytes come, a decoder of the control plane gives a value or refuses in its own type.

Those of the data plane and of gossip have the same tests in their own rooms; ``./dev fuzz`` runs
all of them.
"""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from google.protobuf.message import Message
from hypothesis import example, given
from hypothesis import strategies as st

from meshnet.errors import ControlError, WireError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import assignments, constraint, log_lines
from meshnet_control.controlapi import filters
from meshnet_control.convert.engine_json import from_engine, to_engine
from meshnet_control.convert.json_text import parse_json
from meshnet_control.gateway import http_head, routing
from meshnet_control.identity import tokens

PIECES = st.sampled_from(
    [
        *(b"GET", b"POST", b" ", b"/", b"/v1.41", b"/v", b"9" * 5000, b".", b"services", b"?x=%ff"),
        *(
            b"HTTP/1.1",
            b"http://a/b",
            b"http://",
            b"\r\n",
            b"\n",
            b"Connection:",
            b"Upgrade, close",
        ),
        *(b"\0", b"\xff", b"%00", b"%", b"//", b":", b"\xd9\xa1"),
    ]
)
HEADS = st.lists(PIECES | st.binary(max_size=4), max_size=12).map(b"".join)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
MESSAGES = [pb.ServiceSpec, pb.NetworkCreateRequest, pb.ClusterSpec, pb.Task, pb.SwarmInitRequest]


@given(HEADS)
@example(b"GET /v" + b"9" * 5000 + b".1/info HTTP/1.1\r\n\r\n")
@example("GET /v\u0661.\u0662/info HTTP/1.1\r\n\r\n".encode())
def test_a_head_is_read_or_refused_and_its_connection_ends_with_it(raw: bytes):
    with suppress(WireError):
        head = http_head.parse(raw)
        assert routing.is_ours(head) in {True, False}
        assert head.version is None or max(head.version) < 10_000
        said = http_head.one_shot(raw + http_head.END)
        assert said.endswith(b"\r\nConnection: close" + http_head.END)


@given(ANY_JSON.map(json.dumps) | st.text(max_size=40), st.text(max_size=12))
@example("[" * 100_000, "")
@example('{"name":' + "[" * 100_000, "")
@example('{"name":["(a*)*b"]}', "a" * 40)
@example('{"name":{"\\ud800":true}}', "x")
@example("NaN", "x")
def test_filters_are_read_or_refused_and_cost_little(raw: str, candidate: str):
    with suppress(ControlError):
        wanted = filters.parse(raw, ("name", "label", "dangling"))
        assert filters.pattern(wanted.get("name"), candidate) in {True, False}
        assert filters.labels(wanted.get("label"), {candidate: candidate}) in {True, False}
        assert filters.flag(wanted.get("dangling")) in {True, False, None}


@given(st.binary(max_size=60) | ANY_JSON.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b"-Infinity")
@example(b"1" * 5000)
@example(b'"\\udc00"')
def test_a_body_is_json_or_a_refusal(raw: bytes):
    with suppress(ControlError):
        json.dumps(parse_json(raw), allow_nan=False, ensure_ascii=False).encode()


@given(st.sampled_from(MESSAGES), ANY_JSON)
def test_json_is_a_message_or_a_refusal(cls: type[Message], value: object):
    with suppress(ControlError):
        message = from_engine(cls, value)
        assert cls.FromString(message.SerializeToString()) == message
        json.dumps(to_engine(message))


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_log_frames_are_cut_or_refused(chunks: list[bytes]):
    frames = log_lines.Frames()
    with suppress(WireError):
        for chunk in chunks:
            for stream, payload in frames.feed(chunk):
                line = log_lines.parse(stream, payload)
                assert log_lines.render(line, "a=b", timestamps=True, details=True)


@given(st.text(max_size=40))
def test_a_constraint_has_three_parts_or_is_none(text: str):
    with suppress(ValueError):
        asked = constraint.parse(text)
        assert asked.key.strip() == asked.key
        assert asked.value


@given(st.text(max_size=100))
def test_a_token_is_one_or_refused(text: str):
    with suppress(ControlError):
        assert len(tokens.parse(text).digest) == 32


@pytest.mark.parametrize(
    "said",
    ["", "foo", "::1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "10.0.0.1/24", "10.0.0.1\n"],  # noqa: S104
)
def test_what_no_node_can_be_reached_at_goes_to_no_other_node(said: str):
    good, bad = pb.Node(id="n1"), pb.Node(id="n2")
    good.status.addr, bad.status.addr = "192.168.50.11", said
    nodes = {node.id: node for node in (good, bad)}
    told = assignments.node_assignments(assignments.Objects(pb.Cluster(id="c"), nodes), "n2")
    assert [node.addr for node in told.nodes] == ["192.168.50.11"]
