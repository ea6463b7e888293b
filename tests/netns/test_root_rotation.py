"""Certificates that are renewed, and a root that is rotated, over real gRPC and TLS on 127.0.0.1.

A manager with its store, its leader's loop and its own session, and workers that come and go.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

import pytest
import roots
from cryptography import x509

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi.access import Access
from meshnet_control.controlapi.swarm import Swarm
from meshnet_control.identity import ca, tokens
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.manager.leader import Manager
from meshnet_control.manager.server import ControlServer
from meshnet_control.node import dispatcher_client
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Delete, Put

pytestmark = pytest.mark.netns

CLUSTER = "cluster0000000000000000001"
DESCRIPTION = pb.NodeDescription(hostname="w1")


async def until(what, seconds=30.0):
    async with asyncio.timeout(seconds):
        while True:
            found = what()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)


class Agent:
    """A node's session, which can be away for a while; its identity outlives it."""

    def __init__(self, identity, on_identity=lambda _: None):
        self.identity, self._on_identity = identity, on_identity
        self.saved, self.full = identity, False
        self.renewals = 0
        self.removed = False
        self.job: asyncio.Task[None]
        self.back()

    def back(self):
        session = dispatcher_client.DispatcherClient(
            self.identity,
            DESCRIPTION,
            lambda _: None,
            on_removed=lambda: setattr(self, "removed", True),
            on_identity=self._changed,
            addr="127.0.0.1",
            lasting=lambda: self.saved.certs,
        )
        self.session = session
        self.job = asyncio.create_task(session.run())

    def _changed(self, identity):
        self.renewals += identity.certs.certificate != self.identity.certs.certificate
        self.identity = identity
        if not self.full:
            self.saved = identity
        self._on_identity(identity)

    async def away(self):
        self.job.cancel()
        with suppress(asyncio.CancelledError):
            await self.job

    @property
    def trusts(self):
        return self.identity.certs.root.decode()


class Bed:
    """A cluster of one manager, and the workers that joined it."""

    def __init__(self, stack, path):
        self.stack, self.path = stack, path
        self.agents: list[Agent] = []

    async def start(self, expiry_s=0.0):
        now = time.time()
        root, root_key = ca.new_root(CLUSTER, now)
        cluster = pb.Cluster(
            id=CLUSTER, ca_certificate=root, ca_key=root_key, tls_info=ca.tls_info(root)
        )
        cluster.spec.ca_config.node_cert_expiry = int(expiry_s * 1e9)
        cluster.spec.dispatcher.heartbeat_period = 10**8
        cluster.join_tokens.worker = tokens.join_token(root, b"w" * 16)
        cluster.join_tokens.manager = tokens.join_token(root, b"m" * 16)
        self.store = SqliteStore.open(self.path / "store.db", self.path / "store.key")
        self.stack.push_async_callback(self.store.close)
        manager = pb.Node(id="m1")
        manager.spec.role = "manager"
        await self.store.commit([Put(cluster), Put(manager)])
        key, csr = ca.new_csr()
        life = timedelta(seconds=expiry_s) if expiry_s else ca.NODE_LIFE
        leaf = ca.issue(root, root_key, csr, "m1", "manager", CLUSTER, now, life)
        certs = Certificates(key, leaf, root)
        who = Identity(node_id="m1", cluster_id=CLUSTER, role="manager", certs=certs)
        self.server = ControlServer(self.store, who, listen="127.0.0.1:0", run_dir=self.path)
        await self.server.start()
        self.stack.push_async_callback(self.server.close)
        self.remote = f"127.0.0.1:{self.server.port}"
        who = Identity(**{**vars(who), "managers": (self.remote,)})
        leading = asyncio.create_task(Manager(self.store, random.Random(1), time.time).run())
        self.stack.callback(leading.cancel)
        self.manager = self._agent(who, self.server.certify)
        self.swarm = Swarm(Access(self.store, random.Random(2), time.time))

    def _agent(self, identity, on_identity=lambda _: None):
        agent = Agent(identity, on_identity)
        self.agents.append(agent)
        self.stack.push_async_callback(agent.away)
        return agent

    async def join(self, token=None):
        token = token or (await self.cluster()).join_tokens.worker
        return self._agent(await dispatcher_client.join(token, [self.remote], DESCRIPTION))

    async def cluster(self):
        return await self.store.get(pb.Cluster, CLUSTER)

    async def node(self, agent):
        found = await self.store.get(pb.Node, agent.identity.node_id)
        assert found is not None
        return found

    async def rotate(self, certificate=b"", key=b""):
        """As ``docker swarm ca --rotate`` asks for it."""
        cluster = await self.swarm.inspect()
        spec = cluster.spec
        spec.ca_config.force_rotate += 1
        spec.ca_config.signing_ca_cert = certificate.decode()
        spec.ca_config.signing_ca_key = key.decode()
        await self.swarm.update(
            cluster.version.asked or cluster.version.index,
            spec,
            rotate_worker=False,
            rotate_manager=False,
        )

    async def rotating(self):
        return (await self.cluster()).root_rotation_in_progress

    async def ready(self, *agents):
        """Every node as the docker CLI calls it Ready in its TLS STATUS."""
        cluster = await self.cluster()
        for agent in agents or self.agents:
            node = await self.node(agent)
            if node.description.tls_info != cluster.tls_info or node.status.state != "ready":
                return False
        return not cluster.root_rotation_in_progress

    async def renewed(self, agent):
        """The node has a certificate of the root that signs now, and has said so."""
        cluster, node = await self.cluster(), await self.node(agent)
        wanted = cluster.tls_info.cert_issuer_public_key
        return node.description.tls_info.cert_issuer_public_key == wanted


