"""``python -m bench.record [FILE]``: what a terminal shows of a lab of three hosts, as a picture.

The commands are run on a lab of its own; what they print is drawn, nothing is made up. A line that
is too long for a README is cut, and what is left out is said.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from meshnet_control.lab import swarm
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play

NAME = "mnrec"
TO = Path("docs/terminal.svg")
WIDTH = 88
"""Columns: as many as can be read where a README is 880 pixels wide."""
MOST_LINES = 14
"""Of what one command prints."""
DARK = TerminalTheme(
    (23, 27, 33),
    (222, 226, 230),
    [(23, 27, 33), (255, 123, 114), (126, 211, 154), (230, 200, 110), (125, 184, 245),
     (210, 160, 240), (110, 205, 215), (222, 226, 230)],
)  # fmt: skip
WORDS = {"ok": "green", "XX": "bold red", "ready": "green", "Ready": "green", "Leader": "blue"}
"""Words of the output that stand out."""
CREATE = (
    "docker service create -dq --no-resolve-image --name web --replicas 4 --network app "
    "-p 8080:80 meshnet/web:1"
)
ROWS = "docker node ls --format 'table {{.Hostname}}\\t{{.Status}}\\t{{.ManagerStatus}}'"
ASKS = "for i in 1 2 3 4; do curl -s http://h2:8080/; done"
SCENES = (
    ("h1", ROWS),
    ("h1", "docker network create -d overlay app"),
    ("h1", CREATE),
    ("client", ASKS),
    ("h1", "meshnet lb show web --all"),
    ("h1", "meshnet trace client h2:8080"),
    ("h1", "nft delete table ip meshnet; sleep 1; meshnet events | grep others:"),
    ("h1", "meshnet doctor --all"),
)
"""Machine and what is typed there."""


def played(play: Play) -> Iterator[tuple[str, str, str]]:
    """Machine, command and what it printed, one after the other."""
    for machine, command in SCENES:
        yield machine, command, play.on(machine, command)
        if command == CREATE:
            play.until("h1", "docker service ls", lambda said: "4/4" in said)
            play.until("client", ASKS, lambda said: len(set(said.splitlines())) == len("1234"))


def shown(machine: str, command: str, output: str) -> Iterator[Text]:
    """The lines of one command: what was typed, and what it printed, its end where it is long."""
    prompt = Text.assemble((f"{machine}$ ", "bold green"), (command, "bold"))
    yield prompt
    lines = [line.rstrip() for line in output.rstrip().splitlines()]
    left_out = len(lines) - MOST_LINES
    if left_out > 0:
        yield Text(f"[… {left_out} lines]", "dim")
    for line in lines[-MOST_LINES:]:
        text = Text(line if len(line) <= WIDTH else line[: WIDTH - 2] + " …")
        for word, style in WORDS.items():
            text.highlight_words([f" {word} "], style)
        yield text


def picture(console: Console) -> str:
    """An SVG of what was shown, with fonts of the reader's own: nothing is fetched."""
    drawn = console.export_svg(title="three hosts on one machine", theme=DARK, unique_id="shown")
    head, _, rest = drawn.partition("@font-face")
    fontless = head + rest[rest.index(".shown-matrix") :]
    return fontless.replace("Fira Code, monospace", "ui-monospace, 'DejaVu Sans Mono', monospace")


def main() -> int:
    """Make the lab, play, write the picture; exit status 1: a command failed."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("file", type=Path, nargs="?", default=TO)
    file: Path = asked.parse_args().file
    console = Console(record=True, width=WIDTH, force_terminal=True, file=sys.stdout)
    lab = Lab(Layout(NAME, size=3))
    try:
        lab.up(lambda *_: None)
        play = Play(lab)
        swarm.form(play, 1)
        for machine, command, output in played(play):
            for text in shown(machine, command, output):
                console.print(text, soft_wrap=False)
            console.print()
    except LabError as error:
        print(f"record: {error}", file=sys.stderr)
        return 1
    finally:
        lab.down(lambda *_: None)
    file.write_text(picture(console))
    return 0


if __name__ == "__main__":
    sys.exit(main())
