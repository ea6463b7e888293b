"""Questions about this node and others: asked here, answered here, or passed on to a manager.

```
 meshnet command ── Ask (admin.sock) ──> Questions ── here ──> Answers
                                             └─ others ── Ask (2377) ──> the manager that leads
 the manager that leads ── Listen ──> Questions ──────────────> Answers
```
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import grpc.aio

from meshnet import ends
from meshnet.errors import MeshnetError
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.api import explain_pb2_grpc
from meshnet_control.identity.channel import CallEndedError, call_ends

_log = logging.getLogger(__name__)

AGAIN_S: Final = 1.0
OTHERS_S: Final = 6.0
"""For a manager to ask the others; it waits less for each."""
MOST_ANSWERING: Final = 8
"""Questions that are answered at a time; the others wait."""
ONLY_MANAGERS: Final = "only a manager may ask other nodes: type it on one"
NOBODY: Final = "no manager is connected, so other nodes cannot be asked"

Answer = Callable[[xpb.Question], Awaitable[xpb.Answer]]


class Questions:
    """Asks and answers for this node.

    Args:
        answer: a question about this node.
        at: which node a question is about, by id; empty: whichever is asked.
        node_id: of this node.
        hostname: of this host.
        manages: whether this node is a manager.
    """

    def __init__(
        self,
        answer: Answer,
        node_id: str,
        hostname: str,
        manages: Callable[[], bool],
        at: Callable[[xpb.Question], str] = lambda _: "",
    ) -> None:
        self._answer, self._node_id, self._hostname, self._at = answer, node_id, hostname, at
        self._manages = manages
        self._stub: explain_pb2_grpc.QuestionsStub | None = None
        self._busy = asyncio.Semaphore(MOST_ANSWERING)

    async def ask(self, request: xpb.AskRequest) -> xpb.AskReply:
        """This node's answer first, then those of the others; what is missing is said.

        Raises:
            ControlError: what is asked about is not there.
        """
        at = "" if request.all or request.nodes else self._at(request.question)
        if at and at != self._node_id:
            request = xpb.AskRequest(question=request.question, nodes=[at])
        here = not request.nodes or self._node_id in request.nodes
        reply = xpb.AskReply()
        others = asyncio.ensure_future(self._others(request))
        try:
            if here:
                answer = await self.answer(request.question)
                reply.answers.add(node_id=self._node_id, hostname=self._hostname, answer=answer)
            found = await others
        finally:
            await ends.ended(others)
        reply.missing = found.missing
        reply.answers.extend(each for each in found.answers if each.node_id != self._node_id)
        return reply

    async def answer(self, question: xpb.Question) -> xpb.Answer:
        """A question about this node; a failure is an answer, too."""
        async with self._busy:
            try:
                return await self._answer(question)
            except (MeshnetError, ExceptionGroup) as error:
                return xpb.Answer(error=str(error))

    async def run(self, link: grpc.aio.Channel) -> None:
        """Answer one manager, until cancelled; it asks the others for us meanwhile."""
        stub = self._stub = explain_pb2_grpc.QuestionsStub(link)
        try:
            while True:
                try:
                    await self._listen(stub)
                except CallEndedError as error:
                    _log.debug("questions of managers: %s", error)
                await asyncio.sleep(AGAIN_S)
        finally:
            if self._stub is stub:
                self._stub = None

    async def _others(self, request: xpb.AskRequest) -> xpb.AskReply:
        if not request.all and not set(request.nodes) - {self._node_id}:
            return xpb.AskReply()
        if not self._manages():
            return xpb.AskReply(missing=ONLY_MANAGERS)
        if self._stub is None:
            return xpb.AskReply(missing=NOBODY)
        try:
            with call_ends():
                return await self._stub.Ask(request, timeout=OTHERS_S)
        except CallEndedError as error:
            return xpb.AskReply(missing=f"other nodes cannot be asked: {error}")

    async def _listen(self, stub: explain_pb2_grpc.QuestionsStub) -> None:
        answers: asyncio.Queue[xpb.NodeReply] = asyncio.Queue()
        call = stub.Listen(_from(answers))
        answering: set[asyncio.Task[None]] = set()
        try:
            while True:
                with call_ends():
                    asked = await call.read()
                if not isinstance(asked, xpb.NodeQuestion):
                    return
                job = asyncio.create_task(self._reply(asked, answers), name="answer")
                answering.add(job)
                job.add_done_callback(answering.discard)
        finally:
            call.cancel()
            await ends.ended(*answering)

    async def _reply(self, asked: xpb.NodeQuestion, answers: asyncio.Queue[xpb.NodeReply]) -> None:
        answer = await self.answer(asked.question)
        answers.put_nowait(xpb.NodeReply(number=asked.number, answer=answer))


async def _from(answers: asyncio.Queue[xpb.NodeReply]) -> AsyncIterator[xpb.NodeReply]:
    yield xpb.NodeReply()
    while True:
        yield await answers.get()
