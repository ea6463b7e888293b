"""Who may change what root runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

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
