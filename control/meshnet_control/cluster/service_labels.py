"""What a service's labels ask of meshnet beyond Swarm, and how it is balanced by them. Pure.

    meshnet.lb=rr                    the next backend (unless said)
    meshnet.lb=random                any
    meshnet.lb=source-hash           the same one for the same client
    meshnet.lb=sticky[:SECONDS]      the one that the client had last
    meshnet.lb=weighted              in turn, as often as the host of each weighs
    meshnet.lb=nearest               those of the node that is asked, if it has any
    meshnet.lb.weights=HOST=3,HOST2=0     of weighted; a host that is not named has its node's
                                          label meshnet.weight=WEIGHT, or 1
    meshnet.drain=SECONDS            how long a task that is to stop waits for its connections

A label of this name that means nothing is refused, as nothing else would tell a user that it does
nothing.

Be aware: every label of a service that anything here reads must be in :data:`KNOWN`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final, cast

from meshnet.errors import ControlError
from meshnet.model.policy import ROUND_ROBIN, STICKY_S, Kind, Policy
from meshnet_control.cluster import privileges

LB: Final = "meshnet.lb"
WEIGHTS: Final = "meshnet.lb.weights"
NODE_WEIGHT: Final = "meshnet.weight"
"""Of a node."""
PROXY_PROTOCOL: Final = "meshnet.proxy-protocol"
DRAIN: Final = "meshnet.drain"
PREFIX: Final = "meshnet."
KNOWN: Final = privileges.LABELS | {LB, WEIGHTS, PROXY_PROTOCOL, DRAIN, "meshnet.engine-socket"}
"""Every label of a service that says something to us."""
KINDS: Final = ("rr", "random", "source-hash", "sticky", "weighted", "nearest")
MOST_WEIGHT: Final = 100
MOST_STICKY_S: Final = 30 * 24 * 3600
MOST_DRAIN_S: Final = 24 * 3600
_DIGITS: Final = 7
NO_PROXY_PROTOCOL: Final = (
    f"{PROXY_PROTOCOL} cannot be done: packets go to the task without a proxy that could write a "
    "header, and the task sees the client's own address anyway: leave the label out"
)


def check(labels: Mapping[str, str], endpoint_mode: str = "vip") -> None:
    """Refuse what means nothing.

    Args:
        labels: of a service.
        endpoint_mode: of the service; of ``dnsrr`` clients choose by themselves.

    Raises:
        ControlError: a label with our prefix that is none of ours, or one whose value is wrong.
    """
    for name in sorted(labels):
        if name.startswith(PREFIX) and name not in KNOWN:
            raise ControlError(f"unknown label {name}{_meant(name, KNOWN)}")
    if PROXY_PROTOCOL in labels:
        raise ControlError(NO_PROXY_PROTOCOL)
    drain_s(labels)
    asked = policy(labels.get(LB, ""), labels.get(WEIGHTS, ""))
    if endpoint_mode == "dnsrr" and asked != ROUND_ROBIN:
        raise ControlError(
            f"{LB}={asked.kind} needs a virtual IP: with endpoint mode dnsrr clients choose among"
            " the addresses by themselves"
        )


def policy(said: str, weights: str) -> Policy:
    """How a service is balanced.

    Args:
        said: the value of ``meshnet.lb``; "": there is none.
        weights: that of ``meshnet.lb.weights``.

    Raises:
        ControlError: one of them means nothing, or they do not go together.
    """
    kind, colon, seconds = said.partition(":")
    if said and kind not in KINDS:
        raise ControlError(
            f"invalid {LB} {said!r}: must be {', '.join(KINDS[:-1])} or {KINDS[-1]}"
            f"{_meant(kind, KINDS)}"
        )
    if colon and kind != "sticky":
        raise ControlError(f"invalid {LB} {said!r}: only sticky has seconds")
    if weights and kind != "weighted":
        raise ControlError(f"{WEIGHTS} needs {LB}=weighted")
    if not said:
        return ROUND_ROBIN
    known = cast("Kind", kind)
    if kind == "sticky":
        return Policy(known, sticky_s=_seconds(said, seconds) if colon else STICKY_S)
    return Policy(known, weights=tuple(sorted(_weights(weights).items())))


def drain_s(labels: Mapping[str, str]) -> int | None:
    """How long a task that is to stop waits for its connections to end, seconds.

    Args:
        labels: of its service.

    Returns:
        0: not at all; None: nothing is said of it.

    Raises:
        ControlError: what is said means nothing.
    """
    said = labels.get(DRAIN)
    if said is None:
        return None
    number = _number(said)
    if not 0 <= number <= MOST_DRAIN_S:
        raise ControlError(
            f"invalid {DRAIN} {said!r}: must be seconds, 1 to {MOST_DRAIN_S}, or 0: not to wait"
        )
    return number


def node_weight(labels: Mapping[str, str]) -> int | None:
    """What tasks of a node weigh, for services that are weighted and do not name its host.

    Args:
        labels: of a node.

    Returns:
        None: nothing is said of it.

    Raises:
        ControlError: what is said means nothing.
    """
    said = labels.get(NODE_WEIGHT)
    if said is None:
        return None
    number = _number(said)
    if not 0 <= number <= MOST_WEIGHT:
        raise ControlError(f"invalid {NODE_WEIGHT} {said!r}: must be 0 to {MOST_WEIGHT}")
    return number


def _seconds(said: str, seconds: str) -> int:
    number = _number(seconds)
    if not 0 < number <= MOST_STICKY_S:
        raise ControlError(f"invalid {LB} {said!r}: must be sticky:1 to sticky:{MOST_STICKY_S}")
    return number


def _weights(said: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in filter(None, said.split(",")):
        host, equals, weight = each.partition("=")
        number = _number(weight)
        if not host or not equals or not 0 <= number <= MOST_WEIGHT:
            raise ControlError(
                f"invalid {WEIGHTS} {each!r}: must be HOST=WEIGHT, of 0 to {MOST_WEIGHT}"
            )
        if host in found:
            raise ControlError(f"invalid {WEIGHTS}: {host} is named twice")
        found[host] = number
    return found


def _number(text: str) -> int:
    """-1: it is none."""
    digits = text.isascii() and text.isdigit() and len(text) <= _DIGITS
    return int(text) if digits else -1


def _meant(said: str, known: Iterable[str]) -> str:
    near = get_close_matches(said, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
