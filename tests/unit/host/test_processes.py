"""A supervisor that is frozen is told from one that lives; who may change what root runs."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from meshnet_control.host.paths import changeable
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


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files away")
def test_what_others_may_change_is_found_in_the_directories_above_too():
    assert changeable([Path("/usr/bin/env"), Path("/usr/lib")]) is None
    with tempfile.TemporaryDirectory() as made:
        code = Path(made) / "lib" / "code.py"
        code.parent.mkdir()
        code.touch()
        assert changeable([code]) is None  # /tmp is sticky
        os.chown(code.parent, 65534, 65534)
        assert changeable([code]) == (code.parent, "nobody")
        os.chown(code.parent, 0, 0)
        code.chmod(0o666)
        assert changeable([code]) == (code, "everybody")
