"""Credentials for an image's registry, from ``docker login`` of whoever asks."""

from __future__ import annotations

from typing import Final

from docker import auth, errors

from meshnet_control.stack.values import StackError

HEADER: Final = "X-Registry-Auth"


def header(image: str) -> dict[str, str]:
    """The header that carries them; empty: nobody logged in there.

    Args:
        image: as the engine is told.

    Raises:
        StackError: the image's name or the credential helper makes no sense.
    """
    try:
        registry, _ = auth.resolve_repository_name(image.partition("@")[0])
        known = auth.load_config().resolve_authconfig(registry)
    except errors.DockerException as error:
        raise StackError(f"{image}: {error}") from None
    if not known:
        return {}
    return {HEADER: auth.encode_header(known).decode()}
