"""Which requests meshnet answers itself; every other one is the local engine's.

PURE. Decided on method and path alone (never on a body), so that a stream of any size can be
passed through untouched. Some of ours are handed on to the engine afterwards, when the object
turns out to be a local one: ``DELETE /networks/bridge``. What the engine says of containers comes
through us, for it does not know of the overlay networks that they are on.

Source: moby api/server/router/swarm, network and system, 20.10 and 28.
"""

from __future__ import annotations

from typing import Final

from meshnet_control.gateway.http_head import Head, Version

MAX_VERSION: Final[Version] = (1, 44)
"""Newest Engine API we speak, whatever the engine does."""
MIN_VERSION: Final[Version] = (1, 24)

_OURS: Final = frozenset({"swarm", "nodes", "services", "tasks", "secrets", "configs", "networks"})
"""First words of paths."""
_DIGITS: Final = 4
_EXACT: Final = frozenset({"/_ping", "/version", "/info", "/events", "/system/df"})
_STARTS: Final = frozenset({"start", "restart"})
_START_WORDS: Final = 4
_POSTS: Final = frozenset({"/containers/create", "/volumes/prune", "/commit"})
_IMAGES: Final = "/images/"
_OF_CONTAINER: Final = frozenset({"json", "stats", "changes"})
"""What is asked of one container."""


def is_ours(head: Head) -> bool:
    """True when meshnet answers: swarm objects, networks, what tells of them, starts of containers.

    And what is asked in a version too new.
    """
    if head.version is not None and head.version > MAX_VERSION:
        return True
    if head.path in _EXACT or _first_word(head.path) in _OURS:
        return True
    if head.method == "GET":
        return _tells_of_containers(head.path) or _tells_of_an_image(head.path)
    return head.method == "POST" and (head.path in _POSTS or _starts(head.path))


def _starts(path: str) -> bool:
    """``/containers/{id}/start`` and ``restart``: networks of ours must be there first."""
    words = path.split("/")
    return len(words) == _START_WORDS and words[1] == "containers" and words[3] in _STARTS


def _tells_of_containers(path: str) -> bool:
    """``/containers/json``; of one container ``json``, ``stats`` and ``changes``."""
    match path.split("/")[1:]:
        case ["containers", "json"]:
            return True
        case ["containers", _, what]:
            return what in _OF_CONTAINER
    return False


def _tells_of_an_image(path: str) -> bool:
    """``/images/{name}/json``; a name may have slashes."""
    return path.startswith(_IMAGES) and path.removeprefix(_IMAGES).endswith("/json")


def _first_word(path: str) -> str:
    return path.removeprefix("/").partition("/")[0] if path.startswith("/") else ""


def text(version: Version) -> str:
    """``(1, 41)`` as ``1.41``."""
    return f"{version[0]}.{version[1]}"


def parse_version(said: str) -> Version | None:
    """``"1.41"`` as ``(1, 41)``; None when it is not a version."""
    major, _, minor = said.partition(".")
    numbers = all(n.isascii() and n.isdigit() and len(n) <= _DIGITS for n in (major, minor))
    return (int(major), int(minor)) if numbers else None


def refusal(asked: Version | None) -> str | None:
    """Why a version prefix is refused, in the engine's words; None when it is served."""
    if asked is None:
        return None
    if asked > MAX_VERSION:
        return (
            f"client version {text(asked)} is too new. "
            f"Maximum supported API version is {text(MAX_VERSION)}"
        )
    if asked < MIN_VERSION:
        return (
            f"client version {text(asked)} is too old. Minimum supported API version is "
            f"{text(MIN_VERSION)}, please upgrade your client to a newer version"
        )
    return None
