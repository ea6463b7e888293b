"""Root certificates as users bring them: made with OpenSSL's usual fields, not by our own code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

KINDS: dict[str, Any] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "short RSA": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


def made(
    kind: str = "P-256",
    name: str = "corporate root",
    *,
    days: float = 3650,
    is_ca: bool | None = True,
    path_length: int | None = None,
    signer: Any = None,
) -> tuple[bytes, bytes]:
    """Certificate and key, PEM. ``is_ca`` None: it does not say; ``signer``: key of another CA."""
    key = KINDS[kind]()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
    )
    if is_ca is not None:
        limits = x509.BasicConstraints(ca=is_ca, path_length=path_length)
        builder = builder.add_extension(limits, critical=True)
    signing = signer or key
    digest = None if kind == "Ed25519" else hashes.SHA256()
    cert = builder.sign(signing, digest)
    return cert.public_bytes(Encoding.PEM), key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL if kind == "RSA" else PrivateFormat.PKCS8,
        NoEncryption(),
    )  # fmt: skip
