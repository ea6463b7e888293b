"""What a saved lab holds, and what is none."""

from __future__ import annotations

import io
import shlex
import tarfile

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


@pytest.mark.parametrize(
    "nodes",
    [
        b"[" * 100_000,
        b"[]",
        b'{"h1": 3}',
        b'{"manager": "h1", "nodes": {"h1": 3}}',
        b'{"manager": "h1", "nodes": {}}',
        b'{"manager": "h1", "nodes": {"h1": {"labels": {"a": 1}, "availability": "drain"}}}',
    ],
)
def test_nodes_of_another_shape_are_no_saved_lab(tmp_path, nodes):
    path = tmp_path / "lab.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in (("lab.yaml", b"hosts: {h1: }"), ("nodes.json", nodes)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    with pytest.raises(LabError, match="holds no lab"):
        saving.read(path)


def test_where_nothing_can_be_written_is_said(tmp_path):
    with pytest.raises(LabError, match=f"there is no directory {tmp_path}/none"):
        saving._write(tmp_path / "none" / "lab.tar", Saved("hosts: {h1: }"))
    (tmp_path / "taken").mkdir()
    with pytest.raises(LabError, match=r"cannot write .*/taken: Is a directory"):
        saving._write(tmp_path / "taken", Saved("hosts: {h1: }"))
    assert [each.name for each in tmp_path.iterdir()] == ["taken"], "nothing unfinished is left"


def test_a_label_is_a_word_to_the_shell_whatever_is_in_it():
    labels = {"rack": "it's 2", "x": "$(touch /tmp/x)", "empty": ""}
    typed = saving.update("h1", {"labels": labels, "availability": "drain"})
    assert shlex.split(typed) == [
        "docker", "node", "update", "--availability", "drain", "--label-add=rack=it's 2",
        "--label-add=x=$(touch /tmp/x)", "--label-add=empty=", "h1",
    ]  # fmt: skip
