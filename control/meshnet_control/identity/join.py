"""How a machine becomes a node: check the manager, prove the token, receive a certificate.

```
 probe   TLS with a join leaf ──> chain of the manager     pinned root in it? else: fingerprint
         first byte or a refusal ──> token valid?          else: valid token necessary
 issue   gRPC CA.Issue, trusting the pinned root alone ──> certificate
```

Be aware: the probe trusts nothing it receives; it only compares digests. Under TLS 1.3 a server
judges the client's certificate after the client has finished, so a refusal is only seen by reading.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from meshnet.errors import ControlError
from meshnet.gossip.signing import SEED_BYTES, Signer
from meshnet.model.families import FAMILIES, IpNetwork
from meshnet.model.wellknown import CONTROL_PORT, LARGEST_PORT, VXLAN_PORT
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.identity import ca, tokens
from meshnet_control.identity.channel import CallEndedError, call_ends, channel
from meshnet_control.identity.identity import Certificates, Identity

JOIN_S: Final = 20.0
"""Time for all of it (moby cluster/cluster.go swarmConnectTimeout)."""
INVALID_TOKEN: Final = "A valid join token is necessary to join this cluster"  # noqa: S105 - a sentence
INVALID: Final = f"rpc error: code = InvalidArgument desc = {INVALID_TOKEN}"
T = TypeVar("T")


async def join(
    token: str,
    remotes: Sequence[str],
    description: pb.NodeDescription,
    *,
    listen_addr: str = "",
    advertise_addr: str = "",
    data_path_addr: str = "",
    availability: str = "active",
    routes: Sequence[tuple[IpNetwork, str]] = (),
    timeout_s: float = JOIN_S,
) -> Identity:
    """Become a node of the cluster behind ``remotes``; nothing is written to disk.

    Args:
        token: join token.
        remotes: managers, ``host[:port]``, tried in turn.
        description: what the node says of itself.
        listen_addr: kept in the identity, as are the other addresses.
        advertise_addr: of this node.
        data_path_addr: of this node.
        availability: active, pause or drain, from the first moment.
        routes: of this host, (destination, link); the cluster's ingress network must overlap none.
        timeout_s: for the whole.

    Raises:
        ControlError: one sentence why not: the token, the fingerprint, the connection or the time.
    """
    parsed = tokens.parse(token)
    if not remotes:
        raise ControlError("at least 1 RemoteAddr is required to join")
    addr = (data_path_addr or advertise_addr).partition(":")[0]
    gossip_key = secrets.token_bytes(SEED_BYTES)
    described = pb.NodeDescription()
    described.CopyFrom(description)
    described.gossip_key = Signer(gossip_key).public  # the others know it before they meet
    request = pb.IssueRequest(
        availability=availability,
        description=described,
        addr=addr,
        manager_addr=advertise_addr.partition(":")[0],
        routes=[f"{to} dev {link}" for to, link in routes if to.version == FAMILIES[0]],
        routes6=[f"{to} dev {link}" for to, link in routes if to.version == FAMILIES[1]],
    )
    last = ControlError(f"Timeout was reached before node joined: no answer from {remotes[0]}", 503)
    share_s = timeout_s / len(remotes)  # a silent manager leaves time for the others
    try:
        async with asyncio.timeout(timeout_s):
            for remote in map(_with_port, remotes):
                try:
                    at = await asyncio.to_thread(_resolve, remote)
                    root = await asyncio.to_thread(_probe, at, parsed, share_s)
                    reply, key = await _issue(at, root, parsed, request)
                except _UnreachableError as error:
                    last = error
                    continue
                return Identity(
                    node_id=reply.node_id,
                    cluster_id=reply.cluster_id,
                    role="manager" if reply.role == "manager" else "worker",
                    certs=Certificates(key=key, certificate=reply.certificate, root=root),
                    managers=(at,),
                    listen_addr=listen_addr,
                    advertise_addr=advertise_addr,
                    data_path_addr=data_path_addr,
                    data_path_port=reply.data_path_port or VXLAN_PORT,
                    availability=availability,
                    gossip_key=gossip_key,
                )
    except TimeoutError:
        pass
    raise last


class _UnreachableError(ControlError):
    """This manager does not answer; another one may."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 503)


def _with_port(remote: str) -> str:
    """``remote`` with its port.

    Raises:
        ControlError: no such port, in Go's words.
    """
    host, _, port = remote.rpartition(":")
    if not host:
        return f"{remote}:{CONTROL_PORT}"
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= LARGEST_PORT):
        raise ControlError(f"dial tcp: address {remote}: invalid port")
    return remote


