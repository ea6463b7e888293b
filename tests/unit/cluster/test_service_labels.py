"""What a service's labels ask of meshnet, and what is refused by name."""

from __future__ import annotations

import pytest

from meshnet.errors import ControlError
from meshnet.model.policy import ROUND_ROBIN, STICKY_S, Policy
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import service_labels
from meshnet_control.cluster.service_labels import NODE_WEIGHT
from meshnet_control.cluster.views import told_node


@pytest.mark.parametrize(
    ("said", "weights", "expected"),
    [
        ("", "", ROUND_ROBIN),
        ("rr", "", ROUND_ROBIN),
        ("random", "", Policy("random")),
        ("source-hash", "", Policy("source-hash")),
        ("nearest", "", Policy("nearest")),
        ("sticky", "", Policy("sticky", sticky_s=STICKY_S)),
        ("sticky:60", "", Policy("sticky", sticky_s=60)),
        ("weighted", "", Policy("weighted")),
        ("weighted", "h2=0,h1=3", Policy("weighted", weights=(("h1", 3), ("h2", 0)))),
    ],
)
def test_what_is_asked_for(said: str, weights: str, expected: Policy):
    assert service_labels.policy(said, weights) == expected
    service_labels.check({"meshnet.lb": said, "meshnet.lb.weights": weights, "other": "label"})


@pytest.mark.parametrize("said", [None, 0, 5, 86400])
def test_how_long_connections_are_waited_for(said: int | None):
    labels = {} if said is None else {"meshnet.drain": str(said)}
    service_labels.check(labels)
    assert service_labels.drain_s(labels) == said


@pytest.mark.parametrize(("said", "weight"), [(None, None), ("0", 0), ("100", 100)])
def test_what_tasks_of_a_node_weigh(said: str | None, weight: int | None):
    node = pb.Node(id="n", spec=pb.NodeSpec(labels={} if said is None else {NODE_WEIGHT: said}))
    assert service_labels.node_weight(node.spec.labels) == weight
    told = told_node(node)
    assert (told.weight if told.HasField("weight") else None) == weight


@pytest.mark.parametrize("said", ["", "101", "-1", "heavy", "1.5"])
def test_a_weight_that_is_none_is_refused_and_where_it_stands_already_says_nothing(said: str):
    labels = {NODE_WEIGHT: said}
    with pytest.raises(ControlError, match=f"invalid meshnet.weight '{said}': must be 0 to 100"):
        service_labels.node_weight(labels)
    assert not told_node(pb.Node(id="n", spec=pb.NodeSpec(labels=labels))).HasField("weight")


def test_who_has_no_virtual_ip_is_told_that_clients_choose():
    with pytest.raises(ControlError, match="random needs a virtual IP: with endpoint mode dnsrr"):
        service_labels.check({"meshnet.lb": "random"}, "dnsrr")
    service_labels.check({"meshnet.lb": "rr"}, "dnsrr")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            {"meshnet.lb": "sourcehash"},
            "invalid meshnet.lb 'sourcehash': must be rr, random, source-hash, sticky, weighted "
            "or nearest; did you mean source-hash?",
        ),
        (
            {"meshnet.lb": "x"},
            "invalid meshnet.lb 'x': must be rr, random, source-hash, sticky, weighted or nearest",
        ),
        (
            {"meshnet.drain": "10s"},
            "invalid meshnet.drain '10s': must be seconds, 1 to 86400, or 0: not to wait",
        ),
        ({"meshnet.drain": ""}, "invalid meshnet.drain ''"),
        ({"meshnet.drain": "-1"}, "invalid meshnet.drain '-1'"),
        ({"meshnet.drain": "86401"}, "must be seconds, 1 to 86400"),
        ({"meshnet.drains": "1"}, "did you mean meshnet.drain?"),
        ({"meshnet.lb": "stickey:60"}, "did you mean sticky?"),
        ({"meshnet.lb": "sticky:0"}, "must be sticky:1 to sticky:2592000"),
        ({"meshnet.lb": "sticky:"}, "must be sticky:1 to sticky:2592000"),
        ({"meshnet.lb": "sticky:2592001"}, "must be sticky:1 to sticky:2592000"),
        ({"meshnet.lb": "rr:5"}, "invalid meshnet.lb 'rr:5': only sticky has seconds"),
        ({"meshnet.lb.weights": "h1=3"}, "meshnet.lb.weights needs meshnet.lb=weighted"),
        (
            {"meshnet.lb": "weighted", "meshnet.lb.weights": "h1"},
            "invalid meshnet.lb.weights 'h1': must be HOST=WEIGHT, of 0 to 100",
        ),
        ({"meshnet.lb": "weighted", "meshnet.lb.weights": "h1=101"}, "of 0 to 100"),
        ({"meshnet.lb": "weighted", "meshnet.lb.weights": "h1=-1"}, "of 0 to 100"),
        ({"meshnet.lb": "weighted", "meshnet.lb.weights": "h1=1,h1=2"}, "h1 is named twice"),
        ({"meshnet.lbs": "rr"}, "unknown label meshnet.lbs; did you mean meshnet.lb?"),
        ({"meshnet.nothing-near": ""}, "unknown label meshnet.nothing-near"),
        ({"meshnet.proxy-protocol": "v2"}, "meshnet.proxy-protocol cannot be done: packets go"),
    ],
)
def test_what_means_nothing_is_refused_by_name(labels: dict[str, str], words: str):
    with pytest.raises(ControlError) as refused:
        service_labels.check(labels)
    assert words in str(refused.value)
