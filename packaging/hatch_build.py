"""Puts what ``packaging/share.py`` made ($MESHNET_SHARE, if set) into the wheel's ``share``."""

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShareHook(BuildHookInterface):  # type: ignore[misc] # hatchling is there for a build only
    """Adds manual pages and completions."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Nothing for an editable installation."""
        share = os.environ.get("MESHNET_SHARE")
        if version == "standard" and share:
            build_data["shared_data"][share] = "share"
