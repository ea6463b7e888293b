"""The names of a manager's store in its state directory."""

from __future__ import annotations

from typing import Final

STORE: Final = "store.db"
STORE_KEY: Final = "store.key"
STORE_FILES: Final = (STORE, f"{STORE}-wal", f"{STORE}-shm")
"""The last two are SQLite's own, there while it is open or after a crash."""
