"""What the resolver counts. Read by ``status``; only grows."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Numbers since the process began.

    Attributes:
        queries: datagrams and TCP messages received, malformed ones included.
        hits: answered from packets made before.
        misses: parsed.
        tcp: those of ``queries`` that came by TCP.
        kept: answered with what an upstream had said before.
        forwarded: questions given to upstreams, or that waited for one that was on its way.
        upstream_answers: of those, answered by one.
        upstream_failures: of those, answered by none: SERVFAIL.
        dropped: reason -> queries that got no answer.
    """

    queries: int = 0
    hits: int = 0
    misses: int = 0
    tcp: int = 0
    kept: int = 0
    forwarded: int = 0
    upstream_answers: int = 0
    upstream_failures: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, number: int = 1) -> None:
        """Count ``number`` queries that get no answer."""
        self.dropped[reason] = self.dropped.get(reason, 0) + number

    def as_dict(self) -> dict[str, int | dict[str, int]]:
        """For the status message."""
        return {
            "queries": self.queries,
            "hits": self.hits,
            "misses": self.misses,
            "tcp": self.tcp,
            "kept": self.kept,
            "forwarded": self.forwarded,
            "upstream_answers": self.upstream_answers,
            "upstream_failures": self.upstream_failures,
            "dropped": dict(self.dropped),
        }
