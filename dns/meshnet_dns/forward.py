"""Questions that are not ours: asked of upstreams (``exchange``), and kept for a while.

```
 query ─> kept? ─────────────────────────────────────────────────> the answer, its TTLs lowered
        └ on its way already, for another client? ──┐
        └ a share of what may be on its way? ─ no ──│────────────> REFUSED
                   └ yes ─> Exchange ─────────────> all who asked, each with its ID and letters
        └ nobody to ask ─────────────────────────────────────────> NXDOMAIN: nobody can know it
```
The same question is asked once, whoever waits for it: many at once would give somebody who guesses
IDs as many chances (RFC 5452 section 5).

Answers are kept for containers that ask the same servers from the same place. Those of the Engine's
own resolver are not: it says 600 s of containers that come and go. Those of the host's servers go
when its resolv.conf has become another one; those of a container's own with the container.

Be aware: a container has at most ``EACH`` questions on their way at once, and all together have
``HOST`` (``meshnet_dns.bounds``); more are refused (REFUSED), as Docker does. So a container that
asks for names nobody answers fills its own share. What is kept costs no share.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from meshnet.model.wellknown import RESOLVER_ADDRESS
from meshnet_dns import forwarded, wire
from meshnet_dns.answer import NXDOMAIN, REFUSED
from meshnet_dns.bounds import Bound, Share
from meshnet_dns.counters import Counters
from meshnet_dns.exchange import HEDGE_S, PORT, TIMEOUT_S, Exchange, Way
from meshnet_dns.kept_answers import KeptAnswers, Key
from meshnet_dns.loop import Loop
from meshnet_dns.upstreams import HostUpstreams

EACH: Final = 512
"""Docker's 1024 are for a container too; with three silent upstreams each takes 2.4 s, and then 213
questions a second get their chance."""
HOST: Final = 4096
"""Each has up to three descriptors."""
FEW: Final = 16
TOO_MANY: Final = "too many forwarded"

Done = Callable[[bytes], None]
"""Gets the reply, with the ID of the query."""


class Forwarder:
    """All questions on their way, and the answers that are kept.

    Attributes:
        bound: of how many; ``bound.used`` are on their way now.
        kept: answers.
    """

    def __init__(
        self,
        loop: Loop,
        counters: Counters,
        host: HostUpstreams,
        *,
        timeout_s: float = TIMEOUT_S,
        hedge_s: float = HEDGE_S,
        port: int = PORT,
    ) -> None:
        self.loop = loop
        self.counters = counters
        self.host = host
        self.bound = Bound(EACH, HOST, FEW)
        self.kept = KeptAnswers()
        self._way = (port, timeout_s, hedge_s)
        self._asking: dict[Key, list[_Waiting]] = {}
        self._host_version = host.version

    def ask(
        self,
        query: bytes,
        upstreams: Sequence[str],
        share: Share,
        *,
        tcp: bool,
        done: Done,
        netns: str = "",
    ) -> None:
        """Ask ``query`` (>= 12 bytes) of ``upstreams``; ``done`` is called exactly once.

        Args:
            query: as the client sent it.
            upstreams: IPv4 or IPv6 addresses; those after the third are not asked.
            share: of ``bound``, the asking container's.
            tcp: the client can take 65535 bytes.
            done: may be called before this returns.
            netns: path of the network namespace to ask from, the resolver's own if empty.
        """
        if not upstreams:
            done(wire.failure(query, NXDOMAIN))
            return
        if self._host_version != self.host.version:
            self._host_version = self.host.version
            self.kept.clear()
        key = _key(query, upstreams, netns, tcp=tcp)
        found = self.kept.find(key, self.loop.now()) if key is not None else None
        if found is not None:
            self.counters.kept += 1
            done(forwarded.returned(found, query, tcp=tcp))
            return
        if not share.take():
            self.counters.drop(TOO_MANY)
            done(wire.failure(query, REFUSED))
            return
        self.counters.forwarded += 1
        waiting = _Waiting(query, share, done, tcp=tcp)
        if key is not None and key in self._asking:
            self._asking[key].append(waiting)
            return
        port, timeout_s, hedge_s = self._way
        way = Way(self.loop, self.counters, netns, tcp, port, timeout_s, hedge_s)
        keeps = key is not None and RESOLVER_ADDRESS not in upstreams
        waiters, version = [waiting], self._host_version
        if key is not None:
            self._asking[key] = waiters

        def ended(reply: bytes, answered: bool) -> None:  # noqa: FBT001 - see exchange.Ended
            if key is not None:
                del self._asking[key]
                if keeps and answered and version == self.host.version:
                    self.kept.keep(key, reply, share, self.loop.now())
            for each in waiters:
                self._over(each, reply, answered=answered)

        Exchange(way, query, upstreams, ended).begin()

    def forget(self, share: Share) -> None:
        """Its container is over: what it was told from its own servers is nobody's."""
        self.kept.forget(share)

    def _over(self, waiting: _Waiting, reply: bytes, *, answered: bool) -> None:
        if answered:
            self.counters.upstream_answers += 1
        else:
            self.counters.upstream_failures += 1
        waiting.share.give()
        waiting.done(forwarded.returned(reply, waiting.query, tcp=waiting.tcp))


class _Waiting:
    """A client that waits for an answer."""

    __slots__ = ("done", "query", "share", "tcp")

    def __init__(self, query: bytes, share: Share, done: Done, *, tcp: bool) -> None:
        self.query, self.share, self.done, self.tcp = query, share, done, tcp


def _key(query: bytes, upstreams: Sequence[str], netns: str, *, tcp: bool) -> Key | None:
    question = forwarded.key_of(query)
    asked: Hashable = (netns, tuple(upstreams), tcp)
    return None if question is None else (asked, question)
