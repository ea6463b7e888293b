"""A program of this machine as what ``docker import`` reads."""

from __future__ import annotations

from pathlib import Path

from meshnet_control.lab import images


def program(path: str) -> bytes:
    """A tar file with one program of this machine, its libraries, and what all images have."""
    files = images._base() | images._with_libraries([Path(path)])
    return images.layer(files)
