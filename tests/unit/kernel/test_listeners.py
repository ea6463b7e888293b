"""Who listens, from the text of proc_pid_net(5)."""

from __future__ import annotations

from meshnet.kernel.listeners import ports

TEXT = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0B00007F:A055 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2
   2: 0801000A:0050 0901000A:D431 01 00000000:00000000 00:00000000 00000000     0        0 3
   3: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0 0 0
   broken
"""


def test_sockets_that_listen_and_are_reached_from_elsewhere():
    assert list(ports(TEXT, "0A")) == [80, 8080]
    assert list(ports("", "0A")) == []
