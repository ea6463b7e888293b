"""Options of the host's resolv.conf, which a container of ours gets unless it has its own.

The engine takes the host's search domains and options where a container names none of that kind;
as we name an option (``ndots:0``), we take over the others, as it does on a network that a user
made.

Source: moby libnetwork/sandbox_dns_unix.go (rebuildDNS), resolvconf.Path: where systemd-resolved
is all that the file names, its own file is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from meshnet_control.agent import attached_files

FILE: Final = Path("/etc/resolv.conf")
RESOLVED: Final = Path("/run/systemd/resolve/resolv.conf")
_STUB: Final = ("127.0.0.53",)


def options(file: Path = FILE, resolved: Path = RESOLVED) -> tuple[str, ...]:
    """Those of the host as they are now; none where there is no such file."""
    text = _text(file)
    if attached_files.name_servers(text) == _STUB:
        text = _text(resolved) or text
    return attached_files.options(text)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
