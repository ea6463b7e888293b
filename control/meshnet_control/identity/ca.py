"""The cluster's certificate authority: its root, node certificates and who a peer really is.

Touches nothing but the random numbers of new keys. The model:

```
 cluster root (P-256, 20 y) ──> node certificate (90 d)    CN node id, OU role, O cluster id
 join anchor  (from a secret) ──> join leaf (1 h)          may ask for a node certificate, no more
 root before ──> cross-signed root ──> node certificate    who trusts the root before trusts this
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
from ipaddress import IPv4Address
from typing import Final, Literal, TypeAlias, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
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
SigningKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""Of a root; one that is brought from outside may be RSA."""
SigningPublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_CA_USAGE: Final = x509.KeyUsage(
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
    # One name per key: a verifier that trusts two roots finds the right one.
    name = _name(common="swarm-ca", unit=_fingerprint(key), organization=cluster_id)
    cert = _anchor(key, name, now, ROOT_LIFE, path_length=1)
    return _pem(cert), _key_pem(key)


def cross_signed(root_cert: bytes, before_cert: bytes, before_key: bytes) -> bytes:
    """A root's name and key in a certificate of the root before it.

    Whoever trusts the one before, and is shown this certificate, trusts what the root signs.

    Args:
        root_cert: the root, PEM.
        before_cert: the root before it, PEM; must be ``able_to_cross_sign``.
        before_key: its key, PEM.

    Returns:
        Certificate, PEM; valid as long as both are.
    """
    root, before = (x509.load_pem_x509_certificate(pem) for pem in (root_cert, before_cert))
    cert = (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(root.not_valid_before_utc, before.not_valid_before_utc))
        .not_valid_after(min(root.not_valid_after_utc, before.not_valid_after_utc))
        .subject_name(root.subject)
        .issuer_name(before.subject)
        .public_key(root.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(_key_identifier(root), critical=False)
        .add_extension(_authority(before), critical=False)
        .sign(_signing_key(before_key), _SHA256)
    )
    return _pem(cert)


def able_to_cross_sign(root_cert: bytes) -> bool:
    """Whether a root may sign another CA; those of meshnet's first builds may not."""
    root = x509.load_pem_x509_certificate(root_cert)
    length = root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    return length is None or length >= 1


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
    addr: str = "",
) -> bytes:
    """A node certificate for the key in a signing request; nothing else is taken from it.

    ``root_cert`` and ``root_key`` are PEM, of the root that signs. ``addr`` is a manager's IPv4
    address: other managers' etcds look for it when they have dialled it.

    Returns:
        Certificate, PEM.

    Raises:
        ControlError: 400, the request is not a PEM signing request signed by its own P-256 key.
    """
    public = _requested_key(csr_pem)
    root = x509.load_pem_x509_certificate(root_cert)
    unit = f"swarm-{role}"
    names: list[x509.GeneralName] = [x509.DNSName(unit), x509.DNSName(node_id)]
    if addr and role == "manager":
        names.append(x509.IPAddress(IPv4Address(addr)))
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
        .add_extension(_authority(root), critical=False)
        .sign(_signing_key(root_key), _SHA256)
    )
    return _pem(cert)


def addresses(cert_pem: bytes) -> list[str]:
    """The addresses in a certificate, as text."""
    cert = x509.load_pem_x509_certificate(cert_pem)
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(each) for each in names.get_values_for_type(x509.IPAddress)]


def renew_at(cert_pem: bytes, node_id: str) -> float:
    """When to ask for the next certificate: at 50 to 80 % of this one's life, by node.

    Returns:
        Unix seconds.
    """
    cert = x509.load_pem_x509_certificate(cert_pem)
    start = (cert.not_valid_before_utc + BACKDATE).timestamp()
    end = cert.not_valid_after_utc.timestamp()
    share = int.from_bytes(hashlib.sha256(node_id.encode()).digest()[:4], "big") / 2**32
    return start + (end - start) * (0.5 + 0.3 * share)