@pytest.fixture
async def bed(tmp_path):
    async with AsyncExitStack() as stack:
        made = Bed(stack, tmp_path)
        await made.start()
        yield made


async def test_every_node_moves_to_the_new_root_and_the_tokens_with_them(bed):
    workers = [await bed.join() for _ in range(3)]
    await until(bed.ready)
    before = await bed.cluster()
    await bed.rotate()
    assert await bed.rotating()
    await until(bed.ready)
    after = await bed.cluster()
    assert after.ca_certificate != before.ca_certificate
    assert {agent.trusts for agent in bed.agents} == {after.ca_certificate.decode()}
    assert {agent.renewals for agent in bed.agents} == {1}
    assert not after.HasField("root_rotation")
    for role in ("worker", "manager"):
        old, new = getattr(before.join_tokens, role), getattr(after.join_tokens, role)
        assert tokens.parse(new).digest == tokens.digest_of(after.ca_certificate)
        assert tokens.parse(new).secret != tokens.parse(old).secret
    with pytest.raises(ControlError, match="does not match fingerprint"):
        await bed.join(before.join_tokens.worker)
    late = await bed.join()
    await until(bed.ready)
    assert [worker.removed for worker in (*workers, late)] == [False] * 4


async def test_the_old_root_stays_until_the_last_node_has_renewed(bed):
    here, gone = await bed.join(), await bed.join()
    await until(bed.ready)
    old = (await bed.cluster()).join_tokens.worker
    await gone.away()
    await bed.rotate()
    await until(lambda: bed.renewed(here))
    await until(lambda: bed.renewed(bed.manager))
    late = await bed.join(old)  # trusts the old root, has a certificate of the new one
    await until(lambda: bed.renewed(late))
    assert await bed.rotating()
    await late.away()  # and does not hear of the end
    gone.back()
    await until(lambda: bed.ready(bed.manager, here, gone))
    assert late.trusts != gone.trusts
    late.back()
    await until(bed.ready)
    assert len({agent.trusts for agent in bed.agents}) == 1


