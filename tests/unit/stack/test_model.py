"""What a stack file wants of a cluster, and what it is refused for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from meshnet_control.stack.model import Wait, stack
from meshnet_control.stack.values import StackError, duration_ns, size


def made(text: str, *profiles: str):
    return stack(YAML(typ="safe", pure=True).load(text), "s", profiles)


def service(keys: str):
    return made(f"services: {{w: {{image: i, {keys}}}}}").services["s_w"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "the file has no services"),
        ("services: {w: {}}", "services.w: image is missing"),
        ("services: {w: {build: .}}", "services.w: a stack builds nothing: build the image"),
        ("services: {w: {image: i, imgae: j}}", "services.w: unknown key: imgae"),
        ("serivces: {}", "the file: unknown key: serivces"),
        ("services: {w: {image: i, deploy: {replica: 2}}}", r"w\.deploy: unknown key: replica"),
        ("services: {w: {image: i, ports: [x]}}", r'w\.ports: "x" is no port'),
        ("services: {w: {image: i, ports: ['70000:80']}}", "is no port"),
        ("services: {w: {image: i, ports: ['1-2:80']}}", "not of one length"),
        ("services: {w: {image: i, networks: [n]}}", "there is no n in networks"),
        ("services: {w: {image: i, volumes: ['v:/x']}}", "there is no v in volumes"),
        ("services: {w: {image: i, secrets: [x]}}", "there is no x in secrets"),
        ("services: {w: {image: i, stop_grace_period: 5}}", '"5" is no duration'),
        ("services: {w: {image: i, mem_limit: 5x}}", '"5x" is no size'),
        ("services: {w: {image: i, tty: maybe}}", "tty must be true or false"),
        ("services: {w: {image: i, deploy: {replicas: two}}}", "must be a whole number"),
        ("services: {w: {image: i, deploy: {mode: x}}}", "unknown mode: x"),
        ("services: {w: {image: i, deploy: {mode: global, replicas: 2}}}", "service has none"),
        ("services: {w: {image: i, restart: never}}", "unknown restart policy: never"),
        ("services: {w: {image: i, depends_on: [x]}}", "there is no other service x"),
        ("services: {w: {image: i, depends_on: {w: {}}}}", "there is no other service w"),
        (
            "services: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [a]}}",
            "depends_on goes in a circle: a -> b -> a",
        ),
        ("services: {w: {image: i, security_opt: [seccomp:x]}}", "seccomp:x is not supported"),
        ("services: {w: {image: i, network_mode: 'service:x'}}", "network_mode must be host"),
        ("services: {w: {image: [1]}}", "image must be a text"),
        ("services: {w: {image: ''}}", "services.w: image is missing"),
        ("services: {a/b: {image: i}}", "services: Additional property a/b is not allowed"),
        ("services: {w: {image: i, ports: ['80:']}}", '"80:" has no target'),
        ("services: {w: {image: i, ports: [{target: 1, mode: x}]}}", "must be ingress or host"),
        ("services: {w: {image: i, volumes: [{type: tmpfs}]}}", "volumes: target is missing"),
        ("services: {w: {image: i, volumes: [null]}}", "volumes must be a text"),
        ("services: {w: {image: i, cpus: 1e999999999}}", "cpus must be a number"),
        ("services: {w: {image: i, cpus: '1e999999999'}}", "cpus must be a number"),
        ("services: {w: 3}", "services.w must be a mapping"),
    ],
)
def test_refusals_name_the_place(text, says):
    with pytest.raises(StackError, match=says):
        made(text)


def test_services_come_after_those_they_depend_on_and_know_what_they_wait_for():
    found = made(
        "services: {a: {image: i, depends_on: {b: {condition: service_healthy}, c: {}}},"
        " b: {image: i, depends_on: {d: {condition: service_completed_successfully}}},"
        " c: {image: i}, d: {image: i, deploy: {mode: replicated-job}}}"
    )
    assert list(found.services) == ["s_c", "s_d", "s_b", "s_a"]
    assert found.waits["s_a"] == [Wait("s_b", "service_healthy"), Wait("s_c", "service_started")]
    assert found.waits["s_b"] == [Wait("s_d", "service_completed_successfully")]


def test_a_chain_of_services_may_be_long():
    chain = [f"s{at}: {{image: i, depends_on: [s{at + 1}]}}" for at in range(1500)]
    found = made(f"services: {{{', '.join([*chain, 's1500: {image: i}'])}}}")
    assert list(found.services)[::1500] == ["s_s1500", "s_s0"]


def test_profiles_choose_services():
    text = "services: {a: {image: i}, b: {image: i, profiles: [x]}, c: {image: i, profiles: [y]}}"
    assert list(made(text).services) == ["s_a"]
    assert list(made(text, "x").services) == ["s_a", "s_b"]
    assert list(made(text, "*").services) == ["s_a", "s_b", "s_c"]


@pytest.mark.parametrize(
    ("keys", "labels"),
    [
        ("privileged: true", {"meshnet.privileged": "true"}),
        ("devices: [/dev/fuse]", {"meshnet.devices": "/dev/fuse"}),
        (
            "devices: [{source: /dev/a, target: /dev/b, permissions: r}, {source: /dev/c}]",
            {"meshnet.devices": "/dev/a:/dev/b:r,/dev/c"},
        ),
        ("gpus: all", {"meshnet.gpus": "all"}),
        ("gpus: [{driver: nvidia, count: 2}]", {"meshnet.gpus": "2"}),
        (
            "deploy: {resources: {reservations: {devices: [{capabilities: [gpu],"
            " device_ids: ['0', '3']}]}}}",
            {"meshnet.gpus": "0,3"},
        ),
    ],
)
def test_what_of_its_host_a_service_wants_is_in_its_labels(keys, labels):
    found = service(keys)["Labels"]
    assert {key: value for key, value in found.items() if key.startswith("meshnet.")} == labels


def test_what_means_nothing_in_a_cluster_is_told():
    found = made("services: {w: {image: i, container_name: x, links: [y], build: .}}")
    told = {"services.w.container_name", "services.w.links", "services.w.build"}
    assert set(found.ignored) == told


def test_limits_of_a_container_are_limits_of_a_service():
    limits = service("cpus: 1.5, mem_limit: 64m, pids_limit: 9")["TaskTemplate"]["Resources"]
    assert limits["Limits"] == {"NanoCPUs": 1_500_000_000, "MemoryBytes": 64 << 20, "Pids": 9}


def test_ports_in_every_form():
    ports = service("ports: [80, '8080:80/udp', '9000-9001:90-91', '127.0.0.1:5000:50']")
    short = [
        (port.get("PublishedPort", 0), port["TargetPort"], port["Protocol"])
        for port in ports["EndpointSpec"]["Ports"]
    ]
    assert short == [
        (0, 80, "tcp"), (5000, 50, "tcp"), (8080, 80, "udp"), (9000, 90, "tcp"), (9001, 91, "tcp")
    ]  # fmt: skip


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_durations_add_up(h, m, s, ms):
    said = duration_ns(f"{h}h{m}m{s}s{ms}ms")
    assert said == (((h * 60 + m) * 60 + s) * 1000 + ms) * 1_000_000


@given(st.integers(0, 10**9), st.sampled_from(["", "b", "k", "KB", "m", "MiB", "g", "GB", "t"]))
def test_sizes_are_of_1024(number, unit):
    power = " bkmgt".index(unit.lower()[:1] or " ")
    assert size(f"{number}{unit}") == number << (10 * max(0, power - 1))
