"""Where a manager's etcd is: its directories, its address, and the certificates it shows its peers.

Touches files of the state directory.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from meshnet.model.wellknown import PEER_PORT
from meshnet_control.api import control_pb2 as pb
from meshnet_control.etcd.arguments import Member, PeerTls
from meshnet_control.identity import ca, rotation
from meshnet_control.identity.identity import Identity
from meshnet_control.store.files import ETCD, ETCD_TLS

QUOTA_BYTES: Final = int(os.environ.get("MESHNET_ETCD_QUOTA_MIB", "2048")) * 1024**2
"""What etcd's database may grow to; etcd advises against more than 8 GiB."""
_PEM: Final = "peer.pem"
_ROOTS: Final = "roots.pem"


class EtcdPlace:
    """The place of one manager's etcd.

    Args:
        identity: of this manager, as it is now.
        state_dir: its data, and its certificates.
        run_dir: its socket.
    """

    def __init__(self, identity: Callable[[], Identity], state_dir: Path, run_dir: Path) -> None:
        self._identity = identity
        self.data, self._tls = state_dir / ETCD, state_dir / ETCD_TLS
        self._run_dir = run_dir / ETCD

    @property
    def peer(self) -> str:
        """``host:port``, as its peers reach it."""
        return f"{self._identity().advertise_addr.rpartition(':')[0]}:{PEER_PORT}"

    @property
    def roots(self) -> bytes:
        """Whom it trusts when it starts, PEM."""
        return (self._tls / _ROOTS).read_bytes()

    def certify(self, cluster: pb.Cluster | None = None) -> None:
        """Write what etcd shows its peers and whom it trusts; it reads the first at each handshake.

        Args:
            cluster: with the roots that are trusted; None: as before, or this node's root.
        """
        who = self._identity()
        self._tls.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(self._tls / _PEM, who.certs.certificate + who.certs.key)
        if cluster is not None:
            _write(self._tls / _ROOTS, rotation.trusted(cluster))
        elif not (self._tls / _ROOTS).exists():
            _write(self._tls / _ROOTS, who.certs.root)

    def member(self, peers: Mapping[str, str], *, joins: bool) -> Member:
        """What etcd is started as.

        Args:
            peers: name to ``host:port`` of the members, itself among them.
            joins: there are others already, or there is a log; False: the first of a new etcd.
        """
        who, pem = self._identity(), self._tls / _PEM
        return Member(
            name=who.node_id,
            data_dir=self.data,
            run_dir=self._run_dir,
            listen=_listening(self.peer, who.listen_addr.rpartition(":")[0]),
            advertise=self.peer,
            peers=peers,
            joins=joins,
            cluster=who.cluster_id,
            quota_bytes=QUOTA_BYTES,
            tls=PeerTls(pem, pem, self._tls / _ROOTS, ca.MANAGER_NAME),
        )


def _listening(peer: str, otherwise: str) -> str:
    """``host:port`` for etcd to listen on: where its peers reach it, if that is this host's.

    Not on every address: Debian's own etcd has the same port of 127.0.0.1.
    """
    host, _, port = peer.rpartition(":")
    try:
        with socket.socket() as tried:
            tried.bind((host, 0))
    except OSError:
        return f"{otherwise}:{port}"
    return peer


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, for root alone."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    fresh.replace(path)
