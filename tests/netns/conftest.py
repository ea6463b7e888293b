"""Namespaces, links and servers that a test of packets needs; all gone afterwards."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import threading

import pytest
from overlay_bed import make_netns

from meshnet.kernel import netns
from meshnet.kernel.iproute import iproute


def run(command: str) -> str:
    done = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Bed:
    """Network namespaces of one test."""

    def __init__(self, prefix):
        self._prefix = prefix
        self._names = []
        self._servers = []

    def namespace(self, label):
        """Make one; its name."""
        name = f"{self._prefix}-{label}"
        self._names.append(name)
        make_netns(name)
        self.sysctl(name, "net.bridge.bridge-nf-call-iptables=0", needed=False)
        return name

    def run(self, command):
        """Output of a shell command that must succeed."""
        return run(command)

    def path(self, name):
        return f"/run/netns/{name}"

    def sysctl(self, name, *settings, needed=True):
        command = f"ip netns exec {name} sysctl -qw {' '.join(settings)}"
        run(command if needed else f"{command} 2>/dev/null || true")

    def veth(self, first, interface, second, peer, *, mac="", mtu=1500):
        """A pair, both ends up."""
        there = {"ifname": peer, "mtu": mtu, "net_ns_fd": self.path(second)}
        own = {"address": mac} if mac else {}
        with iproute(self.path(first)) as ip:
            ip.link("add", ifname=interface, kind="veth", mtu=mtu, peer=there, **own)
        for name, end in ((second, peer), (first, interface)):
            self._up(name, end)

    def bridge(self, name, interface="br0"):
        with iproute(self.path(name)) as ip:
            ip.link("add", ifname=interface, kind="bridge", br_mcast_snooping=0)
        self._up(name, interface)

    def _up(self, name, link):
        with iproute(self.path(name)) as ip:
            ip.link("set", index=ip.link_lookup(ifname=link)[0], state="up")

    def server(self, name, port, says, *, address=""):
        """Answer there, TCP and UDP, with ``<says> <address of who asks>``."""
        self._servers.append(Server(self.path(name), (address, port), says))
        return self._servers[-1]

    def ask(self, name, address, port, *, udp=False):
        """(what the server says, the address it saw), one connection or one datagram."""
        with self.socket(name, address, port, udp=udp) as asking:
            asking.sendall(b"?")
            says, seen = asking.recv(200).decode().split()
            return says, seen

    def socket(self, name, address, port, *, udp=False):
        """A connected socket from that namespace."""
        with netns.inside(self.path(name)):
            kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
            asking = socket.socket(family_of(address), kind)
        asking.settimeout(3)
        try:
            asking.connect((address, port))
        except OSError:
            asking.close()
            raise
        return asking

    def close(self):
        for server in self._servers:
            server.close()
        for name in self._names:
            netns.delete(netns.NETNS_DIR / name)


class Server:
    """One thread that answers every message on one port."""

    def __init__(self, path, where, says):
        self._says = says
        self._selector = selectors.DefaultSelector()
        self._stop, self._stopped = socket.socketpair()
        with netns.inside(path):
            self._tcp = socket.socket(family_of(where[0]), socket.SOCK_STREAM)
            self._udp = socket.socket(family_of(where[0]), socket.SOCK_DGRAM)
        for one in (self._tcp, self._udp):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(where)
        self._tcp.listen(64)
        for one in (self._tcp, self._udp, self._stopped):
            self._selector.register(one, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        """End it; again: nothing."""
        if not self._thread.is_alive():
            return
        self._stop.send(b".")
        self._thread.join(5)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        self._stop.close()

    def _serve(self):
        while True:
            for key, _ in self._selector.select():
                ready = key.fileobj
                if ready is self._stopped:
                    return
                if ready is self._tcp:
                    self._selector.register(ready.accept()[0], selectors.EVENT_READ)
                elif ready is self._udp:
                    _, peer = ready.recvfrom(65536)
                    ready.sendto(f"{self._says} {peer[0]}".encode(), peer)
                else:
                    self._answer(ready)

    def _answer(self, connection):
        try:
            if connection.recv(65536):
                connection.sendall(f"{self._says} {connection.getpeername()[0]}".encode())
                return
        except ConnectionError:
            pass
        self._selector.unregister(connection)
        connection.close()


@pytest.fixture
def bed(request):
    made = Bed(f"mt{os.getpid()}{abs(hash(request.node.name)) % 1000}")
    try:
        yield made
    finally:
        made.close()
