"""What all lab tests share."""

from __future__ import annotations

from lab_words import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]
