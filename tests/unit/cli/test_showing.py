"""What a person reads of an answer: it fits 80 columns; what a program reads has numbers."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cli import balancing, names, showing, trace
from meshnet_control.host.processes import HostError

SERVICE = xpb.BalancedService(
    id="4zluf430ff82llfct60pu50hm",
    name="server",
    mode="vip",
    vips=[xpb.NetworkAddress(network="discovery", address="10.0.1.2")],
    ports=[xpb.BalancedPort(protocol="tcp", published=8080, target=80, mode="ingress")],
    backends=[
        xpb.Backend(
            task="t" * 25,
            name="server.1." + "t" * 25,
            node="h3",
            addresses=[
                xpb.NetworkAddress(network=name, address="10.255.255.254")
                for name in ("ingress", "discovery")
            ],
            state="draining",
            counters=xpb.Counters(open=1, connections=2, packets=28, bytes=1800),
        )
    ],
)


ID = "i" * 25


def printed(shown):
    out = io.StringIO()
    Console(file=out, width=80).print(shown)
    return out.getvalue()


def test_a_service_with_its_backends():
    assert balancing.heading(SERVICE, "h1, h2") == [
        "server (4zluf430ff82), counted on h1, h2",
        "  10.0.1.2 on discovery",
        "  *:8080->80/tcp",
    ]
    said = printed(balancing.backends_table(SERVICE))
    assert said.splitlines()[0].split() == (
        ["TASK", "NODE", "ADDRESS", "STATE", "OPEN", "CONNS", "PACKETS", "BYTES", "SHARE"]
    )
    assert {"server.1", "h3", "draining", "28", "1.8", "kB", "100%"} <= set(said.split())


def test_the_list_of_services():
    head, line = printed(balancing.services_table(xpb.BalancingAnswer(services=[SERVICE]))).split(
        "\n"
    )[:2]
    assert head.split() == ["SERVICE", "VIP", "PORTS", "READY", "OPEN", "CONNS", "BYTES"]
    assert line.split() == ["server", "10.0.1.2", "*:8080->80/tcp", "0/1", "1", "2", "1.8", "kB"]


def test_json_has_numbers_that_are_numbers_and_every_field():
    shown = showing.as_json(SERVICE)
    assert shown["backends"][0]["counters"] == {
        "open": 1,
        "connections": 2,
        "packets": 28,
        "bytes": 1800,
    }
    assert showing.as_json(xpb.BalancedService())["backends"] == []


def test_who_gave_no_answer_is_named():
    reply = xpb.AskReply(missing="nobody leads")
    reply.answers.add(node_id="n1", hostname="h1", answer=xpb.Answer(error="it is down"))
    reply.answers.add(node_id="n2", answer=xpb.Answer(balancing=xpb.BalancingAnswer()))
    assert showing.missing(reply) == ["nobody leads", "h1 gave no answer: it is down"]


@pytest.mark.parametrize(
    ("octets", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (10**15, "1000.0 TB")],
)
def test_sizes(octets, words):
    assert showing.size(octets) == words


@pytest.mark.parametrize(
    ("name", "shown"),
    [(f"web.1.{ID}", "web.1"), ("web", "web"), ("web.1.short", "web.1.short"), (ID, ID)],
)
def test_a_task_is_shown_without_its_id(name, shown):
    assert showing.short_task(name) == shown


def test_what_was_heard_of_a_name():
    found = xpb.NameAnswer(
        container="c.1", name="web", type="A", result="NOERROR", records=["10.0.1.2"],
        seconds=0.0012, reason="the service web on app has that name", upstreams=["1.1.1.1"],
    )  # fmt: skip
    assert names.answer_lines(found, "h1") == [
        "c.1 on h1 asks for web A",
        "heard: NOERROR after 1.2 ms",
        "  10.0.1.2",
        "why: the service web on app has that name",
        "asked: 1.1.1.1",
    ]
    assert names.answer_lines(xpb.NameAnswer(), "h1")[1] == "heard: nothing"


@pytest.mark.parametrize(
    ("to", "host", "port"),
    [
        ("web", "web", 0),
        ("web:80", "web", 80),
        ("8080", "", 8080),
        (":8080", "", 8080),
        ("10.0.1.2:80", "10.0.1.2", 80),
        ("[fd00::1]:80", "fd00::1", 80),
        ("[fd00::1]", "fd00::1", 0),
        ("fd00::1:80", "fd00::1:80", 0),
    ],
)
def test_where_a_trace_goes(to, host, port):
    assert trace.parsed(to) == (host, port)


@pytest.mark.parametrize(
    "to", ["web:x", "web:0", "web:65536", "web:", "0", ":", "web:²", "[fd00::1]:0"]
)
def test_what_is_no_port_is_refused(to):
    with pytest.raises(HostError, match=r"is no port: TO:PORT, of 1 to 65535$"):
        trace.parsed(to)


def test_a_service_that_is_on_no_overlay_is_not_said_to_have_nobody_ready():
    published = xpb.BalancedPort(protocol="tcp", published=8090, target=80, mode="host")
    service = xpb.BalancedService(id="s1", name="agent", mode="vip", ports=[published])
    line = printed(balancing.services_table(xpb.BalancingAnswer(services=[service]))).split("\n")[1]
    assert line.split() == ["agent", "-", "*:8090->80/tcp", "(host)", "-", "0", "0", "0", "B"]
    assert "on no overlay network" in balancing.heading(service, "h1")[-1]


def test_a_service_without_a_task_says_where_to_look():
    service = xpb.BalancedService(id="s1", name="web", mode="vip", vips=SERVICE.vips)
    line = printed(balancing.services_table(xpb.BalancingAnswer(services=[service]))).split("\n")[1]
    assert line.split()[:3] == ["web", "10.0.1.2", "0/0"]
    assert balancing.heading(service, "h1")[-1].endswith("docker service ps --no-trunc web")


def test_steps_stand_with_their_target_and_what_is_wrong_stands_out():
    common = xpb.Step(host="h1", place="c.1", what="interface", found="eth0", ok=True)
    steps = [
        common,
        xpb.Step(host="h1", place="net", what="FDB row", found="x", ok=True, target="t1"),
        xpb.Step(
            host="h2", place="net", what="bridge port", found="nothing", should="v1 in br0",
            ends=True, mend="wait " * 20, target="t1",
        ),
    ]  # fmt: skip
    lines = trace.step_lines(steps, [xpb.Target(task="t1", name="web.1", hostname="h2")])
    assert lines[:6] == [
        "h1: c.1",
        "  ok  interface: eth0",
        "-- to web.1 on h2",
        "h1: net",
        "  ok  FDB row: x",
        "h2: net",
    ]
    assert lines[6:8] == ["  XX  bridge port: nothing", "      should be: v1 in br0"]
    assert max(map(len, lines)) <= 80
    assert trace.verdict(steps) == "what goes to that task ends on h2, at bridge port"
    assert trace.verdict([common], passed=False) == trace.NOT_PASSED
    assert trace.verdict(steps, passed=False) == trace.verdict(steps)
    assert trace.whole_way([common], passed=True)
    assert not trace.whole_way([common], passed=False)
    assert not trace.whole_way([common, xpb.Step()], passed=True)
    assert not trace.whole_way([xpb.Step(ok=True, ends=True)], passed=True)
    assert trace.verdict([common]) == "all 1 steps are as they should be"
    doubtful = xpb.Step(host="h1", place="host", what="w", found="f", ok=True, warns=True)
    assert trace.step_lines([doubtful], [])[1] == "  ??  w: f"
    assert trace.whole_way([doubtful], passed=True)
    assert trace.verdict([common, doubtful]) == (
        "1 of 2 steps are as they should be; of the others see the mark ??"
    )
    assert trace.verdict([common, xpb.Step()]) == "1 of 2 steps are not as they should be"


@pytest.mark.parametrize(
    "text", ["[/etc]", "grep [abc] x", "[red]", ":warning: 1:2", "link=[https://example]"]
)
def test_what_others_wrote_is_shown_as_it_is(capsys, text):
    shown = showing.table("SEEN")
    shown.add_row(text)
    showing.wide_console().print(shown)
    assert capsys.readouterr().out.splitlines()[1].rstrip() == text
