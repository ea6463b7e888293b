"""``meshnet image push`` as the gateway and the command see it; nodes are in tests/netns."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest

from meshnet_control.cli.image import Outcome, chosen
from meshnet_control.gateway.routes.images import tagged
from meshnet_control.host.processes import HostError
from meshnet_control.link.images import Progress
from meshnet_control.node.image_sink import refused

NODES = [{"ID": f"id{n}", "Description": {"Hostname": f"h{n}"}} for n in (2, 1, 3)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [([], ["id1", "id2", "id3"]), (["h3", "id1"], ["id1", "id3"]), (["h2", "id2"], ["id2"])],
)
def test_nodes_are_meant_by_name_or_id(wanted, found):
    assert [node["ID"] for node in chosen(NODES, wanted)] == found


def test_a_node_that_is_not_there_is_named():
    with pytest.raises(HostError, match=r"no such node: h9 \(there is h1, h2, h3\)"):
        chosen(NODES, ["h1", "h9"])


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("a", "a:latest"),
        ("a:1", "a:1"),
        ("r:5000/a", "r:5000/a:latest"),
        ("r:5000/a:1", "r:5000/a:1"),
    ],
)
def test_a_name_without_a_tag_means_the_latest(name, whole):
    assert tagged(name) == whole


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b'{"stream":"Loaded image: a"}\n', ""),
        (b'{"stream":"x"}\n{"errorDetail":{"message":"m"},"error":"no space"}\n', "no space"),
        (b"", ""),
        (b"[1]\nnot json", ""),
    ],
)
def test_an_engines_error_is_in_the_lines_of_its_answer(said, error):
    assert refused(said) == error


def test_each_node_has_its_sentence():
    said = [
        Outcome("h1").sentence,
        Outcome("h2", 8_200_000).sentence,
        Outcome("h3", 5, "no").sentence,
    ]
    assert said == ["h1: has it already", "h2: loaded, 8.2 MB", "h3: no"]


class Sends:
    """Stands for the way to nodes."""

    def __init__(self, *steps: Progress) -> None:
        self.steps = steps
        self.asked: tuple[str, str, list[str]] = ("", "", [])

    async def push(
        self, node_id: str, image_id: str, tags: Sequence[str], archive: AsyncIterator[bytes]
    ) -> AsyncGenerator[Progress, None]:
        """Says its steps."""
        self.asked = (node_id, image_id, list(tags))
        for step in self.steps:
            yield step


async def test_the_command_says_how_it_went_with_each_node(command, host, engine_server):
    host.sends = sends = Sends(Progress(1 << 20), Progress(2 << 20, done=True))
    status, out, err = await command("image", "push", "--node", "node1", "a")
    assert (status, out, err.strip()) == (0, "node1: loaded, 2.1 MB\n", "")
    assert sends.asked[1:] == ("sha256:a", ["a:latest"])
    host.sends = Sends(Progress(5, error="no space left on device"))
    status, _, err = await command("image", "push", "--node", "node1", "a")
    assert status == 1
    assert err.strip().splitlines() == [
        "node1: no space left on device",
        "meshnet: 1 of 1 nodes did not get a",
    ]
    status, _, err = await command("image", "push", "nosuch")
    assert status == 1
    assert "No such image: nosuch" in err
