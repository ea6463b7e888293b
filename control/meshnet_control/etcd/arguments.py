"""The arguments etcd is started with. Pure.

Clients reach it by a unix socket in its run directory alone; only the peers' port is open. etcd
names such a socket after a host and port that mean nothing: ``unix://etcd:0`` is the file
``etcd:0`` in the working directory, ``unix:///path`` is refused (etcd v3.4 pkg/types/urls.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOCKET: Final = "etcd:0"
TXN_OPERATIONS: Final = 8192
"""In one transaction. etcd's own bound is 128."""
REQUEST_BYTES: Final = 2 * 1024 * 1024
"""Of one request. etcd's own bound is 1.5 MiB; its log cannot be read with entries of 10 MiB."""
KEPT_REVISIONS: Final = 10_000
"""A watch that is further behind reads everything again."""
QUOTA_BYTES: Final = 2 * 1024**3
"""What the database's file may grow to. etcd advises against more than 8 GiB."""
HEARTBEAT_MS: Final = 100
ELECTION_MS: Final = 800
"""A dead leader is followed after one to two of these; a leader that stalls for as long loses."""
SNAPSHOT_COUNT: Final = 10_000
"""Log entries kept in memory before a snapshot; etcd's own 100 000 cost 100 MB and more."""


@dataclass(frozen=True)
class PeerTls:
    """The files with which members show who they are; read again at each handshake."""

    certificate: Path
    key: Path
    authority: Path
    """Certificates of the authorities that are trusted."""
    name: str
    """A DNS name that the certificates of members have, and no other of these authorities has: a
    worker's certificate is not enough. They also need the host of their URL, and both usages."""


@dataclass(frozen=True)
class Member:
    """One member, and how it starts."""

    name: str
    """In the cluster: the node's id."""
    data_dir: Path
    run_dir: Path
    """For its socket."""
    listen: str
    """Host and port its peers reach it on, as it binds them: ``10.0.0.1:2380``."""
    advertise: str
    """The same as its peers say it."""
    peers: Mapping[str, str]
    """Name to host and port of every member there is when it first starts, itself among them."""
    joins: bool = False
    """Into a cluster that exists; only counts when the data directory is empty."""
    cluster: str = "meshnet"
    """Its name: members with another one are strangers."""
    tls: PeerTls | None = None
    """None: peers speak in the clear; for tests on loopback."""
    quota_bytes: int = QUOTA_BYTES
    """See there."""
    alone_from_now: bool = False
    """Forget every other member (``--force-new-cluster``); for one start only."""

    @property
    def target(self) -> str:
        """Its socket, as gRPC names it."""
        return f"unix:{self.run_dir / SOCKET}"

    def url(self, host_port: str) -> str:
        """A peer's URL."""
        return f"{'http' if self.tls is None else 'https'}://{host_port}"


def arguments(member: Member) -> list[str]:
    """What follows ``etcd`` on its command line."""
    given = {
        "name": member.name,
        "data-dir": str(member.data_dir),
        "listen-client-urls": f"unix://{SOCKET}",
        "advertise-client-urls": f"unix://{SOCKET}",
        "listen-peer-urls": member.url(member.listen),
        "initial-advertise-peer-urls": member.url(member.advertise),
        "initial-cluster": ",".join(
            f"{name}={member.url(where)}" for name, where in sorted(member.peers.items())
        ),
        "initial-cluster-state": "existing" if member.joins else "new",
        "initial-cluster-token": member.cluster,
        "heartbeat-interval": str(HEARTBEAT_MS),
        "election-timeout": str(ELECTION_MS),
        "pre-vote": "true",
        "auto-compaction-mode": "revision",
        "auto-compaction-retention": str(KEPT_REVISIONS),
        "quota-backend-bytes": str(member.quota_bytes),
        "snapshot-count": str(SNAPSHOT_COUNT),
        "max-txn-ops": str(TXN_OPERATIONS),
        "max-request-bytes": str(REQUEST_BYTES),
        "logger": "zap",
        "log-outputs": "stderr",
        "log-level": "warn",
    }
    if member.tls is not None:
        given |= {
            "peer-client-cert-auth": "true",
            "peer-cert-file": str(member.tls.certificate),
            "peer-key-file": str(member.tls.key),
            "peer-trusted-ca-file": str(member.tls.authority),
            "peer-cert-allowed-hostname": member.tls.name,
            # A peer's address may be another than its certificate's: it comes by another way.
            "experimental-peer-skip-client-san-verification": "true",
        }
    if member.alone_from_now:
        given["force-new-cluster"] = "true"
    return [f"--{name}={value}" for name, value in given.items()]
