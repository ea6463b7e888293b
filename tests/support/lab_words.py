"""A lab test that fails tells what the daemons of its lab said last, wherever it failed."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from meshnet_control.lab.lab import Lab

LETTERS = 6000
"""Of each log."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when != "teardown":
        for value in getattr(item, "funcargs", {}).values():
            lab = getattr(value, "lab", value)  # of a Play or of Hosts
            if isinstance(lab, Lab):
                report.sections += last_words(lab)
    return report


def last_words(lab: Lab) -> list[tuple[str, str]]:
    """Pairs of a log's name and its end, of every daemon of every host."""
    return [
        (f"{host.name} {log.stem}", log.read_text(errors="replace")[-LETTERS:])
        for host in lab.layout.hosts
        for log in sorted((lab.layout.state_dir(host.name) / "meshnet").glob("*.log"))
    ]
