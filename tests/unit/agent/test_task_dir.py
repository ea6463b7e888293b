"""A task's files: owners there can be, and what is remembered."""

from __future__ import annotations

import pytest

from meshnet.errors import ControlError
from meshnet_control.agent.task_dir import TaskDir
from meshnet_control.agent.task_files import TaskFile
from meshnet_control.agent.task_memory import TaskMemory
from meshnet_control.api import control_pb2 as pb


@pytest.mark.parametrize("kind", ["uid", "gid"])
@pytest.mark.parametrize("text", ["99999999999", "4294967295", "-1", "²", "root", "1" * 5000])
def test_an_owner_that_no_file_can_have_is_refused_before_anything_is_written(tmp_path, kind, text):
    directory = TaskDir(tmp_path / "t1")
    directory.make()
    target = pb.FileTarget(name="key", **{kind: text})
    try:
        with pytest.raises(ControlError, match=f"file key: {kind} .* is not a number in range"):
            directory.write_files([TaskFile(target, b"hidden")])
        assert not (directory.path / "files").exists()
    finally:
        directory.remove()


async def test_what_is_remembered(tmp_path):
    memory, one = TaskMemory(tmp_path / "t1"), pb.Task(id="t1", slot=3)
    assert (memory.task(), memory.started, memory.failing) == (None, False, "")
    memory.write(one)
    assert memory.task() == one
    await memory.mark_started()
    memory.mark_opened()
    memory.mark_stopping()
    memory.mark_failing("why")
    again = TaskMemory(tmp_path / "t1")
    assert (again.started, again.opened, again.stopping, again.failing) == (True, True, True, "why")
    again.remove()
    again.remove()
    assert not again.started


@pytest.mark.parametrize("torn", [b"", b"\xff\xff", pb.Task(id="another").SerializeToString()])
def test_a_torn_memory_is_none(tmp_path, torn):
    (tmp_path / "t1").mkdir()
    (tmp_path / "t1" / "task").write_bytes(torn)
    assert TaskMemory(tmp_path / "t1").task() is None
