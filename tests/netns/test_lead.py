"""A manager's certificate while it serves: who connects is shown one that is in force."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path
from random import SystemRandom

import pytest
from cryptography import x509
from etcd_cluster import until

from meshnet import ends
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.hosts import Hosts
from meshnet_control.identity import ca, identity
from meshnet_control.identity.identity import Certificates
from meshnet_control.manager import lead as leads
from meshnet_control.manager.lead import Lead
from meshnet_control.manager.server import ControlServer
from meshnet_control.node.birth import Birth, birth
from meshnet_control.store import files

pytestmark = pytest.mark.netns
HOST = "127.0.0.1"
DAY_S = 86400.0
PATIENCE_S = 20


class Clock:
    """A wall clock that is set."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def born(tmp_path: Path) -> Birth:
    """Name: born. Scope: function. A cluster, its store written."""
    made = birth(
        pb.SwarmInitRequest(),
        (HOST, 0),
        (HOST, 2377),
        HOST,
        time.time(),
        SystemRandom(),
        [IPv4Network("10.0.0.0/24")],
    )
    for name in ("run", "state"):
        (tmp_path / name).mkdir()
    await files.begin(tmp_path / "state", (made.cluster, made.node, made.ingress))
    identity.save(tmp_path / "state", made.identity)
    return made


@pytest.fixture
async def lead(
    tmp_path: Path, born: Birth, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Lead]:
    """Name: lead. Scope: function. Depends: born, clock. Not begun; ended."""
    monkeypatch.setattr(leads, "LOOK_S", 0.02)
    tasks: list[asyncio.Task[None]] = []

    def spawn(work, name):
        tasks.append(asyncio.create_task(work, name=name))
        return tasks[-1]

    async with AsyncExitStack() as stack:
        made = Lead(born.identity, tmp_path / "run", tmp_path / "state", spawn, clock)
        stack.push_async_callback(ends.ended, *tasks)
        stack.push_async_callback(made.stop)
        yield made


def renewed(born: Birth, now: float) -> Certificates:
    """As another manager would issue it."""
    who, (key, csr) = born.identity, ca.new_csr()
    signs = (born.cluster.ca_certificate, born.cluster.ca_key)
    leaf = ca.issue(*signs, csr, who.node_id, "manager", who.cluster_id, now, ca.NODE_LIFE, HOST)
    return Certificates(key=key, certificate=leaf, root=signs[0])


async def shown(lead: Lead) -> bytes:
    """The certificate that a stranger is shown, PEM."""
    assert lead.server is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(HOST, lead.server.port, ssl=context)
    try:
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
    return ssl.DER_cert_to_PEM_cert(found).encode()


async def in_force(lead: Lead, clock: Clock) -> None:
    async def is_shown() -> bool:
        cert = x509.load_pem_x509_certificate(await shown(lead))
        now = datetime.fromtimestamp(clock(), UTC)
        return cert.not_valid_before_utc <= now < cert.not_valid_after_utc

    await until(is_shown, PATIENCE_S)


def who(certificate: bytes, born: Birth) -> ca.Peer | None:
    return ca.peer(certificate, born.cluster.ca_certificate, {}, born.cluster.id)


async def test_a_clock_that_is_set_past_its_end_and_back_costs_it_no_node(
    lead: Lead, born: Birth, clock: Clock
):
    assert await lead.begin(), lead.error
    first = await shown(lead)
    assert first == born.identity.certs.certificate
    clock.ahead_s = 91 * DAY_S
    await in_force(lead, clock)
    assert lead.issued is not None
    assert lead.issued.certificate == await shown(lead)
    assert who(lead.issued.certificate, born) == who(first, born)
    lead.hear(born.identity.certs, Hosts())  # meshnetd has nothing better
    await in_force(lead, clock)
    taken = lead.issued
    assert taken is not None
    lead.hear(taken, Hosts())
    assert lead.issued is None
    clock.ahead_s = 0.0
    await in_force(lead, clock)


async def test_meshnetd_that_says_a_certificate_which_ended_is_issued_another_at_once(
    lead: Lead, born: Birth, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(leads, "LOOK_S", 3600.0)
    assert await lead.begin(), lead.error
    clock.ahead_s = 91 * DAY_S
    lead.hear(born.identity.certs, Hosts())
    assert lead.issued is not None
    assert ca.in_force(lead.issued.certificate, clock())
    await in_force(lead, clock)


@pytest.mark.parametrize("lost", ["removed", "emptied"])
async def test_a_key_file_that_is_lost_while_it_manages_is_written_again(
    lead: Lead, tmp_path: Path, lost: str, caplog: pytest.LogCaptureFixture
):
    assert await lead.begin(), lead.error
    path = tmp_path / "state" / files.STORE_KEY
    before = path.read_bytes()
    if lost == "removed":
        path.unlink()
    else:
        path.write_bytes(b"")

    async def is_back() -> bool:
        return path.exists() and path.read_bytes() == before

    await until(is_back, PATIENCE_S)
    await lead.backup(tmp_path / "backup.tar")
    assert "store.key was gone or damaged: written again" in caplog.text
    assert path.stat().st_mode & 0o777 == 0o600
    await lead.stop()
    assert await lead.begin(), lead.error


async def test_a_certificate_that_comes_while_it_begins_is_the_one_it_shows(
    lead: Lead, born: Birth, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    fresh = renewed(born, clock())

    class Slow(ControlServer):
        async def start(self) -> None:
            await super().start()
            lead.hear(fresh, Hosts())

    monkeypatch.setattr(leads, "ControlServer", Slow)
    assert await lead.begin(), lead.error
    assert await shown(lead) == fresh.certificate
