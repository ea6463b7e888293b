"""The client of an engine that refuses, goes, comes back as another, or cannot be asked."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from contextlib import AsyncExitStack, contextmanager, suppress

import pytest

from meshnet_control.convert.engine_json import to_engine
from meshnet_control.engine.client import (
    EngineClient,
    EngineConflictError,
    EngineError,
    EngineGoneError,
    EngineNotFoundError,
)
from meshnet_control.engine.connection import Request
from meshnet_control.engine.errors import EngineUnaskedError

CONTAINER = "c" * 64


@contextmanager
def no_descriptor_left():
    """This process can open nothing any more; call what is yielded when something was closed."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    def take_all():
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))

    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield take_all
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in taken:
            os.close(descriptor)


async def test_out_of_descriptors_is_said_of_the_call_and_of_no_container(stand_in, client, caplog):
    stand_in.answers["json"] = (200, json.dumps({"Id": CONTAINER}).encode())
    with no_descriptor_left():
        for work in (client.inspect(CONTAINER), client.containers([]), client.start(CONTAINER)):
            with pytest.raises(EngineUnaskedError, match="too many open files"):
                await work
        assert await client.last_line(CONTAINER) == ""
        async with asyncio.timeout(5):
            await client.answers(60.0)  # it is not the engine that went
    assert await client.inspect(CONTAINER) == {"Id": CONTAINER}
    said = [record.message for record in caplog.records]
    assert len(said) == 1, said
    assert "cannot be asked" in said[0]


async def test_out_of_descriptors_ends_no_event_stream(stand_in, client, caplog):
    async with asyncio.timeout(10):
        events = client.events()
        assert (await anext(events)).action == "resync"
        with no_descriptor_left() as take_all:
            stand_in.said.put_nowait(None)
            looking = asyncio.create_task(anext(events))
            while "cannot be asked" not in caplog.text:
                take_all()
                await asyncio.sleep(0)
            assert not looking.done()
        assert (await looking).action == "resync"
        await events.aclose()


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (404, b'{"message": "No such image: x"}', EngineNotFoundError, "No such image: x"),
        (409, b'{"message": "name taken"}', EngineConflictError, "name taken"),
        (500, b'{"message": "no space left"}', EngineError, "no space left"),
        (500, b'["no object"]', EngineError, "makes no sense"),
        (500, b"{", EngineError, "makes no sense"),
        (500, b"\xff", EngineError, "makes no sense"),
        (201, b'{"Warnings": []}', EngineError, "makes no sense"),
        (201, b"[]", EngineError, "makes no sense"),
    ],
)
async def test_what_an_engine_refuses(stand_in, client, status, body, kind, said):
    stand_in.answers["create"] = (status, body)
    with pytest.raises(EngineError, match=said) as caught:
        await client.create("a", {})
    assert type(caught.value) is kind
    assert not isinstance(caught.value, EngineGoneError)


@pytest.mark.parametrize("body", [b'"text"', b"3", b"null", b"{", b"[" * 100_000, b"\xff"])
async def test_answers_of_another_form(stand_in, client, body):
    stand_in.answers["json"] = (200, body)
    stand_in.answers["docker_gwbridge"] = (200, body)
    for work in (
        client.inspect(CONTAINER),
        client.containers([]),
        client.image("web"),
        client.gwbridge(),
    ):
        with pytest.raises(EngineError):
            await work


async def test_a_call_that_is_cancelled_goes_on_to_its_end(stand_in, client):
    stand_in.hold.clear()
    creating = asyncio.create_task(client.create("a", {"Image": "web"}))
    async with asyncio.timeout(10):
        while ("POST", "/v1.41/containers/create") not in stand_in.asked:  # noqa: ASYNC110
            await asyncio.sleep(0)
        creating.cancel()
        with suppress(asyncio.CancelledError):
            await creating
        asyncio.get_running_loop().call_later(0.05, stand_in.hold.set)
        await client.close()
    assert stand_in.created == [{"Image": "web"}]


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}])
async def test_a_request_has_the_type_it_was_given_and_no_other(stand_in, client, headers):
    """Engines refuse ``docker commit`` of a type that is not JSON, though it has no body."""
    stand_in.answers["commit"] = (201, b"{}")
    async with client.open(Request("POST", "/commit", headers=headers)) as answer:
        await answer.read()
    assert stand_in.types == [headers.get("Content-Type")]


