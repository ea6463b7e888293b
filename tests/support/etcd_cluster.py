"""Real etcd processes on loopback for a test; all gone afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from meshnet_control.etcd.arguments import QUOTA_BYTES, Member, PeerTls
from meshnet_control.etcd.client import EtcdClient
from meshnet_control.etcd.errors import EtcdError
from meshnet_control.etcd.process import EtcdProcess


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has now, all different."""
    with ExitStack() as held:
        ports = []
        for _ in range(count):
            one = held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            ports.append(one.getsockname()[1])
        return ports


def member_of(
    path: Path,
    name: str,
    peers: dict[str, str],
    *,
    joins: bool = False,
    tls: PeerTls | None = None,
) -> Member:
    return Member(
        name=name,
        data_dir=path / name / "data",
        run_dir=path / name / "run",
        listen=peers[name],
        advertise=peers[name],
        peers=peers,
        joins=joins,
        tls=tls,
    )


class EtcdCluster:
    """Members that start together, a client for each."""

    def __init__(self, path: Path, size: int, quota_bytes: int = QUOTA_BYTES) -> None:
        ports = free_ports(size)
        names = [f"m{n}" for n in range(size)]
        peers = {name: f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
        self.members = [
            EtcdProcess(replace(member_of(path, name, peers), quota_bytes=quota_bytes))
            for name in names
        ]
        self._connect()

    def _connect(self) -> None:
        self.clients = [EtcdClient(each.member.target) for each in self.members]

    async def __aenter__(self) -> EtcdCluster:
        try:
            for each in self.members:
                await each.start()
            for each in self.members:
                await each.answers()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            await client.close()
        for each in self.members:
            self.signal(each, signal.SIGCONT)
            await each.stop()

    @staticmethod
    def signal(process: EtcdProcess, what: signal.Signals) -> None:
        if process.pid:
            os.kill(process.pid, what)

    async def leader(self) -> int:
        """The index of the member that leads, once the members that answer agree."""
        while True:
            said = []
            for client in self.clients:
                try:
                    status = await client.status(timeout_s=0.5)
                except EtcdError:
                    continue
                said.append((status.header.member_id, status.leader))
            leaders = {leader for _, leader in said if leader}
            if len(leaders) == 1 and len(said) * 2 > len(self.clients):
                for n, client in enumerate(self.clients):
                    try:
                        status = await client.status(timeout_s=0.5)
                    except EtcdError:
                        continue
                    if status.header.member_id in leaders:
                        return n
            await asyncio.sleep(0.05)


async def until(holds: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What ``holds`` (a function, may be async) says once it is true."""
    async with asyncio.timeout(seconds):
        while True:
            value = holds()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.01)
