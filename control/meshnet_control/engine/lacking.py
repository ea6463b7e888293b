"""What an engine would leave out of a container without a word: parts newer than its API. Pure.

An engine skips members of a request that it does not know. Where that makes another container than
was asked for, it is refused here instead. Left alone is what comes to the same: an older engine's
read-only bind mount is not recursive anyway.

Source: moby docs/api/version-history.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshnet.patterns import Pattern

START_INTERVAL: Final = (1, 44)
RECURSIVE: Final = (1, 44)
SUBPATH: Final = (1, 45)
_VERSION: Final = Pattern(r"([0-9]{1,4})\.([0-9]{1,4})", longest=16)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a container that not every engine can make."""

    since: tuple[int, int]
    """The first version of the API that has it."""
    what: str


def newer_parts(config: Mapping[str, Any]) -> list[Part]:
    """What of a body of ``POST /containers/create``, made by us, some engines do not know."""
    found: list[Part] = []
    if config.get("Healthcheck", {}).get("StartInterval"):
        found.append(Part(START_INTERVAL, "a start interval of health checks"))
    for mount in config.get("HostConfig", {}).get("Mounts", ()):
        target = mount.get("Target")
        if mount.get("BindOptions", {}).get("ReadOnlyForceRecursive"):
            found.append(Part(RECURSIVE, f"a bind mount read-only to its depth, at {target}"))
        if mount.get("VolumeOptions", {}).get("Subpath"):
            found.append(Part(SUBPATH, f"a mount of a part of a volume, at {target}"))
    return found


def lacking(newer: Sequence[Part], version: str) -> str | None:
    """Why an engine cannot make a container with these parts; None: it can.

    Args:
        newer: from ``newer_parts``.
        version: the newest of the API that the engine speaks, ``1.41``; what is none has all.
    """
    said = _VERSION.match(version)
    if said is None:
        return None
    for part in newer:
        if (int(said[1]), int(said[2])) < part.since:
            needed = ".".join(map(str, part.since))
            return (
                f"this host's Docker Engine cannot do {part.what}: "
                f"it speaks API {version}, and that came with {needed}"
            )
    return None
