"""Which images are looked up, and what a stack becomes by what registries say."""

from __future__ import annotations

import pytest

from meshnet_control.stack import images
from meshnet_control.stack.images import Found, due, found, resolved, tagged
from meshnet_control.stack.model import Stack
from meshnet_control.stack.plan import pinned

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def spec(name: str, image: str, as_named: str = "", **placement: object) -> dict:
    template: dict[str, object] = {"ContainerSpec": {"Image": image, "Args": ["x"]}}
    if placement:
        template["Placement"] = dict(placement)
    labels = {"com.docker.stack.image": as_named or image}
    return {"Name": name, "Labels": labels, "TaskTemplate": template}


def stack(*specs: dict) -> Stack:
    return Stack("s", {}, {}, {}, {each["Name"]: each for each in specs}, {})


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("web", "web:latest"),
        ("r:5000/web", "r:5000/web:latest"),
        ("r:5000/web:1", "r:5000/web:1"),
        (f"web@{ONE}", f"web@{ONE}"),
    ],
)
def test_an_image_has_a_tag(said: str, shown: str):
    assert tagged(said) == shown


def test_the_mode_says_which_images_are_looked_up():
    wanted = stack(spec("old", "a"), spec("new", "b"), spec("other", "c"), spec("more", "b"))
    there = [
        {"Spec": spec("old", f"a:latest@{ONE}", "a")},
        {"Spec": spec("other", "c:1")},
        {"Spec": {"Name": "more", "Labels": None}},
    ]
    assert due(wanted, there, images.ALWAYS) == ["a", "b", "c"]
    assert due(wanted, there, images.CHANGED) == ["b", "c"]
    assert due(wanted, there, images.NEVER) == []


def test_an_image_is_pinned_to_its_digest_and_to_where_it_runs():
    said = {
        "Descriptor": {"digest": ONE},
        "Platforms": [
            {"architecture": "amd64", "os": "linux"},
            {"architecture": "arm", "os": "linux", "variant": "v7"},
        ],
    }
    wanted = stack(spec("w", "r:5000/web", Constraints=["node.role==worker"]))
    done = resolved(wanted, {"r:5000/web": found(said)}).services["w"]
    assert done["TaskTemplate"]["ContainerSpec"] == {
        "Image": f"r:5000/web:latest@{ONE}",
        "Args": ["x"],
    }
    assert done["TaskTemplate"]["Placement"] == {
        "Constraints": ["node.role==worker"],
        "Platforms": [
            {"Architecture": "amd64", "OS": "linux"},
            {"Architecture": "", "OS": "linux"},
        ],
    }
    assert done["Labels"] == {"com.docker.stack.image": "r:5000/web"}


def test_names_of_the_hub_are_short_and_a_digest_of_the_file_stays():
    for said, shown in (
        ("docker.io/library/web:1", "web:1"),
        ("docker.io/me/web", "me/web:latest"),
    ):
        done = resolved(stack(spec("w", said)), {said: Found(ONE)}).services["w"]
        assert done["TaskTemplate"]["ContainerSpec"]["Image"] == f"{shown}@{ONE}"
        assert "Placement" not in done["TaskTemplate"]
    own = f"web@{TWO}"
    done = resolved(stack(spec("w", own)), {own: Found(ONE)}).services["w"]
    assert done["TaskTemplate"]["ContainerSpec"]["Image"] == own


def test_what_is_not_looked_up_keeps_its_digest_and_its_platforms():
    linux = [{"Architecture": "amd64", "OS": "linux"}]
    there = spec("w", f"web:latest@{ONE}", "web", Platforms=linux)
    plain = resolved(stack(spec("w", "web", MaxReplicas=1)), {}).services["w"]
    kept = pinned(plain, there)["TaskTemplate"]
    assert kept["ContainerSpec"]["Image"] == f"web:latest@{ONE}"
    assert kept["Placement"] == {"MaxReplicas": 1, "Platforms": linux}
    pushed = resolved(stack(spec("w", "web")), {"web": Found(TWO)}).services["w"]
    assert pinned(pushed, there)["TaskTemplate"]["ContainerSpec"]["Image"] == f"web:latest@{TWO}"
    other = resolved(stack(spec("w", "web:2")), {}).services["w"]
    assert pinned(other, there)["TaskTemplate"]["ContainerSpec"]["Image"] == "web:2"
    assert "Placement" not in pinned(other, there)["TaskTemplate"]
