"""A Debian package under a later version, for what an upgrade does."""

from __future__ import annotations

import subprocess
from pathlib import Path


def later(package: Path, made: Path) -> Path:
    """The same package with ``+next`` behind its version.

    Args:
        package: a file of dpkg.
        made: the file to be made; its directory is worked in.
    """
    again = made.with_suffix(".unpacked")
    subprocess.run(["dpkg-deb", "--raw-extract", package, again], check=True)
    control = again / "DEBIAN" / "control"
    lines = control.read_text().splitlines()
    control.write_text(
        "".join(f"{x}+next\n" if x.startswith("Version:") else f"{x}\n" for x in lines)
    )
    argv = ["dpkg-deb", "-Zzstd", "-z1", "--build", str(again), str(made)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return made
