"""The cluster's certificate authority: its root, node certificates and who a peer really is.

Touches nothing but the random numbers of new keys. The model:

```
 cluster root (P-256, 20 y) ──> node certificate (90 d)    CN node id, OU role, O cluster id
 join anchor  (from a secret) ──> join leaf (1 h)          may ask for a node certificate, no more
```

Mutual TLS always: a node that joins has no certificate yet, but it has the token's secret. From the
secret both sides derive the same key (HKDF, RFC 5869); the joiner issues itself a short leaf with
it, and managers trust that key as an anchor while the token is valid. The secret is never sent.

Be aware: whoever holds a token can write any name into a join leaf. So a peer's kind comes from the
key that signed its certificate, and never from its subject.
Source: swarmkit ca/certificates.go (names, lifetimes, back-dating).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshnet.errors import ControlError
from meshnet.model.ids import ID_LENGTH, base36
from meshnet_control.api import control_pb2 as pb

Role = Literal["worker", "manager"]

ROOT_LIFE: Final = timedelta(days=20 * 365)
NODE_LIFE: Final = timedelta(days=90)
JOIN_LIFE: Final = timedelta(hours=1)
BACKDATE: Final = timedelta(hours=1)
"""Certificates begin this much in the past: clocks of nodes differ."""
MANAGER_NAME: Final = "swarm-manager"
"""Name in every manager's certificate; clients insist on it, whatever address they dialled."""
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SHA256 = hashes.SHA256()


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of a connection, by the key that signed its certificate."""

    kind: Literal["node", "join"]
    node_id: str
    """Empty for a joiner."""
    role: Role
    """A node's role, or the role its token gives to a joiner."""


def new_root(cluster_id: str, now: float) -> tuple[bytes, bytes]:
    """A new root for a cluster.

    Args:
        cluster_id: becomes the subject's O.
        now: unix seconds.

    Returns:
        Certificate and private key, PEM.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(common="swarm-ca", organization=cluster_id)
    cert = _anchor(key, name, now, ROOT_LIFE)
    return _pem(cert), _key_pem(key)


def new_csr() -> tuple[bytes, bytes]:
    """A new key and a signing request for it; the manager decides the names. PEM both."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, _SHA256)
    return _key_pem(key), csr.public_bytes(Encoding.PEM)


def issue(
    root_cert: bytes,
    root_key: bytes,
    csr_pem: bytes,
    node_id: str,
    role: Role,
    cluster_id: str,
    now: float,
    life: timedelta = NODE_LIFE,
) -> bytes:
    """A node certificate for the key in a signing request; nothing else is taken from it.

    Returns:
        Certificate, PEM.

    Raises:
        ControlError: 400, the request is not a PEM signing request signed by its own P-256 key.
    """
    public = _requested_key(csr_pem)
    root = x509.load_pem_x509_certificate(root_cert)
    unit = f"swarm-{role}"
    names = [x509.DNSName(unit), x509.DNSName(node_id)]
    cert = (
        _dated(now, life)
        .subject_name(_name(common=node_id, unit=unit, organization=cluster_id))
        .issuer_name(root.subject)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(load_key(root_key), _SHA256)
    )
    return _pem(cert)


def renew_at(cert_pem: bytes, node_id: str) -> float:
    """When to ask for the next certificate: at 50 to 80 % of this one's life, by node.

    Returns:
        Unix seconds.
    """
    cert = x509.load_pem_x509_certificate(cert_pem)
    start, end = cert.not_valid_before_utc.timestamp(), cert.not_valid_after_utc.timestamp()
    share = int.from_bytes(hashlib.sha256(node_id.encode()).digest()[:4], "big") / 2**32
    return start + (end - start) * (0.5 + 0.3 * share)


def join_anchor(secret: bytes, now: float) -> bytes:
    """The anchor managers trust while this secret is in a valid token.

    Two calls give two certificates with the same subject and key: either verifies a joiner.

    Returns:
        Certificate, PEM.
    """
    key = _join_key(secret)
    return _pem(_anchor(key, _join_name(key), now, ROOT_LIFE))


