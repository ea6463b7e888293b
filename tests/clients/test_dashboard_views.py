"""The dashboard's views in a browser, of a cluster in memory: traffic, logs, a thousand tasks."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browser
from shown_cluster import answer, node, service, shop, task, traffic
from whole_cluster import VolatileStore

from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cluster.log_lines import STDERR, frame
from meshnet_control.dashboard.counted import Shares, Traffic
from meshnet_control.dashboard.feed import Feed
from meshnet_control.dashboard.server import DashboardServer
from meshnet_control.dashboard.task_log import TaskLogs
from meshnet_control.store.store import Object

pytestmark = [pytest.mark.clients("chromium"), pytest.mark.timeout(240)]
TOKEN = "-".join(("t0ken", "of", "this", "test"))
RATES = {("h1", "h2"): 2.1e6, ("h2", "h1"): 8.0e4, ("h1", "h3"): 0.0, ("h3", "h1"): 3.2e3}
HOSTILE = "<img src=x onerror=alert(1)>"
ESCAPE, ENTER = ("Escape", 27), ("Enter", 13, "\r")
TITLE = "document.querySelector('#details-title').textContent"
LINES = "[...document.querySelectorAll('#log-lines li')].map(e => e.innerText).join('|')"


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """
    Name: nothing_left; Scope: function; Depends: nothing.

    These need no lab, so there is none to be tidied.
    """


async def shown(
    objects: Sequence[Object], look: Callable[[Page, str], None], directory: Path, **more: Any
) -> None:
    """Serve a cluster and look at it with a browser; nothing may be wrong with what it showed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
    store = VolatileStore(objects)
    ask, read = more.get("ask"), more.get("read")
    server = DashboardServer(
        Feed(lambda: store), Shares(ask or nothing), Traffic(ask or nothing),
        TaskLogs(lambda: store, lambda: read), lambda: at, lambda: TOKEN,
    )  # fmt: skip
    (directory / "profile").mkdir()

    def seen() -> None:
        with browser(directory / "profile") as page:
            page.look(1280, 760)
            look(page, f"http://{at}/")
            assert page.complaints == []

    await server.follow()
    try:
        await asyncio.to_thread(seen)
    finally:
        await server.end()


async def nothing(_: xpb.AskRequest) -> xpb.AskReply | None:
    return None


def fits(page: Page, directory: Path) -> None:
    """No view is wider than its window, light or dark."""
    for scheme, width in itertools.product(("light", "dark"), (1280, 360)):
        page.look(width, 760, scheme)
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.screenshot(directory / f"{scheme}-{width}.png").startswith(b"\x89PNG")
    page.look(1280, 760)


def spoken(page: Page) -> set[tuple[str, str]]:
    """Role and name of all that a screen reader is told of."""
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    said = {
        (each["role"]["value"], each.get("name", {}).get("value", ""))
        for each in tree
        if not each["ignored"]
    }
    return {pair for pair in said if pair[1]}


async def test_traffic_is_drawn_and_said_in_tables(tmp_path: Path) -> None:
    at = itertools.count(100, 2)

    async def ask(_: xpb.AskRequest) -> xpb.AskReply | None:
        return traffic(next(at), RATES)

    def look(page: Page, url: str) -> None:
        page.open(url)
        page.until("document.querySelectorAll('.task').length")
        page.value("document.querySelector('#to-traffic').focus()")
        page.key(*ENTER)
        table = "document.querySelector('#traffic-tables').innerText"
        said = page.until(table, lambda text: "2.1 MB/s" in text)
        first = next(line for line in said.splitlines() if "MB/s" in line)
        assert first.split("\t")[:2] == ["h1", "h2"]
        assert page.value("document.querySelectorAll('#drawing path.flow').length") == len(RATES)
        assert page.value("document.querySelectorAll('#drawing .flow.idle').length") == 1
        assert page.value("document.querySelectorAll('#drawing circle').length") == 4
        names = spoken(page)
        assert ("table", "Traffic from host to host") in names
        assert any(role == "image" and "the same" in name for role, name in names)
        fits(page, tmp_path)
        page.value("document.querySelector('#traffic-tables a').focus()")
        page.key(*ENTER)
        page.until(TITLE, lambda said: said == "node h1")
        page.until("document.querySelector('#details-body').innerText", lambda s: "3.2 kB/s" in s)

    await shown(shop(), look, tmp_path, ask=ask)


