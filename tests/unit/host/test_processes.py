"""A supervisor that is frozen is told from one that lives."""

from __future__ import annotations

import os
import signal
import subprocess

from meshnet_control.host.processes import is_frozen


def test_a_process_is_frozen_from_sigstop_until_sigcont():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        try:
            assert not is_frozen(process.pid)
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            assert is_frozen(process.pid)
            process.send_signal(signal.SIGCONT)
            os.waitpid(process.pid, os.WCONTINUED)
            assert not is_frozen(process.pid)
        finally:
            process.kill()
    assert not is_frozen(process.pid)