def join_leaf(secret: bytes, now: float) -> tuple[bytes, bytes]:
    """A joiner's own certificate, proof that it knows the secret.

    Returns:
        Certificate and a fresh private key, PEM.
    """
    signer, key = _join_key(secret), ec.generate_private_key(ec.SECP256R1())
    cert = (
        _dated(now, JOIN_LIFE)
        .subject_name(_name(common="join"))
        .issuer_name(_join_name(signer))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, _SHA256)
    )
    return _pem(cert), _key_pem(key)


def peer(leaf_pem: bytes, root_cert: bytes, anchors: Mapping[Role, bytes]) -> Peer | None:
    """Who a verified certificate belongs to.

    Args:
        leaf_pem: what the peer proved in the TLS handshake; its dates were checked there.
        root_cert: the cluster root, PEM.
        anchors: join anchors that are valid now, PEM.

    Returns:
        None for a certificate that none of these keys signed, or of another cluster.
    """
    leaf = x509.load_pem_x509_certificate(leaf_pem)
    root = x509.load_pem_x509_certificate(root_cert)
    if _signed_by(leaf, root):
        unit = _attribute(leaf, NameOID.ORGANIZATIONAL_UNIT_NAME)
        role = unit.removeprefix("swarm-")
        cluster = _attribute(root, NameOID.ORGANIZATION_NAME)
        node_id = _attribute(leaf, NameOID.COMMON_NAME)
        if (
            role not in {"worker", "manager"}
            or not node_id
            or _attribute(leaf, NameOID.ORGANIZATION_NAME) != cluster
        ):
            return None
        return Peer("node", node_id, cast("Role", role))
    for role_of_token, anchor in anchors.items():
        if _signed_by(leaf, x509.load_pem_x509_certificate(anchor)):
            return Peer("join", "", role_of_token)
    return None


def tls_info(root_cert: bytes) -> pb.TLSInfo:
    """What the Engine API shows of a root."""
    root = x509.load_pem_x509_certificate(root_cert)
    return pb.TLSInfo(
        trust_root=root_cert.decode(),
        cert_issuer_subject=root.subject.public_bytes(),
        cert_issuer_public_key=root.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        ),
    )


def _requested_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        public = csr.public_key()
        if csr.is_signature_valid and isinstance(public, ec.EllipticCurvePublicKey):
            return public
    except ValueError:
        pass
    raise ControlError("certificate signing request is not valid")


def node_id_of(csr_pem: bytes) -> str:
    """The id of a node that joins: from its key, so that a repeated request makes one node.

    Raises:
        ControlError: 400, not a valid signing request.
    """
    public = _requested_key(csr_pem).public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return base36(int.from_bytes(hashlib.sha256(public).digest()[:16], "big"), ID_LENGTH)


def _signed_by(leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _join_key(secret: bytes) -> ec.EllipticCurvePrivateKey:
    # 128 bits more than the order has: the remainder is as good as uniform (FIPS 186-5, A.2.1).
    info = b"meshnet join anchor v1"
    wide = HKDF(algorithm=hashes.SHA256(), length=48, salt=None, info=info).derive(secret)
    number = int.from_bytes(wide, "big") % (_P256_ORDER - 1) + 1
    return ec.derive_private_key(number, ec.SECP256R1())


def _join_name(key: ec.EllipticCurvePrivateKey) -> x509.Name:
    # One name per key: a verifier then finds the right one among several anchors.
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return _name(common=f"join-{hashlib.sha256(public).hexdigest()[:16]}")


def _anchor(
    key: ec.EllipticCurvePrivateKey, name: x509.Name, now: float, life: timedelta
) -> x509.Certificate:
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _dated(now, life)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, _SHA256)
    )


def _dated(now: float, life: timedelta) -> x509.CertificateBuilder:
    moment = datetime.fromtimestamp(now, UTC)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - BACKDATE)
        .not_valid_after(moment + life)
    )


def _name(*, common: str, unit: str = "", organization: str = "") -> x509.Name:
    parts = [
        (NameOID.ORGANIZATION_NAME, organization),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
        (NameOID.COMMON_NAME, common),
    ]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts if value])


def _attribute(cert: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    found = cert.subject.get_attributes_for_oid(oid)
    return str(found[0].value) if len(found) == 1 else ""


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """A private key from PEM.

    Raises:
        TypeError: of another kind than ours.
        ValueError: not PEM.
    """
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an elliptic-curve key")
    return key


def _pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
