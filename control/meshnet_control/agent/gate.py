"""The gate: a task's program does not start before its network is wired.

Pure; the FIFO itself is made and opened by ``gate_fifo``.
The container runs a shell of our own (the host's static busybox, bind-mounted) that waits for one
line on a FIFO and then becomes the program: same PID, same user, same argv, same environment. Works
for images without a shell, for read-only root filesystems and for any user. Only a whole line opens
the gate: a FIFO that cannot be read, or whose writer died before it wrote, is waited at again.

Where an init is asked for the shell becomes docker-init, of which the program is the child: the
engine would put docker-init before the shell, and the shell would stay in its argv.

What of the container shows the gate is told apart by ``ROOM`` and ``INIT_TARGET``; what its
user gave is in ``COMMAND_LABEL``, and that is what is shown of it (``gateway.own_words``).

Be aware: busybox prefers its own applets to programs in PATH, so the script looks the program up
itself and runs it by its full path with the argv[0] it was asked for. A shell hands on only what it
takes for variables, and has some of its own: the others go through ``env``, where argv[0] becomes
the full path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from meshnet.patterns import Pattern

BUSYBOX: Final = Path("/bin/busybox")
"""The host's busybox; must be static."""
ROOM: Final = "/.meshnet"
"""Where a container of ours has what the gate needs."""
SHELL_TARGET: Final = f"{ROOM}/busybox"
GATE_TARGET: Final = f"{ROOM}/gate"
INIT_TARGET: Final = "/sbin/docker-init"
"""The engine's place for docker-init. Source: moby daemon/oci_linux.go ``inContainerInitPath``."""
COMMAND_LABEL: Final = "meshnet.command"
"""JSON: ``Entrypoint`` and ``Cmd`` as the engine would have them without the gate; ``Init``."""
FAILED_PREFIX: Final = "starting container failed: exec: "
"""How the script's complaint starts, as a real engine's does (runc)."""
FAILED_CODES: Final = frozenset({126, 127})
"""POSIX shell, section 2.8.2: found but not executable; not found."""

_SCRIPT: Final = """until read meshnet_p < /.meshnet/gate; do /.meshnet/busybox sleep 0.1; done
meshnet_k=$1; shift
meshnet_i=$meshnet_k
while [ $meshnet_i -gt 0 ]; do set -- "$@" "$1"; shift; meshnet_i=$((meshnet_i - 1)); done
meshnet_n=$1; shift
meshnet_p=
case $meshnet_n in
*/*) meshnet_p=$meshnet_n ;;
*) IFS=:; for meshnet_d in $PATH; do meshnet_d=${meshnet_d:-.}/$meshnet_n
[ -f "$meshnet_d" ] && [ -x "$meshnet_d" ] && meshnet_p=$meshnet_d && break; done ;;
esac
no() { echo "starting container failed: exec: \\"$meshnet_n\\": $1" >&2; exit "$2"; }
[ -n "$meshnet_p" ] || no 'executable file not found in $PATH' 127
[ -e "$meshnet_p" ] || no "stat $meshnet_p: no such file or directory" 127
[ -d "$meshnet_p" ] && no 'is a directory' 126
[ -x "$meshnet_p" ] || no 'permission denied' 126
meshnet_i=$(($# - meshnet_k))
unset IFS PWD OLDPWD SHLVL _ meshnet_d
if [ $meshnet_k -eq 0 ]; then
unset meshnet_k meshnet_i
exec -a "$meshnet_n" "$meshnet_p" "$@"
fi
set -- "$@" "$meshnet_p"
while [ $meshnet_i -gt 0 ]; do set -- "$@" "$1"; shift; meshnet_i=$((meshnet_i - 1)); done
exec /.meshnet/busybox env "$@"
"""
_VARIABLE: Final = Pattern("[A-Za-z_][A-Za-z0-9_]*", longest=4096)
_SHELLS_OWN: Final = frozenset(
    {
        "EPOCHREALTIME", "EPOCHSECONDS", "HISTFILE", "IFS", "LINENO", "MAIL", "MAILPATH", "OLDPWD",
        "OPTIND", "PPID", "PS1", "PS2", "PS4", "PWD", "RANDOM", "SHLVL", "_",
    }
)  # fmt: skip
"""Variables that busybox's shell sets, or reads as its own."""


@dataclass(frozen=True, slots=True)
class Words:
    """A program as its user gave it, or the image: what the engine shows of a container."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    init: bool = False
    """The gate becomes docker-init, which runs it."""

    @property
    def argv(self) -> tuple[str, ...]:
        """What is run."""
        return (*self.entrypoint, *self.command)

    @property
    def process(self) -> tuple[str, ...]:
        """The first process. Source of docker-init's words: moby daemon/oci_linux.go."""
        return (INIT_TARGET, "--", *self.argv) if self.init else self.argv

    @property
    def shown(self) -> str:
        """COMMAND of ``docker ps``. Source: moby container/view.go, ``transform``."""
        head, *rest = self.argv or ("",)
        return " ".join([head, *(f"'{word}'" if " " in word else word for word in rest)])

    def label(self) -> str:
        """For ``COMMAND_LABEL``."""
        said = {"Entrypoint": self.entrypoint or None, "Cmd": self.command or None}
        return json.dumps(said | ({"Init": True} if self.init else {}))


def words_of(entrypoint: Sequence[str], command: Sequence[str], image: Mapping[str, Any]) -> Words:
    """What the engine makes of a user's words and an image's.

    Args:
        entrypoint: the user's; empty: none.
        command: the user's; empty: none.
        image: ``Config`` of ``GET /images/{name}/json``.

    An entrypoint of one's own drops the image's command. Source: moby daemon/commit.go, ``merge``.
    """
    if entrypoint:
        return Words(tuple(entrypoint), tuple(command))
    return Words(
        tuple(image.get("Entrypoint") or ()), tuple(command) or tuple(image.get("Cmd") or ())
    )


def words_in(labels: Mapping[str, str]) -> Words | None:
    """What a container with a gate was to run; None: it has none."""
    try:
        found = json.loads(labels[COMMAND_LABEL])
        entrypoint, command = tuple(found["Entrypoint"] or ()), tuple(found["Cmd"] or ())
        return Words(entrypoint, command, init=found.get("Init") is True)
    except (KeyError, TypeError, ValueError):
        return None


def wrapped(argv: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Entrypoint and command of a container that waits at the gate before it runs ``argv``.

    Args:
        argv: of the program.
        environment: what the container is made with, the image's variables included.
    """
    others = [
        f"{name}={value}"
        for name, value in environment.items()
        if _VARIABLE.match(name) is None or name in _SHELLS_OWN
    ]
    return [SHELL_TARGET, "sh", "-c", _SCRIPT, "meshnet", str(len(others)), *others], list(argv)


def mounts(fifo: Path, init: str = "") -> list[dict[str, Any]]:
    """What a container needs to wait at a gate, as ``HostConfig.Mounts`` has it.

    Args:
        fifo: of the gate, on this host.
        init: docker-init on this host, if the gate becomes it.
    """
    files = [(str(BUSYBOX), SHELL_TARGET), (str(fifo), GATE_TARGET)]
    return [
        {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}
        for source, target in files + ([(init, INIT_TARGET)] if init else [])
    ]


def environment_of(*lists: Sequence[str]) -> dict[str, str]:
    """``NAME=value`` of each list; a later one counts."""
    pairs = [entry.partition("=") for entries in lists for entry in entries]
    return {name: value for name, equals, value in pairs if equals}
