"""The CA service of a manager, and whom its port lets in.

```
 TLS handshake   trust = cluster root + anchors of the current tokens; a client certificate always
 each call       peer() ── node ──> its calls        join ──> CA.Issue alone
```

Be aware: a connection outlives the trust it was let in by. What a caller may do is asked at each
call, by the tokens of that moment.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Any, Literal, TypeAlias

import grpc
import grpc.aio

from meshnet import drops
from meshnet.errors import ControlError, SubnetTakenError
from meshnet.kernel import host
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.cluster import assignments
from meshnet_control.cluster.roles import is_manager
from meshnet_control.identity import ca, rotation, tokens
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.identity.join import INVALID_TOKEN
from meshnet_control.manager import validation
from meshnet_control.manager.tls_listener import Caller
from meshnet_control.store import store as st

_log = logging.getLogger(__name__)

AnyContext: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class Authority(control_pb2_grpc.CAServicer):
    """Issues certificates and tells who calls.

    Args:
        store: where nodes are made.
        certs: of this manager.
        callers: who is behind a connection, by the name that gRPC gives it.
        wall: unix seconds.
    """

    def __init__(
        self,
        store: st.Store,
        certs: Certificates,
        callers: Callable[[str], Caller | None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._certs, self._wall = store, certs, wall
        self._callers = callers
        self._cluster = pb.Cluster()
        self._anchors: dict[ca.Role, bytes] = {}
        self._secrets: dict[ca.Role, bytes] = {}
        self._roots = b""
        self.tls: ssl.SSLContext | None = None
        """For the next handshake; replaced whole when trust changes, there after ``follow``."""

    def follow(self, objects: assignments.Objects) -> None:
        """Take over the cluster's root and tokens as they are now."""
        cluster = objects.cluster
        if not cluster.ca_certificate or cluster == self._cluster:
            return
        self._cluster = cluster
        held: dict[ca.Role, bytes] = {}
        if cluster.join_tokens.worker:
            held["worker"] = tokens.parse(cluster.join_tokens.worker).secret
        if cluster.join_tokens.manager:
            held["manager"] = tokens.parse(cluster.join_tokens.manager).secret
        roots = rotation.trusted(cluster)
        if held != self._secrets or roots != self._roots or self.tls is None:
            self._secrets, self._roots = held, roots
            self._anchors = {r: ca.join_anchor(s, self._wall()) for r, s in held.items()}
            self._renew_trust()

    def certify(self, certs: Certificates) -> None:
        """This manager has a new certificate."""
        self._certs = certs
        self._renew_trust()

    def identify(self, leaf: bytes) -> ca.Peer | None:
        """Whose certificate (PEM) this is; None: nobody's whom this cluster knows now."""
        if not self._cluster.ca_certificate:
            return None
        return ca.peer(leaf, self._roots, self._anchors, self._cluster.id)

    def peer(self, context: AnyContext) -> ca.Peer | None:
        """Who is calling; None: nobody this cluster knows now."""
        caller = self._callers(context.peer())
        return self.identify(caller.leaf) if caller is not None else None

    def address(self, context: AnyContext) -> str:
        """The IPv4 address a call comes from; empty when it is none."""
        caller = self._callers(context.peer())
        return caller.address if caller is not None and ":" not in caller.address else ""

    async def node(self, context: AnyContext) -> str:
        """The calling node's id; any other caller's call ends here with PERMISSION_DENIED."""
        who = self.peer(context)
        if who is None or who.kind != "node":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "only nodes may call this")
        return who.node_id

    async def Issue(  # noqa: N802 - the service's name
        self, request: pb.IssueRequest, context: AnyContext
    ) -> pb.IssueReply:
        """A certificate: for a joiner as a new node, for a node as itself in its present role."""
        who = self.peer(context)
        if who is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, INVALID_TOKEN)
        try:
            validation.issue(request)
            if who.kind == "join":
                await self._clear_of_ingress((*request.routes, *request.routes6))
                node_id = ca.node_id_of(request.csr)
                addr = validation.address(request.addr or self.address(context))
                node = await self._admit(node_id, who.role, request, addr)
            else:
                found = await self._store.get(pb.Node, who.node_id)
                if found is None:
                    why = f"node {who.node_id} is not part of this cluster"
                    await context.abort(grpc.StatusCode.PERMISSION_DENIED, why)
                node = found
            return self._sign(node, request.csr, request.manager_addr or node.status.addr)
        except validation.InvalidError as error:
            drops.count("manager: request for a certificate that cannot be")
            _log.warning("request for a certificate from %s: %s", self.address(context), error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except ControlError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        except st.StoreError as error:  # another time, another manager
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def _clear_of_ingress(self, routes: Iterable[str]) -> None:
        """Refuse a host that would lose a route of its own to the ingress network.

        Raises:
            ControlError: it would, or a route cannot be read.
        """
        try:
            theirs = [(ip_network(to), dev) for to, _, dev in (r.partition(" ") for r in routes)]
        except ValueError as error:
            raise ControlError(f"routes: {error}") from None
        networks = [n for n in await self._store.list(pb.Network) if n.spec.ingress]
        for subnet in [c.subnet for n in networks for c in n.ipam_options.configs if c.subnet]:
            found = host.conflicting_route(ip_network(subnet), theirs)
            if found is not None:
                raise ControlError(str(SubnetTakenError(subnet, f"{found[0]} {found[1]}")))

    async def _admit(
        self, node_id: str, role: ca.Role, request: pb.IssueRequest, addr: str
    ) -> pb.Node:
        node = pb.Node(
            id=node_id,
            spec=pb.NodeSpec(role=role, availability=request.availability or "active"),
            description=request.description,
            status=pb.NodeStatus(
                state="unknown", addr=request.manager_addr or addr, data_path_addr=addr
            ),
        )
        root, issuer = self._cluster.ca_certificate, rotation.signer(self._cluster)[0]
        node.description.tls_info.CopyFrom(ca.tls_info(root, issuer))
        try:
            await self._store.commit([st.Put(node)], expect={(pb.Node, node_id): 0})
        except st.OutOfSequenceError:
            present = await self._store.get(pb.Node, node_id)
            if present is not None:
                return present  # the same request again: its answer was lost
            raise ControlError(f"node {node_id} was removed while it joined") from None
        return node

    def _sign(self, node: pb.Node, csr: bytes, addr: str) -> pb.IssueReply:
        role: Literal["worker", "manager"] = "manager" if is_manager(node) else "worker"
        cluster, expiry = self._cluster, self._cluster.spec.ca_config.node_cert_expiry
        root, key, crossed = rotation.signer(cluster)
        certificate = ca.issue(
            root,
            key,
            csr,
            node.id,
            role,
            cluster.id,
            self._wall(),
            timedelta(microseconds=expiry // 1000) if expiry else ca.NODE_LIFE,
            addr,
        )
        return pb.IssueReply(
            node_id=node.id,
            certificate=certificate + crossed,  # shown to those who trust the root before
            ca_certificate=cluster.ca_certificate,
            cluster_id=cluster.id,
            role=role,
            data_path_port=cluster.data_path_port,
        )

    def _renew_trust(self) -> None:
        # The root goes along with the leaf: a joiner looks for it by its digest.
        chain = self._certs.certificate + self._cluster.ca_certificate
        trusted = [self._roots, *self._anchors.values()]
        self.tls = server_context(self._certs.key + chain, b"".join(trusted))


def own_certificate(identity: Identity, cluster: pb.Cluster, now: float) -> Identity:
    """A manager with a certificate that others take, which it issues itself where it has none.

    It was off for longer than a certificate lives, comes from a backup, its clock was set, or it
    has a certificate of an earlier version, which does not name its address. PURE but for the key.

    Args:
        identity: of this manager.
        cluster: of its store.
        now: Unix seconds.
    """
    certs = identity.certs
    addr = identity.advertise_addr.partition(":")[0]
    named = not addr or addr in ca.addresses(certs.certificate)
    if not cluster.ca_key or (named and ca.in_force(certs.certificate, now)):
        return identity
    key, csr = ca.new_csr()
    expiry = cluster.spec.ca_config.node_cert_expiry
    life = timedelta(microseconds=expiry // 1000) if expiry else ca.NODE_LIFE
    root, root_key, crossed = rotation.signer(cluster)
    own = ca.issue(root, root_key, csr, identity.node_id, "manager", cluster.id, now, life, addr)
    fresh = Certificates(key=key, certificate=own + crossed, root=cluster.ca_certificate)
    return replace(identity, certs=fresh)


def server_context(key_and_chain: bytes, trusted: bytes) -> ssl.SSLContext:
    """A server's side of TLS 1.3 that demands a client certificate. PEM both."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a resumed session would be let in by the trust of its first day
    context.set_alpn_protocols(["h2"])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=trusted.decode())
    # OpenSSL takes a key from a file alone; this one is never on a disk.
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, key_and_chain)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
