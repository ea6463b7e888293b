"""The ``meshnet`` command: docker's own commands on our socket, and what it has no word for.

Every error is one sentence on standard error that begins with ``meshnet:``, and exit status 1.
"""

from __future__ import annotations

import sys

import click

from meshnet.errors import MeshnetError
from meshnet_control.cli import (
    balancing,
    beside,
    dashboard,
    doctor,
    events,
    files,
    host,
    image,
    lab,
    lab_files,
    names,
    rebalance,
    stack,
    trace,
)
from meshnet_control.cli.sections import Sections

DOCKER_COMMANDS = ("service", "node", "network", "swarm", "docker")
"""``meshnet X …`` is ``docker X …`` on meshnet's socket; ``meshnet docker …`` is docker itself."""


SECTIONS = {
    "This host": ("up", "down", "restart", "status", "env", "key", "backup", "restore"),
    "Look and explain": ("doctor", "trace", "lb", "dns", "events", "dashboard"),
    "Clusters": ("rebalance", "lab"),
}
BRIEF = ("Docker's", (*DOCKER_COMMANDS, "stack", "image", "secret", "config"))


@click.group(cls=Sections, sections=SECTIONS, brief=BRIEF)
@click.version_option(package_name="meshnet")
def meshnet() -> None:
    """A Docker-Swarm-compatible orchestrator with a network of its own."""


meshnet.add_command(lab.lab)
meshnet.add_command(balancing.lb)
meshnet.add_command(names.dns)
meshnet.add_command(trace.trace)
meshnet.add_command(doctor.doctor)
meshnet.add_command(events.events)
meshnet.add_command(dashboard.dashboard)
meshnet.add_command(rebalance.rebalance)
for _command in host.COMMANDS:
    meshnet.add_command(_command)


for _command in lab_files.COMMANDS:
    lab.lab.add_command(_command)


for _name in DOCKER_COMMANDS:
    meshnet.add_command(beside.docker_command(_name, []))
meshnet.add_command(beside.beside("stack", stack.deploy))
meshnet.add_command(beside.beside("image", image.push))
for _word in ("secret", "config"):
    meshnet.add_command(beside.beside(_word, files.update_command(_word)))


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
        click.echo(f"meshnet: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
