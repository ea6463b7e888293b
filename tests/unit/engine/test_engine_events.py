"""Events of an engine that says what it likes: read where they come in, bounded, never the end."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet import drops
from meshnet.errors import WireError
from meshnet_control.engine.client import EngineClient
from meshnet_control.engine.events import (
    MOST_EVENTS,
    RESYNC,
    UNTAKEN,
    Event,
    Inbox,
    parse,
)
from meshnet_control.engine.labels import TASK_LABEL

CONTAINER = "c" * 64
DIED = {
    "Type": "container",
    "Action": "die",
    "Actor": {"ID": CONTAINER, "Attributes": {"exitCode": "137", TASK_LABEL: "t1"}},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def line(said: object) -> bytes:
    return json.dumps(said).encode() + b"\n"


def died(**attributes: object) -> dict[str, object]:
    return {**DIED, "Actor": {"ID": CONTAINER, "Attributes": attributes}}


BAD = {
    "no JSON": b"{\n",
    "not UTF-8": b'{"Action": "\xff"}\n',
    "deeper than any parser goes": b"[" * 100_000 + b"\n",
    "a list": line([DIED]),
    "no Action": line({k: v for k, v in DIED.items() if k != "Action"}),
    "an Action that is a number": line({**DIED, "Action": 3}),
    "no Actor": line({k: v for k, v in DIED.items() if k != "Actor"}),
    "an Actor that is a text": line({**DIED, "Actor": CONTAINER}),
    "an ID that is a number": line({**DIED, "Actor": {"ID": 7}}),
    "Attributes that are a list": line({**DIED, "Actor": {"ID": CONTAINER, "Attributes": ["a"]}}),
    "a label that is an object": line(died(**{"exitCode": "0", TASK_LABEL: {}})),
    "a die without an exit code": line(died()),
    "an exit code that is a word": line(died(exitCode="nought")),
    "an exit code of true": line(died(exitCode=True)),
    "an exit code of 5 000 digits": line(died(exitCode="9" * 5000)),
    "an exit code of 33 bits": line(died(exitCode="4294967296")),
    "an exit code of NaN": line(died(exitCode=float("nan"))),
}


def test_what_an_engine_says():
    assert parse(line(DIED)) == Event("die", CONTAINER, "t1", 137)
    healthy = {"Action": "health_status: healthy", "Actor": {"ID": CONTAINER, "Attributes": None}}
    assert parse(line(healthy)) == Event("health_status: healthy", CONTAINER)
    assert parse(line({**DIED, "Action": "kill"})).exit_code == 0


@pytest.mark.parametrize("said", BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_said_so(said):
    with pytest.raises(WireError):
        parse(said)


@given(
    st.binary()
    | JSON.map(line)
    | st.fixed_dictionaries(
        {"Action": st.just("die") | JSON, "Actor": st.fixed_dictionaries({"ID": JSON}) | JSON}
    ).map(line)
    | st.dictionaries(st.sampled_from(["exitCode", TASK_LABEL]), JSON).map(
        lambda attributes: line(died(**attributes))
    )
)
def test_anything_is_an_event_or_unreadable(said):
    try:
        found = parse(said)
    except WireError:
        return
    assert isinstance(found.action, str)
    assert isinstance(found.container, str)
    assert isinstance(found.task, str)
    assert type(found.exit_code) is int


async def test_more_than_is_kept_becomes_one_look_at_everything():
    inbox, before = Inbox(most=3), drops.snapshot().get(UNTAKEN, 0)
    for number in range(5):
        inbox.put(Event("start", str(number)))
    assert [await inbox.get(), await inbox.get()] == [Event(RESYNC), Event("start", "4")]
    assert drops.snapshot()[UNTAKEN] == before + 4
    for _ in range(3):
        inbox.resync()
    inbox.put(Event("start", "5"))
    assert [await inbox.get(), await inbox.get()] == [Event(RESYNC), Event("start", "5")]


async def test_who_waits_for_an_event_hears_that_the_source_failed():
    async def source() -> None:
        await asyncio.sleep(0)
        raise OSError("no engine")

    inbox = Inbox()
    waiting = asyncio.create_task(inbox.get())
    asyncio.create_task(source()).add_done_callback(inbox.close)
    for _ in range(5):
        await asyncio.sleep(0)
    assert waiting.done()
    with pytest.raises(OSError, match="no engine"):
        waiting.result()


@pytest.mark.parametrize("said", BAD.values(), ids=BAD)
async def test_no_event_ends_the_stream(stand_in, client: EngineClient, caplog, said):
    before = sum(drops.snapshot().values())
    async with asyncio.timeout(10), aclosing(client.events()) as events:
        assert (await anext(events)).action == RESYNC
        for _ in range(2):
            stand_in.said.put_nowait(said + line(DIED))
            assert (await anext(events)).action == RESYNC
            assert await anext(events) == Event("die", CONTAINER, "t1", 137)
    assert [path for _, path in stand_in.asked].count("/events") == 1
    assert sum(drops.snapshot().values()) == before + 2
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


async def test_an_event_cut_anywhere_is_one(stand_in, client: EngineClient):
    async with asyncio.timeout(10), aclosing(client.events()) as events:
        assert (await anext(events)).action == RESYNC
        for byte in line(DIED):
            stand_in.said.put_nowait(bytes([byte]))
        assert (await anext(events)).exit_code == 137


async def test_a_line_without_end_costs_a_reconnection(stand_in, client: EngineClient, caplog):
    async with asyncio.timeout(20), aclosing(client.events()) as events:
        assert (await anext(events)).action == RESYNC
        for _ in range(20):
            stand_in.said.put_nowait(b"x" * 2**16)
        assert (await anext(events)).action == RESYNC
        stand_in.said.put_nowait(line(DIED))
        assert (await anext(events)).action == "die"
    assert "line of more than" in caplog.text


async def test_a_slow_consumer_misses_nothing_unknowingly(stand_in, client: EngineClient):
    before = drops.snapshot().get(UNTAKEN, 0)
    async with asyncio.timeout(30), aclosing(client.events()) as events:
        assert (await anext(events)).action == RESYNC
        stand_in.said.put_nowait(line(DIED) * (MOST_EVENTS + 1))
        while drops.snapshot().get(UNTAKEN, 0) == before:  # noqa: ASYNC110 - has no event
            await asyncio.sleep(0)
        assert (await anext(events)).action == RESYNC
        stand_in.said.put_nowait(line({**DIED, "Action": "start"}))
        assert (await anext(events)).action == "start"


async def test_it_reconnects_for_ever_and_says_so_each_time(stand_in, client: EngineClient, caplog):
    caplog.set_level(logging.INFO, "meshnet_control.engine")
    async with asyncio.timeout(20), aclosing(client.events()) as events:
        assert (await anext(events)).action == RESYNC
        stand_in.said.put_nowait(None)  # the engine ends the stream
        assert (await anext(events)).action == RESYNC
        await stand_in.stop()  # the engine goes
        looking = asyncio.create_task(anext(events))
        while not caplog.records[-1].message.startswith("Cannot connect"):  # noqa: ASYNC110
            await asyncio.sleep(0)
        waiting = asyncio.create_task(client.answers(20.0))
        stand_in.answers["events"] = (500, b'{"message": "not yet"}')
        await stand_in.start()
        await waiting
        del stand_in.answers["events"]
        assert (await looking).action == RESYNC
        stand_in.said.put_nowait(line(DIED))
        assert (await anext(events)).action == "die"
    said = [record.message for record in caplog.records]
    assert [text.split()[0] for text in said] == ["Cannot", "the", "Cannot", "the", "events"]
    assert said[-1] == "events of the engine cannot be read: not yet"
