"""The gateway's socket is given to who starts the process again, and its file stays then."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from meshnet.process.notify import Notifier
from meshnet_control.gateway.listener import Listener


def test_the_socket_is_held_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as keeper:
        keeper.bind(str(tmp_path / "notify"))
        keeper.settimeout(5)
        listener = Listener(Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}))
        with listener.open(path, None) as made:
            said, [held], _, _ = socket.recv_fds(keeper, 4096, 8)
            assert set(said.decode().splitlines()) >= {"FDSTORE=1", "FDNAME=docker.sock"}
            assert os.path.sameopenfile(held, made.fileno())
            listener.closed(path)
        with socket.socket(fileno=held) as next_one, socket.socket(socket.AF_UNIX) as client:
            next_one.listen()
            client.connect(str(path))  # the same file


def test_without_anybody_to_hold_it_the_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    listener = Listener(Notifier({}))
    with listener.open(path, None):
        listener.closed(path)
    assert not path.exists()


def test_a_dead_ones_file_is_put_aside_while_containers_may_have_it(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    Listener().open(path, None).close()
    dead = path.stat().st_ino
    with Listener(lending=True).open(path, None):
        assert path.stat().st_ino != dead
        assert (tmp_path / f"docker.sock.{dead}").stat().st_ino == dead
