"""Writes meshnet's systemd units: units.py DIRECTORY PROGRAMS."""

import os
import sys
from pathlib import Path

from meshnet_control.host import units

for setting in [name for name in os.environ if name.startswith("MESHNET_")]:
    del os.environ[setting]
for name, text in units.texts(Path(sys.argv[2])).items():
    (Path(sys.argv[1]) / f"{name}.service").write_text(text)
