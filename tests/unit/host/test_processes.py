"""Who may change what root runs; when nobody is left who would start it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from meshnet_control.host import processes
from meshnet_control.host.paths import changeable


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


@pytest.mark.parametrize(("status", "lost"), [(1, True), (-9, True), (os.EX_TEMPFAIL, False)])
def test_a_supervisor_that_found_another_one_is_no_reason_to_give_up(
    tmp_path, monkeypatch, status, lost
):
    monkeypatch.setenv("MESHNET_RUN_DIR", str(tmp_path))
    monkeypatch.setenv("MESHNET_STATE_DIR", str(tmp_path))
    script = f"exit {status}" if status >= 0 else "kill -9 $$"
    with subprocess.Popen(["sh", "-c", script]) as started:
        started.wait()
        assert {seen.lost for seen in processes._supervised(started).values()} == {lost}
