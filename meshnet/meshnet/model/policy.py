"""How a service's new connections are spread over its backends, as its labels ask: values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["rr", "random", "source-hash", "sticky", "weighted", "nearest"]
STICKY_S: Final = 10_800
"""How long a client is remembered unless its service says: three hours, as kube-proxy does."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What ``meshnet.lb`` and ``meshnet.lb.weights`` say.

    Attributes:
        kind: the way a backend is chosen.
        sticky_s: of ``sticky``: seconds from a client's last new connection until it is forgotten.
        weights: of ``weighted``: host name -> weight of the tasks there, ascending by name; a host
            that is not named has what its node says (``Node.weight``), or 1.
    """

    kind: Kind = "rr"
    sticky_s: int = 0
    weights: tuple[tuple[str, int], ...] = ()

    @property
    def by_place(self) -> bool:
        """Whether it matters on which node a backend is."""
        return self.kind in {"nearest", "weighted"}

    def __str__(self) -> str:
        """A few words for a person."""
        if self.kind == "sticky":
            return f"sticky, {self.sticky_s} s"
        if self.kind == "weighted":
            said = ", ".join(f"{host} {weight}" for host, weight in self.weights)
            return f"weighted: {said or 'as nodes say'}"
        return self.kind


ROUND_ROBIN: Final = Policy()
"""Of a service that says nothing: strictly in turn."""
