"""Virtual machines of a lab as command lines and files."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.lab.images import File
from meshnet_control.lab.layout import MAX_HOSTS, VM_SUBNET, Layout
from meshnet_control.lab.vms import machine, recipe, seed

LAYOUT = replace(Layout("vmlab", 3), subnet=VM_SUBNET)
FILES = machine.Files(
    *(Path(f"/{name}") for name in ("kernel", "initrd", "disk", "seed", "out", "qmp"))
)


@pytest.mark.parametrize(
    ("flags", "opens", "wanted"),
    [({"svm", "sse2"}, True, "kvm"), ({"vmx"}, False, "tcg"), ({"hypervisor"}, True, "tcg")],
)
def test_kvm_needs_the_processor_and_the_device(flags, opens, wanted):
    assert machine.accelerator(frozenset(flags), kvm_opens=opens) == wanted


@pytest.mark.parametrize("accel", ["kvm", "tcg"])
def test_the_first_card_is_the_same_everywhere_and_the_second_is_not(accel):
    cards = [
        [word for word in machine.qemu(LAYOUT, host, FILES, accel) if "mac=" in word]
        for host in LAYOUT.hosts
    ]
    first, second = zip(*cards, strict=True)
    assert len(set(first)) == 1
    assert len(set(second)) == len(LAYOUT.hosts)


def test_every_host_has_an_ssh_port_of_its_own():
    ports = [machine.ssh_port(host) for host in Layout(size=MAX_HOSTS).hosts]
    assert len(set(ports)) == MAX_HOSTS


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"))))
def test_a_command_comes_through_the_shell_of_the_other_side_as_it_was(argv):
    sent = machine.ssh(LAYOUT, LAYOUT.hosts[0], argv, {"DOCKER_HOST": "unix:///run/a b"})
    assert shlex.split(sent[-1]) == ["env", "DOCKER_HOST=unix:///run/a b", *argv]


def test_a_machine_finds_the_others_by_name_and_itself_where_vagrant_puts_it():
    files = seed.files(LAYOUT, LAYOUT.hosts[0], "ssh-ed25519 AAAA", {"opt/x": File(b"x")})
    rows = [line.split() for line in files["etc/hosts"].content.decode().splitlines()]
    found = {name: address for address, *names in rows for name in names}
    assert found["h1"] == "127.0.2.1"
    assert found["h2"] == "192.168.56.12"
    assert found["client"] == "192.168.56.100"
    assert files["opt/x"].content == b"x"


def test_an_image_is_known_by_its_recipe_and_requirements():
    assert recipe.digest(["a>=1"]) == recipe.digest(["a>=1"])
    assert recipe.digest(["a>=1"]) != recipe.digest(["a>=2"])
