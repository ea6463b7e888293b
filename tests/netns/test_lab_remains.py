"""What is left of labs is found, and goes, whatever it is."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest

from meshnet.kernel import netns
from meshnet_control.lab import adapter, cables, finding
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout

pytestmark = pytest.mark.netns
NAME = "mnremains"


@pytest.fixture
def layout(tmp_path):
    """
    Name: layout; Scope: function; Depends: nothing.

    Where a lab's files would be; what a test leaves of the lab is removed.
    """
    made = Layout(NAME, 1, run_root=tmp_path / "run", state_root=tmp_path / "state")
    yield made
    Lab(made).down(lambda *_: None)


def gone(layout: Layout) -> bool:
    return (
        NAME not in finding.names(layout)
        and not cables.namespaces(layout)
        and not (layout.state_root / NAME).exists()
    )


def test_no_lab_is_none(layout):
    assert NAME not in finding.names(layout)


def test_a_lan_alone(layout):
    cables.make_router(layout)
    cables.make_lan(layout, layout.lans[0])
    assert NAME in finding.names(layout)
    Lab.remains(layout).down(lambda *_: None)
    assert gone(layout)


def test_a_namespace_of_somebody_else_is_no_lab(layout):
    path = netns.NETNS_DIR / f"{NAME}-lan"
    netns.create(path)
    try:
        assert NAME not in finding.names(layout)
    finally:
        netns.delete(path)


@pytest.mark.parametrize("file", ["lab.json", "lab.yaml"])
def test_damaged_files(layout, file):
    state = layout.state_root / NAME
    (state / "h7").mkdir(parents=True)
    (state / "lab.json").write_text('{"hosts": 1, "engine_only": true, "vms": false}')
    (state / file).write_text("{")
    assert NAME in finding.names(layout)
    with pytest.raises(LabError):
        Lab.known(layout)
    Lab.remains(layout).down(lambda *_: None)
    assert gone(layout)


def test_a_process_alone(layout):
    marked = {**os.environ, adapter.MARKER: layout.marker("h1")}
    with subprocess.Popen(["sleep", "600"], env=marked) as process:
        try:
            adapter.wait_for("it", lambda: NAME in finding.names(layout), timeout_s=10)
        finally:
            process.kill()
    assert NAME not in finding.names(replace(layout, size=2))


def test_half_a_machine(layout):
    cables.make_router(layout)
    cables.make_lan(layout, layout.lans[0])
    cables.connect(layout, layout.hosts[0])
    Lab.remains(layout).down(lambda *_: None)
    assert gone(layout)


def test_whose_namespaces_may_be():
    spaces = ["mnlab-lan", "mnlab-h1", "other-client", "a-b-lan", "Lab-lan", "lan", "x-h1"]
    assert finding.candidates(spaces) == {"mnlab", "other"}
