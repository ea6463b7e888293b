"""The ``meshnet`` command: docker's own commands on our socket, and what it has no word for.

Every error is one sentence on standard error that begins with ``meshnet:``, and exit status 1.
"""

from __future__ import annotations

import os
import sys

import click

from meshnet.errors import MeshnetError
from meshnet_control.cli import host, lab

DOCKER_COMMANDS = ("service", "stack", "node", "network", "swarm", "secret", "config", "docker")
"""``meshnet X …`` is ``docker X …`` on meshnet's socket; ``meshnet docker …`` is docker itself."""


@click.group()
@click.version_option(package_name="meshnet")
def meshnet() -> None:
    """A Docker-Swarm-compatible orchestrator with a network of its own."""


meshnet.add_command(lab.lab)
for _command in host.COMMANDS:
    meshnet.add_command(_command)


def _pass_through(name: str) -> click.Command:
    @click.command(
        name,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        add_help_option=False,
        help=f"docker {name}, on meshnet's socket." if name != "docker" else "docker itself.",
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        first = [] if name == "docker" else [name]
        environ = {**os.environ, "DOCKER_HOST": host.docker_host()}
        try:
            os.execvpe("docker", ["docker", *first, *arguments], environ)  # noqa: S606
        except FileNotFoundError:
            raise host.HostError("docker: command not found: install docker.io") from None

    return command


for _name in DOCKER_COMMANDS:
    meshnet.add_command(_pass_through(_name))


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
