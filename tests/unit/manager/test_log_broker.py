"""What a manager keeps for a node that does not take requests for logs is bounded."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from meshnet import drops
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.assignments import Objects
from meshnet_control.manager.log_broker import LogBroker

REASON = "manager: node does not take requests for logs"
NODE = pb.Node(id="n1")
NODE.status.state = "ready"


async def caller(_: object) -> str:
    """Every caller is the node n1."""
    return NODE.id


class Slow:
    """A node's stream: nothing is taken until it is let go."""

    def __init__(self) -> None:
        self.go, self.taken = asyncio.Event(), list[pb.LogSubscription]()

    async def write(self, message: pb.LogSubscription) -> None:
        await self.go.wait()
        self.taken.append(message)


def task(number: int) -> pb.Task:
    return pb.Task(id=f"t{number}", node_id="n1")


def of_one_node(most_untaken: int) -> LogBroker:
    objects = Objects(cluster=pb.Cluster(), nodes={"n1": NODE})
    return LogBroker(caller, lambda: objects, most_untaken)


async def test_a_node_that_takes_nothing_has_to_listen_anew_and_its_logs_end():
    broker = of_one_node(most_untaken=4)
    before = drops.snapshot().get(REASON, 0)
    stream: Any = Slow()
    wake = asyncio.Event()
    listening = asyncio.create_task(broker.Listen(pb.ListenRequest(), stream))
    await asyncio.sleep(0)
    feeds = [broker.subscribe(task(0), pb.LogOptions(), wake)]
    await asyncio.sleep(0)  # one is on its way
    feeds += [broker.subscribe(task(number), pb.LogOptions(), wake) for number in range(1, 5)]
    assert broker.available("n1")
    assert not any(feed.done for feed in feeds)
    feeds.append(broker.subscribe(task(5), pb.LogOptions(), wake))
    assert not broker.available("n1")
    assert all(feed.done and feed.lost for feed in feeds)
    assert drops.snapshot()[REASON] == before + 5
    stream.go.set()
    async with asyncio.timeout(5):
        await listening
    assert len(stream.taken) == 1, "what waited is not said any more"
    for feed in feeds:
        broker.close(feed)
    again = asyncio.create_task(broker.Listen(pb.ListenRequest(), cast("Any", Slow())))
    await asyncio.sleep(0)
    assert broker.available("n1")
    again.cancel()


async def test_a_node_that_listens_anew_ends_its_older_stream_however_much_waits_there():
    broker = of_one_node(most_untaken=2)
    stream: Any = Slow()
    older = asyncio.create_task(broker.Listen(pb.ListenRequest(), stream))
    await asyncio.sleep(0)
    for number in range(2):
        broker.subscribe(task(number), pb.LogOptions(), asyncio.Event())
    newer = asyncio.create_task(broker.Listen(pb.ListenRequest(), cast("Any", Slow())))
    await asyncio.sleep(0)
    assert broker.available("n1")
    stream.go.set()
    async with asyncio.timeout(5):
        await older
    assert broker.available("n1")
    newer.cancel()
