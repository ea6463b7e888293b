"""What a long play of five managers is judged by."""

from __future__ import annotations

import pytest
from bench import ledger
from bench.ledger import Ledger, Sightings, Wanted, differences

ONE, TWO = Wanted(1, 0), Wanted(2, 5)


def task(ident, address, state="running", container=None):
    status = {"State": state, "ContainerStatus": {"ContainerID": container} if container else {}}
    attachment = {"Network": {"ID": "net"}, "Addresses": [address]}
    return {"ID": ident, "Status": status, "NetworksAttachments": [attachment]}


def service(ident, name, replicas=1, env=("MARK=0",), vip="10.0.1.2/24"):
    spec = {
        "Name": name,
        "Mode": {"Replicated": {"Replicas": replicas}},
        "TaskTemplate": {"ContainerSpec": {"Env": list(env)}},
    }
    return {
        "ID": ident,
        "Spec": spec,
        "Endpoint": {"VirtualIPs": [{"NetworkID": "net", "Addr": vip}]},
    }


def test_what_was_acknowledged_must_be_there():
    told = Ledger()
    told.wrote("s1", ONE)
    told.wrote("s2", ONE)
    told.wrote("s2", TWO)
    assert told.wrong({"s1": ONE, "s2": TWO}) == []
    assert told.wrong({"s2": ONE}) == [
        f"s1 is lost: {ONE}",
        f"s2 is {ONE}, not {TWO}",
    ]


def test_what_was_removed_must_not_come_back():
    told = Ledger()
    told.wrote("s1", ONE)
    told.wrote("s1", None)
    assert told.wrong({}) == []
    assert told.wrong({"s1": ONE, "s9": TWO}) == [f"s1 is back: {ONE}", f"s9 is back: {TWO}"]
    assert told.living() == []


def test_what_nobody_answered_may_be_or_not():
    told = Ledger()
    told.unsure("s1", ONE)
    assert [told.wrong({}), told.wrong({"s1": ONE})] == [[], []]
    assert told.wrong({"s1": TWO})
    told.wrote("s1", TWO)
    assert told.wrong({})


def test_a_removal_nobody_answered_may_come_after_a_later_change():
    told = Ledger()
    told.wrote("s1", ONE)
    told.unsure("s1", None)
    told.wrote("s1", TWO)
    assert [told.wrong({}), told.wrong({"s1": TWO})] == [[], []]
    assert told.wrong({"s1": ONE})
    told.wrote("s1", None)
    assert told.wrong({"s1": TWO})


def test_services_are_read_as_they_are_listed():
    listed = [service("a", "s1", 3, ("MARK=7",)), service("b", "web")]
    assert ledger.wanted(listed, "s") == {"s1": Wanted(3, 7)}


@pytest.mark.parametrize("other", ["10.0.1.9/24", "10.0.1.2/24"])
def test_an_address_has_one_holder(other):
    seen = Sightings()
    seen.cluster([task("a", "10.0.1.9/24"), task("b", other)], [service("s", "s1")], ["net"])
    assert len(seen.problems) == 1


def test_an_address_is_free_when_its_task_is_over():
    seen = Sightings()
    tasks = [task("a", "10.0.1.9/24", "shutdown"), task("b", "10.0.1.9/24")]
    seen.cluster(tasks, [service("s", "s1")], ["net"])
    seen.cluster([task("c", "10.0.1.9/24")], [], ["net"])
    seen.cluster([task("c", "10.0.1.9/24"), task("d", "10.0.1.9/24")], [], ["other"])
    assert not seen.problems


def test_a_task_starts_once():
    seen = Sightings()
    seen.cluster([task("a", "10.0.1.9/24", container="one")], [], ["net"])
    seen.runs("a", "one", "at noon")
    seen.runs("a", "one", "at noon")
    assert not seen.problems
    seen.runs("a", "one", "at two")
    seen.runs("a", "two")
    assert list(seen.problems) == [
        "task a started again in one",
        "task a started twice: one and two",
    ]


def test_managers_answer_the_same():
    def said(version, state="ready"):
        return [{"ID": "n", "Version": {"Index": version}, "State": state}]

    assert differences({"h1": said(7), "h2": said(7)}) == []
    assert differences({"h1": said(7), "h2": said(8)}) == ["n: {'h1': 7, 'h2': 8}"]
    assert differences({"h1": said(7), "h2": []}) == ["n: {'h1': 7, 'h2': None}"]
    assert differences({"h1": said(7), "h2": said(7, "down")}) == [
        "n: the same version, another content"
    ]
