"""One pytest run on one copy of the tree, in a process that has the libraries already.

Most of what a small run of pytest costs is start-up. A fork server imports the libraries once, none
of our own modules, and every run is forked from it: what is imported of ours comes from the copy.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).parents[2]
PACKAGES = ("meshnet", "control", "dns", "lb")
LIBRARIES = (
    "pytest", "_pytest.junitxml", "_pytest.faulthandler", "_pytest.logging", "_pytest.tmpdir",
    "_pytest.unraisableexception", "_pytest.threadexception", "_pytest.assertion.truncate",
    "pytest_asyncio", "pytest_asyncio.plugin", "pytest_timeout", "_hypothesis_pytestplugin",
    "hypothesis", "hypothesis.strategies", "hypothesis.stateful", "hypothesis.core",
    "hypothesis.internal.conjecture.engine", "hypothesis.internal.conjecture.shrinker",
    "aiodocker", "aiohttp", "aiohttp.web", "aiohttp.test_utils", "click", "cryptography.x509",
    "cryptography.hazmat.primitives.serialization", "cryptography.hazmat.primitives.asymmetric.ec",
    "dnslib", "google.protobuf.json_format", "google.protobuf.timestamp_pb2",
    "google.protobuf.runtime_version", "grpc", "grpc.aio", "msgpack", "nftables", "OpenSSL.SSL",
    "pyroute2", "re2", "rich.console", "rich.live", "rich.table", "sqlite3",
    "xdist.scheduler",
)  # fmt: skip
"""A missing one is no error: it is imported by each run that needs it."""
AUTOGROUP = Path("/proc/self/autogroup")
"""Its niceness; in a group of its own that of a process counts for nothing."""
FAILED = 1
"""Exit status of pytest when tests failed."""
_MEMORY_MAX = 3 << 30
"""Bytes of address space of a run without namespaces: a fault may take away a bound."""
_CPU_MAX_S = 60
"""Seconds of processor time of such a run: a loop without end is found on a busy machine, too, and
a test that is only slow there is not taken for one."""


@dataclass(frozen=True)
class Outcome:
    """How a run of pytest ended."""

    status: int
    """Of pytest; negative: the number of the signal that ended the process."""
    output: str
    endless: bool = False
    """Taken down at a limit of time."""

    @property
    def by(self) -> str:
        """The test that failed, as pytest names it."""
        found = ("FAILED tests/", "ERROR tests/")
        lines = [line for line in self.output.splitlines() if line.startswith(found)]
        return lines[0].partition(" ")[2].partition(" - ")[0] if lines else ""


def _libraries_only() -> list[str]:
    """``sys.path`` without the sources of the tree that ``./dev mutate`` was started in."""
    ours = {str(ROOT / each) for each in PACKAGES} | {str(ROOT), ""}
    return [each for each in sys.path if each not in ours]


class _CheapFirst:
    """A plugin of pytest: tests that draw examples come last, so that a cheap one fails first."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: item.get_closest_marker("hypothesis") is not None)


def _pytest(tree: Path, tests: tuple[str, ...], said: Path, *, bounded: bool) -> None:
    """The forked process: pytest on ``tests``, everything it prints goes to ``said``."""
    os.setsid()
    with contextlib.suppress(OSError):  # a session is one to the scheduler (sched(7))
        AUTOGROUP.write_text(str(os.nice(0)))
    output = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    for number, opened in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(opened, number)
    sources = [str(tree / each) for each in PACKAGES]
    sys.path[:] = [*sources, str(tree), *_libraries_only()]
    os.chdir(tree)
    os.environ.update(PYTHONPATH=os.pathsep.join(sources), PYTHONDONTWRITEBYTECODE="1")
    if bounded:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_MAX, _MEMORY_MAX))
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_MAX_S, _CPU_MAX_S + 5))

    # What the steady profile draws, without looking for the smallest example that fails.
    settings.register_profile(
        "faults", deadline=None, derandomize=True, database=None, report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate),
    )  # fmt: skip
    argv = [
        "-x",
        "-q",
        "--no-header",
        "--tb=short",
        "--assert=plain",
        "--hypothesis-profile=faults",
    ]
    status = pytest.main([*argv, "-p", "no:cacheprovider", *tests], plugins=[_CheapFirst()])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(status))


def _end_all_of(tree: Path) -> None:
    """End what tests started in sessions of their own and, with a fault in, left behind."""
    mark = f"{tree}/".encode()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if mark in environ.read_bytes():
                os.kill(int(environ.parent.name), signal.SIGKILL)


class Trials:
    """Runs pytest on copies of the tree; safe to use from several threads.

    A run that has no end is taken down after ``limit_s``; of no run anything is left behind.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._server = multiprocessing.get_context("forkserver")
        self._server.set_forkserver_preload(list(LIBRARIES))

    def run(self, tree: Path, tests: tuple[str, ...], *, bounded: bool) -> Outcome:
        """Run ``tests`` (node ids) of the tree; ``bounded``: within a bound of memory."""
        said = tree / "pytest.out"
        said.write_text("")
        target: Callable[..., None] = _pytest
        process = self._server.Process(
            target=target, args=(tree, tests, said), kwargs={"bounded": bounded}
        )
        process.start()
        process.join(self._limit_s)
        endless = process.exitcode is None or process.exitcode == -signal.SIGXCPU
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()
        process.join()
        _end_all_of(tree)
        return Outcome(int(process.exitcode or 0), said.read_text(errors="replace"), endless)
