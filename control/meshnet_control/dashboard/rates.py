"""What went from host to host and through each overlay, of counts that were read twice. Pure.

A link's numbers are those of the host that received: what was lost on the way never arrived.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from meshnet_control.api import explain_pb2 as xpb

LONGEST_S: Final = 30.0
"""Two readings further apart say nothing of now."""
_Counts: TypeAlias = tuple[int, ...]


def shown(before: xpb.AskReply, now: xpb.AskReply) -> dict[str, Any]:
    """Links and overlays with their rates.

    Args:
        before: the answers of all nodes, some seconds ago; none: nobody looked then.
        now: those of now.

    Returns:
        ``links``: by sender and receiver (ids), ``packets`` and ``bytes`` a second; ``overlays``:
        by name, the same of all hosts together. A node without a reading before has none.
    """
    had, has = _answers(before), _answers(now)
    links: list[Mapping[str, Any]] = []
    overlays: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for node, answer in sorted(has.items()):
        old = had.get(node)
        seconds = answer.at - old.at if old is not None else 0.0
        if old is None or not 0 < seconds <= LONGEST_S:
            continue
        there = {each.node: (each.packets, each.bytes) for each in old.links}
        for link in answer.links:
            packets, octets = _rates(there.get(link.node), (link.packets, link.bytes), seconds)
            links.append({"from": link.node, "to": node, "packets": packets, "bytes": octets})
        through = {each.network: (each.sent_packets, each.sent_bytes) for each in old.overlays}
        for overlay in answer.overlays:
            counts = (overlay.sent_packets, overlay.sent_bytes)
            found = _rates(through.get(overlay.network), counts, seconds)
            overlays[overlay.network] = [
                sum(pair) for pair in zip(overlays[overlay.network], found, strict=True)
            ]
    return {
        "links": links,
        "overlays": [
            {"name": name, "packets": round(packets, 1), "bytes": round(octets, 1)}
            for name, (packets, octets) in sorted(overlays.items())
        ],
    }


def _answers(reply: xpb.AskReply) -> dict[str, xpb.TrafficAnswer]:
    return {
        each.node_id: each.answer.traffic
        for each in reply.answers
        if each.answer.WhichOneof("about") == "traffic"
    }


def _rates(before: _Counts | None, now: _Counts, seconds: float) -> Iterable[float]:
    """A second; a count that is smaller than before began anew, and is all new."""
    anew = before is None or any(n < b for n, b in zip(now, before, strict=True))
    base = (0,) * len(now) if anew or before is None else before
    return [round((n - b) / seconds, 1) for n, b in zip(now, base, strict=True)]
