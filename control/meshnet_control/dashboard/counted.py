"""What the nodes' kernels counted, asked for once for all who look, and only while somebody does.

```
 every node ── Ask, every two seconds ──> Counted ─┬─> Shares: who answers for a service
                                                   └─> Traffic: what goes from host to host
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from meshnet.errors import ControlError
from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.dashboard import rates, view
from meshnet_control.dashboard.feed import NO_STORE
from meshnet_control.explain import balancing

FRESH_S: Final = 2.0
"""So long what nodes counted is not asked for anew."""

Ask = Callable[[xpb.AskRequest], Awaitable[xpb.AskReply | None]]
"""Every node; None: this node is in no cluster now."""


class Counted:
    """The answers of all nodes to one question, at most ``FRESH_S`` old.

    Args:
        ask: whom.
        question: what.
    """

    def __init__(self, ask: Ask, question: xpb.Question) -> None:
        self._ask, self._question = ask, question
        self._one = asyncio.Lock()
        self._until = 0.0
        self._reply = xpb.AskReply()

    async def newest(self) -> xpb.AskReply:
        """As asked for last, by whomever."""
        async with self._one:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._until:
                self._reply = await self._asked()
                self._until = loop.time() + FRESH_S
            return self._reply

    async def _asked(self) -> xpb.AskReply:
        try:
            reply = await self._ask(xpb.AskRequest(question=self._question, all=True))
        except ControlError as error:
            return xpb.AskReply(missing=str(error))
        return reply if reply is not None else xpb.AskReply(missing=NO_STORE)


class Shares:
    """Who answers for a service."""

    def __init__(self, ask: Ask) -> None:
        self._counted = Counted(ask, xpb.Question(balancing=xpb.BalancingQuestion()))

    async def of(self, service_id: str) -> Mapping[str, Any]:
        """A service's backends."""
        reply = await self._counted.newest()
        said = [each.answer for each in reply.answers]
        whole = balancing.merged(
            [each.balancing for each in said if each.WhichOneof("about") == "balancing"]
        )
        return view.backends(whole, service_id, _missing(reply))


class Traffic:
    """What goes from host to host."""

    def __init__(self, ask: Ask) -> None:
        self._counted = Counted(ask, xpb.Question(traffic=xpb.TrafficQuestion()))
        self._before, self._now = xpb.AskReply(), xpb.AskReply()

    async def now(self) -> Mapping[str, Any]:
        """Rates since the answers before; none yet with the first ones."""
        reply = await self._counted.newest()
        if reply is not self._now:
            self._before, self._now = self._now, reply
        return {**rates.shown(self._before, self._now), "missing": _missing(self._now)}


def _missing(reply: xpb.AskReply) -> list[str]:
    failed = [
        f"{each.hostname}: {each.answer.error}" for each in reply.answers if each.answer.error
    ]
    return [*filter(None, [reply.missing]), *failed]
