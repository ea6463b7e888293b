"""etcd as a child: private, watched, and gone with who started it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from etcd_cluster import EtcdCluster, free_ports, member_of, until

from meshnet_control.etcd import client as calls
from meshnet_control.etcd import process as etcd_process
from meshnet_control.etcd.client import EtcdClient
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


async def test_of_a_panic_the_reason_is_told_and_not_the_stack(one: EtcdCluster):
    process = one.members[0]
    one.signal(process, signal.SIGKILL)
    await until(lambda: process.starts == 2)
    await process.answers()
    one.signal(process, signal.SIGQUIT)  # Go ends with its stacks
    await until(lambda: process.trouble)
    assert "SIGQUIT: quit" in process.trouble
    assert ".go:" not in process.trouble


async def test_no_etcd_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    process = EtcdProcess(member_of(tmp_path, "a", {"a": "127.0.0.1:1"}))
    with pytest.raises(EtcdProcessError, match="apt-get install etcd-server"):
        await process.start()


async def test_a_port_that_is_taken_is_named_and_waited_for(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        peers = {"a": f"127.0.0.1:{taken.getsockname()[1]}"}
        process = EtcdProcess(member_of(tmp_path, "a", peers))
        await process.start()
        said = await until(lambda: process.trouble)
    assert said.startswith("etcd ends again and again on this manager: ")
    assert f"listen tcp {peers['a']}: bind: address already in use" in said
    await process.answers()
    await until(lambda: not process.trouble, 20)
    await process.stop()


async def test_damaged_data_are_told(one: EtcdCluster):
    client, process = one.clients[0], one.members[0]
    await client.txn((), [calls.put(b"a", b"1")])
    log = next(process.member.data_dir.glob("member/wal/*.wal"))
    content = bytearray(log.read_bytes())
    at = content.index(b"m0")
    content[at : at + 2] = b"mX"
    one.signal(process, signal.SIGKILL)
    log.write_bytes(content)
    said = await until(lambda: process.trouble)
    assert "crc mismatch" in said


async def test_one_whose_data_are_gone_is_not_started_without_them(one: EtcdCluster):
    process = one.members[0]
    pid = process.pid
    one.signal(process, signal.SIGKILL)
    await until(lambda: process.pid not in {0, pid})
    (process.member.data_dir / "member").rename(process.member.run_dir / "gone")
    one.signal(process, signal.SIGKILL)
    await asyncio.wait_for(process.until_useless(), 10)
    assert process.lost
    assert not process.let_out
    assert str(process.member.data_dir) in process.trouble
    assert (process.starts, process.pid) == (2, 0)


async def test_one_that_hangs_is_started_anew(one: EtcdCluster, monkeypatch):
    client, process = one.clients[0], one.members[0]
    monkeypatch.setattr(etcd_process, "HUNG_LOOK_S", 0.05)
    monkeypatch.setattr(etcd_process, "HUNG_TRY_S", 0.2)
    await client.txn((), [calls.put(b"a", b"1")])
    await asyncio.sleep(2.5)  # the present look is over
    pid = process.pid
    one.signal(process, signal.SIGSTOP)
    await until(lambda: process.pid not in {0, pid}, 20)
    await process.answers()
    assert (await client.range(b"a")).kvs[0].value == b"1"


@pytest.fixture
def small_disk(tmp_path):
    """Name: small_disk. Scope: function. A filesystem of 140 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=140m", "tmpfs", str(disk)]
    subprocess.run(command, check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.netns
async def test_a_full_disk_is_named_and_outlived(small_disk):
    peers = {"a": f"127.0.0.1:{free_ports(1)[0]}"}
    process = EtcdProcess(member_of(small_disk, "a", peers))
    client = EtcdClient(process.member.target)
    await process.start()
    await process.answers()
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    written = await written_until_refused(client)
    said = await until(lambda: process.trouble, 20)
    assert "no space left on device" in said
    ballast.unlink()
    await process.answers()
    assert (await client.range(b"0", b"a", keys_only=True)).count >= written
    await client.txn((), [calls.put(b"b", b"1")])
    await client.close()
    await process.stop()


async def written_until_refused(client: EtcdClient) -> int:
    written = 0
    with contextlib.suppress(EtcdError):
        while True:
            await client.txn((), [calls.put(b"%d" % written, bytes(256 * 1024))])
            written += 1
    return written


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
