"""``meshnet secret update`` and ``meshnet config update``: new data under the same name."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, BinaryIO
from urllib.parse import quote

import click

from meshnet.errors import ControlError
from meshnet_control.cli.asking import Api, asking
from meshnet_control.cli.beside import beside
from meshnet_control.explain import references

_HELP = """Replace the data of {word} NAME by FILE (-: standard input); its name and id stay.

Services that use it get the new data as by docker service update --force: each is rolled as its
update config says. With --hot nothing is restarted: the file is rewritten in the containers that
run, wherever they are, and their program is sent SIG if one is given.

docker service rollback does not bring the old data back: update it again with the old file."""


def update_command(word: str) -> click.Command:
    """The command of ``secret`` or ``config``."""

    @click.command("update", help=_HELP.format(word=word), short_help=f"Replace a {word}'s data.")
    @click.option("--hot", is_flag=True, help="Rewrite the file in running containers instead.")
    @click.option("--signal", metavar="SIG", default="", help="Send it to their programs (--hot).")
    @click.argument("name")
    @click.argument("file", type=click.File("rb"))
    def update(*, name: str, file: BinaryIO, hot: bool, signal: str) -> None:
        data = file.read()

        async def work(api: Api) -> Any:  # noqa: ANN401 - any JSON value
            params = {"hot": "1" if hot else "", "signal": signal}
            asked = {key: value for key, value in params.items() if value}
            path = f"/{word}s/{quote(name, safe='')}/data"
            try:
                return await api.ask("POST", path, asked, body=data)
            except ControlError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                known = [each["Spec"]["Name"] for each in await api.ask("GET", f"/{word}s") or []]
                hint = references.meant(name, known)
                raise ControlError(f"{error.message}{hint}", error.status) from None

        click.echo(told(word, name, asking(work)["Services"], hot=hot))

    return update


def told(word: str, name: str, services: list[str], *, hot: bool) -> str:
    """What an update did, as a person reads it. Pure."""
    if not services:
        return f"{word} {name}: no service is touched"
    how = "rewritten in running containers of" if hot else "rolled out by"
    return f"{word} {name}: {how} {', '.join(services)}"


secret = beside("secret", update_command("secret"))
config = beside("config", update_command("config"))
