"""Secrets and configs of a running container that follow their object: a hot update.

```
 new data, hot ──> outdated ──> owe the signal ─> rewrite the file ─> kill(2) ─> owe none
```
Level-triggered: what is wanted is compared with what the files are, so a node that was away, or a
daemon that died in between, does what is left. A signal is sent at least once, and not before the
program runs: one that starts afterwards reads the new file anyway.
"""

from __future__ import annotations

import logging

from meshnet.errors import MeshnetError
from meshnet_control.agent import task_files
from meshnet_control.agent.host import Host
from meshnet_control.agent.task_dir import TaskDir
from meshnet_control.agent.task_files import TaskFile
from meshnet_control.api import control_pb2 as pb

_log = logging.getLogger(__name__)


class HotFiles:
    """The files of one task.

    Args:
        host: where it runs.
        directory: the task's.
    """

    def __init__(self, host: Host, directory: TaskDir) -> None:
        self._host, self._dir = host, directory

    def outdated(self, task: pb.Task) -> bool:
        """Whether a file lacks what a hot update brought, or its signal was not sent.

        What cannot be said is no reason to touch a task that runs.
        """
        container = task.spec.container_spec
        if not container.secrets and not container.configs:
            return False
        try:
            return bool(self._changed(task) or self._dir.signals)
        except (MeshnetError, OSError) as error:
            _log.warning("task %s: its files stay as they are: %s", task.id, error)
            return False

    async def rewrite(self, task: pb.Task, container: str, *, runs: bool) -> None:
        """Write what is new.

        Args:
            task: with the files.
            container: its ID.
            runs: its program runs, so it is signalled.

        Raises:
            ControlError: a file is not on this node, or its template cannot be expanded.
            OSError: a file cannot be written.
            EngineError: the engine refuses the signal, or nobody answers.
        """
        changed = self._changed(task)
        signals = [*self._dir.signals, *(file.signal for _, file in changed if file.signal)]
        owed = list(dict.fromkeys(signals)) if runs else []
        self._dir.owe(owed)
        for number, file in changed:
            self._dir.rewrite(number, file.data)
        for signal in owed:
            await self._host.engine.kill(container, signal)
        self._dir.owe(())

    def _changed(self, task: pb.Task) -> list[tuple[int, TaskFile]]:
        spec = task.spec.container_spec
        given = [self._host.assigned("secret", ref.secret_id) for ref in spec.secrets]
        given += [self._host.assigned("config", ref.config_id) for ref in spec.configs]
        if not any(each is not None and each.hot for each in given):
            return []
        wanted = task_files.contents(task, self._host.place, self._host.assigned)
        return [
            (number, file)
            for number, file in enumerate(wanted)
            if file.hot and not self._dir.has(number, file.data)
        ]