async def test_a_log_is_shown_while_it_is_looked_at_and_no_longer(tmp_path: Path) -> None:
    web = service("web", 1)
    one = task(web, 1, "h1")
    reading: list[bool] = []
    more = asyncio.Event()

    async def read(_: Any) -> Any:
        reading.append(True)
        try:
            for number in range(1500):
                yield frame(1, f"2026-11-26T18:10:00Z line {number}\n".encode())
            yield frame(STDERR, f"2026-11-26T18:10:00Z {HOSTILE}\n".encode())
            await more.wait()
        finally:
            reading.pop()

    def look(page: Page, url: str) -> None:
        page.open(f"{url}#task/{one.id}")
        page.until(TITLE, lambda said: said == "task web.1")
        show = "document.querySelector('#log-show')"
        page.value(f"{show}.focus()")
        page.key(*ENTER)
        page.until("document.querySelector('#log-state').innerText", lambda s: "token" in s or s)
        page.until(
            "document.querySelector('#log-state').innerText",
            lambda said: said.startswith("logs are for who opened the page"),
        )
        assert not reading
        page.open(f"{url}?token={TOKEN}")
        page.until("document.querySelectorAll('.task').length")
        page.value(f"location.hash = 'task/{one.id}'")
        page.until(TITLE, lambda said: said == "task web.1")
        page.value(f"{show}.focus()")
        page.key(*ENTER)
        page.until(LINES, lambda text: HOSTILE in text)
        assert page.value("document.querySelectorAll('#log-lines li').length") == 1000
        assert page.value("document.images.length") == 0
        list_ = "document.querySelector('#log-lines')"
        at_end = f"{list_}.scrollHeight - {list_}.scrollTop - {list_}.clientHeight < 5"
        assert page.value(at_end), "the newest lines are seen"
        assert ("button", "Hide the log") in spoken(page)
        assert reading
        fits(page, tmp_path)
        page.key(*ESCAPE)
        page.until("document.querySelector('#log').hidden")
        page.until(f"{len(reading)} === 0 || true", lambda _: not reading)

    host = node("h1", 1)
    await shown([web, one, host], look, tmp_path, read=read)
    assert not reading


async def test_a_thousand_tasks_are_shown_and_spoken_of(tmp_path: Path) -> None:
    hosts = [f"h{number}" for number in range(1, 21)]
    services = [service(f"svc{number:02d}", 25) for number in range(40)]
    tasks = [
        task(each, slot, hosts[(number + slot) % 20])
        for number, each in enumerate(services)
        for slot in range(1, 26)
    ]

    async def ask(_: xpb.AskRequest) -> xpb.AskReply | None:
        return answer(services[0], tasks[:25], [4] * 25)

    def look(page: Page, url: str) -> None:
        page.open(url)
        page.until("document.querySelectorAll('.task').length", lambda n: n == 1000)
        page.value("document.querySelector('#services a').focus()")
        page.key(*ENTER)
        page.until(TITLE, lambda said: said == "service svc00")
        page.until("document.querySelector('#details-body').innerText", lambda s: "4 %" in s)
        names = spoken(page)
        assert ("link", "svc00 25/25") in names
        assert len([n for r, n in names if r == "link" and n.startswith("svc")]) > 1000
        assert ("region", "h20") in names
        assert ("table", "Backends") in names
        stops = "document.querySelectorAll('#columns .tasks a[tabindex=\"0\"]').length"
        assert page.value(stops) == len(hosts), "one stop of the Tab key for each column"
        fits(page, tmp_path)

    nodes = [node(name, at) for at, name in enumerate(hosts)]
    await shown([*nodes, *services, *tasks], look, tmp_path, ask=ask)


async def test_before_anything_is_told_nothing_is_said_to_be_missing(tmp_path: Path) -> None:
    def look(page: Page, url: str) -> None:
        page.call("Network.enable")
        page.call("Network.setBlockedURLs", urls=["*/events"])
        page.open(f"{url}#task/nobody")
        page.until("document.querySelector('#link').textContent.includes('not connected')")
        page.look(1000, 700)
        page.until(TITLE, lambda said: said == "task")
        assert page.value("document.querySelector('#sums').textContent") == ""
        assert page.value("document.querySelector('#no-services').hidden")
        page.call("Network.setBlockedURLs", urls=[])
        page.until(TITLE, lambda said: said == "This task is gone")
        page.until("!document.querySelector('#no-services').hidden")

    await shown([node("h1", 1)], look, tmp_path)
