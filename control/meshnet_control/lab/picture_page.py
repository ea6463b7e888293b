"""A picture of a lab as a page that stands alone: HTML with one SVG in it, no script. Pure.

::

             router
      ┌────────┴────────┐        a bar for each LAN, its machines below it,
    LAN front        LAN back    impaired links in red, tasks in the colour of their service
    h1   h2          h3 client
    overlays: a table each
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from html import escape
from typing import Final

from meshnet_control.lab.picture import Box, Impaired, Overlay, Picture, Segment, folded

_BOX_W: Final = 200
_GAP: Final = 24
_LAN_Y: Final = 96
_BOX_Y: Final = 172
_LINE: Final = 22
_HEAD_H: Final = 66
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d232b; --soft: #5d6875; --paper: #fff; --card: #f4f6f8;
  --edge: #b9c2cc; --bad: #c62828; --text: 38%; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebef; --soft: #a0abb8; --paper: #14181d;
  --card: #1f252c; --edge: #465160; --bad: #ff7066; --text: 72%; } }
body { font: 15px/1.45 system-ui, "DejaVu Sans", sans-serif; color: var(--ink);
  background: var(--paper); margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 13px; }
.soft, svg text.soft { color: var(--soft); fill: var(--soft); } svg text.soft { font-size: 12px; }
.wire { stroke: var(--edge); stroke-width: 2; fill: none; } .card { fill: var(--card);
  stroke: var(--edge); } .off { stroke-dasharray: 5 4; opacity: .6; }
.bad { stroke: var(--bad); stroke-width: 2; fill: none; stroke-dasharray: 6 4; }
svg text.badly, .badly { fill: var(--bad); color: var(--bad); font-size: 12px; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem 1.2rem .2rem 0;
  border-bottom: 1px solid var(--edge); vertical-align: top; }
"""


def page(drawn: Picture) -> str:
    """The whole document."""
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>Lab {escape(drawn.lab)}</title>',
        '<meta name="viewport" content="width=device-width">',
        f"<style>{_STYLE}</style>",
        f"<h1>Lab {escape(drawn.lab)}</h1>",
        *_svg(drawn),
        *_links(drawn),
        *(line for overlay in drawn.overlays for line in _overlay(overlay)),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _svg(drawn: Picture) -> Iterator[str]:
    columns = {
        segment.name: [box for box in drawn.boxes if box.lan == segment.name]
        for segment in drawn.segments
    }
    widths = {name: max(len(boxes), 1) * (_BOX_W + _GAP) for name, boxes in columns.items()}
    width = sum(widths.values()) + _GAP
    lines = max((len(folded(box.tasks)) for box in drawn.boxes), default=0)
    arcs = [each for each in drawn.impaired if len(each.ends) > 1]
    bottom = _BOX_Y + _HEAD_H + lines * _LINE + 12
    height = bottom + 30 + 26 * len(arcs)
    names = ", ".join(box.name for box in drawn.boxes)
    yield f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img">'
    yield f"<title>{escape(names)} on {len(drawn.segments)} LANs</title>"
    routed = len(drawn.segments) > 1
    if routed:
        yield _text(width / 2, 24, "router", "", "middle")
    centres: dict[str, float] = {}
    left = float(_GAP)
    does = {each.ends: each.what for each in drawn.impaired}
    for segment in drawn.segments:
        room = widths[segment.name] - _GAP
        centres[segment.name] = left + room / 2 + _BOX_W / 4
        if routed:
            middle = left + room / 2
            yield f'<path class="wire" d="M{width / 2} 32 V52 H{middle} V{_LAN_Y}"/>'
        yield from _segment(segment, left, room, bar_y=_LAN_Y)
        for at, box in enumerate(columns[segment.name]):
            x = left + at * (_BOX_W + _GAP)
            centres[box.name] = x + _BOX_W / 2
            yield from _box(box, x, lines, does.get((box.name,), ""))
        left += widths[segment.name]
    for at, each in enumerate(arcs):
        yield from _arc(each, centres, bottom, bottom + 18 + 26 * at)
    yield "</svg>"


