"""The dashboard in a browser: it shows what runs, changes with it, and is used by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from browser import Page, browser

from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.clients("chromium"), pytest.mark.timeout(240)]
AT = "192.168.50.11:9000"
REFUSED = "7"
"""curl(1): nobody listens there."""
STATUS = "curl -s -m 5 -o /dev/null -w '%{http_code}'"
TASKS = "[...document.querySelectorAll('.task')].map(e => e.textContent).sort().join(' ')"
COLUMNS = "[...document.querySelectorAll('.node h3')].map(e => e.textContent).join(' ')"
ESCAPE, DOWN, ENTER = ("Escape", 27), ("ArrowDown", 40), ("Enter", 13, "\r")


@pytest.fixture
def url(play: Play) -> Iterator[str]:
    """
    Name: url; Scope: function; Depends: play.

    Where h1 serves the dashboard for strangers, with the token; it does not any more in the end.
    """
    said = play.on("h1", f"meshnet dashboard {AT}").strip()
    assert said.startswith(f"dashboard: http://{AT}/?token=")
    play.until("h1", f"{STATUS} http://{AT}/", lambda code: code.strip() == "401")
    yield said.partition(": ")[2]
    play.on("h1", "meshnet dashboard off")
    nobody = f"{STATUS} http://{AT}/; echo $?"
    play.until("h1", nobody, lambda code: code.strip().endswith(REFUSED))


@pytest.fixture
def page(play: Play, tmp_path: Path) -> Iterator[Page]:
    """
    Name: page; Scope: function; Depends: play.

    An empty page of a browser on the client's machine; nothing may be wrong with what it showed.
    """
    (tmp_path / "profile").mkdir()
    with browser(tmp_path / "profile", partial(play.lab.command, "client")) as made:
        yield made
        assert made.complaints == []


def test_a_browser_shows_nodes_and_tasks_as_they_come_and_go(
    play: Play, url: str, page: Page, tmp_path: Path
) -> None:
    page.look(1280, 760)
    page.open(url)
    page.until(COLUMNS, lambda said: said == "h1 h2")
    assert page.value("location.search") == "", "the token is not left in the address"
    play.on("h1", "docker network create -d overlay looked")
    play.on(
        "h1",
        "docker service create -d --name seen --replicas 2 --network looked -p 8098:80 "
        "--label 'note=<img src=x onerror=alert(1)>' --stop-grace-period 1s meshnet/web:1",
    )
    page.until(TASKS, lambda said: said == "●seen.1 running ●seen.2 running")
    assert play.on("client", "curl -sS -m 5 http://192.168.50.12:8098/")
    page.value("document.querySelector('#services a').focus()")
    page.key(*ENTER)
    page.until("document.activeElement.textContent", lambda said: said == "service seen")
    details = "document.querySelector('#details-body').innerText"
    shares = page.until(details, lambda said: "100 %" in said)
    for word in ("2/2 running", "8098 → 80/tcp", "<img src=x onerror=alert(1)>", "looked"):
        assert word in shares
    assert page.value("document.images.length") == 0
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)):
        page.look(width, 760, scheme)
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.screenshot(tmp_path / f"{scheme}-{width}.png").startswith(b"\x89PNG")
    page.look(1280, 760)
    page.key(*ESCAPE)
    page.until("document.querySelector('#details').hidden")
    assert page.value("document.activeElement.textContent").startswith("seen")
    play.on("h1", "docker service scale -d seen=3")
    page.until(TASKS, lambda said: said.count("running") == 3)
    page.until("document.querySelector('#said').textContent", lambda said: "seen: 3/3" in said)
    play.on("h1", "docker service rm seen")
    page.until(TASKS, lambda said: not said)


def test_the_arrows_go_from_task_to_task_and_the_focus_stays(
    play: Play, url: str, page: Page
) -> None:
    create = "docker service create -d --constraint node.role==worker --stop-grace-period 1s"
    play.on("h1", f"{create} --name keyed --replicas 2 meshnet/web:1")
    page.open(url)
    page.until(TASKS, lambda said: said.count("running") == 2)
    page.until("document.querySelectorAll('.task[tabindex=\"0\"]').length", lambda n: n == 1)
    page.value("document.querySelector('.task[tabindex=\"0\"]').focus()")
    page.key(*DOWN)
    assert "keyed.2" in page.value("document.activeElement.textContent")
    play.on("h1", f"{create} --name before meshnet/web:1")
    page.until(TASKS, lambda said: "before.1 running" in said)
    play.on("h1", "docker service rm before")
    page.until(TASKS, lambda said: "before" not in said)
    assert "keyed.2" in page.value("document.activeElement.textContent")
    page.key(*ENTER)
    title = "document.querySelector('#details-title').textContent"
    page.until(title, lambda said: said == "task keyed.2")


def test_a_page_goes_on_when_meshnetd_was_started_again(play: Play, url: str, page: Page) -> None:
    page.open(url)
    live = "document.querySelector('#link').textContent"
    page.until(live, lambda said: said == "● live")
    play.on("h1", "meshnet restart")
    play.on("h1", "docker service create -d --name after --stop-grace-period 1s meshnet/web:1")
    page.until(TASKS, lambda said: said == "●after.1 running")
    page.until(live, lambda said: said == "● live")


def test_strangers_without_the_token_see_nothing(play: Play, url: str) -> None:
    assert play.on("client", f"{STATUS} http://{AT}/events").strip() == "401"
    token = url.partition("=")[2]
    bearer = f"-H 'Authorization: Bearer {token}'"
    assert play.on("client", f"{STATUS} {bearer} http://{AT}/").strip() == "200"
    named = f"{STATUS} {bearer} -H 'Host: evil.example' http://{AT}/"
    assert play.on("client", named).strip() == "403"
