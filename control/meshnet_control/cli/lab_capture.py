"""``meshnet lab capture``: what a machine sends and receives, overlays unwrapped and named."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import click

from meshnet_control.cli.visible import say
from meshnet_control.lab import capture as heard
from meshnet_control.lab import packets
from meshnet_control.lab.errors import writing
from meshnet_control.lab.lab import Lab, need_root
from meshnet_control.lab.packets import Names

_ASKS_EVERY_S = 5.0
_QUIET_S = 5.0
"""After which who sees nothing yet is told why."""


@click.command(short_help="Show packets of a machine, VXLAN unwrapped and named.")
@click.option(
    "-w", "write", type=click.Path(dir_okay=False, path_type=Path), help="Write them to a .pcap."
)
@click.option("-c", "--count", type=click.IntRange(1), help="End after so many.")
@click.argument("where", metavar="HOST[:INTERFACE]")
@click.argument("words", metavar="[WORD]...", nargs=-1)
def capture(where: str, words: tuple[str, ...], write: Path | None, count: int | None) -> None:
    """Show what passes HOST's eth0, or another INTERFACE of it, a line for each packet.

    With WORDs only packets whose line has each of them, and none of those after a "!": vxlan,
    web.2, tcp, '!7946'. Ends with -c, or Ctrl-C.
    """
    need_root()
    lab = Lab.current()
    machine, _, interface = where.partition(":")
    decoder = packets.Decoder()
    known = _Known(lab)
    frames = heard.frames(lab, machine, interface or "eth0")
    quiet = _Quiet(words)
    writer = None
    seen = 0
    try:
        if write is not None:
            with writing(write):
                writer = packets.writer(write)
        for at, frame in frames:
            line = decoder.line(frame, known.names)
            quiet.passed += 1
            if not packets.wanted(line, words):
                continue
            if writer is not None and write is not None:
                with writing(write):
                    writer.write_packet(frame, sec=int(at), usec=int(at % 1 * 1e6))
            clock = time.strftime("%H:%M:%S", time.localtime(at)) + f"{at % 1:.6f}"[1:]
            say(f"{clock} {line}")
            seen += 1
            quiet.end()
            if count is not None and seen >= count:
                break
    except KeyboardInterrupt:
        pass
    finally:
        frames.close()
        quiet.end()
        known.close()
        if writer is not None:
            writer.close()
    click.echo(f"{seen} packets" + (f", written to {write}" if write else ""), err=True)


def unmatched(words: Sequence[str], passed: int) -> str:
    """Why nothing is shown yet, in a sentence. Pure."""
    if not passed:
        return "no packet went by yet; it is waited for more (Ctrl-C ends)"
    went = "1 packet" if passed == 1 else f"{passed} packets"
    asked = " ".join(words)
    return f"{went} went by and none matched {asked}; it is waited for more (Ctrl-C ends)"


class _Quiet:
    """Says once, after some seconds, that nothing was shown yet; counts what passed."""

    def __init__(self, words: Sequence[str]) -> None:
        self.passed = 0
        self._words = words
        self._timer = threading.Timer(_QUIET_S, self._told)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """Something was shown, or the capture ended."""
        self._timer.cancel()

    def _told(self) -> None:
        say(f"meshnet: {unmatched(self._words, self.passed)}", err=True)


class _Known:
    """Names, asked again every few seconds beside the capture, as services come and go."""

    def __init__(self, lab: Lab) -> None:
        self.names: Names = heard.names(lab)
        self._ended = threading.Event()
        self._asking = threading.Thread(target=self._ask, args=(lab,), daemon=True)
        self._asking.start()

    def close(self) -> None:
        self._ended.set()
        self._asking.join()

    def _ask(self, lab: Lab) -> None:
        while not self._ended.wait(_ASKS_EVERY_S):
            self.names = heard.names(lab)
