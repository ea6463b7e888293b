"""Which images of a stack are looked up in their registries, and what becomes of them then. Pure.

=========  =====================================================================================
always     every image, at each deployment: a tag that was pushed anew rolls its services
changed    images of new services, and those that the file names otherwise than before
never      none
=========  =====================================================================================
A service whose image is not looked up, or is in no registry that answers, keeps the digest that it
has while the file names the same image. The docker CLI takes the tag in the latter case and rolls
the service for nothing.

Source: docker/cli command/stack/swarm/deploy_composefile.go; moby client/service_create.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from meshnet_control.stack.model import Stack
from meshnet_control.stack.names import IMAGE
from meshnet_control.stack.plan import Json

ALWAYS, CHANGED, NEVER = MODES = ("always", "changed", "never")
_HUB: Final = ("docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/")
"""Left out of names that are shown."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a registry says of an image."""

    digest: str
    """``sha256:…``."""
    platforms: tuple[tuple[str, str], ...] = ()
    """Operating system and architecture, of each."""


def found(said: Mapping[str, Any]) -> Found:
    """An answer of ``GET /distribution/{name}/json``."""
    platforms = (
        # Nodes say armv7l where images say arm.
        (str(each.get("os") or ""), "" if arch.lower() == "arm" else arch)
        for each in said.get("Platforms") or ()
        for arch in [str(each.get("architecture") or "")]
    )
    return Found(str(said["Descriptor"]["digest"]), tuple(platforms))


def tagged(image: str) -> str:
    """An image with its tag, ``latest`` where it has none."""
    whole = "@" in image or ":" in image.rpartition("/")[2]
    return image if whole else f"{image}:latest"


def due(stack: Stack, services: Iterable[Json], mode: str) -> list[str]:
    """The images to look up, as the file names them.

    Args:
        stack: what is wanted.
        services: that are there.
        mode: one of ``MODES``.
    """
    there = {str(each["Spec"]["Name"]): each["Spec"] for each in services}
    wanted = (
        named(spec)
        for name, spec in stack.services.items()
        if mode == ALWAYS or (mode == CHANGED and named(there.get(name, {})) != named(spec))
    )
    return sorted(set(wanted))


def named(spec: Mapping[str, Any]) -> str:
    """The image of a service as the file named it; empty: it is of no file."""
    return str((spec.get("Labels") or {}).get(IMAGE) or "")


def resolved(stack: Stack, answers: Mapping[str, Found]) -> Stack:
    """A stack whose images are tagged, and pinned to what registries said of them.

    Args:
        stack: what is wanted.
        answers: by image, as the file names it.
    """
    services = {
        name: _resolved(spec, answers.get(named(spec))) for name, spec in stack.services.items()
    }
    return replace(stack, services=services)


def _resolved(spec: Json, answer: Found | None) -> Json:
    template = spec["TaskTemplate"]
    image = tagged(str(template["ContainerSpec"]["Image"]))
    placement = dict(template.get("Placement") or {})
    if answer is not None:
        if "@" not in image:
            hub = next((prefix for prefix in _HUB if image.startswith(prefix)), "")
            image = f"{image.removeprefix(hub)}@{answer.digest}"
        if answer.platforms:
            placement["Platforms"] = [
                {"Architecture": architecture, "OS": system}
                for system, architecture in answer.platforms
            ]
    container = {**template["ContainerSpec"], "Image": image}
    own = {"ContainerSpec": container, **({"Placement": placement} if placement else {})}
    return {**spec, "TaskTemplate": {**template, **own}}
