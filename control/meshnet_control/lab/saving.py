"""A lab in one file, and a lab made of such a file.

::

    lab.yaml         hosts, LANs, links, probes; which hosts manage
    cluster.backup   what ``meshnet backup`` writes on a manager: services, networks, secrets, …
    nodes.json       that manager's name; labels and availability of each node

What is not in it: data of containers and volumes, images that were loaded, what links were set to
by hand. Whoever reads the file has the cluster's secrets; it is 0600. A node that is not that
manager joins anew, under another id; its tasks are placed again.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from meshnet_control.lab import adapter, hearsay
from meshnet_control.lab.applying import Applying
from meshnet_control.lab.errors import LabError, writing
from meshnet_control.lab.lab import Lab, Report, need_root
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play
from meshnet_control.lab.topology import Topology

_FILE, _BACKUP, _NODES = "lab.yaml", "cluster.backup", "nodes.json"
_LARGEST: Final = 1 << 30
_BACK_S: Final = 120.0
_INSPECT: Final = "docker node inspect $(docker node ls -q)"


@dataclass(frozen=True, slots=True)
class Saved:
    """What such a file holds; an empty backup: there was no cluster."""

    file: str
    backup: bytes = b""
    nodes: Mapping[str, Any] | None = None


def save(lab: Lab, path: Path) -> Saved:
    """Write a lab into a file that is not there yet.

    Raises:
        LabError: it is not up, is of virtual machines, no manager of its cluster answers, or the
            file cannot be written.
    """
    need_root()
    if lab.has_vms:
        raise LabError("a lab of virtual machines keeps its disks: it cannot be saved")
    if not lab.observe().is_up:
        raise LabError("the lab is not up: meshnet lab up")
    if path.exists():
        raise LabError(f"{path} is there already")
    told = hearsay.ask(lab)
    roles = {host: each.role for host, each in told.items()}
    manager = next((host for host, role in roles.items() if role == "manager"), None)
    if manager is None and "worker" in roles.values():
        raise LabError("no manager of the cluster answers: start one, and save then")
    saved = Saved(lab.file or written(lab.layout, roles))
    if manager is not None:
        play = Play(lab)
        inside = lab.layout.run_dir(manager) / _BACKUP
        play.quietly(manager, f"meshnet backup /run/{_BACKUP}", timeout_s=_BACK_S)
        try:
            backup = inside.read_bytes()
        finally:
            inside.unlink()
        nodes = facts(manager, json.loads(play.quietly(manager, _INSPECT)))
        saved = replace(saved, backup=backup, nodes=nodes)
    _write(path, saved)
    return saved


def restore(layout: Layout, path: Path, report: Report) -> Lab:
    """Make the lab that a file holds, under the name of ``layout``.

    Raises:
        LabError: a lab of that name is up, the file is none of these, or something fails; what was
            made is gone again.
    """
    need_root()
    saved = read(path)
    lab = Lab.of_file(layout, saved.file, f"{path}/{_FILE}")
    if Lab.remains(layout).observe().members:
        raise LabError("a lab is up: meshnet lab down")
    topology = lab.layout.topology
    if topology is None:
        raise TypeError(topology)
    try:
        if saved.nodes is not None:
            bare = replace(lab, layout=replace(lab.layout, topology=_outside(topology)))
            Applying(bare, bare, report).run()
            _begin(lab, saved, report)
        Applying(lab, lab, report).run()
        if saved.nodes is not None:
            _describe(lab, saved.nodes)
    except BaseException:
        lab.down(report)
        raise
    return lab


def read(path: Path) -> Saved:
    """What a file holds.

    Raises:
        LabError: it is no saved lab.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            content = {
                member.name: (tar.extractfile(member) or io.BytesIO()).read(_LARGEST)
                for member in tar
                if member.isfile() and member.name in {_FILE, _BACKUP, _NODES}
            }
        nodes = json.loads(content[_NODES]) if _NODES in content else None
        if nodes is not None and not _are_facts(nodes):
            raise ValueError(nodes)  # noqa: TRY301 - said as what is no JSON
        return Saved(content[_FILE].decode(), content.get(_BACKUP, b""), nodes)
    except FileNotFoundError:
        raise LabError(f"{path}: no such file") from None
    except (OSError, tarfile.TarError, KeyError, ValueError, RecursionError):
        raise LabError(f"{path} holds no lab: meshnet lab save writes one") from None


