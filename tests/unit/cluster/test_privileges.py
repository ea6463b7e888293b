"""What a service asks of its host by labels, and what the engine is told of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet_control.cluster import privileges


def test_what_is_asked_for_is_said_to_the_engine_in_its_form():
    wanted = privileges.asked(
        {
            "meshnet.privileged": "true",
            "meshnet.devices": "/dev/fuse,/dev/a:/dev/b,/dev/c:rw,/dev/d:/dev/e:r",
            "meshnet.gpus": "all",
            "other": "label",
        }
    )
    config = wanted.host_config()
    assert config["Privileged"] is True
    assert [tuple(each.values()) for each in config["Devices"]] == [
        ("/dev/fuse", "/dev/fuse", "rwm"),
        ("/dev/a", "/dev/b", "rwm"),
        ("/dev/c", "/dev/c", "rw"),
        ("/dev/d", "/dev/e", "r"),
    ]
    assert config["DeviceRequests"] == [{"Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]]}]


@pytest.mark.parametrize(
    ("said", "expected"), [("2", (2, ())), ("device=0,GPU-1", (0, ("0", "GPU-1")))]
)
def test_gpus_by_number_or_by_name(said: str, expected: object):
    assert privileges.asked({"meshnet.gpus": said}).gpus == expected


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"privileged": "true"}, "privileged services"),
        ({"devices": "/dev/fuse"}, "services with devices"),
        ({"gpus": "1"}, "services with GPUs"),
        ({"devices": "/dev/fuse", "gpus": "all"}, "services with devices and GPUs"),
        ({"privileged": "1", "devices": "/dev/fuse"}, "privileged services with devices"),
    ],
)
def test_a_refusal_names_what_is_asked_for(labels: dict[str, str], words: str):
    wanted = privileges.asked({f"meshnet.{key}": value for key, value in labels.items()})
    assert wanted.refusal == f"this node allows no {words}: meshnet up --allow-privileged"


@pytest.mark.parametrize("labels", [{}, {"meshnet.privileged": "false"}, {"meshnet.devices": ""}])
def test_who_asks_for_nothing_needs_no_node_that_allows_it(labels: dict[str, str]):
    wanted = privileges.asked(labels)
    assert (wanted.anything, wanted.host_config()) == (False, {})


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("meshnet.privileged", "perhaps"),
        ("meshnet.devices", "fuse"),
        ("meshnet.devices", "/dev/a:b"),
        ("meshnet.devices", "/dev/a:/dev/b:rwx"),
        ("meshnet.devices", "/dev/a:/dev/b:r:w"),
        ("meshnet.gpus", "0"),
        ("meshnet.gpus", "device="),
        ("meshnet.gpus", "some"),
    ],
)
def test_what_makes_no_sense_is_refused(label: str, said: str):
    with pytest.raises(ControlError, match="invalid"):
        privileges.asked({label: said})


@given(st.dictionaries(st.sampled_from(["privileged", "devices", "gpus"]), st.text()))
def test_any_labels_are_read_or_refused(said: dict[str, str]):
    labels = {f"meshnet.{key}": value for key, value in said.items()}
    try:
        wanted = privileges.asked(labels)
    except ControlError:
        return
    assert bool(wanted.host_config()) is wanted.anything


def test_a_node_allows_it_by_the_label_among_its_engine_s():
    assert privileges.allowed({"meshnet.privileged": "true"})
    assert not privileges.allowed({"meshnet.privileged": "false"})
    assert not privileges.allowed({})
