"""Small container images made from this machine's own Debian packages; no registry is asked.

=================  ==========================================================================
``meshnet/web:1``  a web server that answers with its version, its hostname and the peer's address
``meshnet/web:2``  the same, of another version: something to update to
``meshnet/tools:1``  curl, dig and iperf3, beside busybox's own nc and ip
=================  ==========================================================================

All stand on one layer with busybox. An image is what ``docker load`` reads: layers, a config naming
them by digest, a manifest. Times and owners are fixed, so the same binaries give the same image ids
on every engine.

Programs are run by tini: the first process of a container ignores SIGTERM unless it handles it, and
busybox does not, so each stop would take the engine's ten seconds.

Be aware: Debian's ``busybox wget`` crashes in a container without /etc/ssl; use curl or nc.
Programs are copied with the libraries ldd(1) names and with nothing else: no locale, no CA
certificates.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshnet.errors import MeshnetError

BUSYBOX = Path("/bin/busybox")
TINI = Path("/usr/bin/tini-static")
TOOLS = ("curl", "dig", "iperf3")
"""Programs of the tools image; one that is not installed is left out."""

_LOAD_S = 120
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
_ANSWER = """#!/bin/sh
echo "Content-Type: text/plain"
echo
echo "web:$VERSION $(hostname) sees $REMOTE_ADDR"
"""


class ImageError(MeshnetError):
    """An image could not be made or loaded."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a layer: its bytes, or where a symbolic link points."""

    content: bytes = b""
    mode: int = 0o755
    link: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """Layers (tar files, lowest first) and what is run in them."""

    tag: str
    layers: tuple[bytes, ...]
    command: tuple[str, ...]
    env: tuple[str, ...] = ()


def layer(files: Mapping[str, File]) -> bytes:
    """A tar file of ``files`` (path without the leading slash → file), always the same."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        parents = {str(parent) for path in files for parent in Path(path).parents} - {"."}
        for path in sorted(parents - files.keys()):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
            tar.addfile(entry)
        for path, file in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.mode, entry.size = file.mode, len(file.content)
            if file.link:
                entry.type, entry.linkname = tarfile.SYMTYPE, file.link
            tar.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()


def archive(images: Sequence[Image], architecture: str) -> bytes:
    """What ``docker load`` reads for all ``images``; a layer used twice is stored once.

    Source: moby image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format".
    """
    files: dict[str, File] = {}
    manifest = []
    for image in images:
        digests = [hashlib.sha256(content).hexdigest() for content in image.layers]
        for digest, content in zip(digests, image.layers, strict=True):
            files[f"{digest}.tar"] = File(content, 0o644)
        config = json.dumps(_config(image, digests, architecture), sort_keys=True).encode()
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        files[name] = File(config, 0o644)
        layers = [f"{digest}.tar" for digest in digests]
        manifest.append({"Config": name, "RepoTags": [image.tag], "Layers": layers})
    files["manifest.json"] = File(json.dumps(manifest).encode(), 0o644)
    return layer(files)


def _config(image: Image, digests: Sequence[str], architecture: str) -> dict[str, object]:
    return {
        "architecture": architecture,
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {
            "Entrypoint": ["/sbin/tini", "--"],
            "Cmd": list(image.command),
            "Env": [_PATH, *image.env],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "meshnet"} for _ in digests],
    }


def build() -> bytes:
    """All images of this module, made of this machine's programs, as ``docker load`` reads them.

    Raises:
        ImageError: busybox-static or tini is not installed.
    """
    for program, package in ((BUSYBOX, "busybox-static"), (TINI, "tini")):
        if not program.exists():
            raise ImageError(f"{program} is missing: install Debian's {package}")
    base = layer(_base())
    answer = layer({"www/cgi-bin/index.cgi": File(_ANSWER.encode())})
    serve = ("busybox", "httpd", "-f", "-p", "0.0.0.0:80", "-h", "/www")
    images = [
        Image(f"meshnet/web:{version}", (base, answer), serve, (f"VERSION={version}",))
        for version in ("1", "2")
    ]
    programs = [found for tool in TOOLS if (found := shutil.which(tool))]
    tools = layer(_with_libraries([Path(program) for program in programs]))
    images.append(Image("meshnet/tools:1", (base, tools), ("sleep", "2147483647")))
    machine = platform.machine()
    return archive(images, _ARCHITECTURES.get(machine, machine))


def load(archive_bytes: bytes, docker_host: str) -> list[str]:
    """Load an archive into an engine and return the tags it names.

    Raises:
        ImageError: the engine's own words.
    """
    import docker  # noqa: PLC0415 - meshnetd and most commands do without it and its 10 MB

    tags: list[str] = []
    try:
        with docker.APIClient(docker_host, version="auto", timeout=_LOAD_S) as client:
            for said in client.load_image(archive_bytes):
                if "error" in said:
                    raise ImageError(str(said["error"]))
                first, _, tag = str(said.get("stream", "")).strip().partition(": ")
                if first == "Loaded image":
                    tags.append(tag)
    except docker.errors.APIError as error:
        raise ImageError(str(error.explanation or error)) from error
    except (docker.errors.DockerException, OSError) as error:  # requests' errors are OSErrors
        raise ImageError(
            f"Cannot connect to the Docker daemon at {docker_host}. Is the docker daemon running?"
        ) from error
    return tags


def _base() -> dict[str, File]:
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    files = {
        f"bin/{applet}": File(link="busybox")
        for applet in listed.stdout.split()
        if applet not in {"busybox", "wget"}
    }
    files["bin/busybox"] = File(BUSYBOX.read_bytes())
    files["sbin/tini"] = File(TINI.read_bytes())
    files["etc/passwd"] = File(b"root:x:0:0:root:/root:/bin/sh\n", 0o644)
    files["etc/group"] = File(b"root:x:0:\n", 0o644)
    files["etc/nsswitch.conf"] = File(b"passwd: files\ngroup: files\nhosts: files dns\n", 0o644)
    files["tmp/.keep"] = File(mode=0o644)
    return files


def _with_libraries(programs: Sequence[Path]) -> dict[str, File]:
    files: dict[str, File] = {}
    for program in programs:
        files[f"usr/bin/{program.name}"] = File(program.read_bytes())
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        for line in listed.stdout.splitlines():
            paths = [word for word in line.split() if word.startswith("/")]
            for path in paths:
                files[path.lstrip("/")] = File(Path(path).read_bytes())
    return files


def main() -> None:
    """Load all images into the engine that DOCKER_HOST names (``./dev images``)."""
    docker_host = os.environ.get("DOCKER_HOST", "unix:///run/docker.sock")
    try:
        for tag in load(build(), docker_host):
            print(tag)  # noqa: T201 - the command's output
    except ImageError as error:
        sys.exit(f"meshnet: {error}")


if __name__ == "__main__":
    main()