def _resolve(remote: str) -> str:
    """``remote`` with its IPv4 address. gRPC's own resolver would wait 10 s where there is no DNS.

    Raises:
        _UnreachableError: no such host.
    """
    host, _, port = remote.rpartition(":")
    try:
        return f"{socket.gethostbyname(host)}:{port}"
    except OSError as error:
        why = f'connection error: desc = "transport: error while dialing: dial tcp: lookup {host}: '
        raise _UnreachableError(
            f'rpc error: code = Unavailable desc = {why}no such host"'
        ) from error


async def _issue(
    remote: str, root: bytes, token: tokens.Token, request: pb.IssueRequest
) -> tuple[pb.IssueReply, bytes]:
    key, request.csr = ca.new_csr()
    leaf, leaf_key = ca.join_leaf(token.secret, time.time())
    async with channel(remote, Certificates(leaf_key, leaf, root)) as link:
        stub = control_pb2_grpc.CAStub(link)
        try:
            with call_ends():
                reply = await stub.Issue(request)
        except CallEndedError as error:
            if error.code is grpc.StatusCode.UNIMPLEMENTED:
                raise ControlError(error.why, 501) from None
            known = error.code or grpc.StatusCode.UNAVAILABLE
            why = f"rpc error: code = {known.name.title().replace('_', '')} desc = {error.why}"
            if known is grpc.StatusCode.UNAVAILABLE:
                raise _UnreachableError(why) from None
            raise ControlError(why) from None
    if not _signed(reply.certificate, root, reply.cluster_id):
        raise ControlError(f"{remote} sent a certificate that the cluster's root did not sign")
    return reply, key


def _signed(certificate: bytes, root: bytes, cluster_id: str) -> bool:
    try:
        return ca.peer(certificate, root, {}, cluster_id) is not None
    except ValueError:  # not a certificate
        return False


# ---- probe: blocking, in a thread ----


def _probe(remote: str, token: tokens.Token, timeout_s: float) -> bytes:
    """The pinned root, PEM, from a manager that accepts the token."""
    deadline = time.monotonic() + timeout_s
    host, _, port = remote.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s) as plain:
            plain.setblocking(False)  # noqa: FBT003 - the socket API's own
            link = SSL.Connection(_context(token), plain)
            link.set_connect_state()
            try:
                _until(link, plain, deadline, link.do_handshake)
            except SSL.Error:
                raise _UnreachableError(f"{remote} does not speak TLS with a node") from None
            root = _pinned(link, token)
            try:
                _until(link, plain, deadline, lambda: link.recv(1))
            except (SSL.SysCallError, SSL.ZeroReturnError):
                raise _UnreachableError(f"{remote} closed the connection: try again") from None
            except SSL.Error:  # an alert: it does not trust the leaf
                raise ControlError(INVALID) from None
            return root
    except TimeoutError:
        why = f"Timeout was reached before node joined: no answer from {remote}"
        raise _UnreachableError(why) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        why = f'connection error: desc = "transport: error while dialing: dial tcp {remote}: '
        raise _UnreachableError(
            f'rpc error: code = Unavailable desc = {why}connect: {reason.lower()}"'
        ) from None


def _context(token: tokens.Token) -> SSL.Context:
    leaf, key = ca.join_leaf(token.secret, time.time())
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE)  # the digest in the token decides, see _pinned
    context.use_certificate(x509.load_pem_x509_certificate(leaf))
    context.use_privatekey(ca.load_key(key))
    context.set_alpn_protos([b"h2"])
    return context


def _pinned(link: SSL.Connection, token: tokens.Token) -> bytes:
    for certificate in link.get_peer_cert_chain(as_cryptography=True) or ():
        if hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest() == token.digest:
            return certificate.public_bytes(Encoding.PEM)
    raise ControlError(f"remote CA does not match fingerprint. Expected: {token.digest.hex()}")


def _until(link: SSL.Connection, plain: socket.socket, deadline: float, step: Callable[[], T]) -> T:
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        try:
            return step()
        except SSL.WantReadError:
            _wait(plain, select.POLLIN, left)
        except SSL.WantWriteError:
            _wait(plain, select.POLLOUT, left)


def _wait(plain: socket.socket, event: int, seconds: float) -> None:
    # Not select(2): a daemon with many containers has descriptors above its 1023.
    poll = select.poll()
    poll.register(plain, event)
    poll.poll(seconds * 1000)
