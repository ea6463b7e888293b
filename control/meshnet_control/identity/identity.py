"""Who this node is: its certificates and addresses, kept in the state directory.

```
 node.pem    certificate and private key      state.json  ids, role, addresses, managers
 ca.crt      the cluster's root               gossip.key  what it signs gossip with   all 0600
```

Be aware: state.json is written last and says that the node is in a cluster; a directory without it
holds no identity, whatever else a crash left there. A replacement is atomic per file only, so a
certificate and its key are one file: a crash during a renewal leaves a pair that fits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from meshnet.gossip.signing import SEED_BYTES
from meshnet.process.durable import sync_directory
from meshnet_control.api import control_pb2 as pb

_STATE: Final = "state.json"
_GOSSIP_KEY: Final = "gossip.key"
_FILES: Final = (_STATE, "node.pem", "ca.crt", _GOSSIP_KEY)
ALREADY_IN_SWARM: Final = (
    'This node is already part of a swarm. Use "docker swarm leave" '
    "to leave this swarm and join another one."
)
"""A node has one identity at a time."""


_ANY: Final = "0.0.0.0"  # noqa: S104 - a value, nothing is bound


@dataclass(frozen=True)
class Certificates:
    """A node's key, its certificate and the root that signed it; PEM."""

    key: bytes = field(repr=False)
    certificate: bytes
    root: bytes


@dataclass(frozen=True)
class Identity:
    """One node of one cluster. Addresses are ``host:port`` where they have a port."""

    node_id: str
    cluster_id: str
    role: Literal["worker", "manager"]
    certs: Certificates
    managers: tuple[str, ...] = ()
    """Where managers listen, ``host:port``; the last known ones."""
    advertise_addr: str = ""
    """``host:port`` other nodes reach this one at."""
    listen_addr: str = ""
    data_path_addr: str = ""
    """Underlay address of the VXLAN endpoint, without a port."""
    data_path_port: int = 0
    """Of VXLAN; 0, in a state of before: 4789."""
    availability: str = "active"
    gossip_key: bytes = field(default=b"", repr=False)
    """Seed of the key that it signs gossip with, 32 bytes; empty, in a state of before, or where
    the file is lost or damaged: it makes one, and tells the managers."""

    def way_to(self, remote: str) -> str:
        """Where a manager is asked from here, ``host:port``; its own one on this host.

        What this node advertises may not lead back to it: 127.0.0.1 beside a narrower
        ``--listen-addr``, or an address of a router before it.
        """
        if self.role != "manager" or remote != self.advertise_addr or not self.listen_addr:
            return remote
        host, _, port = self.listen_addr.rpartition(":")
        return f"{'127.0.0.1' if host == _ANY else host}:{port}"


def exists(state_dir: Path) -> bool:
    """Whether this node is in a cluster, by its state directory."""
    return (state_dir / _STATE).exists()


def load(state_dir: Path) -> Identity | None:
    """The identity in a state directory; None when this node is in no cluster.

    Raises:
        OSError: a file is there and cannot be read.
        ValueError: state.json is not what ``save`` writes.
    """
    try:
        state = json.loads((state_dir / _STATE).read_text())
    except FileNotFoundError:
        return None
    certificate, key = _split((state_dir / "node.pem").read_bytes())
    root = (state_dir / "ca.crt").read_bytes()
    seed = _read(state_dir / _GOSSIP_KEY)
    try:
        return Identity(
            certs=Certificates(key=key, certificate=certificate, root=root),
            gossip_key=seed if len(seed) == SEED_BYTES else b"",
            **{**state, "managers": tuple(state["managers"])},
        )
    except (TypeError, KeyError) as error:
        raise ValueError(f"{state_dir / _STATE}: {error}") from error


def save(state_dir: Path, identity: Identity) -> None:
    """Write an identity, each file atomically and for root alone.

    Raises:
        OSError: the directory cannot be written.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = asdict(identity)
    del state["certs"], state["gossip_key"]
    if identity.gossip_key:
        _write(state_dir / _GOSSIP_KEY, identity.gossip_key)
    _write(state_dir / "ca.crt", identity.certs.root)
    _write(state_dir / "node.pem", identity.certs.certificate + identity.certs.key)
    _write(state_dir / _STATE, json.dumps(state, indent=1).encode() + b"\n")
    sync_directory(state_dir)


def wipe(state_dir: Path) -> None:
    """Remove the identity; state.json first, so that a crash half-way leaves none."""
    for name in _FILES:
        (state_dir / name).unlink(missing_ok=True)


def remotes(managers: Iterable[pb.RemoteManager]) -> tuple[str, ...]:
    """The addresses in a list of managers, those without one left out."""
    return tuple(manager.addr for manager in managers if manager.addr)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _split(pem: bytes) -> tuple[bytes, bytes]:
    mark = pem.find(b"-----BEGIN PRIVATE KEY-----")
    if mark < 0:
        raise ValueError("node.pem holds no private key")
    return pem[:mark], pem[mark:]


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
