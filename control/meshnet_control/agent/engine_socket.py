"""docker.sock in a container is the swarm's: what is mounted in its place, what is shown. Pure.

``-v /var/run/docker.sock:/var/run/docker.sock`` gives a container meshnet's socket, where the
engine's own commands and the cluster's are, as in Swarm. What the user gave is kept in a label, and
that is what is shown. ``meshnet.engine-socket=true``, as a label of the container or service, has
it be the engine's own.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from meshnet_control.convert.json_text import part

OPT_OUT: Final = "meshnet.engine-socket"
LABEL: Final = "meshnet.socket"
"""JSON: ``Path``, what is mounted, and ``Given``: target -> the user's mount or bind."""
_NAMES: Final = frozenset(
    {"/var/run/docker.sock", "/run/docker.sock", "/run/meshnet/docker.sock"},
)
_LENT: Final = "engine/docker.sock"
"""In the state directory."""
_PROPAGATION: Final = "rslave"
"""What is mounted over the file later is mounted in the container, too."""
_PROPAGATIONS: Final = frozenset({"shared", "rshared", "slave", "rslave", "private", "rprivate"})
_BIND_PARTS: Final = 2
"""Source and target; options are third."""


def lent_path(state_dir: Path) -> Path:
    """The file that is mounted in place of docker.sock."""
    return state_dir / _LENT


def wants_engines(labels: Mapping[str, Any]) -> bool:
    """Whether the engine's own socket is asked for."""
    return str(labels.get(OPT_OUT, "")).lower() in {"1", "true", "yes"}


def lent(body: Mapping[str, Any], socket: Path) -> Mapping[str, Any]:
    """A container as it is created; the same object: it has no docker.sock.

    Args:
        body: of ``POST /containers/create``.
        socket: what it gets.
    """
    host, labels = part(body, "HostConfig"), part(body, "Labels")
    if wants_engines(labels):
        return body
    given: dict[str, Any] = {}
    changed: dict[str, Any] = {}
    binds, mounts = host.get("Binds"), host.get("Mounts")
    if isinstance(binds, list):
        changed["Binds"] = [_lent_bind(bind, socket, given) for bind in binds]
    if isinstance(mounts, list):
        changed["Mounts"] = [_lent_mount(mount, socket, given) for mount in mounts]
    if not given:
        return body
    label = json.dumps({"Path": str(socket), "Given": given})
    return {**body, "HostConfig": {**host, **changed}, "Labels": {**labels, LABEL: label}}


def listed(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """One of ``GET /containers/json``; the same object: it has no docker.sock."""
    labels = part(entry, "Labels")
    path, given = _given(labels)
    if not path:
        return entry
    mounts = _shown(entry.get("Mounts"), path, given)
    return {**entry, "Labels": _others(labels), "Mounts": mounts}


def inspected(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """``GET /containers/{id}/json``; the same object: it has no docker.sock."""
    config, host = part(found, "Config"), part(found, "HostConfig")
    labels = part(config, "Labels")
    path, given = _given(labels)
    if not path:
        return found
    own: dict[str, Any] = {}
    if isinstance(host.get("Binds"), list):
        own["Binds"] = [_own_bind(bind, path, given) for bind in host["Binds"]]
    if isinstance(host.get("Mounts"), list):
        own["Mounts"] = [_own_mount(mount, path, given) for mount in host["Mounts"]]
    return {
        **found,
        "Config": {**config, "Labels": _others(labels)},
        "HostConfig": {**host, **own},
        "Mounts": _shown(found.get("Mounts"), path, given),
    }


# ---- inside ----


def _is_docker_sock(source: object) -> bool:
    return isinstance(source, str) and posixpath.normpath(source) in _NAMES


def _lent_bind(bind: object, socket: Path, given: dict[str, Any]) -> object:
    """``source:target[:options]``."""
    parts = bind.split(":") if isinstance(bind, str) else []
    if len(parts) < _BIND_PARTS or not _is_docker_sock(parts[0]):
        return bind
    given[posixpath.normpath(parts[1])] = bind
    options = [word for word in ",".join(parts[2:]).split(",") if word]
    kept = [word for word in options if word not in _PROPAGATIONS]
    return ":".join([str(socket), parts[1], ",".join([*kept, _PROPAGATION])])


def _lent_mount(mount: object, socket: Path, given: dict[str, Any]) -> object:
    if not isinstance(mount, dict) or mount.get("Type") != "bind":
        return mount
    if not _is_docker_sock(mount.get("Source")) or not isinstance(mount.get("Target"), str):
        return mount
    given[posixpath.normpath(mount["Target"])] = mount
    options = {**part(mount, "BindOptions"), "Propagation": _PROPAGATION}
    return {**mount, "Source": str(socket), "BindOptions": options}


def _given(labels: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """What is mounted, and what was given for it; empty: nothing.

    Anybody may set the label: it is believed of no other file, and of no other thing given.
    """
    try:
        said = json.loads(labels[LABEL])
        path, given = said["Path"], said["Given"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return "", {}
    if not isinstance(path, str) or not path.endswith(f"/{_LENT}") or not isinstance(given, dict):
        return "", {}
    return path, {target: own for target, own in given.items() if _is_docker_sock(_source(own))}


def _source(own: object) -> object:
    """Of a mount or a bind."""
    if isinstance(own, str):
        return own.partition(":")[0]
    return own.get("Source") if isinstance(own, dict) else None


def _own_bind(bind: object, path: str, given: Mapping[str, Any]) -> object:
    parts = bind.split(":") if isinstance(bind, str) else []
    if len(parts) < _BIND_PARTS or parts[0] != path:
        return bind
    own = given.get(posixpath.normpath(parts[1]))
    return own if isinstance(own, str) else bind


def _own_mount(mount: object, path: str, given: Mapping[str, Any]) -> object:
    if not isinstance(mount, dict) or mount.get("Source") != path:
        return mount
    own = given.get(posixpath.normpath(str(mount.get("Target"))))
    return own if isinstance(own, dict) else mount


def _shown(mounts: object, path: str, given: Mapping[str, Any]) -> object:
    """Mount points, which the engine makes of both forms."""
    if not isinstance(mounts, Sequence) or isinstance(mounts, str):
        return mounts
    return [_point(mount, path, given) for mount in mounts]


def _point(mount: object, path: str, given: Mapping[str, Any]) -> object:
    if not isinstance(mount, dict) or mount.get("Source") != path:
        return mount
    own = given.get(posixpath.normpath(str(mount.get("Destination"))))
    if isinstance(own, str):
        source, _, *options = own.split(":")
        said = [word for word in ",".join(options).split(",") if word in _PROPAGATIONS]
        mode = ",".join(options)
    elif isinstance(own, dict):
        source, mode = str(own.get("Source")), mount.get("Mode", "")
        said = [str(part(own, "BindOptions").get("Propagation") or "")]
    else:
        return mount
    propagation = next(filter(None, said), "rprivate")
    return {**mount, "Source": source, "Mode": mode, "Propagation": propagation}


def _others(labels: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in labels.items() if name != LABEL}
