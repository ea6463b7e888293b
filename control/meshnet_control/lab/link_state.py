"""The adapter to what a lab's links do: the nftables table and the qdiscs of its LANs' namespace.

What is asked is read from the kernel; what is changed is read, changed and written under a lock, as
two commands may come at once.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from meshnet.kernel import nft
from meshnet_control.lab import adapter, cables, link_rules
from meshnet_control.lab.errors import LabError
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.topology import Ends, Impairment, Links


def observe(layout: Layout) -> dict[Ends, Impairment]:
    """What the links do now; nothing where there is no lab."""
    path = cables.lan_path(layout)
    try:
        found = link_rules.links(nft.listing(path, "bridge", link_rules.TABLE))
    except ValueError as error:
        raise LabError(
            f"table bridge {link_rules.TABLE} is not as this lab writes it: {error}"
        ) from None
    for port, delay_ms in _delays(layout).items():
        delayed = Impairment(delay_ms=delay_ms)
        found[(port,)] = link_rules.joined(found.get((port,), Impairment()), delayed)
    return found


def write(layout: Layout, links: Links) -> None:
    """Make the links do this and nothing else.

    Raises:
        LabError: this kernel cannot delay packets; nothing is changed then.
    """
    wanted = {key[0]: link.delay_ms for key, link in links.items() if link.delay_ms}
    if wanted:
        need_delays()
    nft.commit(cables.lan_path(layout), link_rules.ruleset(layout, links))
    there = _delays(layout)
    for port in there.keys() - wanted.keys():
        _tc(layout, "qdisc", "del", "dev", port, "root")
    for port, delay_ms in wanted.items():
        if there.get(port) != delay_ms:
            how = ("root", "netem", "delay", f"{delay_ms}ms", "limit", "100000")
            _tc(layout, "qdisc", "replace", "dev", port, *how)


@contextmanager
def changing(layout: Layout) -> Iterator[dict[Ends, Impairment]]:
    """The links as they are, written back as the block leaves them.

    Raises:
        LabError: as :func:`write`.
    """
    with (layout.state_root / layout.name / "links.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        links = observe(layout)
        yield links
        write(layout, {key: link for key, link in links.items() if link != Impairment()})


def need_delays() -> None:
    """Try whether this kernel delays packets, in a namespace of its own.

    Raises:
        LabError: it does not.
    """
    tried = ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    try:
        adapter.run(["unshare", "--net", *tried])
    except LabError:
        raise LabError(
            "this kernel cannot delay packets, as it has no sch_netem: leave out delay, or load it "
            "(modprobe sch_netem)"
        ) from None


def _delays(layout: Layout) -> dict[str, int]:
    try:
        listed: list[dict[str, Any]] = json.loads(_tc(layout, "-j", "qdisc", "show") or "[]")
    except LabError:
        return {}
    return {
        each["dev"]: round(each["options"]["delay"]["delay"] * 1000)
        for each in listed
        if each["kind"] == "netem" and "delay" in each.get("options", {})
    }


def _tc(layout: Layout, *words: str) -> str:
    return adapter.run(["nsenter", f"--net={cables.lan_path(layout)}", "tc", *words])