def _segment(segment: Segment, left: float, room: float, bar_y: int) -> Iterator[str]:
    yield (
        f'<rect class="card" x="{left}" y="{bar_y}" width="{room}" height="30" rx="15">'
        f"<title>the router is {escape(segment.gateway)} here</title></rect>"
    )
    yield _text(left + 16, bar_y + 20, f"{segment.name}  {segment.subnet}")


def _box(box: Box, x: float, lines: int, cable: str) -> Iterator[str]:
    off = "" if box.up else " off"
    wire = "bad" if cable else "wire"
    yield f'<path class="{wire}" d="M{x + _BOX_W / 2} {_LAN_Y + 30} V{_BOX_Y}"/>'
    if cable:
        yield _text(x + _BOX_W / 2 + 6, _BOX_Y - 14, cable, "badly")
    height = _HEAD_H + lines * _LINE
    yield (
        f'<rect class="card{off}" x="{x}" y="{_BOX_Y}" width="{_BOX_W}" height="{height}" rx="6"/>'
    )
    role = box.role or ("outside" if box.name == "client" else "no cluster")
    yield _text(x + 12, _BOX_Y + 22, f"{box.name}  {role if box.up else 'off'}")
    yield _text(x + 12, _BOX_Y + 42, box.address, "soft")
    for at, task in enumerate(folded(box.tasks)):
        y = _BOX_Y + _HEAD_H - 10 + at * _LINE
        colour = hue(task.partition(" ")[0].rpartition(".")[0] or task)
        yield (
            f'<rect x="{x + 10}" y="{y}" width="{_BOX_W - 20}" height="{_LINE - 4}" rx="4" '
            f'fill="hsl({colour} 60% 50% / .25)"/>'
        )
        shown = task if len(task) <= 20 else f"{task[:19]}…"  # noqa: PLR2004 - what fits
        yield (
            f'<text x="{x + 18}" y="{y + 13}">{escape(shown)}<title>{escape(task)}</title></text>'
        )


def _arc(each: Impaired, centres: dict[str, float], top: float, y: float) -> Iterator[str]:
    one, other = (centres[end] for end in each.ends)
    yield f'<path class="bad" d="M{one} {top - 8} V{y} H{other} V{top - 8}"/>'
    yield _text(
        (one + other) / 2, y - 4, f"{' ↔ '.join(each.ends)}: {each.what}", "badly", "middle"
    )


def _links(drawn: Picture) -> Iterator[str]:
    if drawn.impaired:
        told = "; ".join(f"{' ↔ '.join(each.ends)}: {each.what}" for each in drawn.impaired)
        yield f'<p class="badly">Links that do not take packets as they come: {escape(told)}</p>'


def _overlay(overlay: Overlay) -> Iterator[str]:
    number = f"VNI {overlay.vni}, " if overlay.vni else ""
    yield f"<h2>Overlay {escape(overlay.name)}</h2>"
    yield f'<p class="soft">{number}{escape(overlay.subnet)}</p>'
    if not overlay.services and not overlay.others:
        return
    yield "<table><tr><th>Service<th>VIP<th>Task<th>Address<th>Host (VTEP)"
    for service in overlay.services:
        for at, task in enumerate(service.tasks):
            first = (service.name, service.vip or "none") if at == 0 else ("", "")
            yield _row(*first, task.name, task.address, task.host)
        if not service.tasks:
            yield _row(service.name, service.vip or "none", "no task", "", "")
    for member in overlay.others:
        yield _row("", "", member.name, member.address, member.host)
    yield "</table>"


def hue(name: str) -> int:
    """The colour of a service, always the same: degrees of the wheel."""
    return zlib.crc32(name.encode()) % 360


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}" for cell in cells)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    said = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{said}>{escape(text)}</text>'
