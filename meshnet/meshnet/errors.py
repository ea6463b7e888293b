"""Every error meshnet raises on purpose. Fields, not sentences: ``__str__`` builds the sentence."""

from __future__ import annotations

import errno as codes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

KernelObject: TypeAlias = tuple[str | None, str]
"""(network namespace, link): a path, None for the host's; a name, "" for all of the namespace."""

E = TypeVar("E", bound="MeshnetError")


class MeshnetError(Exception):
    """Base of all errors that meshnet expects and explains."""

    about: frozenset[KernelObject] = frozenset()
    """What of the kernel's it happened to; empty: to all that was asked for."""


def about(error: E, *objects: KernelObject) -> E:
    """The same error, and what it happened to; who knows best speaks first."""
    error.about = error.about or frozenset(objects)
    return error


@dataclass
class ConfigError(MeshnetError):
    """A setting that cannot be used, and where it came from."""

    key: str
    value: str
    source: str
    why: str

    def __str__(self) -> str:
        return f"{self.source}: {self.key} = {self.value!r}: {self.why}"


@dataclass
class KernelError(MeshnetError):
    """The kernel refused an operation; ``errno`` is kept for callers that tell cases apart."""

    op: str
    target: str
    errno: int

    def __str__(self) -> str:
        return f"{self.op} {self.target}: {os.strerror(self.errno)}"


class NotFoundError(KernelError):
    """The object is not there (ENOENT, ENODEV, ESRCH)."""


class AlreadyExistsError(KernelError):
    """The object is there already (EEXIST)."""


class NotSupportedError(KernelError):
    """This kernel cannot do it (EOPNOTSUPP)."""


_NOT_THERE: Final = frozenset({codes.ENOENT, codes.ENODEV, codes.ESRCH, codes.EADDRNOTAVAIL})


def kernel_error(op: str, target: str, number: int) -> KernelError:
    """The typed error of an errno (errno(3))."""
    if number in _NOT_THERE:
        return NotFoundError(op, target, number)
    if number == codes.EEXIST:
        return AlreadyExistsError(op, target, number)
    if number == codes.EOPNOTSUPP:
        return NotSupportedError(op, target, number)
    return KernelError(op, target, number)


@dataclass
class SubnetTakenError(MeshnetError):
    """The ingress network would take this host's way to some of its neighbours."""

    subnet: str
    route: str

    def __str__(self) -> str:
        return (
            f"the ingress network {self.subnet} overlaps {self.route}, a route of this host: "
            "make the ingress network anew with another subnet (docker network rm ingress; "
            "docker network create -d overlay --ingress --subnet ... ingress)"
        )


@dataclass
class WireError(MeshnetError):
    """A peer sent bytes that are not ours to accept: count, drop, go on."""

    peer: str
    why: str

    def __str__(self) -> str:
        return f"from {self.peer}: {self.why}"


class CapacityError(MeshnetError):
    """Something finite ran out."""


@dataclass
class PoolExhaustedError(CapacityError):
    """An address, VNI or port pool has no free member."""

    pool: str
    what: str

    def __str__(self) -> str:
        return f"could not find an available {self.what} in {self.pool}"


@dataclass
class ControlError(MeshnetError):
    """A request to the control plane that is refused; ``message`` is what the user reads."""

    message: str
    status: int = 400

    def __str__(self) -> str:
        return self.message


def single(group: BaseExceptionGroup[MeshnetError]) -> Iterator[MeshnetError]:
    """Each error of a group, those of nested groups too."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from single(error)
        else:
            yield error