async def test_a_node_that_is_removed_no_longer_holds_up_the_end(bed):
    here, gone = await bed.join(), await bed.join()
    await until(bed.ready)
    await gone.away()
    await bed.rotate()
    await until(lambda: bed.renewed(here))
    assert await bed.rotating()
    await bed.store.commit([Delete(pb.Node, gone.identity.node_id)])
    await until(lambda: bed.ready(bed.manager, here))


async def test_a_node_that_cannot_save_its_certificate_keeps_the_old_root(bed):
    worker = await bed.join()
    await until(bed.ready)
    worker.full = True  # its disk
    await bed.rotate()
    await until(lambda: worker.renewals == 1)
    await until(lambda: bed.renewed(bed.manager))
    with pytest.raises(TimeoutError):
        await until(lambda: bed.renewed(worker), 1.5)
    assert await bed.rotating()
    await worker.away()
    worker.identity, worker.full = worker.saved, False  # its host starts again
    worker.back()
    await until(bed.ready)
    assert worker.renewals == 2


async def test_a_node_that_saves_its_certificate_late_says_so(bed):
    worker = await bed.join()
    await until(bed.ready)
    worker.full = True
    await bed.rotate()
    await until(lambda: worker.renewals == 1 and worker.session.connected)
    worker.saved, worker.full = worker.identity, False  # there is room again
    worker.session.describe()
    await until(bed.ready)
    assert worker.renewals == 1


async def test_a_rotation_takes_the_place_of_one_that_goes_on(bed):
    here, gone = await bed.join(), await bed.join()
    await until(bed.ready)
    await gone.away()
    await bed.rotate()
    await until(lambda: bed.renewed(here))
    first = (await bed.cluster()).root_rotation.ca_certificate
    await bed.rotate()
    await until(lambda: bed.renewed(here))
    assert (await bed.cluster()).root_rotation.abandoned == [first]
    gone.back()
    await until(bed.ready)
    assert here.renewals == 2
    assert first.decode() not in {agent.trusts for agent in bed.agents}


async def test_the_present_root_takes_a_rotation_back(bed):
    here, gone = await bed.join(), await bed.join()
    await until(bed.ready)
    before = await bed.cluster()
    await gone.away()
    await bed.rotate()
    await until(lambda: bed.renewed(here))
    await bed.rotate(before.ca_certificate, before.ca_key)
    await until(lambda: bed.ready(bed.manager, here))
    gone.back()
    await until(bed.ready)
    after = await bed.cluster()
    assert (after.ca_certificate, after.join_tokens) == (before.ca_certificate, before.join_tokens)
    assert gone.renewals == 0


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
async def test_to_a_root_of_the_users_own_and_from_it_to_the_next(bed, kind):
    await bed.join()
    await until(bed.ready)
    brought, key = roots.made(kind)
    await bed.rotate(brought, key)
    await until(bed.ready)
    assert {agent.trusts for agent in bed.agents} == {brought.decode()}
    await bed.rotate()
    await until(bed.ready)
    await bed.join()
    await until(bed.ready)
    assert [agent.renewals for agent in bed.agents] == [2, 2, 0]


async def test_certificates_renew_by_themselves_between_half_and_four_fifths(tmp_path):
    async with AsyncExitStack() as stack:
        bed = Bed(stack, tmp_path)
        await bed.start(expiry_s=6.0)
        worker = await bed.join()
        await until(bed.ready)
        first = [agent.identity.certs.certificate for agent in bed.agents]
        await until(lambda: all(agent.renewals >= 2 for agent in bed.agents))
        for agent, before in zip(bed.agents, first, strict=True):
            old, new = (
                x509.load_pem_x509_certificate(pem)
                for pem in (before, agent.identity.certs.certificate)
            )
            apart = new.not_valid_before_utc - old.not_valid_before_utc
            rounds = agent.renewals
            assert rounds * 2.9 <= apart.total_seconds() <= rounds * (0.8 * 6 + 2.5)
        await until(bed.ready)
        assert not worker.removed
