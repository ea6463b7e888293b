"""Join tokens: what a node must know to become part of a cluster. Pure.

```
SWMTKN-1-<50 base-36 digits>-<25 base-36 digits>
          SHA-256 of the       16 random bytes, one value for workers,
          root certificate     one for managers
```

The first half protects the node (it joins this cluster and no other), the second one protects the
cluster (only who knows it may join, and which half of the pair says as what).

Be aware: the digest is over the certificate's DER bytes, so that PEM line breaks do not matter.
Source: swarmkit ca/config.go GenerateJoinToken, ParseJoinToken.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from http import HTTPStatus

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshnet.errors import ControlError
from meshnet.model.ids import base36
from meshnet.patterns import Pattern

SECRET_BYTES = 16
_DIGEST_WIDTH, _SECRET_WIDTH = 50, 25
_FORM = Pattern(
    rf"SWMTKN-1-([0-9a-z]{{{_DIGEST_WIDTH}}})-([0-9a-z]{{{_SECRET_WIDTH}}})", longest=128
)


@dataclass(frozen=True)
class Token:
    """A parsed join token."""

    digest: bytes
    """SHA-256 of the root certificate, 32 bytes."""
    secret: bytes = field(repr=False)
    """16 bytes."""


def new_secret(rng_bytes: bytes) -> bytes:
    """The secret half of a token from 16 bytes of the caller's randomness.

    Raises:
        ValueError: not 16 bytes.
    """
    if len(rng_bytes) != SECRET_BYTES:
        raise ValueError(f"a token secret has {SECRET_BYTES} bytes, not {len(rng_bytes)}")
    return bytes(rng_bytes)


def digest_of(ca_pem: bytes) -> bytes:
    """SHA-256 of the certificate's DER bytes.

    Raises:
        ValueError: not a PEM certificate.
    """
    certificate = x509.load_pem_x509_certificate(ca_pem)
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


def join_token(ca_pem: bytes, secret: bytes) -> str:
    """The token that pins this root certificate and carries this secret.

    Raises:
        ValueError: not a PEM certificate, or not 16 bytes of secret.
    """
    number = int.from_bytes(digest_of(ca_pem), "big")
    proof = int.from_bytes(new_secret(secret), "big")
    return f"SWMTKN-1-{base36(number, _DIGEST_WIDTH)}-{base36(proof, _SECRET_WIDTH)}"


def parse(token: str) -> Token:
    """The two halves of a token.

    Raises:
        ControlError: "invalid join token", 500 as the engine has it.
    """
    match = _FORM.match(token.strip())
    if match is None:
        raise _invalid()
    try:
        return Token(
            digest=int(match[1], 36).to_bytes(32, "big"),
            secret=int(match[2], 36).to_bytes(SECRET_BYTES, "big"),
        )
    except OverflowError:
        raise _invalid() from None


def _invalid() -> ControlError:
    return ControlError("invalid join token", HTTPStatus.INTERNAL_SERVER_ERROR)
