"""The ``meshnet`` command: docker's own commands on our socket, and what it has no word for.

Every error is one sentence on standard error that begins with ``meshnet:``, and exit status 1.
"""

from __future__ import annotations

import sys

import click

from meshnet.errors import MeshnetError
from meshnet_control.cli.beside import docker_command
from meshnet_control.cli.sections import Sections
from meshnet_control.cli.visible import say

DOCKER_COMMANDS = ("service", "node", "network", "swarm", "docker")
"""``meshnet X …`` is ``docker X …`` on meshnet's socket; ``meshnet docker …`` is docker itself."""


SECTIONS = {
    "This host": ("up", "down", "restart", "status", "env", "key", "backup", "restore"),
    "Look and explain": ("doctor", "trace", "lb", "dns", "events", "dashboard"),
    "Clusters": ("rebalance", "lab"),
}
BRIEF = ("Docker's", (*DOCKER_COMMANDS, "stack", "image", "secret", "config"))


_CLI = "meshnet_control.cli"
LATER = {
    **{name: f"{_CLI}.host:{name}" for name in SECTIONS["This host"]},
    **{
        name: f"{_CLI}.{name}:{name}"
        for name in ("doctor", "trace", "events", "dashboard", "rebalance", "stack", "image")
    },
    "lab": f"{_CLI}.labs:lab",
    "lb": f"{_CLI}.balancing:lb",
    "dns": f"{_CLI}.names:dns",
    "secret": f"{_CLI}.files:secret",
    "config": f"{_CLI}.files:config",
}
"""Command -> where it is: what is not typed is not loaded, which takes longer than most answers."""


@click.group(cls=Sections, sections=SECTIONS, brief=BRIEF, later=LATER)
@click.version_option(package_name="meshnet")
def meshnet() -> None:
    """A Docker-Swarm-compatible orchestrator with a network of its own."""


for _name in DOCKER_COMMANDS:
    meshnet.add_command(docker_command(_name, []))


def main() -> None:
    """Run the command; exit 0, 1 (refused or failed), 2 (not understood) or 130 (interrupted)."""
    try:
        meshnet.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except MeshnetError as error:
        say(f"meshnet: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
