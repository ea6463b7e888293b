"""What a scrape says: each fact under its name, few labels, nothing that is not written down."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from meshnet import measures
from meshnet.reconcile import ReconcilerStatus
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.metrics import families
from meshnet_control.metrics.facts import Facts

DOCS = Path(__file__).parents[3] / "docs"


def backend(state: str, *, open_: int = 0, connections: int = 0) -> xpb.Backend:
    counters = xpb.Counters(open=open_, connections=connections, packets=10, bytes=1000)
    return xpb.Backend(task="t", name="n", node="h1", state=state, counters=counters)


def service(name: str, *backends: xpb.Backend) -> xpb.BalancedService:
    return xpb.BalancedService(id=name, name=name, mode="vip", backends=backends)


ETCD = pb.EtcdStatus(part="leader", voters=3, memory_bytes=5, database_bytes=9, used_bytes=7)
PROCESS = pb.ManagerProcess(revision=42, sessions=2, memory_bytes=7_000_000, etcd=ETCD)
WHOLE = Facts(
    version="0.1.0",
    role="manager",
    dropped={"meshnetd": {"gossip: datagram too short": 3, "other": 1}, "meshnet-manager": {}},
    node_id="n1",
    hostname="h1",
    members={"alive": 2, "unreached": 1},
    reconcilers=[
        ReconcilerStatus("lb", 7, 100.5, 2, 9, ""),
        ReconcilerStatus("overlay", 6, 99.0, 0, 9, "no"),
    ],
    tasks={"running": 4, "failed": 1},
    networks=[("ingress", 3, 254), ("app", 7, 14)],
    services=xpb.BalancingAnswer(
        services=[
            service(
                "web",
                backend("ready", open_=2, connections=5),
                backend("ready", connections=1),
                backend("host silent"),
            )
        ]
    ),
    resolver={
        "queries": 10, "hits": 6, "misses": 4, "tcp": 1, "kept": 3, "forwarded": 2,
        "upstream_answers": 1,
        "upstream_failures": 1, "dropped": {"not sent": 5},
    },
    manager=mpb.ManagerStatusReply(
        process=PROCESS, leads=True, metrics=measures.text(measures.MANAGER)
    ),
)  # fmt: skip


def said(facts: Facts) -> dict[tuple[str, ...], float]:
    """(name, value of a label, …) -> value, of what was read."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(families.text(facts).decode())
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("meshnet_node_info", "h1", "n1", "manager"), 1),
        (("meshnet_build_info", "0.1.0"), 1),
        (("meshnet_part_up", "kernel"), 1),
        (("meshnet_part_up", "resolver"), 1),
        (("meshnet_part_up", "manager"), 1),
        (("meshnet_dropped_total", "gossip", "meshnetd", "datagram too short"), 3),
        (("meshnet_dropped_total", "", "meshnetd", "other"), 1),
        (("meshnet_gossip_members", "alive"), 2),
        (("meshnet_gossip_members", "dead"), 0),
        (("meshnet_gossip_members", "unreached"), 1),
        (("meshnet_tasks", "running"), 4),
        (("meshnet_reconciler_revision", "lb"), 7),
        (("meshnet_reconciler_last_round_timestamp_seconds", "lb"), 100.5),
        (("meshnet_reconciler_failing", "lb"), 0),
        (("meshnet_reconciler_failing", "overlay"), 1),
        (("meshnet_network_addresses", "app", "used"), 7),
        (("meshnet_network_addresses", "app", "all"), 14),
        (("meshnet_network_addresses", "ingress", "used"), 3),
        (("meshnet_service_backends", "web", "ready"), 2),
        (("meshnet_service_backends", "web", "host_silent"), 1),
        (("meshnet_service_backends", "web", "draining"), 0),
        (("meshnet_service_open_connections", "web"), 2),
        (("meshnet_service_connections", "web"), 6),
        (("meshnet_service_packets", "web"), 30),
        (("meshnet_service_bytes", "web"), 3000),
        (("meshnet_dns_queries_total", "udp"), 9),
        (("meshnet_dns_queries_total", "tcp"), 1),
        (("meshnet_dns_lookups_total", "remembered"), 6),
        (("meshnet_dns_lookups_total", "looked_up"), 4),
        (("meshnet_dns_forwarded_total",), 2),
        (("meshnet_dns_kept_answers_total",), 3),
        (("meshnet_dns_upstream_answers_total", "failed"), 1),
        (("meshnet_dns_dropped_total", "not sent"), 5),
        (("meshnet_manager_up",), 1),
        (("meshnet_manager_leader",), 1),
        (("meshnet_manager_sessions",), 2),
        (("meshnet_store_revision",), 42),
        (("meshnet_etcd_voters",), 3),
        (("meshnet_etcd_has_leader",), 1),
        (("meshnet_etcd_used_bytes",), 7),
    ],
)
def test_what_was_read_is_said(key, value):
    assert said(WHOLE)[key] == value


def test_what_cannot_be_read_is_missing_and_said_to_be():
    silent = mpb.ManagerStatusReply(process=pb.ManagerProcess(error="it does not answer"))
    found = said(replace(WHOLE, resolver=None, services=None, manager=silent))
    assert found["meshnet_part_up", "resolver"] == 0
    assert found["meshnet_part_up", "kernel"] == 0
    assert found["meshnet_part_up", "manager"] == 0
    assert found["meshnet_manager_up",] == 0
    absent = ("meshnet_dns_", "meshnet_service_", "meshnet_store_revision", "meshnet_etcd")
    assert not [key for key in found if key[0].startswith(absent)]