def written(layout: Layout, roles: Mapping[str, str]) -> str:
    """A lab file of a lab that was made without one. Pure.

    Args:
        layout: the lab.
        roles: of its hosts.
    """
    lans = [f"  {lan.name}: {lan.subnet}" for lan in layout.lans]
    hosts = [
        f"  {host.name}: {{{'manager: true' if roles.get(host.name) == 'manager' else ''}}}"
        for host in layout.hosts
    ]
    return "\n".join(["lans:", *lans, "hosts:", *hosts]) + "\n"


def facts(manager: str, inspected: list[dict[str, Any]]) -> dict[str, Any]:
    """What is kept of nodes beside the backup. Pure."""
    return {
        "manager": manager,
        "nodes": {
            node["Description"]["Hostname"]: {
                "labels": node["Spec"].get("Labels") or {},
                "availability": node["Spec"]["Availability"],
            }
            for node in inspected
        },
    }


def _are_facts(told: object) -> bool:
    """Whether something is of the shape that :func:`facts` gives."""
    match told:
        case {"manager": str(manager), "nodes": {**nodes}}:
            return manager in nodes and all(
                isinstance(each, dict)
                and isinstance(each.get("labels"), dict)
                and all(isinstance(value, str) for value in each["labels"].values())
                and isinstance(each.get("availability"), str)
                for each in nodes.values()
            )
    return False


def _outside(topology: Topology) -> Topology:
    hosts = tuple(replace(host, manager=False) for host in topology.hosts)
    return replace(topology, hosts=hosts, links={})


def _begin(lab: Lab, saved: Saved, report: Report) -> None:
    """Bring the manager back, alone, and have it forget the others' earlier lives."""
    nodes = saved.nodes or {}
    manager = lab.layout.machine(str(nodes["manager"])).name
    report(manager, "restoring the cluster")
    play = Play(lab)
    inside = lab.layout.run_dir(manager) / _BACKUP
    inside.write_bytes(saved.backup)
    try:
        for step in ("down", f"restore --replace /run/{_BACKUP}", "up --no-context"):
            play.quietly(manager, f"meshnet {step}", timeout_s=_BACK_S)
    finally:
        inside.unlink()
    play.until(manager, "docker node ls", lambda said: manager in said, timeout_s=_BACK_S)
    for other in nodes["nodes"].keys() - {manager}:
        name = shlex.quote(other)
        play.attempt(manager, f"docker node demote {name}")
        gone = f"docker node rm --force {name} || ! docker node inspect {name}"
        adapter.wait_for(
            f"{other}'s earlier life to be forgotten",
            lambda gone=gone: play.attempt(manager, gone)[0] == 0,
            timeout_s=_BACK_S,
            interval_s=0.5,
        )


def _describe(lab: Lab, nodes: Mapping[str, Any]) -> None:
    play = Play(lab)
    manager = str(nodes["manager"])
    for host, told in nodes["nodes"].items():
        play.quietly(manager, update(host, told))


def update(host: str, told: Mapping[str, Any]) -> str:
    """The command that gives a node its labels and availability, for a shell. Pure."""
    labels = (f"--label-add={key}={value}" for key, value in told["labels"].items())
    return shlex.join(
        ["docker", "node", "update", "--availability", told["availability"], *labels, host]
    )


def _write(path: Path, saved: Saved) -> None:
    content = {_FILE: saved.file.encode()}
    if saved.nodes is not None:
        content |= {_BACKUP: saved.backup, _NODES: json.dumps(saved.nodes, indent=1).encode()}
    unfinished = path.with_name(f"{path.name}.new")
    with writing(path):
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - it is open
                with tarfile.open(fileobj=file, mode="w") as tar:
                    for name, data in content.items():
                        entry = tarfile.TarInfo(name)
                        entry.size, entry.mode = len(data), 0o600
                        tar.addfile(entry, io.BytesIO(data))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
