"""An engine that goes and comes back: said once each, and whoever waits is told."""

from __future__ import annotations

import asyncio
import gc
import logging
import time

import pytest

from meshnet_control.engine.client import RESYNC, EngineClient, EngineGoneError

pytestmark = pytest.mark.docker


class Way:
    """The way to an engine, which can be cut: a relay between two unix sockets."""

    def __init__(self, socket, path):
        self._socket, self.path = socket, path
        self._server = None
        self._open = set()

    async def up(self):
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def cut(self):
        assert self._server is not None
        self._server.close()
        self.path.unlink()
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader, writer):
        there, back = await asyncio.open_unix_connection(self._socket)
        await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))

    async def _pipe(self, reader, writer):
        self._open.add(writer)
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self._open.discard(writer)
            writer.close()


async def test_it_is_said_once_and_who_waits_is_told(engine, tmp_path, caplog):
    caplog.set_level(logging.INFO, "meshnet_control.engine")
    way = Way(engine.socket, tmp_path / "way.sock")
    await way.up()
    client = EngineClient(f"unix://{way.path}")

    async def follow():
        async for event in client.events():
            assert event.action == RESYNC

    following = asyncio.create_task(follow())
    try:
        for cut in (1, 2):
            await client.containers([])
            await client.answers(5.0)
            await way.cut()
            for _ in range(20):
                with pytest.raises(EngineGoneError):
                    await client.containers([])
            waiting = [asyncio.create_task(client.answers(20.0)) for _ in range(5)]
            began = time.monotonic()
            await way.up()
            await asyncio.gather(*waiting)
            assert time.monotonic() - began < 5
            await client.containers([])
            said = [record.message for record in caplog.records]
            assert len(said) == 2 * cut, said
            assert said[-2].startswith("Cannot connect to the Docker daemon at unix://")
            assert said[-1].endswith("answers again")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await client.close()
        await way.cut()
        gc.collect()
