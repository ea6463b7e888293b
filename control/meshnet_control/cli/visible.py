"""What others wrote, as a terminal may have it: a control character is shown, never obeyed."""

from __future__ import annotations

import unicodedata
from typing import Final

import click

_LAYOUT: Final = "\n\t"


def visible(text: str) -> str:
    r"""The text with its control characters (ECMA-48: C0, DEL, C1) written as ``\x1b``. Pure.

    Ends of lines and tabulators stay as they are.
    """
    if text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return "".join(map(_shown, text))


def say(line: str, *, err: bool = False) -> None:
    """Print a line that may hold what others wrote."""
    click.echo(visible(line), err=err)


def _shown(each: str) -> str:
    control = unicodedata.category(each) == "Cc" and each not in _LAYOUT
    return f"\\x{ord(each):02x}" if control else each