def ends_at(cert_pem: bytes) -> float:
    """When a certificate is valid no more, Unix seconds."""
    return x509.load_pem_x509_certificate(cert_pem).not_valid_after_utc.timestamp()


def in_force(cert_pem: bytes, now: float) -> bool:
    """Whether a certificate is valid at this moment, Unix seconds."""
    cert = x509.load_pem_x509_certificate(cert_pem)
    return cert.not_valid_before_utc.timestamp() <= now < cert.not_valid_after_utc.timestamp()


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


def peer(
    leaf_pem: bytes, root_cert: bytes, anchors: Mapping[Role, bytes], cluster_id: str = ""
) -> Peer | None:
    """Who a verified certificate belongs to.

    Args:
        leaf_pem: what the peer proved in the TLS handshake; its dates were checked there.
            Cross-signed roots may follow it.
        root_cert: the cluster root, PEM; while it is rotated all that are trusted.
        anchors: join anchors that are valid now, PEM.
        cluster_id: of the cluster; empty: as the root says.

    Returns:
        None for a certificate that none of these keys signed, or of another cluster.
    """
    leaf = x509.load_pem_x509_certificate(leaf_pem)
    root = _issuer(leaf_pem, root_cert)
    if root is not None:
        unit = _attribute(leaf, NameOID.ORGANIZATIONAL_UNIT_NAME)
        role = unit.removeprefix("swarm-")
        cluster = cluster_id or _attribute(root, NameOID.ORGANIZATION_NAME)
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


def tls_info(root_cert: bytes, issuer_cert: bytes = b"") -> pb.TLSInfo:
    """What the Engine API shows of a root that is trusted, and of the one that signs.

    Args:
        root_cert: the trusted root, PEM.
        issuer_cert: the root that signs, PEM; empty: the same.
    """
    return _shown(root_cert, x509.load_pem_x509_certificate(issuer_cert or root_cert))


def tls_info_of(certificate: bytes, root_cert: bytes) -> pb.TLSInfo:
    """The same of a node, from what it has.

    Args:
        certificate: of the node; cross-signed roots may follow it. PEM.
        root_cert: the root it trusts, PEM.
    """
    issuer = _issuer(certificate, root_cert)
    return _shown(root_cert, issuer or x509.load_pem_x509_certificate(root_cert))


def _shown(root_cert: bytes, issuer: x509.Certificate) -> pb.TLSInfo:
    return pb.TLSInfo(
        trust_root=root_cert.decode(),
        cert_issuer_subject=issuer.subject.public_bytes(),
        cert_issuer_public_key=issuer.public_key().public_bytes(
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


def _issuer(chain_pem: bytes, roots_pem: bytes) -> x509.Certificate | None:
    """Which of the roots, or of the roots that these have cross-signed, signed a chain's leaf."""
    leaf, *between = x509.load_pem_x509_certificates(chain_pem)
    roots = x509.load_pem_x509_certificates(roots_pem)
    crossed = [c for c in between if _is_ca(c) and any(_signed_by(c, root) for root in roots)]
    return next((each for each in (*roots, *crossed) if _signed_by(leaf, each)), None)


def _is_ca(cert: x509.Certificate) -> bool:
    try:
        return cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


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
    return _name(common=f"join-{_fingerprint(key)}")


def _fingerprint(key: ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return hashlib.sha256(public).hexdigest()[:16]


def _anchor(
    key: ec.EllipticCurvePrivateKey,
    name: x509.Name,
    now: float,
    life: timedelta,
    path_length: int = 0,
) -> x509.Certificate:
    return (
        _dated(now, life)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, _SHA256)
    )


def _key_identifier(cert: x509.Certificate) -> x509.SubjectKeyIdentifier:
    try:
        return cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        public = cert.public_key()
        if not isinstance(public, SigningPublicKey):
            raise TypeError("not a key that signs certificates") from None
        return x509.SubjectKeyIdentifier.from_public_key(public)


def _authority(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = _key_identifier(issuer)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


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


def _signing_key(pem: bytes) -> SigningKey:
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, SigningKey):
        raise TypeError("not a key that signs certificates")
    return key


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
