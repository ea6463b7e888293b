"""Whether a container has its program, and what its user's words for it are."""

from __future__ import annotations

import base64
import json
from ipaddress import IPv4Address

import pytest
from agent_node import IMAGE
from hypothesis import given
from hypothesis import strategies as st

from meshnet_control.agent import gate, task_networks
from meshnet_control.agent.program import DEFAULT_PATH, Program, find
from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi.specs import container_checks
from meshnet_control.engine.files import Found, found_in

RUNS, PLAIN = Found(executable=True), Found(executable=False)
WORDS = st.lists(st.text(min_size=1), max_size=3)


def looked(files, *argv, path=DEFAULT_PATH, directory="/"):
    """Whether it is found, and where was looked."""
    places = []
    looking = find(Program(gate.Words((), argv), "sha256:1", path, directory))
    try:
        asked = next(looking)
        while True:
            places.append(asked)
            asked = looking.send(files.get(asked))
    except StopIteration as ended:
        return ended.value, places


@pytest.mark.parametrize(
    ("files", "name", "more", "where"),
    [
        ({"/b/sh": RUNS}, "sh", {"path": "/a:/b"}, ["/a/sh", "/b/sh"]),
        ({"/a/sh": PLAIN, "/b/sh": RUNS}, "sh", {"path": "/a:/b"}, ["/a/sh", "/b/sh"]),
        ({"/bin/sh": RUNS}, "bin/sh", {}, ["/bin/sh"]),
        ({"/app/run": RUNS}, "./run", {"directory": "/app"}, ["/app/run"]),
        ({"/app/run": RUNS}, "run", {"directory": "/app", "path": ":/bin"}, ["/app/run"]),
        ({"/run": RUNS}, "../../run", {"directory": "/app"}, ["/run"]),
        (
            {"/bin/sh": Found(executable=False, target="/bin/busybox"), "/bin/busybox": RUNS},
            "/bin/sh", {}, ["/bin/sh", "/bin/busybox"],
        ),
    ],
)  # fmt: skip
def test_it_is_found_where_the_engine_would(files, name, more, where):
    assert looked(files, name, **more) == (True, where)


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({}, "sh"),
        ({"/bin/sh": PLAIN}, "sh"),
        ({"/bin/sh": RUNS}, "/sh"),
        ({"/bin/sh": Found(executable=False, target="/bin/gone")}, "sh"),
        ({"/bin/sh": Found(executable=False, target="/bin/sh")}, "/bin/sh"),
    ],
)
def test_it_is_not_there(files, name):
    assert looked(files, name)[0] is False


def test_links_without_an_end_are_not_followed_for_ever():
    files = {f"/{n}": Found(executable=False, target=f"/{n + 1}") for n in range(1000)}
    found, places = looked(files, "/0")
    assert found  # nobody can say
    assert len(places) < 20


@given(st.text(), st.text(), st.text())
def test_any_path_is_looked_for_within_the_container(name, path, directory):
    _, places = looked({}, name or "x", path=path, directory=directory)
    assert all(place.startswith("/") for place in places)
    assert not any(part == ".." for place in places for part in place.split("/"))


@pytest.mark.parametrize(
    ("mode", "target", "expected"),
    [
        (0o755, "", RUNS),
        (0o644, "", PLAIN),
        (0o1, "", RUNS),
        (0o755 | 1 << 31, "", PLAIN),  # a directory
        (0o777 | 1 << 27, "/bin/busybox", Found(executable=False, target="/bin/busybox")),
    ],
)
def test_what_the_engine_says_of_a_file(mode, target, expected):
    said = json.dumps({"name": "x", "size": 1, "mode": mode, "linkTarget": target})
    assert found_in(base64.b64encode(said.encode()).decode()) == expected


