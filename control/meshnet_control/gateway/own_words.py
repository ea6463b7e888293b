"""A task's container as its user gave it: what the gate adds to it is taken off again. Pure.

| of the engine | shown |
|---|---|
| COMMAND, ``Path``, ``Args``, ``Config.Cmd``, ``Config.Entrypoint`` | the user's, or the image's |
| mounts below ``/.meshnet``, of ``/etc/hosts``, secrets and configs | none, as in Swarm |
| a mount of docker-init, which the gate becomes, and no ``Init`` | ``Init`` |
| labels by which meshnet finds what it made | none, of its events neither |
| events that it is on the network ``none`` | none: it is on others |
| meshnet's labels of an image that was made of it | none; the image has them without a value |

Words are those of a container whose program waits, or waited, at a gate: labels alone prove
nothing, an image made of such a container has them, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any, Final

from meshnet_control.agent import attached_record, container, engine_socket, gate
from meshnet_control.agent.gateway_addresses import GATEWAY_LABEL
from meshnet_control.convert.json_text import part
from meshnet_control.engine.labels import TASK_LABEL

HIDDEN: Final = frozenset(
    {gate.COMMAND_LABEL, container.IS_TASK_LABEL, GATEWAY_LABEL, attached_record.LABEL},
)
"""Labels that are meshnet's own, but for that of ``engine_socket``, whose own views need it."""
_MADE: Final = frozenset({container.IS_TASK_LABEL, attached_record.LABEL})
"""A container that meshnet wires has one of them."""
_WAITS: Final = f"{gate.SHELL_TARGET} "


def listed(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """One of ``GET /containers/json``; the same object: nothing of it is ours."""
    labels = part(entry, "Labels")
    words = gate.words_in(labels)
    if words is None or not str(entry.get("Command")).startswith(_WAITS):
        return {**entry, "Labels": _shown(labels)} if _has_ours(labels) else entry
    return {
        **entry,
        "Command": words.shown,
        "Labels": _shown(labels),
        "Mounts": _users(entry.get("Mounts"), "Destination", labels, words),
    }


def inspected(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """``GET /containers/{id}/json``; the same object: nothing of it is ours."""
    config, host = part(found, "Config"), part(found, "HostConfig")
    labels = part(config, "Labels")
    words = gate.words_in(labels)
    if words is None or found.get("Path") != gate.SHELL_TARGET:
        own = {**config, "Labels": _shown(labels)}
        return {**found, "Config": own} if _has_ours(labels) else found
    first, *others = words.argv or ("",)
    return {
        **found,
        "Path": first,
        "Args": others,
        "Config": {**config, **program(words), "Labels": _shown(labels)},
        "HostConfig": {
            **host,
            **({"Init": True} if words.init else {}),
            "Mounts": _users(host.get("Mounts"), "Target", labels, words),
        },
        "Mounts": _users(found.get("Mounts"), "Destination", labels, words),
    }


def program(words: gate.Words) -> dict[str, list[str] | None]:
    """``Entrypoint`` and ``Cmd`` of a container's configuration."""
    return {"Entrypoint": list(words.entrypoint) or None, "Cmd": list(words.command) or None}


def changed(changes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """``GET /containers/{id}/changes``."""
    return [
        change for change in changes if PurePosixPath(str(change.get("Path"))).parts[1:2] != _ROOM
    ]


def event(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """One event of the engine; the same object: nothing of it is ours."""
    actor = part(said, "Actor")
    attributes = part(actor, "Attributes")
    shown = _shown(attributes)
    shown.pop(engine_socket.LABEL, None)
    if len(shown) == len(attributes):
        return said
    return {**said, "Actor": {**actor, "Attributes": shown}}


def image(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """``GET /images/{name}/json``; the same object: nothing of it is ours."""
    shown = dict(said)
    for where in ("Config", "ContainerConfig"):
        config = part(said, where)
        if _of_image(part(config, "Labels")):
            shown[where] = {**config, "Labels": _without_ours(part(config, "Labels"))}
    return said if shown == said else shown


def emptied(labels: Mapping[str, Any]) -> dict[str, str]:
    """For an image of a container: its labels that are ours, which say nothing there.

    The engine hands all labels of a container on to its image; a value can be changed on the way,
    but no label be left out (moby daemon/commit.go, ``merge``).
    """
    return dict.fromkeys(sorted(_of_image(labels)), "")


def wired(labels: Mapping[str, Any]) -> bool:
    """Whether a container with these labels is one that meshnet puts onto networks."""
    return not _MADE.isdisjoint(labels)


def on_none(said: Mapping[str, Any]) -> str:
    """The container that comes onto the network ``none``, or off it; empty: it is another event."""
    attributes = part(part(said, "Actor"), "Attributes")
    if said.get("Type") == "network" and attributes.get("type") == "null":
        return str(attributes.get("container") or "")
    return ""


_ROOM: Final = PurePosixPath(gate.ROOM).parts[1:2]


def _has_ours(labels: Mapping[str, Any]) -> bool:
    return not HIDDEN.isdisjoint(labels)


def _of_image(labels: Mapping[str, Any]) -> frozenset[str]:
    return (HIDDEN | {engine_socket.LABEL}).intersection(labels)


def _without_ours(labels: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in labels.items() if name not in _of_image(labels)}


def _shown(labels: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in labels.items() if name not in HIDDEN}


def _users(
    mounts: object, target: str, labels: Mapping[str, Any], words: gate.Words
) -> list[Any] | None:
    """Mounts without those that are the gate's and the task's."""
    if not isinstance(mounts, list):
        return None
    files = (container.TASKS, str(labels.get(TASK_LABEL)))
    return [
        mount
        for mount in mounts
        if not isinstance(mount, dict)
        or (
            not (words.init and mount.get(target) == gate.INIT_TARGET)
            and PurePosixPath(str(mount.get(target))).parts[1:2] != _ROOM
            and files not in pairwise(PurePosixPath(str(mount.get("Source"))).parts)
        )
    ]
