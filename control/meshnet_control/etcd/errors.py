"""What etcd answers when it does not do what was asked, told apart by what a caller can do.

Pure. Codes and texts: etcd v3.4 etcdserver/api/v3rpc/rpctypes/error.go.
"""

from __future__ import annotations

from typing import Final

from meshnet.errors import MeshnetError

NOT_SENT: Final = (
    "etcdserver: no leader",
    "etcdserver: too many requests",
    "etcdserver: not capable",
    "failed to connect to all addresses",
    "connections to all backends failing",
    "etcdserver: unhealthy cluster",
)
"""UNAVAILABLE of these kinds says that the request was never proposed."""

TOO_LARGE: Final = ("too many operations", "request is too large", "message larger than max")
"""The last is its gRPC server's word, for what is half a MiB larger still."""

NO_LEASE: Final = "etcdserver: requested lease not found"


class EtcdError(MeshnetError):
    """etcd refused a request; ``code`` is gRPC's name for why, ``details`` etcd's sentence."""

    def __init__(self, call: str, code: str, details: str) -> None:
        self.call = call
        self.code = code
        self.details = details
        super().__init__(f"etcd {call}: {details or code}")


class EtcdUnavailableError(EtcdError):
    """No answer: etcd is away, has no leader, or took too long.

    Attributes:
        uncertain: whether the request may have been, or may yet be, carried out.
    """

    def __init__(self, call: str, code: str, details: str) -> None:
        super().__init__(call, code, details)
        self.uncertain = not any(text in details for text in NOT_SENT)
        self.leaderless = "no leader" in details or "leader failure" in details


class EtcdFullError(EtcdError):
    """Its database reached the quota: nothing is written until there is room (NOSPACE)."""


class EtcdTooLargeError(EtcdError):
    """One request has more operations or bytes than etcd takes."""


class EtcdNoLeaseError(EtcdError):
    """The lease is over, or never was."""


class EtcdCompactedError(EtcdError):
    """The revision that was asked for is not kept any more.

    Attributes:
        revision: the oldest one that is; 0 when etcd did not say.
    """

    def __init__(self, call: str, details: str, revision: int = 0) -> None:
        super().__init__(call, "OUT_OF_RANGE", details)
        self.revision = revision


_KINDS: Final[tuple[tuple[str, type[EtcdError]], ...]] = (
    ("database space exceeded", EtcdFullError),
    ("too many requests", EtcdUnavailableError),
    (NO_LEASE, EtcdNoLeaseError),
    *((text, EtcdTooLargeError) for text in TOO_LARGE),
)


def typed(call: str, code: str, details: str) -> EtcdError:
    """The error for a gRPC status.

    Args:
        call: what was asked, e.g. ``KV/Txn``.
        code: gRPC's name of the status, e.g. ``UNAVAILABLE``.
        details: etcd's sentence.
    """
    if code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL"}:
        return EtcdUnavailableError(call, code, details)
    if "has been compacted" in details:
        return EtcdCompactedError(call, details)
    kind = next((kind for text, kind in _KINDS if text in details), EtcdError)
    return kind(call, code, details)
