"""``Mounts`` of a task's container: the user's, its secrets and configs, the gate's. Pure.

/etc/hosts of a container on the network ``none`` would lack its own name, so it is a file of ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meshnet_control.agent import gate
from meshnet_control.api import control_pb2 as pb


def of(
    task: pb.Task, spec: pb.ContainerSpec, directory: Path, *, wired: bool, init: str = ""
) -> list[dict[str, Any]]:
    """Everything that is mounted, as the engine is told.

    Args:
        task: the task.
        spec: its container, templates replaced.
        directory: the task's directory on this host: ``gate``, ``hosts``, ``files/<n>``.
        wired: it has networks of ours, so a gate.
        init: docker-init on this host, if the gate becomes it.
    """
    mounts = [_mount(mount) for mount in spec.mounts]
    mounts += [
        _bind(directory / "files" / str(number), inside, read_only=True)
        for number, (_, _, _, inside) in enumerate(file_targets(task))
    ]
    if wired:
        mounts += gate.mounts(directory / "gate", init)
        if all(mount.target != "/etc/hosts" for mount in spec.mounts):
            mounts.append(_bind(directory / "hosts", "/etc/hosts", read_only=False))
    return mounts


def file_targets(task: pb.Task) -> list[tuple[str, str, pb.FileTarget, str]]:
    """Files to put into the container: (kind, object id, target, path inside)."""
    spec = task.spec.container_spec
    secrets = [
        ("secret", ref.secret_id, ref.file, _inside("/run/secrets", ref.file.name))
        for ref in spec.secrets
    ]
    configs = [
        ("config", ref.config_id, ref.file, _inside("/", ref.file.name))
        for ref in spec.configs
        if ref.file.name
    ]
    return secrets + configs


# ---- inside ----


def _inside(parent: str, name: str) -> str:
    return name if name.startswith("/") else f"{parent.rstrip('/')}/{name}"


def _bind(source: Path, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": read_only}


def _mount(mount: pb.Mount) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Type": mount.type or "volume",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "Consistency": mount.consistency,
    }
    if mount.HasField("bind_options"):
        bind = mount.bind_options
        config["BindOptions"] = {
            "Propagation": bind.propagation,
            "NonRecursive": bind.non_recursive,
            "CreateMountpoint": bind.create_mountpoint,
            "ReadOnlyNonRecursive": bind.read_only_non_recursive,
            "ReadOnlyForceRecursive": bind.read_only_force_recursive,
        }
    if mount.HasField("volume_options"):
        volume, driver = mount.volume_options, mount.volume_options.driver_config
        config["VolumeOptions"] = {
            "NoCopy": volume.no_copy,
            "Labels": dict(volume.labels),
            "DriverConfig": {"Name": driver.name, "Options": dict(driver.options)},
            "Subpath": volume.subpath,
        }
    if mount.HasField("tmpfs_options"):
        tmpfs = mount.tmpfs_options
        config["TmpfsOptions"] = {"SizeBytes": tmpfs.size_bytes, "Mode": tmpfs.mode}
    return config
