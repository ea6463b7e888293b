"""Real etcds, each in a network namespace of its own, that can be cut off from each other.

Their clients reach them by their sockets, which are files. A cut drops in the one namespace what
comes from the other: one way, so that the two kinds of half-dead connections happen, too.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from etcd_cluster import EtcdCluster, member_of

from meshnet_control.etcd.process import EtcdProcess

PORT = 2380
_RULES = """
table inet cut {
  set from { type ipv4_addr; }
  chain input { type filter hook input priority 0; ip saddr @from drop; }
}
"""


class EtcdHosts(EtcdCluster):
    """Members on hosts of their own, on one wire."""

    def __init__(self, path: Path, size: int) -> None:
        self._names = [f"mnetcd{os.getpid()}-{n}" for n in range(size)]
        self._hub = f"mnetcd{os.getpid()}-hub"
        self._cuts: set[tuple[int, int]] = set()
        peers = {f"m{n}": f"{_addr(n)}:{PORT}" for n in range(size)}
        self.members = [
            EtcdProcess(member_of(path, f"m{n}", peers), _inside(path / f"bin{n}", name))
            for n, name in enumerate(self._names)
        ]
        self._connect()

    async def __aenter__(self) -> EtcdHosts:
        try:
            await asyncio.to_thread(self._build)
            await super().__aenter__()
        except BaseException:
            self._remove()
            raise
        return self

    async def __aexit__(self, *how: object) -> None:
        try:
            await super().__aexit__(*how)
        finally:
            self._remove()

    async def cut(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Nothing that the first sends reaches the second; nothing else is cut from now on."""
        wanted = set(pairs)
        changed = {to for _, to in wanted ^ self._cuts}
        self._cuts = wanted
        await asyncio.gather(*(asyncio.to_thread(self._drop, to) for to in changed))

    async def heal(self) -> None:
        """Everybody reaches everybody."""
        await self.cut(())

    def around(self, *inside: int) -> set[tuple[int, int]]:
        """What to cut so that these reach each other and nobody else does."""
        outside = set(range(len(self.members))) - set(inside)
        return {pair for a in inside for b in outside for pair in ((a, b), (b, a))}

    # ---- inside ----

    def _build(self) -> None:
        _sh(f"ip netns add {self._hub}; ip -n {self._hub} link add br0 up type bridge")
        for n, name in enumerate(self._names):
            _sh(
                f"ip netns add {name}; ip -n {name} link set lo up;"
                f"ip -n {name} link add eth0 type veth peer name p{n} netns {self._hub};"
                f"ip -n {self._hub} link set p{n} master br0 up;"
                f"ip -n {name} addr add {_addr(n)}/24 dev eth0; ip -n {name} link set eth0 up"
            )
            self._nft(n, _RULES)

    def _remove(self) -> None:
        for name in (*self._names, self._hub):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def _drop(self, to: int) -> None:
        sources = ", ".join(_addr(a) for a, b in sorted(self._cuts) if b == to)
        added = f"add element inet cut from {{ {sources} }}" if sources else ""
        self._nft(to, f"flush set inet cut from\n{added}\n")

    def _nft(self, number: int, rules: str) -> None:
        inside = ("nsenter", f"--net=/run/netns/{self._names[number]}", "nft", "-f", "-")
        subprocess.run(inside, input=rules, text=True, check=True)


def _addr(number: int) -> str:
    return f"10.77.0.{number + 1}"


def _inside(folder: Path, namespace: str) -> dict[str, str]:
    """An environment whose etcd is one that enters a namespace first."""
    etcd = shutil.which("etcd")
    folder.mkdir(parents=True)
    script = folder / "etcd"
    script.write_text(f'#!/bin/sh\nexec nsenter --net=/run/netns/{namespace} {etcd} "$@"\n')
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def _sh(commands: str) -> None:
    subprocess.run(["sh", "-ec", commands], check=True)
