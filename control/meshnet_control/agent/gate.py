"""The gate: a task's program does not start before its network is wired.

Pure; the FIFO itself is made and opened by ``gate_fifo``.
The container runs a shell of our own (the host's static busybox, bind-mounted) that waits for one
line on a FIFO and then becomes the program: same PID, same user, same argv. Works for images
without a shell, for read-only root filesystems and for any user. Only a whole line opens the gate:
a FIFO that cannot be read, or whose writer died before it wrote, is waited at again.

Be aware: busybox prefers its own applets to programs in PATH, so the script looks the program up
itself and runs it by its full path with the argv[0] it was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

BUSYBOX: Final = Path("/bin/busybox")
"""The host's busybox; must be static."""
SHELL_TARGET: Final = "/.meshnet/busybox"
GATE_TARGET: Final = "/.meshnet/gate"
FAILED_PREFIX: Final = "starting container failed: exec: "
"""How the script's complaint starts, as a real engine's does (runc)."""
FAILED_CODES: Final = frozenset({126, 127})
"""POSIX shell, section 2.8.2: found but not executable; not found."""

_SCRIPT: Final = """until read _ < /.meshnet/gate; do /.meshnet/busybox sleep 0.1; done
p=
case $1 in
*/*) p=$1 ;;
*) IFS=:; for d in $PATH; do [ -f "$d/$1" ] && [ -x "$d/$1" ] && p=$d/$1 && break; done ;;
esac
unset IFS d
no() { echo "starting container failed: exec: \\"$1\\": $2" >&2; exit "$3"; }
[ -n "$p" ] || no "$1" 'executable file not found in $PATH' 127
[ -e "$p" ] || no "$1" "stat $p: no such file or directory" 127
[ -d "$p" ] && no "$1" 'is a directory' 126
[ -x "$p" ] || no "$1" 'permission denied' 126
n=$1; shift
exec -a "$n" "$p" "$@"
"""


def wrapped(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Entrypoint and command of a container that waits at the gate before it runs ``argv``."""
    return [SHELL_TARGET, "sh", "-c", _SCRIPT, "meshnet"], list(argv)
