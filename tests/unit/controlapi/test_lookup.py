"""Which object a user means by an id, a name or the beginning of an id."""

from __future__ import annotations

import pytest

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi.lookup import find, search


def service(identifier: str, name: str) -> pb.Service:
    made = pb.Service(id=identifier)
    made.spec.name = name
    return made


def name_of(each: pb.Service) -> str:
    return each.spec.name


ALL = [service("abc1", "web"), service("abc2", "abc1"), service("abd3", "ab"), service("xyz", "")]


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ("abc1", ["abc1"]),
        ("ab", ["abd3"]),
        ("web", ["abc1"]),
        ("abc", ["abc1", "abc2"]),
        ("abd", ["abd3"]),
        ("bc1", []),
        ("", []),
    ],
    ids=["id before name", "name before prefix", "name", "prefix", "one's", "middle", "nothing"],
)
def test_ids_win_over_names_and_names_over_prefixes(said: str, ids: list[str]) -> None:
    assert [each.id for each in search(ALL, said, name_of)] == ids


def test_none_and_several_are_refused_in_the_engines_words() -> None:
    with pytest.raises(ControlError, match="service nothing not found") as none:
        find("service", ALL, "nothing", name_of)
    assert none.value.status == 404
    with pytest.raises(ControlError, match=r"service abc is ambiguous \(2 matches found\)") as two:
        find("service", ALL, "abc", name_of)
    assert two.value.status == 500
    assert find("service", ALL, "abd", name_of).id == "abd3"
