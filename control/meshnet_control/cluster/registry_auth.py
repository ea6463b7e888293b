"""What ``X-Registry-Auth`` carries: credentials for an image's registry. PURE.

    base64url(JSON {"username", "password", "serveraddress", …})

Clients put anything there: the empty object when nobody is logged in, and dockerode a whole
service. As with the engine nothing of that is an error: it is no credentials, and a pull without.
Source: moby api/types/registry/authconfig.go; daemon/cluster/executor/container/adapter.go.
"""

from __future__ import annotations

import base64
import json
from typing import Final

FIELDS: Final = (
    *("username", "password", "auth", "email", "serveraddress", "identitytoken", "registrytoken"),
)
_SECRETS: Final = ("password", "auth", "identitytoken", "registrytoken")
LONGEST: Final = 16 * 1024
"""Characters of a value; tokens of cloud registries have a few thousand."""


def credentials(said: str) -> str:
    """The credentials in a header, as they are passed on; empty: there are none.

    Args:
        said: the header's value, whatever it is.
    """
    try:
        raw = base64.urlsafe_b64decode(said.translate(_URL_SAFE) + "==")
        found, _ = json.JSONDecoder().raw_decode(raw.decode())
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    by_name = {str(name).lower(): value for name, value in found.items()}
    kept = {
        name: by_name[name]
        for name in FIELDS
        if isinstance(by_name.get(name), str) and 0 < len(by_name[name]) <= LONGEST
    }
    if not any(name in kept for name in _SECRETS):
        return ""
    return base64.urlsafe_b64encode(json.dumps(kept).encode()).decode()


_URL_SAFE: Final = str.maketrans({"+": "-", "/": "_", "=": None, "\n": None, "\r": None, " ": None})
"""Both alphabets of base64, with and without padding."""
