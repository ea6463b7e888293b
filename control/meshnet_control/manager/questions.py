"""What a manager asks nodes of themselves for another manager's user: the way there and back.

```
 meshnetd of a manager ── Ask ──> Questions ── NodeQuestion ──> each node that listens
                        <── AskReply ──    <── NodeReply ──
```
Nodes connect to the manager that leads, never the other way round; so a question goes down the
stream that its node keeps open, and what has not answered in ``ANSWER_S`` is said to be missing.

Be aware: nothing is kept: a question that was asked before its node listened is not asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Final

import grpc

from meshnet import drops
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.api import explain_pb2_grpc
from meshnet_control.identity.channel import CallEndedError, call_ends
from meshnet_control.identity.referral import refer
from meshnet_control.manager.authority import AnyContext, Authority
from meshnet_control.manager.managers_service import managers_now
from meshnet_control.store import store as st

ANSWER_S: Final = 4.0
"""A node that has not answered by then is not waited for: its host is busy, silent or gone."""
MOST_WAITING: Final = 64
"""Questions to one node at a time."""
NOT_HERE: Final = "it is not connected to the manager that leads"
SILENT: Final = f"no answer within {ANSWER_S:.0f} s"


class _Line:
    """One node that listens."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[xpb.NodeQuestion | None] = asyncio.Queue(MOST_WAITING)
        self.waiting: dict[int, asyncio.Future[xpb.Answer]] = {}

    def end(self) -> None:
        """Say nothing more; who waits for an answer gets none."""
        while not self.said.empty():
            self.said.get_nowait()
        self.said.put_nowait(None)
        for future in self.waiting.values():
            if not future.done():
                future.set_result(xpb.Answer(error=NOT_HERE))


class QuestionsService(explain_pb2_grpc.QuestionsServicer):
    """Asks the nodes that listen.

    Args:
        store: the cluster.
        authority: tells who calls.
        leader: ``host:port`` of who leads when it is another manager, empty: unknown; None: this.
    """

    def __init__(
        self, store: st.Store, authority: Authority, leader: Callable[[], str | None]
    ) -> None:
        self._store, self._authority, self._leader = store, authority, leader
        self._lines: dict[str, _Line] = {}
        self._numbers = count(1)

    async def Listen(  # noqa: N802 - the service's name
        self, requests: AsyncIterator[xpb.NodeReply], context: AnyContext
    ) -> None:
        """Questions to the calling node, until it goes or listens anew."""
        node_id = await self._authority.node(context)
        older = self._lines.get(node_id)
        if older is not None:
            older.end()
        line = self._lines[node_id] = _Line()
        hearing = asyncio.create_task(_hear(line, requests), name=f"answers of {node_id}")
        try:
            while (question := await line.said.get()) is not None:
                with call_ends():
                    await context.write(question)
        except CallEndedError:
            pass  # the node went away; it listens anew
        finally:
            hearing.cancel()
            line.end()
            if self._lines.get(node_id) is line:
                del self._lines[node_id]

    async def Ask(  # noqa: N802 - the service's name
        self, request: xpb.AskRequest, context: AnyContext
    ) -> xpb.AskReply:
        """What nodes answer, by host name; each has an answer, or the reason why not."""
        leader = self._leader()
        if leader is not None:
            await refer(context, leader)
        try:
            await managers_now(context, self._authority, self._store)
            nodes = await self._store.list(pb.Node)
        except st.StoreError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        asked = [node for node in nodes if request.all or node.id in request.nodes]
        answers = await asyncio.gather(*(self._ask(node, request.question) for node in asked))
        reply = xpb.AskReply()
        for node, answer in sorted(zip(asked, answers, strict=True), key=_by_name):
            name = node.description.hostname
            reply.answers.add(node_id=node.id, hostname=name, answer=answer)
        return reply

    async def _ask(self, node: pb.Node, question: xpb.Question) -> xpb.Answer:
        line = self._lines.get(node.id)
        if node.status.state == "down" or line is None:
            return xpb.Answer(error="it is down" if node.status.state == "down" else NOT_HERE)
        number = next(self._numbers)
        answer: asyncio.Future[xpb.Answer] = asyncio.get_running_loop().create_future()
        line.waiting[number] = answer
        try:
            line.said.put_nowait(xpb.NodeQuestion(number=number, question=question))
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except asyncio.QueueFull:
            drops.count("manager: node does not take questions")
            return xpb.Answer(error=SILENT)
        except TimeoutError:
            return xpb.Answer(error=SILENT)
        finally:
            del line.waiting[number]


def _by_name(answered: tuple[pb.Node, xpb.Answer]) -> tuple[str, str]:
    node, _ = answered
    return node.description.hostname, node.id


async def _hear(line: _Line, requests: AsyncIterator[xpb.NodeReply]) -> None:
    try:
        while True:
            with call_ends():
                reply = await anext(requests, None)
            if reply is None:
                break
            waiting = line.waiting.get(reply.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply.answer)
    except CallEndedError:
        pass
    line.end()
