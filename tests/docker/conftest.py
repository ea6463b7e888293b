"""A real Docker Engine of our own: its net, mount, pid and uts namespaces, gone when tests are.

`engine` (session) - url, docker(), inside(). Mounts made below `engine.shared` by the test are seen
by the engine, so an agent in this process can bind what it makes there into containers.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshnet_control.agent.task_dir import TASKS, TaskDir

APPLETS = (
    "sh", "sleep", "cat", "echo", "env", "id", "hostname", "ls", "true", "false", "nc", "ip",
    "pwd", "ps", "readlink", "grep",
)  # fmt: skip
_START = """
mount -t tmpfs tmpfs /run && mkdir -p /run/lock && hostname {name} && ip link set lo up &&
exec tini -s -- dockerd --data-root {root}/data --exec-root /run/docker --pidfile /run/docker.pid \
  --storage-driver overlay2 --cgroup-parent /{name} -H unix:///run/docker.sock >{root}/log 2>&1
"""


@dataclass(frozen=True)
class RealEngine:
    """A dockerd in namespaces of its own."""

    pid: int
    """Its tini, seen from here."""
    root: Path

    @property
    def socket(self) -> Path:
        return Path(f"/proc/{self.pid}/root/run/docker.sock")

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def shared(self) -> Path:
        """A directory whose later mounts the engine sees as well."""
        return self.root / "shared"

    def docker(self, *args: str, check: bool = True, stdin: bytes | None = None) -> str:
        """Runs the docker command against it; its output without the last newline."""
        command = ["docker", "-H", self.url, *args]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=50)
        if check and done.returncode:
            raise AssertionError(f"{args}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def inside(self, *args: str) -> str:
        """Runs a program of this machine in its namespaces."""
        command = ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-u", "--", *args]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


def _child(pid: int) -> int:
    """The only child of a process, once it is there."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.01)
    raise AssertionError("the engine's namespace did not start")


def _import(engine: RealEngine, name: str, root: Path, *, applets: tuple[str, ...]) -> None:
    """An image made of the static busybox; without applets it has only /bin/cat."""
    files = root / name.replace(":", "-")
    (files / "bin").mkdir(parents=True)
    (files / "etc").mkdir()
    program = files / "bin" / ("busybox" if applets else "cat")
    shutil.copy("/bin/busybox", program)
    for applet in applets:
        (files / "bin" / applet).symlink_to("busybox")
    (files / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nworker:x:1000:1000::/:/bin/sh\n")
    archive = root / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(files, arcname=".")
    engine.docker("import", "-c", 'CMD ["sleep", "1000"]', str(archive), name)


@pytest.fixture(scope="session")
def engine():
    name = f"mnt{uuid.uuid4().hex[:8]}"
    root = Path("/var/tmp") / name  # noqa: S108 - a name of our own; overlay2 needs a real disk
    (root / "data").mkdir(parents=True)
    (root / "shared").mkdir()
    for options in (["--bind", str(root / "shared")], ["--make-shared"]):
        subprocess.run(["mount", *options, str(root / "shared")], check=True)
    unshare = ["unshare", "--net", "--mount", "--propagation", "slave", "--uts", "--pid"]
    unshare += ["--fork", "--kill-child", "--mount-proc", "sh", "-c"]
    process = subprocess.Popen(
        [*unshare, _START.format(name=name, root=root)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    pid = 0
    try:
        pid = _child(process.pid)
        found = RealEngine(pid, root)
        deadline = time.monotonic() + 30
        while not found.docker("version", "-f", "{{.Server.Version}}", check=False):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((root / "log").read_text()[-2000:])
            time.sleep(0.1)
        _import(found, "busybox:latest", root, applets=APPLETS)
        _import(found, "bare:latest", root, applets=())
        yield found
    finally:
        process.kill()  # --kill-child: the pid namespace and all in it go with it
        process.wait()
        if pid:
            _gone(pid)
        _unmount(root)
        shutil.rmtree(root, ignore_errors=True)
        for group in Path("/sys/fs/cgroup").glob(f"**/{name}"):
            for directory, _, _ in os.walk(group, topdown=False):
                Path(directory).rmdir()


def _gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(0.02)


def _unmount(root: Path) -> None:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    for point in sorted((line.split()[1] for line in lines), reverse=True):
        if point.startswith(f"{root}/"):
            subprocess.run(["umount", "-l", point], check=False)


@pytest.fixture
def run_dir(engine):
    made = engine.shared / uuid.uuid4().hex
    made.mkdir()
    try:
        yield made
        for container in engine.docker("ps", "-aq").split():
            engine.docker("rm", "-f", container)
    finally:  # a test that failed half-way leaves its secrets mounted
        for directory in made.glob(f"{TASKS}/*"):
            TaskDir(directory).remove()
