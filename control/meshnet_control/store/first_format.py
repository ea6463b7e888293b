"""Rows of the store's first format, in which only secrets and the cluster were sealed.

Read once, by the first version that seals everything.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from meshnet_control.api.control_pb2 import Cluster, Secret
from meshnet_control.store.sealer import SealError
from meshnet_control.store.store import Kind, Object

SEALED: Final[frozenset[Kind]] = frozenset({Cluster, Secret})
_NONCE_BYTES: Final = 12


def decoded(key: bytes, kind: Kind, identifier: str, revision: int, body: bytes) -> Object:
    """The object in a row.

    Raises:
        SealError: it was sealed with another key, or is damaged.
    """
    try:
        if kind in SEALED:
            context = f"{kind.__name__}/{identifier}/{revision}".encode()
            nonce, sealed = body[:_NONCE_BYTES], body[_NONCE_BYTES:]
            body = AESGCM(key).decrypt(nonce, sealed, context)
        return kind.FromString(body)
    except (InvalidTag, DecodeError):
        raise SealError(f"{kind.__name__} {identifier} is sealed with another key") from None
