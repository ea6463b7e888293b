"""How probes are judged, and that they are tried until they hold or their time is over."""

from __future__ import annotations

import pytest

from meshnet_control.lab import probing
from meshnet_control.lab.lab import Lab
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.play import Play
from meshnet_control.lab.topology import Probe


class Here(Lab):
    """A lab whose machines are this one."""

    def command(self, name, argv, *, cwd=None):
        return list(argv)


@pytest.mark.parametrize(
    ("probe", "code", "output", "holds", "why"),
    [
        (Probe("p", "h1", "x"), 0, "a\nb\n", True, "b"),
        (Probe("p", "h1", "x"), 0, "", True, "it said nothing"),
        (Probe("p", "h1", "x"), 7, "refused\n", False, "exit 7: refused"),
        (Probe("p", "h1", "x", expect="^web:[12]"), 0, "web:1 is", True, "web:1 is"),
        (Probe("p", "h1", "x", expect="web:3"), 0, "web:1 is", False, "no 'web:3' in: web:1 is"),
        (Probe("p", "h1", "x", fails=True), 0, "ok", False, "it should fail, and said: ok"),
        (Probe("p", "h1", "x", fails=True), 6, "no", True, "no"),
        (Probe("p", "h1", "x", expect="timed out", fails=True), 6, "no", False,
         "no 'timed out' in: no"),
    ],
)  # fmt: skip
def test_a_run_is_what_is_expected_or_not(probe, code, output, holds, why):
    assert probing.judged(probe, code, output) == (holds, why)


def test_a_probe_is_tried_until_it_holds(tmp_path):
    at = tmp_path / "times"
    counts = f"echo x >> {at}; [ $(wc -l < {at}) -ge 3 ] && echo there"
    (result,) = probing.run(Play(Here(Layout())), [Probe("p", "h1", counts, within_s=3600)])
    assert (result.holds, result.why) == (True, "there")
    assert len(at.read_text().splitlines()) == 3


def test_a_probe_without_time_is_tried_once(tmp_path):
    at = tmp_path / "times"
    counts = Probe("p", "h1", f"echo x >> {at}; false", within_s=0)
    (result,) = probing.run(Play(Here(Layout())), [counts])
    assert not result.holds
    assert len(at.read_text().splitlines()) == 1
