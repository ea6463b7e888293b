"""meshnet-manager on this host: wanted or not, which a file says, and whoever keeps it is told.

```
 start: MARK is written ── systemctl start, or SIGHUP to meshnet-supervisor ──> it runs
 stop:  MARK is removed ── systemctl stop, or SIGTERM to it ──> it ends and stays away
```
One that stands by (``host/standby.py``) is woken by ``start`` instead.

``MARK`` outlives a boot: systemd (ConditionPathExists=) and meshnet-supervisor start it by that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

from meshnet.errors import MeshnetError
from meshnet.process import revival
from meshnet_control.host import standby, units
from meshnet_control.host.paths import MANAGER, MARK

STOPS_S: Final = 12.0
"""It has a limit of its own, which is shorter."""


class ManagerProcessError(MeshnetError):
    """It cannot be started or stopped."""


def start(run_dir: Path, state_dir: Path) -> None:
    """Have it manage, now and after each boot; it does already is success.

    Raises:
        ManagerProcessError: nobody is here who would start it.
        OSError: the state directory cannot be written.
    """
    _want(state_dir)
    if not standby.wake(run_dir):
        stand_by(state_dir)


def stand_by(state_dir: Path) -> None:
    """Have it run; it manages when this node is a manager by what is on the disk, or waits.

    Raises:
        ManagerProcessError: nobody is here who would start it.
        OSError: the state directory cannot be written.
    """
    _want(state_dir)
    supervisor = revival.told()
    if supervisor is not None:
        pid = revival.living(supervisor.pid_file(supervisor.name), supervisor.name)
        if pid is not None:  # one that has died is started again, and looks for itself
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGHUP)
    elif units.installed():
        try:
            units.start_manager()
        except units.UnitError as error:
            raise ManagerProcessError(str(error)) from None
    else:
        raise ManagerProcessError(f"nobody is here who starts {MANAGER}: use meshnet up")


def _want(state_dir: Path) -> None:
    (state_dir / MARK).touch(mode=0o600)


async def stop(run_dir: Path, state_dir: Path) -> None:
    """Have it end and stay away; returns when it has ended.

    Raises:
        ManagerProcessError: it does not end.
        OSError: the state directory cannot be written.
    """
    (state_dir / MARK).unlink(missing_ok=True)
    if revival.told() is None and units.installed():
        try:
            await asyncio.to_thread(units.stop_manager)
        except units.UnitError as error:
            raise ManagerProcessError(str(error)) from None
        return
    path = run_dir / f"{MANAGER}.pid"
    began = time.monotonic()
    asked: int | None = None
    while (pid := revival.living(path, MANAGER)) is not None:
        late = time.monotonic() - began > STOPS_S
        if late or pid != asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            asked = pid
        if time.monotonic() - began > 2 * STOPS_S:
            raise ManagerProcessError(f"{MANAGER} (process {pid}) does not end")
        await asyncio.sleep(0.02)