async def test_an_engine_comes_back_as_another_version(stand_in, client):
    assert await client.create("a", {}) == CONTAINER
    await stand_in.stop()
    with pytest.raises(
        EngineGoneError, match=f"Cannot connect to the Docker daemon at {client.url}"
    ):
        await client.create("b", {})
    stand_in.version = "1.50"
    await stand_in.start()
    await client.create("c", {})
    creates = [path for _, path in stand_in.asked if path.endswith("create")]
    assert creates == ["/v1.41/containers/create", "/v1.50/containers/create"]


@pytest.mark.parametrize(
    ("reference", "asked"),
    [
        ("web", {"fromImage": "web", "tag": "latest"}),
        ("h:5000/web", {"fromImage": "h:5000/web", "tag": "latest"}),
        ("web:2", {"fromImage": "web:2"}),
        ("web@sha256:ab", {"fromImage": "web@sha256:ab"}),
        ("w?b#c", {"fromImage": "w?b#c", "tag": "latest"}),
    ],
)
async def test_an_image_that_is_not_here_is_pulled(stand_in, client, reference, asked):
    stand_in.progress = b'{"status": "Pulling"}\n\n{"error": "no such host"}\n'
    with pytest.raises(EngineNotFoundError, match="No such image: ") as caught:
        await client.image(reference)
    assert caught.value.__notes__ == ["no such host"]
    assert stand_in.pulled == [asked]
    assert stand_in.asked[1] == ("GET", f"/v1.41/images/{reference}/json")


@pytest.mark.parametrize(("auth", "sent"), [("", None), ("eyJhIjogMX0=", "eyJhIjogMX0=")])
async def test_an_image_is_pulled_with_the_credentials_of_its_service(stand_in, client, auth, sent):
    stand_in.progress = b'{"error": "no such host"}\n'
    with pytest.raises(EngineNotFoundError):
        await client.image("web", auth)
    assert stand_in.pulled_with == [sent]


async def test_any_number_of_followers_stop_no_call(stand_in, client: EngineClient):
    request = Request("GET", f"/containers/{CONTAINER}/logs?follow=1", limit_s=None)
    async with asyncio.timeout(20), AsyncExitStack() as stack:
        for _ in range(120):
            answer = await stack.enter_async_context(client.open(request))
            assert await anext(aiter(answer.chunks())) == b"said"
        await client.create("a", {})
        assert stand_in.followers == 120
    async with asyncio.timeout(5):
        while stand_in.followers:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_closed_client_asks_nothing(stand_in, client):
    await client.create("a", {})
    await client.close()
    with pytest.raises(EngineGoneError):
        await client.create("b", {})
    assert len(stand_in.created) == 1


@pytest.mark.parametrize(
    ("part", "since", "words"),
    [
        ({"Healthcheck": {"StartInterval": 5}}, 44, "a start interval of health checks"),
        (
            {"HostConfig": {"Mounts": [{"Target": "/d", "VolumeOptions": {"Subpath": "a"}}]}},
            45,
            "a mount of a part of a volume, at /d",
        ),
        (
            {
                "HostConfig": {
                    "Mounts": [{"Target": "/d", "BindOptions": {"ReadOnlyForceRecursive": True}}]
                }
            },
            44,
            "a bind mount read-only to its depth, at /d",
        ),
    ],
)
async def test_what_an_older_engine_would_leave_out_silently_is_refused_by_name(
    stand_in, client, part, since, words
):
    config = {"Image": "web:1", **part}
    stand_in.version = f"1.{since - 1}"
    with pytest.raises(
        EngineError, match=rf"{words}: it speaks API 1.{since - 1}.* with 1.{since}"
    ):
        await client.create("web", config)
    assert stand_in.created == []
    stand_in.version = f"1.{since}"
    assert await client.create("web", config) == CONTAINER
    assert stand_in.created == [config]


async def test_a_node_has_what_its_engine_was_told_that_it_has(stand_in, client):
    resources = [
        {"NamedResourceSpec": {"Kind": "gpu", "Value": "a"}},
        {"DiscreteResourceSpec": {"Kind": "ssd", "Value": 3}},
    ]
    info = {"NCPU": 2, "MemTotal": 1 << 30, "GenericResources": resources}
    stand_in.answers["info"] = (200, json.dumps(info).encode())
    has = (await client.describe("h1")).resources
    assert (has.nano_cpus, has.memory_bytes) == (2 * 10**9, 1 << 30)
    assert to_engine(has)["GenericResources"] == resources
    stand_in.answers["info"] = (200, json.dumps(info | {"GenericResources": None}).encode())
    assert not (await client.describe("h1")).resources.generic_resources
    stand_in.answers["info"] = (200, json.dumps(info | {"GenericResources": [7]}).encode())
    with pytest.raises(EngineError, match="cannot unmarshal"):
        await client.describe("h1")
