"""What is counted and timed where it arises, for ``/metrics``: every one is declared here.

What a process knows at any moment (members, revisions, tasks) is not here: it is read when somebody
asks for it (``meshnet_control.metrics``). Only what has passed is, and nobody else counts it.

Be aware: counts last as long as the process, and each process has its own. Values of labels are
words that the code chose; none comes from a peer or a user.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which nobody asks for

NODE: Final = CollectorRegistry()
"""Of meshnetd."""
MANAGER: Final = CollectorRegistry()
"""Of meshnet-manager, which hands them to meshnetd as text: no name is in both."""

_ROUND_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 10)
_REQUEST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

round_seconds: Final = Histogram(
    "meshnet_reconciler_round_seconds",
    "Length of rounds of a reconciler; their number is the count of it.",
    ["reconciler"],
    registry=NODE,
    buckets=_ROUND_BUCKETS,
)
changes: Final = Counter(
    "meshnet_reconciler_changes",
    "Changes that a reconciler made, repairs among them.",
    ["reconciler"],
    registry=NODE,
)
errors: Final = Counter(
    "meshnet_reconciler_errors",
    "Rounds of a reconciler that failed, wholly or for some object.",
    ["reconciler"],
    registry=NODE,
)
repairs: Final = Counter(
    "meshnet_repairs",
    "Changes that put right what others had changed, by kind, as meshnet events names them.",
    ["reconciler", "kind"],
    registry=NODE,
)
_datagrams: Final = Counter(
    "meshnet_gossip_datagrams",
    "Datagrams of gossip.",
    ["direction"],
    registry=NODE,
)
_bytes: Final = Counter(
    "meshnet_gossip_bytes",
    "Bytes of the datagrams of gossip, without headers.",
    ["direction"],
    registry=NODE,
)
task_states: Final = Counter(
    "meshnet_task_states_reached",
    "How often tasks of this node reached a state: running is a start, failed a failure.",
    ["state"],
    registry=NODE,
)
request_seconds: Final = Histogram(
    "meshnet_api_request_seconds",
    "Seconds from a request of the Engine API that meshnet answers until its answer begins.",
    ["route", "method", "code"],
    registry=NODE,
    buckets=_REQUEST_BUCKETS,
)
commit_seconds: Final = Histogram(
    "meshnet_store_commit_seconds",
    "Length of commits to the cluster's store by this manager; result is written or refused.",
    ["result"],
    registry=MANAGER,
    buckets=_REQUEST_BUCKETS,
)
loop_turns: Final = Histogram(
    "meshnet_event_loop_lag_seconds",
    "Turns of meshnetd's event loop of 5 ms and more: whoever it serves waited that long.",
    registry=NODE,
    buckets=_REQUEST_BUCKETS[2:],
)
manager_loop_turns: Final = Histogram(
    "meshnet_manager_event_loop_lag_seconds",
    "Turns of meshnet-manager's event loop of 5 ms and more: whoever it serves waited that long.",
    registry=MANAGER,
    buckets=_REQUEST_BUCKETS[2:],
)

_RECEIVED: Final = (_datagrams.labels("received"), _bytes.labels("received"))
_SENT: Final = (_datagrams.labels("sent"), _bytes.labels("sent"))


def received(size: int) -> None:
    """A datagram of gossip came, ``size`` bytes."""
    _RECEIVED[0].inc()
    _RECEIVED[1].inc(size)


def sent(size: int) -> None:
    """A datagram of gossip was sent, ``size`` bytes."""
    _SENT[0].inc()
    _SENT[1].inc(size)


def text(registry: CollectorRegistry) -> bytes:
    """All of it in Prometheus' text format."""
    return generate_latest(registry)
