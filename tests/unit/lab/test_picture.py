"""A lab as a picture: what its hosts tell, drawn once each, and pages that stand alone."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

from meshnet_control.lab import hearsay
from meshnet_control.lab.lab_file import parsed
from meshnet_control.lab.layout import Layout
from meshnet_control.lab.picture import Member, Told, as_json, dot, folded, picture
from meshnet_control.lab.picture_page import page
from meshnet_control.lab.topology import Impairment

ID = "3iu3hmx2glgepudr5fz691wcd"
FILE = """
lans: {front: 192.168.60.0/24, back: 192.168.61.0/24}
hosts: {h1: {manager: true}, h2: {lan: back}}
"""
WEB = {
    "VIP": "10.0.1.2",
    "Tasks": [
        {"Name": f"web.2.{ID}", "EndpointIP": "10.0.1.4", "Info": {"Host IP": "192.168.61.12"}},
        {"Name": f"web.1.{ID}", "EndpointIP": "10.0.1.3", "Info": {"Host IP": "192.168.60.11"}},
    ],
}


def shop(containers: dict[str, str], services: dict) -> dict:
    return {
        "Name": "shop",
        "Options": {"com.docker.network.driver.overlay.vxlanid_list": "4097"},
        "IPAM": {"Config": [{"Subnet": "10.0.1.0/24"}]},
        "Containers": {
            name: {"Name": name, "IPv4Address": f"{address}/24"}
            for name, address in containers.items()
        },
        "Services": services,
    }


TOLD = {
    "h1": Told("manager", (f"web.1.{ID}", "<mine>"), (
        shop({f"web.1.{ID}": "10.0.1.3", "<mine>": "10.0.1.9"}, {"web": WEB}),
    )),
    "h2": Told("worker", (f"web.2.{ID}",), (shop({f"web.2.{ID}": "10.0.1.4"}, {"web": WEB}),)),
}  # fmt: skip
LINKS = {
    ("h2",): Impairment(rate=10_000_000),
    ("back", "front"): Impairment(loss=250),
    ("h1", "h2"): Impairment(down=True),
}
TOPOLOGY = parsed(FILE, "lab.yaml")
LAYOUT = Layout("mnlab", 2, topology=TOPOLOGY)
DRAWN = picture(LAYOUT, ["h1", "client"], TOLD, LINKS)


def test_what_is_on_an_overlay_is_there_once():
    (overlay,) = DRAWN.overlays
    assert (overlay.name, overlay.vni, overlay.subnet) == ("shop", 4097, "10.0.1.0/24")
    (web,) = overlay.services
    assert web.tasks == (Member("web.1", "10.0.1.3", "h1"), Member("web.2", "10.0.1.4", "h2"))
    assert overlay.others == (Member("<mine>", "10.0.1.9", "h1"),)


def test_machines_are_as_they_are():
    assert [(box.name, box.up, box.role) for box in DRAWN.boxes] == [
        ("h1", True, "manager"),
        ("h2", False, "worker"),
        ("client", True, ""),
    ]


def test_dot_has_every_machine_link_and_way():
    said = dot(DRAWN)
    for line in (
        'router -- "LAN back" [label="192.168.61.254"];',
        '"h2" -- "LAN back" [label="rate 10mbit"];',
        '"LAN back" -- "LAN front" [style=dashed, color=red, label="loss 2.5%"];',
        '"h1" -- "h2" [style=dashed, color=red, label="down"];',
        '"shop/web" -- "h2" [style=dotted, label="10.0.1.4"];',
    ):
        assert line in said


def test_a_page_stands_alone_and_takes_no_name_for_a_tag():
    said = page(DRAWN)
    assert "<mine>" not in said
    assert "&lt;mine&gt;" in said
    assert not {"http:", "https:", "<script", "url("} & set(said.split())
    drawing = said[said.index("<svg") : said.index("</svg>") + 6]
    texts = [each.text for each in ET.fromstring(drawing).iter("text")]  # noqa: S314 - our own
    for text in ("h1  manager", "h2  off", "rate 10mbit", "h1 ↔ h2: down", "web.1"):
        assert text in texts
    assert "<td>10.0.1.2" in said


def test_a_lab_without_a_cluster_or_a_router_is_drawn():
    bare = picture(Layout(size=1), [], {}, {})
    assert "router" not in dot(bare)
    assert "no cluster" not in page(bare)
    assert json.loads(json.dumps(as_json(bare)))["boxes"][0]["name"] == "h1"


def test_many_tasks_are_counted():
    many = [f"web.{n}" for n in range(1, 8)]
    assert folded([*many, "one.1", "alone"]) == ["web x7", "one.1", "alone"]


def test_what_a_host_prints_is_read():
    network = shop({}, {})
    assert hearsay.heard("active true\nweb.1 x \n" + json.dumps([network])) == Told(
        "manager", ("web.1", "x"), (network,)
    )
    assert hearsay.heard("active false\n\n") == Told("worker")
    assert hearsay.heard("inactive false\nx\n") == Told("", ("x",))
