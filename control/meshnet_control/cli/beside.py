"""Commands of ours beside docker's: ``meshnet secret update`` is ours, ``… secret ls`` docker's."""

from __future__ import annotations

import os
from difflib import get_close_matches

import click

from meshnet_control.host.paths import docker_host
from meshnet_control.host.processes import HostError

_NEAR = 0.8
"""``deploys`` is ``deploy``; ``pull`` is not ``push``."""


class Beside(click.Group):
    """``meshnet NAME``: a command of ours where we have one, else ``docker NAME``."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Ours, or docker's of that name; what is nearly one of ours is a slip of the finger."""
        ours = super().get_command(ctx, cmd_name)
        near = [] if ours else get_close_matches(cmd_name, self.commands, cutoff=_NEAR)
        if near:
            ctx.fail(f"No such command {cmd_name!r}. Did you mean {near[0]!r}?")
        return ours or docker_command(cmd_name, [str(self.name)])


def beside(name: str, *commands: click.Command) -> click.Group:
    """A group of ours and docker's commands."""
    ours = ", ".join(str(command.name) for command in commands)
    group = Beside(
        name,
        help=f"docker {name}, on meshnet's socket; {ours} is meshnet's own (meshnet docker {name} "
        "--help lists docker's).",
        short_help=f"docker {name}, on meshnet's socket, and {ours}.",
    )
    for command in commands:
        group.add_command(command)
    return group


def docker_command(name: str, first: list[str]) -> click.Command:
    """A command that becomes ``docker FIRST NAME …``.

    Args:
        name: of the command; ``docker`` stands for docker itself.
        first: docker's words before it.
    """
    words = [*first, *([] if name == "docker" else [name])]

    @click.command(
        name,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        add_help_option=False,
        help=f"docker {' '.join(words)}, on meshnet's socket." if words else "docker itself.",
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        environ = {**os.environ, "DOCKER_HOST": docker_host()}
        try:
            os.execvpe("docker", ["docker", *words, *arguments], environ)  # noqa: S606
        except FileNotFoundError:
            raise HostError("docker: command not found: install docker.io") from None

    return command
