"""etcd as a child of this process: started, watched, started again when it dies, stopped.

Touches the process, its directories, and /proc. Its log comes through a pipe into ours.

Be aware: it dies with this process (``setpriv --pdeathsig``), so that nobody else's etcd is ever in
the way of the next one. A member that has lost its quorum starts, but does not answer until it is
back (etcd v3.4 serves clients once its name is published in the log).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from meshnet import ends
from meshnet.backoff import Backoff
from meshnet.errors import MeshnetError
from meshnet_control.etcd.arguments import SOCKET, Member, arguments
from meshnet_control.etcd.client import EtcdClient
from meshnet_control.etcd.errors import EtcdError
from meshnet_control.etcd.program import etcd_missing, etcd_program
from meshnet_control.etcd.repeats import Repeats

_log = logging.getLogger(__name__)

START_S: Final = 20.0
STOP_S: Final = 5.0
"""For the end that was asked for (it hands leadership over first), before SIGKILL."""
AGAIN: Final = Backoff(0.1, 5.0)
"""Between a death and the next start, longer while it goes on dying within ``SETTLED_S``."""
SETTLED_S: Final = 10.0
HUNG_LOOK_S: Final = 2.0
HUNG_TRY_S: Final = 3.0
HUNG_TIMES: Final = 5
"""Tries without an answer, of one that had answered before, until it is killed and started anew."""
_NOISE: Final = frozenset({"simple token is not cryptographically signed"})
"""Said at each start, of a thing that is not used."""
_STACK: Final = "goroutine "
"""Begins the stacks that Go writes after the reason of a panic, to the end."""
_LET_OUT: Final = "the member has been permanently removed from the cluster"
"""etcd v3.4 rafthttp/peer.go (ErrMemberRemoved); said at each start from then on."""
_LOOK_S: Final = 0.05
_LINE: Final = 64 * 1024


class EtcdProcessError(MeshnetError):
    """etcd cannot be started, or ended before it answered; the text has its last words."""


@dataclass(frozen=True)
class Usage:
    """What a member takes."""

    rss_bytes: int
    database_bytes: int
    used_bytes: int
    """Of the database; the rest is free pages."""


class EtcdProcess:
    """One supervised etcd.

    Args:
        member: who it is.
        environment: for the process, which is looked for in its PATH; None: this one's.
    """

    def __init__(self, member: Member, environment: Mapping[str, str] | None = None) -> None:
        self.member = member
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._words: deque[str] = deque(maxlen=20)
        self._repeats = Repeats()
        self._let_out, self._lost = asyncio.Event(), asyncio.Event()
        self._held = False
        """Whether its log was seen on the disk."""
        self._deaths = 0
        """In a row, each soon after its start."""
        self._died_of = ""
        self._began = 0.0
        self.starts = 0
        """How often it was started."""

    @property
    def pid(self) -> int:
        """Of the process now; 0: there is none."""
        running = self._process
        return running.pid if running is not None and running.returncode is None else 0

    @property
    def let_out(self) -> bool:
        """The other members have removed this one: what its data directory holds is of no use."""
        return self._let_out.is_set()

    @property
    def lost(self) -> bool:
        """What it had written is gone from the disk: it ended, and is not started again.

        Without its log it would have forgotten what it voted for, and vote otherwise; the only
        member would begin with nothing.
        """
        return self._lost.is_set()

    @property
    def trouble(self) -> str:
        """Why it does not stay alive, with its own last words; empty: it does."""
        if self.lost:
            return f"the data of etcd on this manager are gone from {self.member.data_dir}"
        settled = asyncio.get_running_loop().time() - self._began > SETTLED_S
        if self._deaths < 2 or (settled and self.pid):  # noqa: PLR2004 - once is an accident
            return ""
        return f"etcd ends again and again on this manager: {self._died_of or 'without a word'}"

    async def until_useless(self) -> None:
        """Wait until the other members have removed this one, or its data are lost."""
        waits = [asyncio.create_task(e.wait(), name="etcd") for e in (self._let_out, self._lost)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ends.ended(*waits)

    async def start(self) -> None:
        """Start it and keep it alive from now on; returns once the process is there.

        Raises:
            EtcdProcessError: there is no etcd on this host, or a directory cannot be made.
        """
        try:
            for folder in (self.member.data_dir, self.member.run_dir):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
            await self._spawn()
        except OSError as error:
            raise EtcdProcessError(f"cannot start etcd: {error}") from None
        self._keeping = asyncio.create_task(self._keep(), name="etcd")

    async def answers(self, within_s: float = START_S, *, leads_or_follows: bool = True) -> None:
        """Wait until it answers.

        Args:
            within_s: the bound.
            leads_or_follows: and until it knows a leader.

        Raises:
            EtcdProcessError: it does not in time; with its last words.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        client = EtcdClient(self.member.target)
        try:
            while not await _ready(client, leads_or_follows=leads_or_follows):
                if loop.time() > until:
                    raise EtcdProcessError(f"etcd does not answer: {self.last_words or '...'}")
                await asyncio.sleep(_LOOK_S)
        finally:
            await client.close()

    def begin_again(self) -> None:
        """Have it end and start anew, for what it reads only then; its leadership goes before."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)

    async def stop(self) -> None:
        """End it: asked, then killed. Twice is fine."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            await ends.ended(keeping)
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        if not await _over(process, STOP_S):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await _over(process, STOP_S)

    @property
    def last_words(self) -> str:
        """The end of its log, for a person."""
        return "; ".join(list(self._words)[-3:])

    async def usage(self) -> Usage:
        """What it takes now.

        Raises:
            EtcdError: it does not answer.
        """
        client = EtcdClient(self.member.target)
        try:
            status = await client.status()
        finally:
            await client.close()
        return Usage(rss_bytes(self.pid), status.dbSize, status.dbSizeInUse)

    # ---- inside ----

    async def _spawn(self) -> None:
        given = os.environ if self._environment is None else self._environment
        program = etcd_program(given.get("PATH"))
        if program is None:
            raise EtcdProcessError(etcd_missing())
        # No ETCD_* of our own environment: each would be an option that nobody meant.
        environment = {k: v for k, v in given.items() if not k.startswith("ETCD_")}
        (self.member.run_dir / SOCKET).unlink(missing_ok=True)  # etcd trips over a killed one's
        self._words.clear()
        self._held |= self._holds()
        self._process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", program, *arguments(self.member)),
            cwd=self.member.run_dir,
            env=environment,
            umask=0o077,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE,
            start_new_session=True,
        )
        self.starts += 1
        self._began = asyncio.get_running_loop().time()
        if self.member.alone_from_now:  # a second start with it would do it again
            self.member = replace(self.member, alone_from_now=False, joins=True)

    def _holds(self) -> bool:
        return (self.member.data_dir / "member" / "wal").is_dir()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        waits = AGAIN.delays(random.random)
        while True:
            process = self._process
            if process is not None:
                attending = asyncio.create_task(self._attend(process), name="etcd-attend")
                try:
                    await self._read(process)
                    code = await process.wait()
                finally:
                    await ends.ended(attending)
                self._died_of = self.last_words
                _log.warning("etcd ended (%s): %s", code, self._died_of)
            if loop.time() - self._began > SETTLED_S:
                waits, self._deaths = AGAIN.delays(random.random), 0
            self._deaths += 1
            await asyncio.sleep(next(waits))
            if self._held and not self._holds():
                self._process = None
                self._lost.set()
                _log.error("%s: it is not started again", self.trouble)
                return
            try:
                await self._spawn()
            except (OSError, EtcdProcessError) as error:
                self._process, self._died_of = None, str(error)
                _log.warning("cannot start etcd: %s", error)

    async def _attend(self, process: asyncio.subprocess.Process) -> None:
        """Kill it when it hangs: it is there, has answered before, and answers no more."""
        client, answered, missed = EtcdClient(self.member.target), False, 0
        try:
            while missed < HUNG_TIMES:
                await asyncio.sleep(HUNG_LOOK_S)
                self._held |= self._holds()
                try:
                    await client.status(timeout_s=HUNG_TRY_S)
                except EtcdError:
                    missed += answered  # without a quorum it may never answer
                else:
                    answered, missed = True, 0
        finally:
            await client.close()
        _log.warning("etcd hangs: it is killed and started anew")
        with contextlib.suppress(ProcessLookupError):
            process.kill()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Its log, line by line, until its end."""
        if process.stderr is None:
            return
        panics = False
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:
                continue  # longer than a line may be: what was read of it is dropped
            if not line:
                return
            if not line.strip():
                continue
            said = _sentence(line.decode(errors="replace").strip())
            panics |= said.startswith(_STACK)
            if said in _NOISE or panics:  # a person reads what it panics of, not where
                continue
            self._words.append(said)
            if _LET_OUT in said:
                self._let_out.set()
            news = self._repeats.heard(said, asyncio.get_running_loop().time())
            if news:
                _log.info("etcd: %s", news)


async def _ready(client: EtcdClient, *, leads_or_follows: bool) -> bool:
    try:
        status = await client.status(timeout_s=1.0)
    except EtcdError:
        return False
    return bool(status.leader) or not leads_or_follows


async def _over(process: asyncio.subprocess.Process, seconds: float) -> bool:
    """Whether it ended in time; its log is drained, so that it can."""
    try:
        await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        return False
    return True


def _sentence(line: str) -> str:
    """A line of zap's JSON as text: message and error."""
    try:
        said = json.loads(line)
    except ValueError:
        return line
    if not isinstance(said, dict):
        return line
    error = said.get("error")
    return f"{said.get('msg', '')}{f': {error}' if error else ''}"


def rss_bytes(pid: int) -> int:
    """The resident memory of a process; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return 0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
