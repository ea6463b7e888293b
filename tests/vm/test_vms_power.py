"""Boots and power cuts of a host."""

from __future__ import annotations

import contextlib
import time

import pytest
from vm_cluster import LATE_S, PATIENCE, RECOVERS_S, until_quiet, until_spread
from vm_traffic import Account, traffic

from meshnet_control.host import units
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.play import Play, StepError
from meshnet_control.lab.vms import hosts, monitor
from meshnet_control.node import peers

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]


def test_a_worker_is_rebooted(play):
    until_spread(play)
    with traffic(play, outside=("h1",)) as seen:
        reboot(play, "h2", seen)
    assert_little_was_lost(seen)
    until_quiet(play)
    assert play.on("h2", "systemctl is-active meshnetd meshnet-resolver").split() == ["active"] * 2
    assert units.HOST_STOPS in play.on("h2", "journalctl -b -1 -u meshnetd --no-pager -n 40")


def test_a_workers_power_is_cut(play):
    until_spread(play)
    with traffic(play, outside=("h1",)) as seen:
        play.lab.kill("h2")
        seen.cause_ends()
        form = "docker node ls --format '{{.Hostname}} {{.Status}}'"
        play.until("h1", form, lambda said: "h2 Down" in said, timeout_s=60)
        assert "h2 gave no sign of life" in play.on("h1", "meshnet status")
    assert seen.recovery_s <= RECOVERS_S
    with traffic(play, outside=("h1",), limit_s=LATE_S) as seen:
        Lab.of_vms(play.lab.layout, engine_only=True).start("h2", lambda *_: None)
        seen.cause_ends()
    assert seen.lost == {}
    until_quiet(play)


def test_the_manager_is_rebooted(play):
    until_spread(play)
    with traffic(play, outside=("h2",), inside=("h2",)) as seen:
        reboot(play, "h1", seen)
    assert_little_was_lost(seen)
    until_quiet(play)


@pytest.mark.parametrize("seconds", [20, 90])
def test_a_worker_is_suspended_and_resumed(play, seconds):
    """Shorter and longer than the minute after which a node is given up."""
    until_spread(play)
    with traffic(play) as seen:
        monitor.suspend(play.lab.layout, "h2")
        time.sleep(seconds)
        monitor.resume(play.lab.layout, "h2")
        seen.cause_ends()
        until_quiet(play)
    assert seen.recovery_s <= RECOVERS_S
    said = play.on("h1", "meshnet status")
    assert "h2 gave no sign of life" in said
    assert "h2 is back" in said
    assert peers.UNHEARD in play.on("h2", "meshnet status")
    play.on("h2", f"date -s @{time.time():.0f}")  # its clock stood still


def test_a_worker_sleeps_and_is_woken(play):
    """Suspend to RAM (ACPI S3), as a laptop does; its clock is set by the hardware's on waking."""
    until_spread(play)
    assert "mem" in play.on("h2", "cat /sys/power/state").split()
    with traffic(play) as seen:
        play.attempt("h2", "systemctl suspend")
        monitor.until_asleep(play.lab.layout, "h2")
        time.sleep(20)
        monitor.wake(play.lab.layout, "h2")
        seen.cause_ends()
        until_quiet(play)
    assert seen.recovery_s <= RECOVERS_S
    assert "h2 gave no sign of life" in play.on("h1", "meshnet status")
    assert peers.UNHEARD in play.on("h2", "meshnet status")
    assert abs(float(play.on("h2", "date +%s")) - time.time()) <= LATE_S


def assert_little_was_lost(seen: Account) -> None:
    """Nothing once the machine was off; while it goes down, a few."""
    assert seen.recovery_s <= RECOVERS_S
    assert sum(seen.lost.values()) <= 0.05 * len(seen.rows), seen.lost


def reboot(play: Play, host: str, seen: Account) -> None:
    """Have a machine reboot until its meshnetd serves again; the cause ends when it is off."""
    before = play.quietly(host, "cat /proc/sys/kernel/random/boot_id")
    play.attempt(host, "systemctl reboot")
    while boot(play, host)[0] == before:
        time.sleep(0.5)
    seen.cause_ends()
    assert isinstance(play.lab.hosts, hosts.Vms)
    play.lab.hosts.wait(play.lab.layout, host)
    deadline = time.monotonic() + 300 * PATIENCE
    while boot(play, host)[1:] != ["active"]:
        assert time.monotonic() < deadline, f"{host}: meshnetd does not serve"
        time.sleep(2)
    assert boot(play, host)[0] != before


def boot(play: Play, host: str) -> list[str]:
    """Which boot of a machine it is, and the state of its meshnetd; ``["off"]``: it answers not."""
    asked = "cat /proc/sys/kernel/random/boot_id && systemctl is-active meshnetd"
    with contextlib.suppress(StepError):
        said = play.attempt(host, asked)[1].split()
        if len(said) == 2:
            return said
    return ["off"]
