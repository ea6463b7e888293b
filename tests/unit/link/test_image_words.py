"""Why an image did not come to a node is what the manager said, however the call ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from meshnet_control.api import manager_pb2 as mpb
from meshnet_control.link.images import ENDED, RemoteImages


class Call:
    """A call that the manager ends while something is written: its last word is there, or not."""

    def __init__(self, *words: mpb.ImagePushed) -> None:
        self._words = [mpb.ImagePushed(wants=True), *words]
        self._broken = asyncio.Event()

    async def write(self, message: mpb.ImagePush) -> None:
        if message.data:
            self._broken.set()
            raise grpc.aio.UsageError("the call has ended")

    async def read(self) -> object:
        if not self._words or not self._words[0].wants:
            await self._broken.wait()
        return self._words.pop(0) if self._words else None

    def cancel(self) -> None:
        self._broken.set()


class Channel:
    """To a manager that takes this one call."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def stream_stream(self, *_: object, **__: object) -> Callable[[], Call]:
        return lambda: self._call


async def archive() -> AsyncIterator[bytes]:
    yield b"x"


@pytest.mark.parametrize(
    ("words", "told"),
    [((mpb.ImagePushed(error="the node went away"),), "the node went away"), ((), ENDED)],
)
async def test_what_was_said_before_the_end_is_told(
    words: tuple[mpb.ImagePushed, ...], told: str
) -> None:
    channel: Any = Channel(Call(*words))
    pushed = RemoteImages(channel).push("n", "sha256:1", [], archive())
    found = [step async for step in pushed]
    assert found[-1].error == told
