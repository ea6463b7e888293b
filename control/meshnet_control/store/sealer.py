"""Objects as bytes that tell nothing and cannot be moved: what every backend writes.

Pure but for the random salt of each sealing. The model:

```
 sealed    1 | key id 8 | revision 8 | salt 32 | AES-256-GCM of the message, tag included
 bound to  the same first 17 bytes, the object's kind and id
```

Every sealing has a key of its own, HMAC-SHA-256(key, salt): random nonces of AES-GCM are good for
2^32 messages under one key (NIST SP 800-38D, 8.3), which a busy cluster writes in some weeks.

Be aware: the key's id is no secret. Which objects there are, how long they are and when they
changed can be seen without the key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Any, Final, TypeVar, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from meshnet.errors import MeshnetError
from meshnet_control.store.store import Object

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 8
SALT_BYTES: Final = 32
_FORMAT: Final = b"\x01"
_NUMBER_BYTES: Final = 8
_HEAD_BYTES: Final = len(_FORMAT) + KEY_ID_BYTES + _NUMBER_BYTES
_ONCE: Final = bytes(12)
"""The nonce: each derived key seals one message."""

_M = TypeVar("_M", bound=Object)


class SealError(MeshnetError):
    """Sealed with another key, of another object, changed, or never sealed."""


class Sealer:
    """Seals objects under the first of its keys, opens what any of them sealed.

    Args:
        keys: 32 random bytes each, the newest first.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {key_id(key): key for key in keys}
        self._newest = key_id(keys[0])

    @property
    def key_name(self) -> str:
        """Names the key that seals, without telling it."""
        return self._newest.hex()

    def sealed(self, message: Object) -> bytes:
        """An object, bound to its kind, its id and its ``version.index``."""
        revision = int(message.version.index).to_bytes(_NUMBER_BYTES, "big")
        head = _FORMAT + self._newest + revision
        context = _context(head, type(message), message.id)
        return head + seal(self._keys[self._newest], message.SerializeToString(), context)

    def opened(self, kind: type[_M], id: str, body: bytes) -> _M:  # noqa: A002 - the field's name
        """The object of that kind and id, its ``version.index`` that which it was sealed with.

        Raises:
            SealError: none of the keys sealed these bytes as this object.
        """
        head, rest = body[:_HEAD_BYTES], body[_HEAD_BYTES:]
        key = self._keys.get(sealed_by(body))
        if key is None or not head.startswith(_FORMAT):
            raise SealError(f"{kind.DESCRIPTOR.name} {id} is sealed with another key")
        try:
            text = open_sealed(key, rest, _context(head, kind, id))
            message = cast("_M", kind.FromString(text))
        except DecodeError as error:
            raise SealError(f"{kind.DESCRIPTOR.name} {id}: {error}") from None
        message.version.index = int.from_bytes(head[-_NUMBER_BYTES:], "big")
        return message


def key_id(key: bytes) -> bytes:
    """The name of a key, which does not tell it; 8 bytes."""
    return hashlib.sha256(b"meshnet store key\0" + key).digest()[:KEY_ID_BYTES]


def sealed_by(body: bytes) -> bytes:
    """The name of the key that an object was sealed with."""
    return body[len(_FORMAT) : len(_FORMAT) + KEY_ID_BYTES]


def seal(key: bytes, text: bytes, context: bytes) -> bytes:
    """Any bytes under a key: the salt, then the ciphertext with its tag.

    Args:
        key: 32 random bytes.
        text: what nobody shall read.
        context: what has to be said again to open it.
    """
    salt = secrets.token_bytes(SALT_BYTES)
    return salt + AESGCM(_derived(key, salt)).encrypt(_ONCE, text, context)


def open_sealed(key: bytes, body: bytes, context: bytes) -> bytes:
    """What ``seal`` was given.

    Raises:
        SealError: another key, another context, or changed bytes.
    """
    salt, text = body[:SALT_BYTES], body[SALT_BYTES:]
    try:
        return AESGCM(_derived(key, salt)).decrypt(_ONCE, text, context)
    except InvalidTag:
        raise SealError("sealed with another key, or changed since") from None


def _derived(key: bytes, salt: bytes) -> bytes:
    return hmac.digest(key, salt, "sha256")


def _context(head: bytes, kind: Any, identifier: str) -> bytes:  # noqa: ANN401 - one of KINDS
    return head + f"{kind.DESCRIPTOR.name}/{identifier}".encode()
