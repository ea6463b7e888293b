"""What is remembered of a container of ``docker run`` on overlay networks.

``<state dir>/attached/<key>/``, over a reboot, for as long as there is the container:

```
 record.json  the networks that it is to be on, and what it was given there
 gate         FIFO that its shell waits at, at each start
```

Be aware: the engine starts containers after a boot by itself, and their gate must be there by then:
so it is in the state directory, not in the run directory.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from dataclasses import asdict, dataclass, fields, replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from pathlib import Path
from typing import Any, Final, Self, cast

from meshnet.model.snapshot import Protocol, PublishedPort

_log = logging.getLogger(__name__)

ATTACHED: Final = "attached"
"""In the state directory: what is remembered of all containers."""
LABEL: Final = "meshnet.attached"
"""Of a container that waits at a gate: its key."""
_RECORD: Final = "record.json"


@dataclass(frozen=True, slots=True)
class Place:
    """A network that a container is to be on."""

    network: str
    """ID."""
    name: str
    number: int
    """Of its interface."""
    aliases: tuple[str, ...] = ()
    asked: str = ""
    """Address that it must have, without a length; empty: any."""
    given: str = ""
    """Address with its length, from the managers; empty: none yet."""
    made: int = 0
    """When it was given, nanoseconds since 1970."""
    internal: bool = False
    asked6: str = ""
    given6: str = ""
    """The same of IPv6."""


@dataclass(frozen=True, slots=True)
class Record:
    """A container, and where it is to be."""

    key: str
    """25 base-36 characters: what the data plane calls its sandbox."""
    container: str = ""
    """ID, 64 hex digits; empty: not made yet."""
    places: tuple[Place, ...] = ()
    gated: bool = False
    opened: str = ""
    """When the engine started it, as it says, that time the gate was opened for."""
    gateway: str = ""
    """Address on docker_gwbridge, with its length; empty: none yet."""
    gateway_number: int = 0
    first_number: int = 0
    """Of its interfaces that are ours; those before it are the engine's to give."""
    ports: tuple[tuple[str, int, int], ...] = ()
    """(protocol, in the container, on the host)."""
    upstreams: tuple[str, ...] = ()
    """Name servers of its own."""

    @property
    def leads_out(self) -> bool:
        """One of its networks has a way out, by docker_gwbridge."""
        return any(not place.internal for place in self.places)

    @property
    def published(self) -> tuple[PublishedPort, ...]:
        """Its ports on this host."""
        return tuple(
            PublishedPort(cast("Protocol", protocol), target, published, "host")
            for protocol, target, published in self.ports
        )

    @property
    def free_number(self) -> int:
        """The lowest number that one more interface of ours can have."""
        taken = {place.number for place in self.places} | {self.gateway_number}
        return next(n for n in range(self.first_number, 1 << 16) if n not in taken)

    def place(self, network: str) -> Place | None:
        """Where it is to be on a network."""
        return next((place for place in self.places if place.network == network), None)

    def with_place(self, place: Place) -> Self:
        """The same with a place, instead of the one on that network if there is one."""
        others = [p for p in self.places if p.network != place.network]
        return replace(self, places=tuple(sorted([*others, place], key=lambda p: p.number)))

    def behind(self, first: int) -> Self:
        """The same with interfaces from that number on: those before it are the engine's."""
        by = first - self.first_number
        places = tuple(replace(place, number=place.number + by) for place in self.places)
        number = self.gateway_number + by
        return replace(self, places=places, gateway_number=number, first_number=first)

    def without_addresses(self) -> Self:
        """The same without what the managers gave."""
        return replace(
            self, places=tuple(replace(p, given="", given6="", made=0) for p in self.places)
        )

    def without(self, network: str) -> Self:
        """The same without its place on a network."""
        return replace(self, places=tuple(p for p in self.places if p.network != network))


class RecordDir:
    """The files of one container.

    Args:
        parent: directory of all.
        key: of the container.
    """

    def __init__(self, parent: Path, key: str) -> None:
        self.path = parent / key
        self.gate = self.path / "gate"

    def write(self, record: Record) -> None:
        """Keeps it, all or nothing.

        Raises:
            OSError: the disk does not take it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.mkdir(exist_ok=True, mode=0o711)
        fresh = self.path / f"{_RECORD}.new"
        fresh.write_text(json.dumps(asdict(record)))
        fresh.replace(self.path / _RECORD)

    def remove(self) -> None:
        """Removes everything; gone already is success."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path)


def load(parent: Path) -> list[Record]:
    """Every record there is; one that cannot be read is said in the log and left alone."""
    found: list[Record] = []
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(parent.iterdir()):
            try:
                found.append(_record(json.loads((path / _RECORD).read_text())))
            except (OSError, ValueError, TypeError, KeyError) as error:
                _log.warning(
                    "%s: what is remembered of a container cannot be read: %s", path, error
                )
    return found


def _record(said: dict[str, Any]) -> Record:
    """Raises ValueError, TypeError or KeyError: it is none."""
    known = {each.name for each in fields(Record)}
    values = {key: value for key, value in said.items() if key in known}
    values["places"] = tuple(_place(each) for each in said["places"])
    values["ports"] = tuple((str(a), int(b), int(c)) for a, b, c in said.get("ports", ()))
    values["upstreams"] = tuple(str(ip_address(server)) for server in said.get("upstreams", ()))
    record = Record(**values)
    for given in (*(place.given for place in record.places), record.gateway):
        if given:
            IPv4Interface(given)
    for second in (place.given6 for place in record.places):
        if second:
            IPv6Interface(second)
    return record


def _place(said: dict[str, Any]) -> Place:
    known = {each.name for each in fields(Place)}
    values: dict[str, Any] = {key: value for key, value in said.items() if key in known}
    values["aliases"] = tuple(map(str, said.get("aliases", ())))
    return Place(**values)
