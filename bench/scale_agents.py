"""A thousand simulated agents: a process of their own that speaks real gRPC to one manager.

``python -m bench.scale_agents SOCKET FIRST NUMBER``: each agent opens a session, takes what it is
assigned and beats as often as it is told to. Prints ``ready`` once all have their first
assignments, and from then on one line a second: messages received so far.
"""

from __future__ import annotations

import asyncio
import sys

import grpc.aio

from bench.scale_cluster import node
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc

NODE_KEY = "node"
"""Metadata that says who calls: there is no TLS here."""


class Agent:
    def __init__(self, stub: control_pb2_grpc.DispatcherStub, number: int) -> None:
        self._stub, self._node = stub, node(number)
        self.told = asyncio.Event()
        self.heard = 0

    async def run(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        call = self._stub.Session(metadata=((NODE_KEY, self._node.id),))
        here = self._node
        said = pb.SessionRequest(description=here.description, addr=here.status.addr)
        await call.write(said)
        period = 1.0
        beats = None
        while (reply := await call.read()) is not grpc.aio.EOF:
            self.heard += 1
            if reply.assignments.heartbeat_period:
                period = reply.assignments.heartbeat_period / 1e9
                self.told.set()
                beats = beats or asyncio.ensure_future(self._beat(call, period))

    async def _beat(self, call: grpc.aio.StreamStreamCall, period: float) -> None:
        while True:
            await asyncio.sleep(period)
            await call.write(pb.SessionRequest())


async def main(socket: str, first: int, number: int) -> None:
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"unix:{socket}", options) for _ in range(number // 20)]
    stubs = [control_pb2_grpc.DispatcherStub(channel) for channel in channels]
    agents = [Agent(stubs[n % len(stubs)], n) for n in range(first, first + number)]
    jobs = [asyncio.ensure_future(each.run(n * 0.01)) for n, each in enumerate(agents)]
    for agent in agents:
        await agent.told.wait()
    print("ready", flush=True)
    while True:
        await asyncio.sleep(1)
        print(sum(agent.heard for agent in agents), flush=True)
        for job in jobs:
            if job.done():
                job.result()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
