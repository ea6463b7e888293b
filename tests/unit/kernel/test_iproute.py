"""pyroute2 is loaded by whoever uses it, and by nobody else."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import meshnet_control.daemon, meshnet_control.cli.main, meshnet_dns.server, meshnet.kernel.iproute
sys.exit("pyroute2" in sys.modules)
"""


def test_a_daemon_at_rest_does_not_pay_for_pyroute2():
    assert subprocess.run([sys.executable, "-c", PROGRAM], check=False, timeout=50).returncode == 0
