"""A plan of a stack is one that the cluster takes: what it would refuse is refused before."""

from __future__ import annotations

import pytest

from meshnet_control.stack.model import stack
from meshnet_control.stack.names import DATA
from meshnet_control.stack.parsing import parsed
from meshnet_control.stack.plan import Observed, plan
from meshnet_control.stack.values import StackError


def planned(text: str, name: str = "s"):
    tree = parsed(text, "f.yaml")
    for kind in ("secrets", "configs"):
        for each in (tree.get(kind) or {}).values():
            each[DATA] = each.pop("content").encode()
    return plan(stack(tree, name), Observed())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "services: {w: {image: i, deploy: {restart_policy: {condition: sometimes}}}}",
            'service s_w: invalid RestartCondition: "sometimes"',
        ),
        ("services: {w: {image: i, ports: ['1:2/xyz']}}", 'service s_w: invalid Protocol: "xyz"'),
        ("services: {w: {image: i, ports: ['2377:80']}}", "service s_w: EndpointSpec: port 2377"),
        ("services: {w: {image: i, stop_signal: NOPE}}", "service s_w: .*NOPE"),
        ("services: {w.: {image: i}}", "service s_w.: name must be valid as a DNS name"),
        (
            "services: {w: {image: i, secrets: [k, {source: k, target: k}]}}\n"
            "secrets: {k: {content: x}}",
            "service s_w: secret references 's_k' and 's_k' have a conflicting target: 'k'",
        ),
        (
            "services: {w: {image: i, networks: [n]}}\nnetworks: {n: {name: a b}}",
            "network a b: name must be valid as a DNS name component",
        ),
        (
            "services: {w: {image: i, configs: [k]}}\nconfigs: {k: {name: -x, content: x}}",
            "config -x: invalid name, only 64",
        ),
    ],
)
def test_what_the_cluster_refuses_is_in_no_plan(text, says):
    with pytest.raises(StackError, match=says):
        planned(text)


def test_a_stack_s_name_is_refused_before_its_network_is_made():
    with pytest.raises(StackError, match="network a b_default: name must be valid"):
        planned("services: {w: {image: i}}", "a b")


def test_references_need_no_ids_yet():
    text = "services: {w: {image: i, secrets: [k], configs: [c]}}\n"
    steps = planned(f"{text}secrets: {{k: {{content: x}}}}\nconfigs: {{c: {{content: y}}}}")
    assert [each.kind for each in steps] == ["network", "secret", "config", "service"]