@given(st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_a_description_that_makes_no_sense_describes_no_file(header):
    assert found_in(header) is None or isinstance(found_in(header), Found)


@pytest.mark.parametrize(
    ("entrypoint", "command", "argv"),
    [
        ([], [], ["/entry", "serve"]),
        ([], ["x"], ["/entry", "x"]),
        (["/mine"], [], ["/mine"]),
        (["/mine"], ["x"], ["/mine", "x"]),
    ],
)
def test_an_entrypoint_of_ones_own_drops_the_images_command(entrypoint, command, argv):
    image = {"Entrypoint": ["/entry"], "Cmd": ["serve"]}
    assert gate.words_of(entrypoint, command, image).argv == tuple(argv)


@given(WORDS, WORDS)
def test_a_label_keeps_the_words(entrypoint, command):
    for init in (False, True):
        words = gate.Words(tuple(entrypoint), tuple(command), init=init)
        assert gate.words_in({gate.COMMAND_LABEL: words.label()}) == words


@pytest.mark.parametrize("said", ["", "[]", "{}", "nonsense", '{"Entrypoint": 1, "Cmd": null}'])
def test_a_label_that_others_wrote_says_nothing(said):
    assert gate.words_in({gate.COMMAND_LABEL: said}) is None


def test_words_are_shown_as_the_engine_shows_them():
    assert gate.Words(("/entry",), ("a b", "c")).shown == "/entry 'a b' c"
    assert gate.Words((), ("sleep",)).shown == "sleep"


def test_what_a_shell_would_drop_is_given_to_the_program_otherwise():
    given = gate.environment_of(["A=1", "a.b=0", "NONE"], ["a.b=1=2", "PWD=/x", "my-var="])
    assert given == {"A": "1", "a.b": "1=2", "PWD": "/x", "my-var": ""}
    entrypoint, command = gate.wrapped(["run", "x"], given)
    assert entrypoint[-4:] == ["3", "a.b=1=2", "PWD=/x", "my-var="]
    assert command == ["run", "x"]


@pytest.mark.parametrize("found", ["", "tini"])
def test_the_gate_becomes_the_init_that_was_asked_for(play, task, tmp_path, found):
    """Where the engine has it; elsewhere the engine runs it, or says that it is not there."""
    init = tmp_path / "tini"
    init.touch(mode=0o755)

    async def scene(node):
        node.engine.init = str(tmp_path / found) if found else "no such init"
        one = task()
        one.spec.container_spec.args[:] = ["nope", "x"]
        one.spec.container_spec.init = True
        node.assign(one)
        await node.reaches(one, pb.TASK_STATE_RUNNING)
        config = node.kept(one).config
        inits = [each for each in config["HostConfig"]["Mounts"] if "init" in each["Target"]]
        assert config["Entrypoint"][0] == gate.SHELL_TARGET
        assert config["HostConfig"]["Init"] is not bool(found)
        words = gate.words_in(node.kept(one).labels)
        assert words == gate.Words((), ("nope", "x"), init=bool(found))
        if found:
            assert config["Cmd"] == ["/sbin/docker-init", "--", "nope", "x"]
            assert [(each["Source"], each["ReadOnly"]) for each in inits] == [(str(init), True)]
        else:
            assert (config["Cmd"], inits) == (["nope", "x"], [])
        assert not node.calls("file")  # an init says itself what is not there

    play(scene)


def test_a_missing_program_is_left_to_the_engine_to_refuse(play, task):
    async def scene(node):
        node.engine.files[IMAGE] = {"/bin/there": RUNS}
        lost, there = task(1), task(2)
        for one, name in ((lost, "nope"), (there, "there")):
            one.spec.container_spec.args[:] = [name, "x"]
        node.assign(lost, there)
        await node.reaches(there, pb.TASK_STATE_RUNNING)
        await node.until(lambda: node.kept(lost).running)
        assert node.kept(lost).config["Entrypoint"] == []
        assert node.kept(lost).config["Cmd"] == ["nope", "x"]
        assert node.kept(there).config["Entrypoint"][0] == gate.SHELL_TARGET
        assert gate.words_in(node.kept(there).labels) == gate.Words((), ("there", "x"))
        # The next one with the same program asks nothing.
        asked = len(node.calls("file"))
        again = task(3)
        again.spec.container_spec.args[:] = ["there", "y"]
        node.assign(lost, there, again)
        await node.reaches(again, pb.TASK_STATE_RUNNING)
        assert len(node.calls("file")) == asked

    play(scene)


def test_host_gateway_is_the_hosts_address_and_nothing_else(task):
    one = task(1)
    one.spec.container_spec.hosts.extend(["host-gateway host a.b", "10.9.8.7 host-gateway"])
    lines = task_networks.hosts_file(one, "h", IPv4Address("172.18.0.1")).splitlines()
    assert "172.18.0.1\thost\ta.b" in lines
    assert "10.9.8.7\thost-gateway" in lines
    valid = pb.ContainerSpec(image="busybox", hosts=["host-gateway host"])
    container_checks.check(valid)
