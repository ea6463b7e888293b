"""The disk that all virtual machines begin with, and the project's own files upon it.

Both are cached outside of the clone, by a digest of what they are made of. An image is made in a
directory of its own and renamed when it is whole, so a build that was killed leaves no half of one;
a second build at the same time waits for the first.

Be aware: a build asks Debian's and Python's package servers, as ``./dev setup`` does; a machine
itself never does.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshnet_control.lab.adapter import run
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.images import File
from meshnet_control.lab.vms import recipe

Say = Callable[[str], None]

_BUILDS_S = 1800.0
_DISK = "8G"
"""As the machine sees it; the file has holes."""
_PYTHON = "3.11"
"""Debian 12's."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a machine boots from; nobody writes to it."""

    directory: Path

    @property
    def disk(self) -> Path:
        """Its root file system, raw."""
        return self.directory / "root.raw"

    @property
    def kernel(self) -> Path:
        """The kernel, which QEMU loads itself."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its first RAM disk."""
        return self.directory / "initrd.img"

    @property
    def root(self) -> Path:
        """The same files as on the disk, to run programs among."""
        return self.directory / "root"


def cache_dir() -> Path:
    """Where images are kept."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    return (Path(chosen) if chosen else Path("/var/cache")) / "meshnet-lab"


def build(say: Say) -> Image:
    """The image, made unless it is there; images of older recipes are removed.

    Raises:
        LabError: a program failed; its own words.
    """
    if platform.machine() != "x86_64":
        raise LabError(f"virtual machines of a lab are x86-64, this one is {platform.machine()}")
    _need("mmdebstrap", "mkfs.ext4", "qemu-img", "qemu-system-x86_64", "ssh", "ssh-keygen")
    requirements = _project()["dependencies"]
    with _locked() as cache:
        target = cache / f"image-{recipe.digest(requirements)}"
        if not target.is_dir():
            with _scratch(cache) as made:
                _make(made, requirements, say)
                made.rename(target)
            for old in set(cache.glob("image-*")) - {target}:
                shutil.rmtree(old)
        return Image(target)


def project_files(image: Image) -> dict[str, File]:
    """Meshnet itself, as ``pip install`` leaves it on the machine: path → file.

    Raises:
        LabError: pip's own words; no source tree to build from.
    """
    source = _source()
    with _locked() as cache:
        target = cache / f"meshnet-{_digest_of(source)}"
        if not target.is_dir():
            for old in cache.glob("meshnet-*"):
                shutil.rmtree(old)
            with _scratch(cache) as made:
                _install(image, source, made)
                made.rename(target)
        return {
            str(path.relative_to(target)): File(path.read_bytes(), path.stat().st_mode & 0o777)
            for path in target.rglob("*")
            if path.is_file()
        }


def _make(made: Path, requirements: Sequence[str], say: Say) -> None:
    say("downloading wheels")
    wheels = made / "wheels"
    wheels.mkdir()
    (wheels / "requirements.txt").write_text("\n".join(requirements) + "\n")
    run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--only-binary", ":all:", "--python-version", _PYTHON, "--dest", str(wheels),
         "--requirement", str(wheels / "requirements.txt")],
        timeout_s=_BUILDS_S,
    )  # fmt: skip
    (made / "setup").write_text(recipe.SETUP)
    (made / "customize").write_text(recipe.customize(str(wheels)))
    say("making an image of Debian (some minutes, once)")
    run(
        ["mmdebstrap", "--quiet", "--mode=root", "--variant=important", "--format=directory",
         f"--include={','.join(recipe.PACKAGES)}",
         f'--essential-hook=sh {made / "setup"} "$1"',
         f'--customize-hook=sh {made / "customize"} "$1"',
         recipe.SUITE, str(made / "root")],
        timeout_s=_BUILDS_S,
    )  # fmt: skip
    say("making its disk")
    shutil.rmtree(wheels)
    image = Image(made)
    for name, path in (("vmlinuz", image.kernel), ("initrd.img", image.initrd)):
        (found,) = (image.root / "boot").glob(f"{name}-*")
        shutil.copyfile(found, path)
    run(["truncate", "-s", _DISK, str(image.disk)])
    run(["mkfs.ext4", "-q", "-F", "-d", str(image.root), str(image.disk)], timeout_s=_BUILDS_S)


def _install(image: Image, source: Path, made: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory(dir=image.root / "tmp") as work:
        run([*pip, "--no-deps", "--wheel-dir", work, str(source)], timeout_s=_BUILDS_S)
        (wheel,) = Path(work).glob("*.whl")
        inside = Path("/tmp", Path(work).name)  # noqa: S108 - the image's
        # The seed forgets times of files: code that was compiled by them (py_compile) would be
        # compiled anew on each machine.
        run(
            ["chroot", str(image.root), "env", "SOURCE_DATE_EPOCH=0", f"{recipe.PREFIX}/bin/pip",
             "install", "--quiet", "--no-deps", "--no-index", "--root", str(inside / "out"),
             str(inside / wheel.name)],
            timeout_s=_BUILDS_S,
        )  # fmt: skip
        shutil.copytree(Path(work) / "out", made, dirs_exist_ok=True)


def _source() -> Path:
    source = Path(__file__).resolve().parents[4]
    if not (source / "pyproject.toml").is_file():
        raise LabError("virtual machines are made from a clone of meshnet, and this is none")
    return source


def _project() -> dict[str, list[str]]:
    project: dict[str, list[str]] = tomllib.loads((_source() / "pyproject.toml").read_text())[
        "project"
    ]
    return project


def _digest_of(source: Path) -> str:
    files = [source / "pyproject.toml"]
    for package in ("meshnet", "control", "dns", "lb"):
        files += sorted(
            path
            for path in (source / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )
    found = hashlib.sha256()
    for path in files:
        found.update(str(path.relative_to(source)).encode() + b"\0")
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def _need(*programs: str) -> None:
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        raise LabError(f"{', '.join(missing)}: not installed (./dev setup vm installs it)")


@contextmanager
def _locked() -> Iterator[Path]:
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """A directory that is gone afterwards unless it was renamed; the name is not random."""
    made = cache / "unfinished"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
