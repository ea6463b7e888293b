"""docker.sock in a container: what is mounted in its place, and that its user does not see it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.agent import container
from meshnet_control.agent.engine_socket import LABEL, OPT_OUT, inspected, lent, lent_path, listed
from meshnet_control.api import control_pb2 as pb

SOCKET = lent_path(Path("/var/lib/meshnet"))
TEXT = st.text(max_size=20) | st.sampled_from(
    ["/run/docker.sock", "/var/run/docker.sock", str(SOCKET), "bind", LABEL, "a:b", ":", "Path"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def body(*, binds=None, mounts=None, labels=None):
    return {"HostConfig": {"Binds": binds, "Mounts": mounts}, "Labels": labels}


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("/var/run/docker.sock:/var/run/docker.sock", f"{SOCKET}:/var/run/docker.sock:rslave"),
        ("/run/docker.sock:/x:ro", f"{SOCKET}:/x:ro,rslave"),
        ("/var//run/../run/docker.sock:/x:z,rprivate", f"{SOCKET}:/x:z,rslave"),
        ("/var/run/docker.socks:/x", "/var/run/docker.socks:/x"),
        ("/var/run:/var/run", "/var/run:/var/run"),
        ("docker.sock:/x", "docker.sock:/x"),
        ("/x", "/x"),
    ],
)
def test_a_bind_of_docker_sock_is_of_the_swarms(bind, expected):
    assert lent(body(binds=[bind]), SOCKET)["HostConfig"]["Binds"] == [expected]


def test_a_mount_of_docker_sock_is_of_the_swarms():
    mount = {"Type": "bind", "Source": "/run/docker.sock", "Target": "/s", "ReadOnly": True}
    volume = {"Type": "volume", "Source": "/run/docker.sock", "Target": "/v"}
    made = lent(body(mounts=[mount, volume]), SOCKET)["HostConfig"]["Mounts"]
    assert made[0] == mount | {"Source": str(SOCKET), "BindOptions": {"Propagation": "rslave"}}
    assert made[1] == volume


@pytest.mark.parametrize("said", ["true", "1", "True"])
def test_a_label_asks_for_the_engines_own(said):
    asked = body(binds=["/run/docker.sock:/x"], labels={OPT_OUT: said})
    assert lent(asked, SOCKET) is asked
    other = body(binds=["/run/docker.sock:/x"], labels={OPT_OUT: "false"})
    assert lent(other, SOCKET) is not other


def engines(asked):
    """What an engine says of a container that was made so."""
    host, labels = asked["HostConfig"], asked["Labels"]
    binds = [[*bind.split(":"), ""][:3] for bind in host["Binds"] or []]
    points = [
        {"Type": "bind", "Source": source, "Destination": target, "Mode": mode,
         "Propagation": "rslave" if "rslave" in mode else "rprivate"}
        for source, target, mode in binds
    ] + [
        {"Type": "bind", "Source": mount["Source"], "Destination": mount["Target"], "Mode": "",
         "Propagation": "rslave"}
        for mount in host["Mounts"] or []
    ]  # fmt: skip
    entry = {"Labels": labels, "Mounts": points, "Command": "x"}
    return entry, {"Config": {"Labels": labels}, "HostConfig": host, "Mounts": points}


def test_its_user_sees_what_was_given():
    binds = ["/var/run/docker.sock:/var/run/docker.sock:ro", "/srv:/srv"]
    mounts = [{"Type": "bind", "Source": "/run/docker.sock", "Target": "/s"}]
    asked = body(binds=binds, mounts=mounts, labels={"mine": "1"})
    entry, found = engines(lent(copy.deepcopy(asked), SOCKET))
    entry, found = listed(entry), inspected(found)
    for said in (entry, found):
        assert str(SOCKET) not in json.dumps(said)
        assert "rslave" not in json.dumps(said)
    assert found["HostConfig"]["Binds"] == binds
    assert found["HostConfig"]["Mounts"] == mounts
    assert found["Config"]["Labels"] == entry["Labels"] == {"mine": "1"}
    assert [(p["Source"], p["Mode"]) for p in found["Mounts"]] == [
        ("/var/run/docker.sock", "ro"), ("/srv", ""), ("/run/docker.sock", "")
    ]  # fmt: skip


def test_a_label_without_the_mount_changes_nothing():
    """Of an image that was made of such a container."""
    made = lent(body(binds=["/run/docker.sock:/x"]), SOCKET)
    _, found = engines(body(binds=["/srv:/x"], labels=made["Labels"]))
    assert inspected(found)["Mounts"][0]["Source"] == "/srv"


@pytest.mark.parametrize(
    ("mounted", "said", "own"),
    [
        ("/etc", "/etc", "/innocent:/x"),
        ("/etc", "/etc", "/var/run/docker.sock:/x"),
        (str(SOCKET), str(SOCKET), "/innocent:/x"),
        (str(SOCKET), str(SOCKET), {"Source": "/innocent", "Target": "/x"}),
    ],
)
def test_a_label_of_ones_own_hides_no_mount(mounted, said, own):
    label = json.dumps({"Path": said, "Given": {"/x": own}})
    entry, found = engines(body(binds=[f"{mounted}:/x"], labels={LABEL: label}))
    for shown in (listed(entry), inspected(found)):
        assert shown["Mounts"][0]["Source"] == mounted
    assert inspected(found)["HostConfig"]["Binds"] == [f"{mounted}:/x"]


@given(JSON)
def test_no_body_is_too_odd(said):
    for asked in (said, {"HostConfig": said}, {"HostConfig": {"Binds": said, "Mounts": said}},
                  {"Labels": said}, {"HostConfig": {"Mounts": [{"Type": "bind", "Source":
                   "/run/docker.sock", "Target": said, "BindOptions": said}]}}):  # fmt: skip
        if isinstance(asked, dict):
            lent(asked, SOCKET)
            label = json.dumps({"Path": str(SOCKET), "Given": said})
            listed({"Labels": {LABEL: label}, "Mounts": said})
            inspected({"Config": {"Labels": {LABEL: label}}, "HostConfig": asked, "Mounts": said})


@pytest.mark.parametrize("where", ["container", "service", ""])
def test_a_task_gets_the_swarms_unless_a_label_asks_for_the_engines(where):
    task = pb.Task(id="t", service_name="web", slot=1)
    spec = task.spec.container_spec
    spec.args.append("serve")
    spec.mounts.add(type="bind", source="/var/run/docker.sock", target="/var/run/docker.sock")
    if where == "container":
        spec.labels[OPT_OUT] = "true"
    if where == "service":
        task.service_labels[OPT_OUT] = "true"
    place = container.Place("n" * 25, "h1")
    made = container.create_arguments(task, {}, place, Path("/run/x"), None, SOCKET)
    [mount] = made.config["HostConfig"]["Mounts"]
    assert mount["Source"] == ("/var/run/docker.sock" if where else str(SOCKET))
