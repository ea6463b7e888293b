"""Names of network namespaces beside those of ``ip netns``, in a mount namespace of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.netns

BEGIN = """
import subprocess
from pathlib import Path
from meshnet.errors import KernelError
from meshnet.kernel import netns

def sh(command):
    subprocess.run(["sh", "-ec", command], check=True)

sh("mount -t tmpfs none /run && mkdir /run/netns")
ours, theirs = (netns.NETNS_DIR / name for name in ("mn-ours", "theirs"))
"""


def play(scene: str) -> None:
    script = BEGIN + scene
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("first", ["", "sh('ip netns add first')"])
def test_a_name_can_be_taken_away_after_somebody_named_one_by_ip_netns(first):
    play(
        f"""
{first}
netns.create(ours)
sh("ip netns add theirs")
assert netns.is_netns(ours) and netns.is_netns(theirs)
netns.delete(ours)
assert not ours.exists()
netns.create(ours)
assert netns.is_netns(ours)
netns.delete(ours)
sh("ip netns delete theirs")
assert not theirs.exists()
"""
    )


def test_a_name_below_a_mount_is_an_error_like_any_other():
    play(
        """
netns.create(ours)
sh("mount --make-private /run/netns; mount --rbind /run/netns /run/netns")
try:
    netns.delete(ours)
except KernelError as error:
    assert str(error) == "remove /run/netns/mn-ours: Device or resource busy", error
else:
    raise AssertionError("it was taken away")
"""
    )
