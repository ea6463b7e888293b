"""Peers show who they are: a member's certificate, not just one of the cluster's."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from etcd_cluster import free_ports, member_of

from meshnet_control.etcd import client as calls
from meshnet_control.etcd.arguments import PeerTls
from meshnet_control.etcd.client import EtcdClient
from meshnet_control.etcd.process import EtcdProcess

pytestmark = pytest.mark.etcd

NAME = "swarm-manager"


class Authority:
    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._path, self._key = path, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
        builder = self._dated(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self._write("ca.pem", builder.sign(self._key, hashes.SHA256()))

    def issue(self, label: str, *names: str) -> PeerTls:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
        sans: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        sans.append(x509.IPAddress(IPv4Address("127.0.0.1")))
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = self._dated(subject, key)
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        self._write(f"{label}.pem", builder.sign(self._key, hashes.SHA256()))
        (self._path / f"{label}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        pem, private = self._path / f"{label}.pem", self._path / f"{label}.key"
        return PeerTls(pem, private, self._path / "ca.pem", NAME)

    def _dated(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    def _write(self, name: str, certificate: x509.Certificate) -> None:
        (self._path / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


async def test_members_speak_tls_and_strangers_are_shut_out(tmp_path):
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    ports = free_ports(2)
    peers = {"a": f"127.0.0.1:{ports[0]}", "b": f"127.0.0.1:{ports[1]}"}
    members = [
        EtcdProcess(member_of(tmp_path, name, peers, tls=authority.issue(name, NAME)))
        for name in peers
    ]
    clients = [EtcdClient(each.member.target) for each in members]
    try:
        for each in members:
            await each.start()
        for each in members:
            await each.answers()
        await clients[0].txn((), [calls.put(b"a", b"1")])
        assert (await clients[1].range(b"a")).kvs[0].value == b"1"
        worker = authority.issue("worker", "swarm-worker")
        assert await asyncio.to_thread(asks, ports[0], authority.issue("manager", NAME))
        for stranger in (worker, other.issue("stranger", NAME), None):
            assert not await asyncio.to_thread(asks, ports[0], stranger)
    finally:
        for client in clients:
            await client.close()
        for each in members:
            await each.stop()


def asks(port: int, tls: PeerTls | None) -> bool:
    """Whether a peer's question is answered."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if tls is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain) as peer,
        ):
            peer.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            return peer.recv(100).startswith(b"HTTP/1.0 200")
    except (ssl.SSLError, ConnectionError):
        return False
