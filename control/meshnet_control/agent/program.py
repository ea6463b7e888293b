"""Is a task's program in its container? Asked before it starts, of the engine, file by file.

``find`` is a generator: it yields paths inside the container, is sent what is there (``Found``, or
None: nothing), and returns whether the program can be run. Pure.

A program that is not there is no business of the gate: the container is made without one, and the
engine refuses to start it in its own words, as it does in Swarm. "Cannot be said" is never "not
there": who asks takes an error of the engine for a program that is.

Source: runc libcontainer/standard_init_linux.go, which asks Go's exec.LookPath.
"""

from __future__ import annotations

import posixpath
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

from meshnet_control.agent.gate import Words
from meshnet_control.engine.files import Found

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Of a container without PATH. Source: moby oci/defaults.go ``DefaultPathEnv``."""
ProgramKey = tuple[str, str, str, str]
"""Image, name, PATH, working directory."""
_MOST_LINKS: Final = 8
_MOST_PLACES: Final = 64
"""Directories of PATH that are looked into; a longer one is the gate's to look through."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a container runs, and all that decides which file that is."""

    words: Words
    image: str
    """ID."""
    path: str
    """PATH."""
    directory: str
    """The working directory."""

    @property
    def key(self) -> ProgramKey:
        """Programs with the same are the same file."""
        return self.image, self.words.argv[0], self.path, self.directory

    @property
    def places(self) -> list[str]:
        """Where it may be, as absolute paths, in order."""
        name = self.words.argv[0]
        if "/" in name:
            return [self._absolute(name)]
        return [self._absolute(posixpath.join(place, name)) for place in self.path.split(":")]

    def _absolute(self, path: str) -> str:
        return posixpath.normpath(posixpath.join("/", self.directory, path))


def find(program: Program) -> Generator[str, Found | None, bool]:
    """Looks for a program; see above."""
    places = program.places
    if len(places) > _MOST_PLACES:
        return True
    for place in places:
        path = place
        for _ in range(_MOST_LINKS):
            found = yield path
            if found is None or not found.target or found.target == path:
                break
            path = found.target
        else:
            return True  # too many links for us
        if found is not None and found.executable:
            return True
    return False
