"""How a part that fails ends its process."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

import pytest

from meshnet.errors import MeshnetError
from meshnet_control.host.program import Program


@pytest.mark.parametrize(
    ("error", "traced"), [(MeshnetError("let out"), False), (RuntimeError("bug"), True)]
)
async def test_what_was_foreseen_is_logged_in_its_sentence_and_a_bug_with_its_traceback(
    caplog: pytest.LogCaptureFixture, *, error: Exception, traced: bool
):
    async def fails() -> None:
        raise error

    program = Program(1.0)
    async with AsyncExitStack() as stack:
        program.begin(stack)
        program.spawn(fails(), "membership")
        with pytest.raises(type(error)):
            await program.serve(stack)
    (said,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert said.getMessage().startswith("membership")
    assert bool(said.exc_info) is traced
    assert traced or "let out" in said.getMessage()
