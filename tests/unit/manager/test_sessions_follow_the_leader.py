"""No stream is open at a manager that leads no more."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import assignments
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.identity.referral import LEADER
from meshnet_control.manager.authority import Authority
from meshnet_control.manager.dispatcher import Dispatcher
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put, Store


class Slow:
    """A store whose answers wait."""

    def __init__(self, behind: SqliteStore) -> None:
        self._behind = behind
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def get(self, kind, ident):
        self.asked.set()
        await self.answers.wait()
        return await self._behind.get(kind, ident)


class Caller:
    """Of a node, as an authority and a call's context; a call that is ended raises."""

    async def node(self, _context):
        return "n1"

    async def abort(self, _code, why, metadata):
        raise AbortedError(why, dict(metadata)[LEADER])


class AbortedError(Exception):
    """A call was ended."""


async def nothing():
    await asyncio.Event().wait()
    yield pb.SessionRequest()


async def test_a_stream_that_opens_as_the_term_ends_is_referred(tmp_path):
    behind = SqliteStore.open(tmp_path / "s", tmp_path / "k")
    await behind.commit([Put(pb.Node(id="n1"))])
    store = Slow(behind)
    who = Identity("m1", "c1", "manager", Certificates(b"", b"", b""))
    objects = assignments.Objects(pb.Cluster(), nodes={"n1": pb.Node(id="n1")})
    caller = Caller()
    dispatcher = Dispatcher(
        cast("Store", store),
        cast("Authority", caller),
        who,
        lambda: objects,
        lambda: "10.0.0.2:2377",
    )
    term = asyncio.ensure_future(dispatcher.lead(behind))
    while not dispatcher.leading:  # noqa: ASYNC110 - it takes one turn
        await asyncio.sleep(0)
    session = asyncio.ensure_future(dispatcher.Session(nothing(), cast("Any", caller)))
    await store.asked.wait()
    term.cancel()
    await asyncio.wait({term})
    store.answers.set()
    done, _ = await asyncio.wait({session}, timeout=5)
    assert dispatcher.sessions == 0
    assert done == {session}
    with pytest.raises(AbortedError, match=r"10\.0\.0\.2:2377"):
        session.result()
    await behind.close()
