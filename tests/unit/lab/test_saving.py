"""What a saved lab holds, and what is none."""

from __future__ import annotations

import pytest

from meshnet_control.lab import saving
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.lab_file import parsed
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.saving import Saved

NODE = {
    "Description": {"Hostname": "h1"},
    "Spec": {"Labels": None, "Availability": "drain", "Role": "manager"},
}


@pytest.mark.parametrize(
    "saved",
    [
        Saved("hosts: {h1: }\n"),
        Saved("hosts: {h1: {manager: true}}\n", b"\0backup", saving.facts("h1", [NODE])),
    ],
)
def test_what_is_written_is_read(tmp_path, saved):
    path = tmp_path / "lab.tar"
    saving._write(path, saved)
    assert saving.read(path) == saved
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_lab_without_a_file_gets_one():
    text = saving.written(Layout(size=2), {"h1": "manager", "h2": "worker"})
    found = parsed(text, "lab.yaml")
    assert [(host.name, host.manager) for host in found.hosts] == [("h1", True), ("h2", False)]
    assert [str(host.address) for host in found.hosts] == [
        str(host.address) for host in Layout(size=2).hosts
    ]


def test_nodes_are_kept_by_name():
    assert saving.facts("h1", [NODE]) == {
        "manager": "h1",
        "nodes": {"h1": {"labels": {}, "availability": "drain"}},
    }


@pytest.mark.parametrize("content", [b"", b"no tar", b"\0" * 10240])
def test_what_is_no_saved_lab_is_refused(tmp_path, content):
    path = tmp_path / "lab.tar"
    path.write_bytes(content)
    with pytest.raises(LabError, match="holds no lab"):
        saving.read(path)
    with pytest.raises(LabError, match="no such file"):
        saving.read(tmp_path / "other.tar")
