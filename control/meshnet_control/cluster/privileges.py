"""What of its host a service asks for beyond Swarm: ``--privileged``, devices, GPUs. Pure.

    meshnet.privileged=true
    meshnet.devices=/dev/fuse,/dev/ttyUSB0:/dev/tty0:rw     host[:container[:permissions]], …
    meshnet.gpus=all        or a number, or device=0,1

Labels of the service, as Swarm has no field for it. Only a node that was started with ``meshnet up
--allow-privileged`` runs such a task: the scheduler goes by the label that the node has among its
engine's, and the node itself by its own file, whatever a manager says.

Source: docker/cli opts/gpus.go, cli/command/container/opts.go (parseLinuxDevice).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from meshnet.errors import ControlError

PRIVILEGED: Final = "meshnet.privileged"
DEVICES: Final = "meshnet.devices"
GPUS: Final = "meshnet.gpus"
LABELS: Final = frozenset({PRIVILEGED, DEVICES, GPUS})
NODE_LABEL: Final = PRIVILEGED
"""Among the labels of a node's engine: it allows this."""
_YES: Final = frozenset({"1", "true", "yes"})
_NO: Final = frozenset({"", "0", "false", "no"})
_MOST_PARTS, _DIGITS = 3, 3


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the host in a container."""

    host: str
    container: str
    permissions: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a service asks for."""

    privileged: bool = False
    devices: tuple[Device, ...] = ()
    gpus: tuple[int, tuple[str, ...]] | None = None
    """How many (-1: all), or which."""

    @property
    def anything(self) -> bool:
        """Whether it needs a node that allows it."""
        return self != Asked()

    def __str__(self) -> str:
        """What such a service is: ``privileged services``, ``services with devices and GPUs``."""
        things = (("devices", bool(self.devices)), ("GPUs", self.gpus is not None))
        named = " and ".join(name for name, there in things if there)
        what = "privileged services" if self.privileged else "services"
        return f"{what} with {named}" if named else what

    @property
    def refusal(self) -> str:
        """What a node says that does not allow it."""
        return f"this node allows no {self}: meshnet up --allow-privileged"

    def host_config(self) -> dict[str, Any]:
        """Its part of the engine's ``HostConfig``."""
        config: dict[str, Any] = {}
        if self.privileged:
            config["Privileged"] = True
        if self.devices:
            config["Devices"] = [
                {
                    "PathOnHost": each.host,
                    "PathInContainer": each.container,
                    "CgroupPermissions": each.permissions,
                }
                for each in self.devices
            ]
        if self.gpus is not None:
            count, ids = self.gpus
            request = {"Count": count, "DeviceIDs": list(ids) or None, "Capabilities": [["gpu"]]}
            config["DeviceRequests"] = [request]
        return config


def asked(labels: Mapping[str, str]) -> Asked:
    """What a service with these labels asks for.

    Raises:
        ControlError: a label that is one of these and makes no sense.
    """
    said = labels.get(PRIVILEGED, "").lower()
    if said not in _YES | _NO:
        raise ControlError(f"invalid {PRIVILEGED} {labels[PRIVILEGED]!r}: must be true or false")
    devices = filter(None, labels.get(DEVICES, "").split(","))
    gpus = labels.get(GPUS, "")
    return Asked(said in _YES, tuple(map(_device, devices)), _gpus(gpus) if gpus else None)


def allowed(engine_labels: Mapping[str, str]) -> bool:
    """Whether a node says that it allows this."""
    return engine_labels.get(NODE_LABEL) == "true"


def fits(labels: Mapping[str, str], engine_labels: Mapping[str, str]) -> bool:
    """Whether a node allows what a service asks for; what cannot be read it refuses itself."""
    try:
        wanted = asked(labels)
    except ControlError:
        return True
    return not wanted.anything or allowed(engine_labels)


def _device(said: str) -> Device:
    parts = said.split(":")
    host, rest = parts[0], parts[1:]
    permissions = "rwm"
    if rest and _permissions(rest[-1]):
        permissions = rest.pop()
    container = rest[0] if rest else host
    absolute = host.startswith("/") and container.startswith("/")
    if len(parts) > _MOST_PARTS or len(rest) > 1 or not absolute:
        raise ControlError(f"invalid device specification: {said}")
    return Device(host, container, permissions)


def _permissions(said: str) -> bool:
    return bool(said) and set(said) <= set("rwm") and len(set(said)) == len(said)


def _gpus(said: str) -> tuple[int, tuple[str, ...]]:
    if said == "all":
        return -1, ()
    name, found, ids = said.partition("=")
    which = tuple(filter(None, ids.split(",")))
    if found and name == "device" and which:
        return 0, which
    if said.isascii() and said.isdigit() and len(said) <= _DIGITS and int(said):
        return int(said), ()
    raise ControlError(f"invalid {GPUS} {said!r}: must be all, a number, or device=ID,ID")
