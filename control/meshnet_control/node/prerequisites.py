"""What a host must have for a node to be on it: ports that no other program holds, and etcd."""

from __future__ import annotations

import socket
from typing import Final

from meshnet.errors import ControlError
from meshnet.model.wellknown import GOSSIP_PORT, VXLAN_PORT
from meshnet_control.cluster.roles import MANAGER
from meshnet_control.etcd.program import etcd_missing, etcd_program
from meshnet_control.identity.identity import Identity

_ANY: Final = "0.0.0.0"  # noqa: S104 - overlays and gossip come in on every address, as in Swarm

Port = tuple[str, str, int]
"""tcp or udp, address, number."""
GOSSIP: Final[tuple[Port, ...]] = (("tcp", _ANY, GOSSIP_PORT), ("udp", _ANY, GOSSIP_PORT))


def vxlan(port: int) -> Port:
    """The port of overlays; 0: the usual one."""
    return "udp", _ANY, port or VXLAN_PORT


def need_ports(*wanted: Port) -> None:
    """Refuse when another program holds a port of ours, before anything is begun.

    Raises:
        ControlError: the first port that is taken, in Docker's words.
    """
    for kind, address, port in wanted:
        trial_kind = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, trial_kind) as trial:
            if kind == "tcp":  # connections of an earlier life do not hold the port
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((address, port))
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                use = _use((kind, address, port))
                raise ControlError(
                    f"listen {kind} {address}:{port}: bind: {reason}{use}", 500
                ) from error


def need_for(who: Identity) -> None:
    """Refuse when this host lacks what a node of this role needs, beside gossip's ports.

    Raises:
        ControlError: etcd is missing, or a port is taken.
    """
    need_ports(vxlan(who.data_path_port))
    if who.role != MANAGER:
        return
    if etcd_program() is None:
        raise ControlError(f"a manager beside others needs etcd: {etcd_missing()}", 500)
    host, _, port = who.listen_addr.rpartition(":")
    need_ports(("tcp", host, int(port)))


def _use(port: Port) -> str:
    if port in GOSSIP:
        return " (gossip needs this port)"
    return " (VXLAN needs this port)" if port[0] == "udp" else ""
