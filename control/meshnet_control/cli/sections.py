"""``meshnet --help`` on one screen: commands by what they are for, docker's own on a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

import click

_ROOM = 66
"""Columns of a sentence beside the longest name, on a terminal of 80."""


class Sections(click.Group):
    """A group whose help has its commands in sections.

    Args:
        sections: heading -> names of commands; what is in none stands under ``More``.
        brief: heading and names of commands that need no sentence each.
        later: name -> ``module:attribute`` of a command that is loaded when it is asked for.
        settings: of ``click.Group``.
    """

    def __init__(
        self,
        *,
        sections: Mapping[str, Sequence[str]],
        brief: tuple[str, Sequence[str]],
        later: Mapping[str, str],
        **settings: object,
    ) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self._sections, self._brief, self._later = sections, brief, later

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, also of what is not loaded."""
        return sorted({*super().list_commands(ctx), *self._later})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command, loaded when it is not yet; of none, all are, to find what is meant."""
        if cmd_name in self._later.keys() - self.commands.keys():
            self._load(cmd_name)
        elif cmd_name not in self.commands:
            self.loaded()
        return super().get_command(ctx, cmd_name)

    def loaded(self) -> click.Group:
        """Itself, with all of its commands."""
        for name in self._later.keys() - self.commands.keys():
            self._load(name)
        return self

    def _load(self, name: str) -> None:
        module, _, attribute = self._later[name].partition(":")
        self.add_command(getattr(import_module(module), attribute), name)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Commands come first, and the two options on a line."""
        self.format_commands(ctx, formatter)
        names = " ".join(option.opts[0] for option in self.get_params(ctx) if option.opts)
        formatter.write(f"Options: {names}; of each command: meshnet COMMAND --help\n")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each section, then what is brief."""
        heading, brief = self._brief
        named = {name for names in self._sections.values() for name in names} | set(brief)
        more = [name for name in self.list_commands(ctx) if name not in named]
        for title, names in {**self._sections, "More": more}.items():
            known = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name, said.get_short_help_str(_ROOM)) for name, said in known if said]
            if rows:
                formatter.write(f"{title}:\n")
                formatter.indent()
                formatter.write_dl(rows)
                formatter.dedent()
        formatter.write_text(f"{heading}: {', '.join(brief)}")
