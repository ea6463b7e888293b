"""What runs on a host of the lab: a real Docker Engine and a real meshnetd.

The engine has its own data root, exec root, socket and parent cgroup, all given in a configuration
file of its own, so that a daemon.json of this machine changes nothing. meshnetd is started by
``meshnet up``, the command a real host uses.

Be aware: both are started once and not supervised; a host of the lab has no systemd.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from meshnet_control.lab import adapter
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.layout import Layout

MESHNET_UP = ("meshnet", "up", "--no-context")
_ENGINE_STARTS_S = 30.0
_MESHNET_STARTS_S = 60.0


def ensure_engine(layout: Layout, host: str, pid: int) -> None:
    """Start the host's engine unless it answers, and wait until it does.

    Raises:
        LabError: dockerd ended or did not answer in time; its last words.
    """
    socket = layout.run_dir(host) / "docker.sock"
    if _engine_answers(socket):
        return
    state = layout.state_dir(host)
    config = state / "daemon.json"
    config.write_text(json.dumps(_engine_config(layout, host), indent=1))
    (layout.run_dir(host) / "docker.pid").unlink(missing_ok=True)
    log_path = state / "dockerd.log"
    with log_path.open("ab") as log:
        started = subprocess.Popen(
            adapter.enter(pid, ["dockerd", "--config-file", str(config)], {}),
            env={key: value for key, value in os.environ.items() if key != adapter.MARKER},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip

    def answers() -> bool:
        if started.poll() is not None:
            raise LabError(f"{host}: dockerd ended: {_last_line(log_path)}")
        return _engine_answers(socket)

    adapter.wait_for(
        f"{host}: dockerd to answer", answers, timeout_s=_ENGINE_STARTS_S, interval_s=0.05
    )
    adapter.leave_running(started)


def ensure_meshnet(layout: Layout, host: str, command: list[str]) -> None:
    """Run ``meshnet up`` on the host: it returns when the Engine API is served.

    Raises:
        LabError: its own words.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=_MESHNET_STARTS_S,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{host}: meshnet up: no end after {_MESHNET_STARTS_S:.0f} s") from None
    if done.returncode != 0:
        said = done.stderr.strip().removeprefix("meshnet: ") or f"exit {done.returncode}"
        raise LabError(f"{host}: {said}")
    if not (layout.run_dir(host) / "meshnet" / "docker.sock").exists():
        raise LabError(f"{host}: meshnet up left no socket")


def saved_image(name: str) -> bytes:
    """An image of this machine's own engine, as ``docker save`` writes it.

    Raises:
        LabError: no engine, no such image: Docker's words.
    """
    env = {key: value for key, value in os.environ.items() if key != "DOCKER_HOST"}
    done = subprocess.run(["docker", "save", name], capture_output=True, check=False, env=env)
    if done.returncode != 0:
        raise LabError(done.stderr.decode().strip())
    return done.stdout


def _engine_config(layout: Layout, host: str) -> dict[str, object]:
    return {
        "data-root": str(layout.state_dir(host) / "docker"),
        "exec-root": "/run/docker",
        "pidfile": "/run/docker.pid",
        "hosts": ["unix:///run/docker.sock"],
        "cgroup-parent": layout.cgroup(host),
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "storage-driver": "overlay2",
    }


def _engine_answers(socket: Path) -> bool:
    if not socket.exists():
        return False
    asked = subprocess.run(
        ["curl", "-sf", "-m", "1", "--unix-socket", str(socket), "http://docker/_ping"],
        capture_output=True, check=False,
    )  # fmt: skip
    return asked.returncode == 0


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
