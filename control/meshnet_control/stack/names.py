"""What things of a stack are called in the cluster: ``demo_web``, unless they have a name. Pure.

Source: docker/cli cli/compose/convert/compose.go (Namespace) and volume.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from meshnet_control.stack.values import Section, StackError

NAMESPACE: Final = "com.docker.stack.namespace"
IMAGE: Final = "com.docker.stack.image"
DATA: Final = "x-data"
"""Key under which the bytes of a secret or config are put into a tree."""
KINDS: Final = ("networks", "volumes", "secrets", "configs")
_ENGINES: Final = frozenset({"host", "bridge", "none"})


@dataclass(slots=True)
class Names:
    """The names of one stack.

    Args:
        stack: its name.
        sections: what the file says of networks, volumes, secrets and configs, by kind and key.
    """

    stack: str
    sections: dict[str, dict[str, Section]]
    used: set[tuple[str, str]] = field(default_factory=set)
    """(kind, key) of what services use."""

    def scoped(self, key: str) -> str:
        """``demo_web``."""
        return f"{self.stack}_{key}"

    def labelled(self, labels: dict[str, str]) -> dict[str, str]:
        """Labels with that of the stack."""
        return {**labels, NAMESPACE: self.stack}

    def known(self, kind: str, key: str, where: str) -> str:
        """The name in the cluster of what a service uses.

        Raises:
            StackError: the file says nothing of it.
        """
        if kind == "networks" and key == "default":
            self.sections[kind].setdefault(key, Section(None, "networks.default"))
        found = self.sections[kind].get(key)
        if found is None:
            raise StackError(f"{where}: there is no {key} in {kind}")
        self.used.add((kind, key))
        return self.name(kind, key)

    def name(self, kind: str, key: str) -> str:
        """The name in the cluster of one that the file tells of."""
        section = self.sections[kind][key]
        named = section.text("name")
        if self.external(kind, key):
            said = section.take("external")
            old = said.get("name") if isinstance(said, dict) else None
            return named or str(old or key)
        return named or self.scoped(key)

    def external(self, kind: str, key: str) -> bool:
        """It is not the stack's to make."""
        section = self.sections[kind][key]
        return isinstance(section.take("external"), dict) or section.boolean("external")

    def volume(self, key: str, where: str) -> dict[str, Any]:
        """Source and VolumeOptions of a named volume."""
        name = self.known("volumes", key, where)
        section = self.sections["volumes"][key]
        if self.external("volumes", key):
            return {"Source": name, "VolumeOptions": {}}
        options: dict[str, Any] = {"Labels": self.labelled(section.labels())}
        driver, more = section.text("driver"), section.labels("driver_opts")
        if driver or more:
            config = {"Name": driver, "Options": more}
            options["DriverConfig"] = {key: value for key, value in config.items() if value}
        return {"Source": name, "VolumeOptions": options}

    def is_engines(self, network: str) -> bool:
        """A network that every engine has by itself: it takes no aliases."""
        return network in _ENGINES
