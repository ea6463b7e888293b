"""Connect, one byte, its answer, reset: how many of these a second. Both ends, plain sockets.

``crr.py serve PORT`` answers each connection's first bytes with the peer's address;
``crr.py load ADDRESS PORT SECONDS`` prints connections per second;
``crr.py times ADDRESS PORT SECONDS`` prints that, and the milliseconds 99 of 100 were within;
``crr.py seen ADDRESS PORT`` prints the client addresses the servers saw;
``crr.py names PORT COUNT SECONDS ADDRESS …`` ends when each address has given so many answers that
differ, or fails after so many seconds.

Be aware: connections end by RST (SO_LINGER 0), so no TIME_WAIT uses up ports. One connection at a
time. What Python itself costs is in the figures of us and of the peer alike and pulls ratios a
little towards 1.
"""

import socket
import struct
import sys
import time

RESET = struct.pack("ii", 1, 0)


def serve(port: int) -> None:
    listener = socket.create_server(("", port), backlog=4096)
    while True:
        try:
            connection, peer = listener.accept()
            if connection.recv(1):
                connection.send(peer[0].encode())
            connection.close()
        except ConnectionError:
            continue


def once(address: str, port: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.connect((address, port))
        client.send(b"x")
        return client.recv(64)


def load(address: str, port: int, seconds: float) -> None:
    count = 0
    began = time.perf_counter()
    end = began + seconds
    while time.perf_counter() < end:
        once(address, port)
        count += 1
    print(f"{count / (time.perf_counter() - began):.1f}")


def times(address: str, port: int, seconds: float) -> None:
    taken = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        once(address, port)
        taken.append(time.perf_counter() - began)
    taken.sort()
    print(f"{len(taken) / sum(taken):.1f} {taken[len(taken) * 99 // 100] * 1e3:.2f}")


def names(port: int, count: int, seconds: float, addresses: list[str]) -> None:
    socket.setdefaulttimeout(1)
    end = time.monotonic() + seconds
    for address in addresses:
        seen: set[bytes] = set()
        while len(seen - {b""}) < count:
            if time.monotonic() > end:
                sys.exit(f"{address}:{port}: {len(seen)} of {count} answer")
            try:
                seen.add(once(address, port))
            except OSError:
                time.sleep(0.05)


def main() -> None:
    mode, *rest = sys.argv[1:]
    socket.setdefaulttimeout(None)
    if mode == "serve":
        serve(int(rest[0]))
    elif mode == "load":
        load(rest[0], int(rest[1]), float(rest[2]))
    elif mode == "times":
        times(rest[0], int(rest[1]), float(rest[2]))
    elif mode == "names":
        names(int(rest[0]), int(rest[1]), float(rest[2]), rest[3:])
    else:
        print("\n".join({once(rest[0], int(rest[1])).decode() for _ in range(20)}))


if __name__ == "__main__":
    main()
