"""How a cluster moves from one root to another without a moment in which a node trusts no manager.

```
      docker swarm ca --rotate               all nodes have         all nodes have been told
 ──────────┬────────────────────────────────────┬──────────────────────────────┬───────────
  signs    │ new root, cross-signed by the old  │ new root                     │
  trusted  │ old by nodes, both by managers     │ new; old by who is not told  │ new
  tokens   │ of the old                         │ of the new, with new secrets │
```

Pure but for the keys of a new root. A rotation that is asked for while another one goes on takes
its place: what the abandoned root has signed stays valid until every node has renewed again. Asking
for the present root takes a rotation back.

Be aware: a node that is Down holds up the end until it is back or removed: without the old root it
could never come back. So does one whose disk does not take its new certificate.
Source: swarmkit manager/controlapi/ca_rotation.go, ca/reconciler.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from meshnet.errors import MeshnetError
from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.identity import ca, tokens

MIN_LIFE: Final = timedelta(days=365)
"""A new root must be valid for at least this long (minRootExpiration)."""
MOST_ABANDONED: Final = 8
"""Roots that signed for a while in one rotation: each is in every manager's trust to its end."""
_SECRET_BITS: Final = 128
_RSA_BITS: Final = 2048
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)


class RootError(MeshnetError):
    """A certificate and key that cannot be the cluster's root; one sentence."""


def brought(certificate: str, key: str, now: float) -> tuple[bytes, bytes]:
    """A root that a user brings, with its key, in the form in which we keep them.

    Args:
        certificate: PEM.
        key: PEM.
        now: Unix seconds.

    Raises:
        RootError: it cannot be a root of ours.
    """
    if not certificate:
        raise RootError(
            "if a signing CA key is provided, the signing CA cert must also be provided"
        )
    try:
        certs = x509.load_pem_x509_certificates(certificate.encode())
    except ValueError:
        raise RootError("could not parse the desired CA certificate") from None
    if len(certs) != 1:
        raise RootError("the desired CA certificate cannot contain multiple certificates")
    root = certs[0]
    if root.not_valid_after_utc < datetime.fromtimestamp(now, UTC) + MIN_LIFE:
        raise RootError("CA certificate expires too soon")
    _check_root(root)
    try:
        private = load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError):
        raise RootError("could not parse the desired CA key: PEM without a passphrase") from None
    if private.public_key() != root.public_key():
        raise RootError("the desired CA key does not belong to the desired CA certificate")
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return root.public_bytes(Encoding.PEM), pem


def same(one: bytes, other: str) -> bool:
    """Whether two PEM texts are of one certificate; what cannot be read is never the same."""
    try:
        return x509.load_pem_x509_certificate(one) == x509.load_pem_x509_certificate(other.encode())
    except ValueError:
        return False


def begin(cluster: pb.Cluster, certificate: bytes, key: bytes) -> None:
    """Let another root sign from now on; in place.

    Args:
        cluster: with its present root.
        certificate: the root to move to, PEM.
        key: its key, PEM.

    Raises:
        RootError: the present root can sign no other one, or has the same name; or too many others
            were abandoned on the way.
    """
    rotation = pb.RootRotation(ca_certificate=certificate, ca_key=key)
    if cluster.HasField("root_rotation"):
        going = cluster.root_rotation
        if going.ca_certificate == certificate:
            going.ca_key = key
            return
        signed = dict.fromkeys((*going.abandoned, going.ca_certificate))
        now = (certificate, cluster.ca_certificate)
        rotation.abandoned.extend(pem for pem in signed if pem not in now)
        if certificate != cluster.ca_certificate and len(rotation.abandoned) > MOST_ABANDONED:
            raise RootError(
                f"the root CA was rotated {len(rotation.abandoned)} times while nodes still have "
                "certificates of earlier roots: a node that is Down holds up the end until it is "
                "back or removed (see 'docker node ls')"
            )
    if certificate == cluster.ca_certificate:
        if not rotation.abandoned:
            return  # it is the root already
        cluster.ca_key, rotation.cross_signed = key, cluster.ca_cross_signed
    else:
        _check_names(cluster, certificate)
        rotation.cross_signed = ca.cross_signed(certificate, cluster.ca_certificate, cluster.ca_key)
    cluster.root_rotation.CopyFrom(rotation)
    _show(cluster)


