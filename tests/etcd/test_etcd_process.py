"""etcd as a child: private, watched, and gone with who started it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from etcd_cluster import EtcdCluster, free_ports, member_of, until

from meshnet_control.etcd import client as calls
from meshnet_control.etcd.errors import EtcdError
from meshnet_control.etcd.process import EtcdProcess, EtcdProcessError

pytestmark = pytest.mark.etcd


async def test_nobody_else_reads_its_files_or_reaches_its_socket(one: EtcdCluster):
    member = one.members[0].member
    for folder in (member.data_dir, member.run_dir):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((member.run_dir / "etcd:0").stat().st_mode) == 0o700
    assert listens(one.members[0].pid) == [member.listen]


def listens(pid: int) -> list[str]:
    """Where a process can be reached by TCP."""
    sockets = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    return [line.split()[3] for line in sockets.splitlines() if f"pid={pid}," in line]


async def test_killed_it_is_back_with_what_was_written(one: EtcdCluster):
    client, process = one.clients[0], one.members[0]
    await client.txn((), [calls.put(b"a", b"1")])
    pid = process.pid
    one.signal(process, signal.SIGKILL)
    await until(lambda: process.pid not in {0, pid})

    async def read() -> bytes:
        try:
            return (await client.range(b"a")).kvs[0].value
        except EtcdError:
            return b""

    assert await until(read) == b"1"
    assert process.starts == 2


async def test_what_it_takes_is_told(one: EtcdCluster):
    usage = await one.members[0].usage()
    assert 10e6 < usage.rss_bytes < 200e6
    assert 0 < usage.used_bytes <= usage.database_bytes < 1e6


async def test_its_last_words_are_told(tmp_path):
    peers = {"a": f"127.0.0.1:{free_ports(1)[0]}"}
    (tmp_path / "a" / "data" / "member").mkdir(parents=True)
    (tmp_path / "a" / "data" / "member" / "snap").write_text("not a directory")
    process = EtcdProcess(member_of(tmp_path, "a", peers))
    await process.start()
    with pytest.raises(EtcdProcessError, match=r"etcd does not answer: .*snap"):
        await process.answers(2.0)
    await process.stop()


async def test_no_etcd_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    process = EtcdProcess(member_of(tmp_path, "a", {"a": "127.0.0.1:1"}))
    with pytest.raises(EtcdProcessError, match="apt-get install etcd-server"):
        await process.start()


_PARENT = """
import asyncio, sys
from pathlib import Path
from meshnet_control.etcd.arguments import Member
from meshnet_control.etcd.process import EtcdProcess

async def main(path, port):
    where = f"127.0.0.1:{port}"
    process = EtcdProcess(Member("a", path / "d", path / "r", where, where, {"a": where}))
    await process.start()
    await process.answers()
    print(process.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


async def test_it_dies_with_who_started_it(tmp_path):
    pid = _orphaned(tmp_path)
    await until(lambda: _gone(pid))


def _orphaned(path: Path) -> int:
    """The id of an etcd whose parent was killed."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(path), str(free_ports(1)[0])],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    return pid


def _gone(pid: int) -> bool:
    """Ended; whoever inherits it may not have asked yet."""
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
