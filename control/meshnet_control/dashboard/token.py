"""The token that strangers need for the page: a file of the state directory, root's alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from meshnet_control.served.address import Served

DASHBOARD: Final = Served("dashboard", "the dashboard", 9000)
NAME: Final = "dashboard-token"
_BYTES: Final = 24


def kept(state_dir: Path) -> str:
    """The token; empty: there is none, and nobody has it."""
    try:
        return (state_dir / NAME).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def made(state_dir: Path, *, anew: bool = False) -> str:
    """The token, made when there is none.

    Args:
        state_dir: where it is kept.
        anew: another one; who has the one before sees nothing any more.

    Raises:
        OSError: the disk does not take it.
    """
    there = kept(state_dir)
    if there and not anew:
        return there
    token = secrets.token_urlsafe(_BYTES)
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = state_dir / NAME
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:  # noqa: PTH123 - it is open
        file.write(token + "\n")
    fresh.replace(path)
    return token


def url(state_dir: Path, address: str, *, anew: bool = False) -> str:
    """What to open in a browser, with the token: of this host only logs need it.

    Raises:
        ControlError: it is no address.
        OSError: the disk does not take the token.
    """
    DASHBOARD.parsed(address)
    return f"http://{address}/?token={made(state_dir, anew=anew)}"
