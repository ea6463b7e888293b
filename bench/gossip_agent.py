"""One gossip engine in a process of its own: ``python -m bench.gossip_agent NUMBER OF``.

It prints what it hears: ``up`` when it knows all, ``event TEXT``, ``failed NAME``. A line on
standard input is an event of its own.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time

from bench.fabric import vtep
from meshnet.gossip.config import GossipConfig
from meshnet.gossip.engine import GossipEngine
from meshnet.gossip.events import Changes
from meshnet.gossip.members import State
from meshnet.gossip.runner import GossipRunner
from meshnet.gossip.signing import SEED_BYTES, Signer
from meshnet.model.ids import NodeId
from meshnet.model.wellknown import GOSSIP_PORT

KEY = b"a key of sixteen"
EVENT = "event"


def hand(number: int) -> Signer:
    return Signer(number.to_bytes(SEED_BYTES, "big"))


def name(number: int) -> NodeId:
    return NodeId(f"h{number}")


async def serve(number: int, of: int) -> None:
    loop = asyncio.get_running_loop()
    told: set[NodeId] = set()
    engine = GossipEngine(
        GossipConfig.lan(),
        name(number),
        (vtep(number), GOSSIP_PORT),
        time.time_ns() // 1_000_000,
        secrets.SystemRandom(),
        loop.time(),
        hand(number),
    )

    def changed(changes: Changes) -> None:
        members = runner.members()
        for member in sorted(changes.members & members.keys()):
            if members[member].state is State.DEAD:
                print("failed", member, flush=True)
        if len(members) == of and not told:
            told.update(members)
            print("up", flush=True)
        for owner, key in changes.records:
            if key == EVENT and (value := runner.record(owner, key)) is not None:
                print(EVENT, value.decode(), flush=True)

    runner = GossipRunner(engine, vtep(number), GOSSIP_PORT, changed)
    runner.set_keys([KEY])
    runner.expect({name(each): hand(each).public for each in range(1, of + 1)})
    await runner.start()
    if number > 1:
        runner.join([(vtep(1), GOSSIP_PORT)])
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running = asyncio.create_task(runner.run())
    while line := await reader.readline():
        runner.set_record(EVENT, line.strip())
    running.cancel()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
