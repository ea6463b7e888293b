"""The lab's one kind of error."""

from __future__ import annotations

from meshnet.errors import MeshnetError


class LabError(MeshnetError):
    """The lab cannot do what was asked; the sentence says why."""
