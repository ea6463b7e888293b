"""Requests at a fixed rate, each accounted for: run inside a namespace by ``bench/chaos.py``.

    python bench/load.py RATE[/LIMIT] WAY [WAY …]          a way is LABEL=ADDRESS:PORT or LABEL=NAME

Ways take turns. A name is asked of 127.0.0.11 for each request anew, as a program that keeps no
cache would. One connection per request; a request is given up after LIMIT seconds (5, if none are
given). It begins when its time has come, also while others wait (an open loop), so a stall shows as
many slow requests and not as few.

Prints ``ready``; ends at the end of its input; then prints one JSON line per request:
[label, begun (Unix seconds), seconds, outcome, local port, address], outcome ``ok`` or why not.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
import sys
import time

import dnslib

LIMIT_S = "5"
NAME_RETRIES = 0.4
"""Of the limit. A resolver library asks again after a while; musl after 2.5 s, glibc after 5 s."""

Row = tuple[str, float, float, str, int, str]


async def main(rate: float, limit_s: float, ways: list[tuple[str, str]]) -> list[Row]:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    print("ready", flush=True)
    begun: list[asyncio.Task[Row]] = []
    started = loop.time()
    for number, (label, target) in enumerate(itertools.cycle(ways)):
        pause = started + number / rate - loop.time()
        if pause > 0:
            try:
                async with asyncio.timeout(pause):
                    await ended.wait()
            except TimeoutError:
                pass
        if ended.is_set():
            break
        begun.append(loop.create_task(request(label, target, limit_s)))
    return await asyncio.gather(*begun)


async def request(label: str, target: str, limit_s: float) -> Row:
    began, clock = time.time(), time.monotonic()
    address = target
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.settimeout(0)  # not blocking: the loop waits
        try:
            async with asyncio.timeout(limit_s):
                if ":" not in target:
                    address = f"{await resolve(target, limit_s * NAME_RETRIES)}:80"
                outcome = "ok" if b"sees" in await ask(made, address) else "cut short"
        except TimeoutError:
            outcome = "no answer"
        except ConnectionRefusedError:
            outcome = "refused"
        except LookupError as error:
            outcome = str(error)
        except OSError as error:
            outcome = error.strerror or repr(error)
        port = made.getsockname()[1]
    return label, began, time.monotonic() - clock, outcome, port, address


async def ask(made: socket.socket, address: str) -> bytes:
    loop = asyncio.get_running_loop()
    host, _, port = address.partition(":")
    await loop.sock_connect(made, (host, int(port)))
    await loop.sock_sendall(made, b"GET / HTTP/1.0\r\n\r\n")
    said = b""
    while part := await loop.sock_recv(made, 4096):
        said += part
    return said


async def resolve(name: str, retry_s: float) -> str:
    """The address of a name.

    Raises:
        LookupError: the resolver's answer has none.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.settimeout(0)  # not blocking: the loop waits
        question = dnslib.DNSRecord.question(name)
        for _ in range(3):
            try:
                await loop.sock_connect(asked, ("127.0.0.11", 53))
                await loop.sock_sendall(asked, question.pack())
                async with asyncio.timeout(retry_s):
                    data = await loop.sock_recv(asked, 4096)
                    while data[:2] != struct.pack(">H", question.header.id):
                        data = await loop.sock_recv(asked, 4096)
            except (TimeoutError, ConnectionRefusedError):
                await asyncio.sleep(0.05)
                continue
            answer = dnslib.DNSRecord.parse(data)
            for each in answer.rr:
                if each.rtype == dnslib.QTYPE.A:
                    return str(each.rdata)
            raise LookupError(f"name: {dnslib.RCODE[answer.header.rcode]}")
    raise LookupError("name: no answer")


if __name__ == "__main__":
    pairs = [(label, target) for label, _, target in (way.partition("=") for way in sys.argv[2:])]
    rate, _, limit = sys.argv[1].partition("/")
    for row in asyncio.run(main(float(rate), float(limit or LIMIT_S), pairs)):
        print(json.dumps(row))