def finished(cluster: pb.Cluster, nodes: Iterable[pb.Node]) -> bool:
    """Whether every node has a certificate of the root that the cluster moves to; PURE."""
    wanted = ca.tls_info(cluster.root_rotation.ca_certificate)
    return all(
        node.description.tls_info.cert_issuer_public_key == wanted.cert_issuer_public_key
        and node.description.tls_info.cert_issuer_subject == wanted.cert_issuer_subject
        for node in nodes
    )


def finish(cluster: pb.Cluster, rng: Rng) -> None:
    """Drop the root before, and make join tokens of the new one; in place.

    Args:
        cluster: while its root is rotated.
        rng: a cryptographic source of randomness.
    """
    rotation = cluster.root_rotation
    if rotation.ca_certificate != cluster.ca_certificate:
        cluster.ca_certificate, cluster.ca_key = rotation.ca_certificate, rotation.ca_key
        cluster.ca_cross_signed = rotation.cross_signed
        for role in ("worker", "manager"):
            secret = rng.getrandbits(_SECRET_BITS).to_bytes(tokens.SECRET_BYTES, "big")
            setattr(cluster.join_tokens, role, tokens.join_token(cluster.ca_certificate, secret))
    cluster.ClearField("root_rotation")
    _show(cluster)


def signer(cluster: pb.Cluster) -> tuple[bytes, bytes, bytes]:
    """Which root signs now: certificate, key, and what a node shows with what it signed; PEM."""
    if cluster.HasField("root_rotation"):
        rotation = cluster.root_rotation
        return rotation.ca_certificate, rotation.ca_key, rotation.cross_signed
    return cluster.ca_certificate, cluster.ca_key, cluster.ca_cross_signed


def trusted(cluster: pb.Cluster) -> bytes:
    """The roots whose nodes a manager lets in now, PEM, the present one first."""
    rotation = cluster.root_rotation
    return b"".join((cluster.ca_certificate, rotation.ca_certificate, *rotation.abandoned))


def _show(cluster: pb.Cluster) -> None:
    cluster.root_rotation_in_progress = cluster.HasField("root_rotation")
    cluster.tls_info.CopyFrom(ca.tls_info(cluster.ca_certificate, signer(cluster)[0]))


def _check_root(root: x509.Certificate) -> None:
    try:
        is_ca = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        root.verify_directly_issued_by(root)
    except x509.ExtensionNotFound:
        is_ca = False
    except (InvalidSignature, ValueError, TypeError):
        raise RootError("the desired CA certificate is not a root: another CA signed it") from None
    if not is_ca:
        raise RootError("the desired CA certificate is not that of a CA (CA:TRUE)")
    public = root.public_key()
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= _RSA_BITS:
        return
    if not (isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, _CURVES)):
        raise RootError(
            "the desired CA certificate has a key that cannot be used: P-256, P-384, "
            f"or RSA of at least {_RSA_BITS} bits"
        )


def _check_names(cluster: pb.Cluster, certificate: bytes) -> None:
    if not ca.able_to_cross_sign(cluster.ca_certificate):
        raise RootError(
            "the present root CA may not sign another one (its path length is 0), so no node could "
            "follow: for a new CA make a new swarm ('docker swarm leave --force', "
            "then 'docker swarm init')"
        )
    subject = x509.load_pem_x509_certificate(certificate).subject
    others = [pem for pem in _present(cluster) if pem != certificate]
    if any(x509.load_pem_x509_certificate(pem).subject == subject for pem in others):
        raise RootError(
            "the desired CA certificate has the subject of the present one: nodes could not tell "
            "them apart, make it with another subject"
        )


def _present(cluster: pb.Cluster) -> list[bytes]:
    going = cluster.root_rotation
    return [pem for pem in (cluster.ca_certificate, going.ca_certificate, *going.abandoned) if pem]
