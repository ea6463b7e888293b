"""The page and its streams: who gets them, what they say, and that there is an end to it."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from aiohttp import ClientSession, CookieJar
from shown_cluster import answer, network, node, service, shop, task, traffic
from whole_cluster import VolatileStore

from meshnet.errors import ControlError
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.cluster.log_lines import frame
from meshnet_control.dashboard import counted, guard, server, task_log
from meshnet_control.dashboard.counted import Shares, Traffic
from meshnet_control.dashboard.feed import NO_STORE, Feed
from meshnet_control.dashboard.server import DashboardServer
from meshnet_control.dashboard.task_log import TaskLogs
from meshnet_control.store.store import Delete, Put

SCRIPTS = ("page.js", "elements.js", "traffic.js", "log.js")
TOKEN = "-".join(("t0ken", "of", "this", "test"))
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028"


async def nobody(_: xpb.AskRequest) -> xpb.AskReply | None:
    return None


def serving(store, at="127.0.0.1", ask=nobody, token=lambda: TOKEN, logs=None, **bounds):
    """One at a free port; it is not begun."""
    with socket.create_server((at, 0)) as taken:
        port = taken.getsockname()[1]
    made = DashboardServer(
        Feed(lambda: store, pace_s=0.0),
        Shares(ask),
        Traffic(ask),
        TaskLogs(lambda: store, lambda: logs),
        lambda: f"{at}:{port}",
        token,
        **bounds,
    )
    return made, f"http://127.0.0.1:{port}"


@asynccontextmanager
async def served(store, at="127.0.0.1", **settings):
    made, url = serving(store, at, **settings)
    await made.follow()
    try:
        async with ClientSession(url, cookie_jar=CookieJar(unsafe=True)) as session:
            yield SimpleNamespace(session=session, server=made, url=url)
    finally:
        await made.end()


async def told(answer):
    """The next message of a stream."""
    while True:
        line = await answer.content.readline()
        assert line, "the stream ended"
        if line.startswith(b"data: "):
            return json.loads(line.removeprefix(b"data: "))


async def test_this_host_itself_needs_no_token_and_gets_all_parts():
    async with served(VolatileStore(shop())) as there:
        for path, kind in (
            ("/", "text/html"),
            *((f"/{name}", "text/javascript") for name in SCRIPTS),
            ("/style.css", "text/css"),
            ("/icon.svg", "image/svg+xml"),
        ):
            async with there.session.get(path) as answer:
                assert (answer.status, answer.content_type) == (200, kind)
                for name, value in guard.HEADERS.items():
                    assert answer.headers[name] == value
        async with there.session.get("/nothing") as answer:
            assert answer.status == 404


async def test_the_page_has_no_script_or_style_of_its_own():
    async with served(VolatileStore([])) as there, there.session.get("/") as answer:
        page = await answer.text()
    assert "<script src=" in page
    assert "<style" not in page
    assert " style=" not in page
    assert " on" not in page.partition("<body>")[2].replace(" one", "")


@pytest.mark.parametrize("name", SCRIPTS)
async def test_the_scripts_make_no_html_of_text(name):
    async with served(VolatileStore([])) as there, there.session.get(f"/{name}") as answer:
        script = await answer.text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in script


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9000", "127.0.0.1.nip.example"])
async def test_another_name_is_refused_also_with_the_token(host):
    async with served(VolatileStore(shop()), "0.0.0.0") as there:  # noqa: S104
        headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
        async with there.session.get("/events", headers=headers) as answer:
            assert answer.status == 403
            assert await answer.text() == server.FOREIGN


@pytest.mark.parametrize("path", ["/", "/page.js", "/events", "/shares?service=x", "/nothing"])
async def test_strangers_need_the_token_for_everything(path):
    async with served(VolatileStore(shop()), "0.0.0.0") as there:  # noqa: S104
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{guard.COOKIE}=wrong"}):
            async with there.session.get(path, headers=headers) as answer:
                assert answer.status == 401
                assert await answer.text() == server.NO_TOKEN
                assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


async def test_the_token_is_given_once_and_remembered_by_a_cookie_no_script_reads():
    async with served(VolatileStore(shop()), "0.0.0.0") as there:  # noqa: S104
        async with there.session.get("/?token=wrong", allow_redirects=False) as answer:
            assert answer.status == 401
        async with there.session.get(f"/?token={TOKEN}", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
            cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert TOKEN not in cookie, "other ports of the address are sent it, too"
        async with there.session.get("/events") as answer:
            assert answer.status == 200
            assert (await told(answer))["whole"]


async def test_a_program_may_say_the_token_with_each_request():
    async with served(VolatileStore(shop()), "0.0.0.0") as there:  # noqa: S104
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with there.session.get("/", headers=headers) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_nothing_but_reading_is_understood(method):
    async with served(VolatileStore(shop())) as there:
        for path in ("/", "/events", "/shares"):
            async with there.session.request(method, path) as answer:
                assert answer.status == 405


async def test_a_stream_tells_everything_and_then_what_differs():
    store = VolatileStore(shop())
    async with served(store) as there, there.session.get("/events") as answer:
        assert answer.content_type == "text/event-stream"
        first = await told(answer)
        assert first["whole"]
        assert {row["name"] for row in first["nodes"]["put"]} == {"h1", "h2", "h3", "h4"}
        fresh = service("fresh", 1)
        await store.commit([Put(fresh), Put(task(fresh, 1, "h1"))])
        said = await told(answer)
        assert (said["whole"], "nodes" in said) == (False, False)
        assert [row["name"] for row in said["services"]["put"]] == ["fresh"]
        assert [row["name"] for row in said["tasks"]["put"]] == ["fresh.1"]
        await store.commit([Delete(type(fresh), fresh.id)])
        said = await told(answer)
        assert said["services"] == {"put": [], "gone": [fresh.id]}
        assert len(said["tasks"]["gone"]) == 1


async def test_a_page_that_comes_later_is_told_everything_too():
    store = VolatileStore(shop())
    async with served(store) as there:
        for _ in range(2):
            async with there.session.get("/events") as one, there.session.get("/events") as two:
                assert await told(one) == await told(two)


async def test_names_and_labels_of_others_are_text_and_no_line_of_the_stream():
    web = service("web", 1)
    web.spec.name = web.spec.labels["a\n\ndata: {}"] = HOSTILE
    host = node("h1", 1)
    host.spec.labels[HOSTILE] = "\r\n\r\n"
    store = VolatileStore([web, host, network(), task(web, 1, "h1")])
    async with served(store) as there, there.session.get("/events") as answer:
        said = await told(answer)
    assert said["services"]["put"][0]["name"] == HOSTILE
    assert said["services"]["put"][0]["labels"] == {"a\n\ndata: {}": HOSTILE}
    assert said["nodes"]["put"][0]["labels"] == {HOSTILE: "\r\n\r\n"}


async def test_a_node_that_does_not_manage_says_so():
    async with served(None) as there, there.session.get("/events") as answer:
        assert (await told(answer))["trouble"] == NO_STORE


async def test_who_answers_for_a_service_is_told_with_shares():
    web = service("web", 2)
    tasks = [task(web, 1, "h1"), task(web, 2, "h2")]
    asked = []

    async def ask(request: xpb.AskRequest) -> xpb.AskReply | None:
        asked.append(request)
        return answer(web, tasks, [3, 1])

    async with served(VolatileStore([web]), ask=ask) as there:
        path = f"/shares?service={web.id}"
        async with there.session.get(path) as one, there.session.get(path) as two:
            said = await told(one)
            assert said == await told(two)
    assert [row["share"] for row in said["backends"]] == [0.75, 0.25]
    assert [request.all for request in asked] == [True]


async def test_traffic_is_told_once_there_are_two_readings(monkeypatch):
    monkeypatch.setattr(counted, "FRESH_S", 0.0)
    monkeypatch.setattr(server, "FRESH_S", 0.0)
    at = iter(range(100, 10000, 2))

    async def ask(request: xpb.AskRequest) -> xpb.AskReply | None:
        assert request.all
        return traffic(next(at), {("h1", "h2"): 1000.0})

    async with (
        served(VolatileStore([]), ask=ask) as there,
        there.session.get("/traffic") as answer,
    ):
        assert await told(answer) == {"links": [], "overlays": [], "missing": []}
        (link,) = (await told(answer))["links"]
    assert link == {"from": "nodeh1", "to": "nodeh2", "packets": 10.0, "bytes": 1000.0}


async def follows(_):
    yield frame(1, b"2026-11-26T18:10:00Z hello\n")
    await asyncio.Event().wait()


async def test_a_log_is_for_who_has_the_token_also_on_this_host():
    web = service("web", 1)
    one = task(web, 1, "h1")
    path = f"/logs?task={one.id}"
    async with served(VolatileStore([web, one]), logs=follows) as there:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            async with there.session.get(path, headers=headers) as answer:
                assert answer.status == 401
                assert await answer.text() == server.NO_LOGS
        async with there.session.get("/?token=wrong") as answer:
            assert answer.status == 200
        async with there.session.get(path) as answer:
            assert answer.status == 401
        async with there.session.get(f"/?token={TOKEN}") as answer:
            assert (answer.status, answer.url.query_string) == (200, "")
        async with there.session.get(path) as answer:
            (row,) = (await told(answer))["lines"]
    assert row["text"] == "hello"


async def test_a_log_that_has_ended_ends_its_stream():
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        served(VolatileStore([]), logs=follows) as there,
        there.session.get("/logs?task=nobody", headers=headers) as answer,
    ):
        said = await told(answer)
        assert (said["ended"], said["missing"]) == (True, task_log.GONE)
        while await answer.content.readline():
            pass


async def test_one_log_too_many_is_told_so_and_a_page_that_is_gone_makes_room(monkeypatch):
    monkeypatch.setattr(server, "MOST_LOGS", 1)
    monkeypatch.setattr(server, "LOG_BEAT_S", 0.01)
    web = service("web", 1)
    one = task(web, 1, "h1")
    path, headers = f"/logs?task={one.id}", {"Authorization": f"Bearer {TOKEN}"}
    async with served(VolatileStore([web, one]), logs=follows) as there:
        async with there.session.get(path, headers=headers) as first:
            await told(first)
            async with there.session.get(path, headers=headers) as answer:
                assert (answer.status, await answer.text()) == (503, server.TOO_MANY_LOGS)
        async with asyncio.timeout(20):
            while True:
                async with there.session.get(path, headers=headers) as answer:
                    if answer.status == 200:
                        break


async def test_nodes_that_cannot_be_asked_are_said_to_be_missing():
    async def ask(_: xpb.AskRequest) -> xpb.AskReply | None:
        raise ControlError("no manager is connected")

    async with (
        served(VolatileStore([]), ask=ask) as there,
        there.session.get("/shares?service=x") as answer,
    ):
        assert (await told(answer))["missing"] == ["no manager is connected"]


async def test_one_stream_too_many_is_told_to_come_again():
    async with (
        served(VolatileStore(shop()), most_streams=2) as there,
        there.session.get("/events") as one,
        there.session.get("/events") as two,
    ):
        async with there.session.get("/events") as answer:
            assert answer.status == 503
            assert await answer.text() == server.TOO_MANY
        async with there.session.get("/") as answer:
            assert answer.status == 200
        await told(one)
        await told(two)


async def test_a_page_that_is_gone_makes_room_and_the_last_one_ends_the_watch():
    async with served(VolatileStore(shop()), most_streams=1) as there:
        async with there.session.get("/events") as first:
            await told(first)
        running = there.server._feed._running
        async with asyncio.timeout(20):
            while True:
                async with there.session.get("/events") as answer:
                    if answer.status == 200:
                        await told(answer)
                        break
            await asyncio.wait({running})
        assert running is not None


async def test_a_page_that_says_nothing_is_given_signs_of_life(monkeypatch):
    monkeypatch.setattr(server, "BEAT_S", 0.01)
    async with served(VolatileStore(shop())) as there, there.session.get("/events") as answer:
        await told(answer)
        while await answer.content.readline() != b": here\n":
            pass


async def test_another_token_ends_the_streams_of_the_one_before(monkeypatch):
    monkeypatch.setattr(server, "BEAT_S", 0.01)
    tokens = [TOKEN]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with served(VolatileStore(shop()), "0.0.0.0", token=lambda: tokens[0]) as there:  # noqa: S104
        async with there.session.get("/events", headers=headers) as answer:
            await told(answer)
            tokens[0] = "another"
            while await answer.content.readline():
                pass
        async with there.session.get("/events", headers=headers) as answer:
            assert answer.status == 401


async def test_streams_end_with_the_server():
    async with served(VolatileStore(shop())) as there, there.session.get("/events") as answer:
        await told(answer)
        running = there.server._feed._running
        assert running is not None
        async with asyncio.timeout(20):
            await there.server.end()
            await asyncio.wait({running})
        assert there.server._feed._running is None


async def test_a_stream_outlives_what_a_connection_may(monkeypatch):
    monkeypatch.setattr(server, "BEAT_S", 0.01)
    async with (
        served(VolatileStore(shop()), life_s=0.3) as there,
        there.session.get("/events") as stream,
    ):
        await told(stream)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(there.url[-5:].strip(":")))
        async with asyncio.timeout(20):
            assert await reader.read() == b""  # one that came later is over by now
        writer.close()
        for _ in range(3):
            assert await stream.content.readline()
        assert not stream.content.at_eof()
