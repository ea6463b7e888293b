"""Which ports sockets have is read from proc(5)."""

from __future__ import annotations

from pathlib import Path

from meshnet.kernel import host_sockets

REST = "00000000:00000000 00:00000000 00000000 0 0"


def test_sockets_are_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(
        "  sl  local_address rem_address   st\n"
        f"   0: 0100007F:8000 00000000:0000 0A {REST} 71 1\n"
        f"   1: 0100007F:8001 0100007F:0050 01 {REST} 72 1\n"
    )
    (tmp_path / "net" / "udp6").write_text(
        "  sl  local_address                         remote_address\n"
        "  10: 00000000000000000000000000000000:80FF 00000000000000000000000000000000:0000 07"
        f" {REST} 73\n"
    )
    assert host_sockets.open_ports(tmp_path) == {("tcp", 32768), ("tcp", 32769), ("udp", 33023)}
    assert host_sockets.waited_at(tmp_path) == {("tcp", 32768): 71, ("udp", 33023): 73}


def test_who_has_a_socket_is_named(tmp_path: Path) -> None:
    for number, name, inode in ((7, "sshd", 71), (12, "nginx", 72)):
        process = tmp_path / str(number)
        (process / "fd").mkdir(parents=True)
        (process / "comm").write_text(f"{name}\n")
        (process / "fd" / "3").symlink_to(f"socket:[{inode}]")
    (tmp_path / "8").mkdir()  # ended meanwhile
    assert host_sockets.holder(72, tmp_path) == "nginx (process 12)"
    assert host_sockets.holder(73, tmp_path) == ""
