"""A manager whose streams end at any moment, in any way: a node's side goes on.

Nothing but ephemeral ports of 127.0.0.1 is touched.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress

import grpc
import grpc.aio
import pytest

from meshnet.backoff import Backoff
from meshnet_control.api import control_pb2 as pb
from meshnet_control.api import control_pb2_grpc
from meshnet_control.engine.client import EngineClient
from meshnet_control.identity import ca
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.node import dispatcher_client, turns
from meshnet_control.node.dispatcher_client import DispatcherClient
from meshnet_control.node.log_source import LogSource

pytestmark = pytest.mark.netns

CLUSTER = "cluster0000000000000000001"
ENDS = 400
NODES = 8


class Capricious(
    control_pb2_grpc.DispatcherServicer,
    control_pb2_grpc.LogBrokerServicer,
    control_pb2_grpc.MembershipServicer,
    control_pb2_grpc.CAServicer,
):
    """Ends each call somewhere: before a word, in between, well or badly, or with nonsense."""

    def __init__(self, seed):
        self.identities = []
        self.ended, self.steady = 0, False
        self._rng = random.Random(seed)

    async def Session(self, requests, context):  # noqa: N802 - the service's name
        if self.steady:
            async for _ in requests:
                await context.write(pb.SessionReply())
            return
        try:
            await self._moment()
            if self._rng.random() < 0.8:
                await anext(aiter(requests))
                await self._moment()
                await context.write(pb.SessionReply(assignments=self._assignments()))
                await self._moment()
            await self._end(context)
        finally:
            self.ended += 1

    async def Listen(self, request, context):  # noqa: N802
        await self._moment()
        await context.write(pb.LogSubscription(id="l1", container_id="c1"))
        await self._moment()
        await self._end(context)

    async def Publish(self, requests, context):  # noqa: N802
        await self._moment()
        await self._end(context)
        return pb.PublishReply()

    async def Issue(self, request, context):  # noqa: N802
        await self._end(context)
        return pb.IssueReply(certificate=b"nonsense")

    async def Leave(self, request, context):  # noqa: N802
        await self._end(context)
        return pb.LeaveReply()

    def _assignments(self):
        if self._rng.random() < 0.2:
            return pb.Assignments(version=9, removed_tasks=["t1"])  # a difference to nothing
        tasks = [pb.Task(id=f"t{n}") for n in range(3)]
        return pb.Assignments(version=1, full=True, tasks=tasks, heartbeat_period=2_000_000)

    async def _moment(self):
        await asyncio.sleep(self._rng.choice((0, 0, 0.001, 0.003)))

    async def _end(self, context):
        how = self._rng.randrange(5)
        if how == 1:
            await context.abort(self._rng.choice(list(grpc.StatusCode)[1:]), "a whim")
        if how == 2:
            raise RuntimeError("a fault of the manager's")
        if how == 3:
            context.set_code(grpc.StatusCode.CANCELLED)
        if how == 4:
            await self._moment()


@pytest.fixture
async def capricious(monkeypatch, caplog):
    caplog.set_level("CRITICAL", logger="grpc")
    monkeypatch.setattr(turns, "ROUND", Backoff(0.001, 0.004))
    root, root_key = ca.new_root(CLUSTER, time.time())

    def certs(name, role):
        key, csr = ca.new_csr()
        leaf = ca.issue(root, root_key, csr, name, role, CLUSTER, time.time())
        return Certificates(key, leaf, root)

    mine = certs("m1", "manager")
    servicer = Capricious(seed=11)
    server = grpc.aio.server()
    control_pb2_grpc.add_DispatcherServicer_to_server(servicer, server)
    control_pb2_grpc.add_LogBrokerServicer_to_server(servicer, server)
    control_pb2_grpc.add_MembershipServicer_to_server(servicer, server)
    control_pb2_grpc.add_CAServicer_to_server(servicer, server)
    credentials = grpc.ssl_server_credentials(
        [(mine.key, mine.certificate + root)], root, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    at = (f"127.0.0.1:{port}",)
    servicer.identities = [
        Identity(f"w{n}", CLUSTER, "worker", certs(f"w{n}", "worker"), managers=at)
        for n in range(NODES)
    ]
    yield servicer
    await server.stop(0.1)


@pytest.mark.timeout(180)
async def test_a_stream_may_end_at_any_moment(capricious, tmp_path):
    engine = EngineClient(f"unix://{tmp_path}/no-engine")
    sessions = [
        DispatcherClient(
            identity,
            pb.NodeDescription(hostname=identity.node_id),
            lambda _: None,
            alongside=LogSource(engine).run,
        )
        for identity in capricious.identities
    ]
    jobs = [asyncio.create_task(session.run()) for session in sessions]
    try:
        number = 0
        while capricious.ended < ENDS:
            for session in sessions:
                session.report(f"t{number % 3}", pb.TaskStatus(message=str(number)))
            number += 1
            await asyncio.sleep(0.002)
            assert not any(job.done() for job in jobs), [job for job in jobs if job.done()]
        capricious.steady = True
        for session in sessions:
            async with asyncio.timeout(20):
                while True:
                    if session.connected:
                        break
                    await asyncio.sleep(0.01)
        assert not any(job.done() for job in jobs)
    finally:
        for job in jobs:
            job.cancel()
            with suppress(asyncio.CancelledError):
                await job
        await engine.close()


async def test_goodbyes_end_in_any_way_too(capricious):
    identity = capricious.identities[0]
    heard = [await dispatcher_client.leave(identity) for _ in range(30)]
    assert set(heard) == {True, False}
