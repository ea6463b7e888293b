"""Facts in Prometheus' words: names, units and labels of what is read at a scrape. Pure.

Names are its convention's: ``meshnet_``, the unit, ``_total`` for what only grows. The values of
labels are few: words of ours, and names of services, ``MOST_SERVICES`` of them at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshnet import measures
from meshnet.gossip.members import State
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.explain import balancing
from meshnet_control.metrics.facts import NO_WAY, Facts

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MOST_SERVICES: Final = 500
"""With a label of their own, as networks; those after them by name are one, ``OTHERS``."""
OTHERS: Final = "(others)"
"""No service can be called that."""
MOST_REASONS: Final = 64
"""Of the resolver's drops."""
MEMBERS: Final = (*(state.value for state in State), NO_WAY)
BACKENDS: Final = (
    balancing.READY,
    balancing.DRAINING,
    balancing.NOT_READY,
    balancing.HOST_SILENT,
    balancing.HOST_DOUBTED,
    balancing.HOST_DOWN,
)


def text(facts: Facts) -> bytes:
    """Everything of this node, and of its meshnet-manager, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Read(facts))
    said = facts.manager.metrics if facts.manager is not None else b""
    return measures.text(registry) + measures.text(measures.NODE) + said


def families(facts: Facts) -> Iterator[Metric]:
    """What was read, each metric once."""
    node = {"node_id": facts.node_id, "hostname": facts.hostname}
    yield _one("meshnet_node_info", "This node.", node | {"role": facts.role})
    yield _one("meshnet_build_info", "The version that runs.", {"version": facts.version})
    yield _gauge(
        "meshnet_part_up",
        "Whether a part of this node could be read at this scrape.",
        "part",
        facts.parts,
    )
    yield _drops(facts.dropped)
    if facts.resolver is not None:
        yield from _resolver(facts.resolver)
    if facts.node_id:
        yield _gauge(
            "meshnet_gossip_members",
            "Other nodes that gossip knows, by their state as seen from here.",
            "state",
            dict.fromkeys(MEMBERS, 0) | dict(facts.members),
        )
        yield _gauge("meshnet_tasks", "Tasks of this node by state.", "state", facts.tasks)
        yield from _reconcilers(facts)
        yield _networks(facts.networks)
    if facts.services is not None:
        yield from _services(facts.services)
    if facts.manager is not None:
        yield from _manager(facts.manager.process, leads=facts.manager.leads)


class _Read(Collector):
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def collect(self) -> Iterable[Metric]:
        return families(self._facts)


def _one(name: str, words: str, labels: Mapping[str, str]) -> Metric:
    made = GaugeMetricFamily(name, words, labels=list(labels))
    made.add_metric(list(labels.values()), 1)
    return made


def _value(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _gauge(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    made = GaugeMetricFamily(name, words, labels=[label])
    for word, value in sorted(values.items()):
        made.add_metric([word], value)
    return made


def _counter(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    made = CounterMetricFamily(name, words, labels=[label])
    for word, value in sorted(values.items()):
        made.add_metric([word], value)
    return made


def _drops(dropped: Mapping[str, Mapping[str, int]]) -> Metric:
    made = CounterMetricFamily(
        "meshnet_dropped",
        "What others sent and was thrown away, by who was refused and why.",
        labels=["process", "part", "reason"],
    )
    for process, reasons in sorted(dropped.items()):
        for reason, times in sorted(reasons.items()):
            part, colon, why = reason.partition(": ")
            made.add_metric([process, part if colon else "", why if colon else reason], times)
    return made


def _resolver(counted: Mapping[str, object]) -> Iterator[Metric]:
    def number(name: str) -> int:
        value = counted.get(name, 0)
        return value if isinstance(value, int) else 0

    tcp = number("tcp")
    yield _counter(
        "meshnet_dns_queries",
        "Queries of containers that the resolver received.",
        "protocol",
        {"tcp": tcp, "udp": number("queries") - tcp},
    )
    yield _counter(
        "meshnet_dns_lookups",
        "How it came to an answer: remembered from before, or looked up.",
        "kind",
        {"remembered": number("hits"), "looked_up": number("misses")},
    )
    yield CounterMetricFamily(
        "meshnet_dns_kept_answers",
        "Questions that were answered with what an upstream had said before.",
        value=number("kept"),
    )
    yield CounterMetricFamily(
        "meshnet_dns_forwarded",
        "Questions that no network of ours could answer, given to upstreams.",
        value=number("forwarded"),
    )
    yield _counter(
        "meshnet_dns_upstream_answers",
        "Of those, what came of them.",
        "result",
        {"answered": number("upstream_answers"), "failed": number("upstream_failures")},
    )
    dropped = counted.get("dropped", {})
    reasons: Counter[str] = Counter()
    for position, (reason, times) in enumerate(
        sorted(dropped.items()) if isinstance(dropped, Mapping) else ()
    ):
        reasons[str(reason) if position < MOST_REASONS else OTHERS] += int(times)
    yield _counter("meshnet_dns_dropped", "Queries that got no answer.", "reason", reasons)


def _reconcilers(facts: Facts) -> Iterator[Metric]:
    every = facts.reconcilers
    yield _gauge(
        "meshnet_reconciler_revision",
        "Newest state of the cluster that is applied without error.",
        "reconciler",
        {each.name: each.revision for each in every},
    )
    yield _gauge(
        "meshnet_reconciler_last_round_timestamp_seconds",
        "When its last round ended, Unix time.",
        "reconciler",
        {each.name: each.last_round for each in every},
    )
    yield _gauge(
        "meshnet_reconciler_failing",
        "Whether something failed in its last round.",
        "reconciler",
        {each.name: bool(each.error) for each in every},
    )


def _networks(known: Iterable[tuple[str, int, int]]) -> Metric:
    """A network has no more addresses than its subnets, and a task that gets none waits."""
    numbers: Counter[tuple[str, str]] = Counter()
    for position, (name, used, most) in enumerate(sorted(known)):
        label = name if position < MOST_SERVICES else OTHERS
        numbers[label, "used"] += used
        numbers[label, "all"] += most
    made = GaugeMetricFamily(
        "meshnet_network_addresses",
        "Addresses of the networks that this node is on: in use as it knows, and all.",
        labels=["network", "state"],
    )
    for (label, state), number in numbers.items():
        made.add_metric([label, state], number)
    return made


def _services(said: xpb.BalancingAnswer) -> Iterator[Metric]:
    """By conntrack's words of this node, which forgets: none of them only grows."""
    backends: Counter[tuple[str, str]] = Counter()
    numbers: dict[str, xpb.Counters] = {}
    for position, service in enumerate(said.services):
        name = service.name if position < MOST_SERVICES else OTHERS
        whole = balancing.total(service)
        known = numbers.setdefault(name, xpb.Counters())
        for each in ("open", "connections", "packets", "bytes"):
            setattr(known, each, getattr(known, each) + getattr(whole, each))
        for state in BACKENDS:
            backends[name, state] += 0
        for backend in service.backends:
            backends[name, backend.state] += 1
    there = GaugeMetricFamily(
        "meshnet_service_backends",
        "Tasks behind a service's VIP and ports, by state as this node sees them.",
        labels=["service", "state"],
    )
    for (name, state), number in backends.items():
        there.add_metric([name, state.replace(" ", "_")], number)
    yield there
    for suffix, each, words in (
        ("open_connections", "open", "Connections led from here that have not ended."),
        ("connections", "connections", "Connections led from here that the kernel remembers."),
        ("packets", "packets", "Packets of those, both ways."),
        ("bytes", "bytes", "Bytes of those, both ways."),
    ):
        yield _gauge(
            f"meshnet_service_{suffix}",
            words,
            "service",
            {name: getattr(counters, each) for name, counters in numbers.items()},
        )


def _manager(said: pb.ManagerProcess, *, leads: bool) -> Iterator[Metric]:
    yield _value("meshnet_manager_up", "Whether meshnet-manager serves.", not said.error)
    if said.error:
        return
    yield _value("meshnet_manager_leader", "Whether this manager leads.", leads)
    yield _value("meshnet_manager_sessions", "Nodes connected to this manager.", said.sessions)
    yield _value("meshnet_manager_memory_bytes", "Resident memory of it.", said.memory_bytes)
    yield _value("meshnet_store_revision", "Of the cluster's store.", said.revision)
    if said.HasField("etcd") and not said.etcd.error:
        etcd = said.etcd
        yield _value("meshnet_etcd_voters", "Members that vote.", etcd.voters)
        yield _value("meshnet_etcd_has_leader", "Whether it knows a leader.", bool(etcd.part))
        yield _value("meshnet_etcd_memory_bytes", "Resident memory of it.", etcd.memory_bytes)
        yield _value("meshnet_etcd_database_bytes", "Size of its database.", etcd.database_bytes)
        yield _value("meshnet_etcd_used_bytes", "Of that, what is not free.", etcd.used_bytes)