def test_a_namespace_that_could_not_be_read_is_told():
    part = xpb.BalancingAnswer(services=[service("web")], unread=["no such namespace"])
    assert said(replace(WHOLE, services=part))["meshnet_part_up", "kernel"] == 0


def test_a_host_in_no_cluster_says_what_it_can():
    found = said(Facts("0.1.0", "none", {"meshnetd": {}}, hostname="h1"))
    assert found["meshnet_node_info", "h1", "", "none"] == 1
    assert not [key for key in found if key[0] in ("meshnet_gossip_members", "meshnet_tasks")]


def test_a_cluster_of_very_many_services_has_no_more_labels_than_are_bounded():
    most = families.MOST_SERVICES
    many = [service(f"s{i:05}", backend("ready", connections=2)) for i in range(most + 20)]
    found = said(replace(WHOLE, services=xpb.BalancingAnswer(services=many)))
    asked = "meshnet_service_connections"
    rows = {key[1]: value for key, value in found.items() if key[0] == asked}
    assert len(rows) == most + 1
    assert rows[families.OTHERS] == 40
    assert found["meshnet_service_backends", families.OTHERS, "ready"] == 20


def test_a_resolver_with_very_many_reasons_has_no_more_labels_than_are_bounded():
    dropped = {f"why {i:03}": 1 for i in range(families.MOST_REASONS + 5)}
    found = said(replace(WHOLE, resolver={"dropped": dropped}))
    rows = {key[1]: value for key, value in found.items() if key[0] == "meshnet_dns_dropped_total"}
    assert len(rows) == families.MOST_REASONS + 1
    assert rows[families.OTHERS] == 5


@given(st.text())
def test_whatever_a_service_is_called_it_is_one_label_and_breaks_no_line(name: str):
    one = xpb.BalancingAnswer(services=[service(name, backend("ready", connections=3))])
    text = families.text(replace(WHOLE, services=one)).decode()
    rows = [line for line in text.split("\n") if line.startswith("meshnet_service_connections{")]
    assert len(rows) == 1
    assert rows[0].endswith('"} 3.0')


def names() -> set[str]:
    """Of everything that is ever said, as it is asked for."""
    text = families.text(WHOLE).decode()
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}


def asked(expressions: str) -> set[str]:
    """Names of metrics in expressions, a histogram's without its parts."""
    words = set(re.findall(r"\bmeshnet_[a-z_]+", expressions))
    return {re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", word) for word in words}


def test_names_and_help_are_each_there_once():
    text = families.text(WHOLE).decode()
    for kind in ("# TYPE ", "# HELP "):
        lines = [line.split()[2] for line in text.splitlines() if line.startswith(kind)]
        assert len(lines) == len(set(lines))
    assert all(re.fullmatch(r"meshnet_[a-z_]+", name) for name in names())


def test_the_documentation_lists_every_metric_and_no_other():
    rows = re.findall(r"^\| `(meshnet_[a-z_]+)", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == names()


def test_alerts_and_dashboard_ask_for_what_there_is():
    assert asked((DOCS / "metrics/alerts.yml").read_text()) <= names()
    board = json.loads((DOCS / "metrics/dashboard.json").read_text())
    targets = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    assert targets
    assert asked("\n".join(targets)) <= names()


BOARD = json.loads((DOCS / "metrics/dashboard.json").read_text())
PANELS = BOARD["panels"]
GRID = 24
"""Columns of a Grafana dashboard."""


def documented() -> dict[str, set[str]]:
    """Metric -> its labels, as docs/metrics.md lists them."""
    table = (DOCS / "metrics.md").read_text()
    rows = re.findall(r"^\| `(meshnet_[a-z_]+)` \|([^|]*)\|", table, re.MULTILINE)
    return {name: {each.strip() for each in labels.split(",")} - {""} for name, labels in rows}


def test_the_documentation_says_the_labels_of_what_is_said():
    labels = documented()
    for family in text_string_to_metric_families(families.text(WHOLE).decode()):
        for sample in family.samples:
            name = family.name + ("_total" if family.type == "counter" else "")
            assert set(sample.labels) - {"le"} == labels[name]


def test_the_dashboard_asks_for_labels_that_there_are():
    labels = documented()
    for panel in PANELS:
        for target in panel["targets"]:
            query = target["expr"]
            named = {
                word for group in re.findall(r"by \(([^)]*)\)", query) for word in group.split(", ")
            }
            named |= set(re.findall(r"[{,]([a-z_]+)(?==)", query))
            there = set().union(*(labels[name] for name in asked(query)))
            assert named <= there | {"instance", "job", "le"}, query
            legend = set(re.findall(r"{{ ?([a-z_]+) ?}}", target.get("legendFormat", "")))
            assert legend <= there | {"instance", "job"}, target


def test_the_dashboard_is_one_that_grafana_takes():
    assert {"title", "uid", "schemaVersion", "templating", "time"} <= BOARD.keys()
    assert isinstance(BOARD["schemaVersion"], int)
    variables = {each["name"] for each in BOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)", json.dumps(BOARD))) - {"__all"}
    assert used == variables
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells = []
    for panel in PANELS:
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["title"]
        assert panel["targets"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        marks = [target["refId"] for target in panel["targets"]]
        assert len(set(marks)) == len(marks)
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= GRID
        cells += [
            (at["x"] + column, at["y"] + row) for column in range(at["w"]) for row in range(at["h"])
        ]
    assert len(set(cells)) == len(cells), "no panel lies on another"
