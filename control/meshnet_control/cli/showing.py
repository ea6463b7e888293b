"""How answers are shown: tables that fit 80 columns, or JSON; complaints on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from meshnet.model.ids import ID_LENGTH
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cli.visible import say, visible

_THOUSAND: Final = 1000

FORMAT: Callable[..., Any] = click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table"
)
ALL: Callable[..., Any] = click.option(
    "--all", "every", is_flag=True, help="Of every node; typed on a manager."
)


def as_json(message: Message) -> dict[str, Any]:
    """A message as plain values, with all its fields; numbers are numbers, also those of 64 bits.

    Be aware: of maps only those whose values are no numbers of 64 bits.
    """
    shown = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    _numbers(message.DESCRIPTOR, shown)
    return shown


def _numbers(kind: Any, shown: dict[str, Any]) -> None:  # noqa: ANN401 - two classes
    """Protobuf writes 64 bits as text, for JavaScript's sake."""
    for field in kind.fields:
        value = shown.get(field.name)
        if value is None:
            continue
        each = value if isinstance(value, list) else [value]
        if field.cpp_type in {field.CPPTYPE_INT64, field.CPPTYPE_UINT64}:
            shown[field.name] = [int(n) for n in each] if each is value else int(value)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for inner in each:
                _numbers(field.message_type, inner)


def print_json(value: object) -> None:
    """Print it."""
    click.echo(json.dumps(value, indent=2))


def table(*columns: str) -> Table:
    """An empty one in the style of the docker CLI; a column that ends in ``>`` holds numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        right = column.endswith(">")
        made.add_column(
            column.rstrip(">"), justify="right" if right else "left", overflow="fold", no_wrap=right
        )
    return made


def complain(sentences: Iterable[str]) -> None:
    """Say what is missing or wrong, each sentence once."""
    for sentence in dict.fromkeys(filter(None, sentences)):
        say(f"meshnet: {sentence}", err=True)


def missing(reply: xpb.AskReply) -> list[str]:
    """Which nodes gave no answer, a sentence each. Pure."""
    found = [reply.missing]
    found += [
        f"{each.hostname or each.node_id} gave no answer: {each.answer.error}"
        for each in reply.answers
        if each.answer.error
    ]
    return [sentence for sentence in found if sentence]


def short_task(name: str) -> str:
    """``web.1.<25 of an id>`` as docker prints it: ``web.1``; other names as they are. Pure."""
    head, _, last = name.rpartition(".")
    return head if head and len(last) == ID_LENGTH else name


def size(octets: int) -> str:
    """Bytes for people: ``999 B``, ``1.0 kB``, ``12.3 MB``. Pure."""
    number, unit = float(octets), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < _THOUSAND:
            break
        number, unit = number / _THOUSAND, larger
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


class _Plain(Console):
    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - rich's
        """What every text goes through that is printed, also those of tables."""
        return super().render_str(visible(text), **options)


def plain_console(**options: Any) -> Console:  # noqa: ANN401 - rich's
    """One that shows texts as they are: what others wrote has brackets and colons of its own.

    Control characters in them are made visible.
    """
    return _Plain(markup=False, emoji=False, **options)


def wide_console() -> Console:
    """The terminal's width on a terminal; elsewhere lines are as long as they need to be."""
    return plain_console(width=None if sys.stdout.isatty() else 250)


def doing(what: str) -> Status:
    """Says what is being done while a context lasts, on a terminal alone."""
    return plain_console(stderr=True).status(Text(visible(what)))
