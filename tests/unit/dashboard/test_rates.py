"""What goes from host to host a second, of two readings."""

from __future__ import annotations

import pytest
from shown_cluster import traffic

from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.dashboard import rates

PAIRS = {("h1", "h2"): 1000.0, ("h2", "h1"): 250.0}


def links(said):
    return {(each["from"], each["to"]): (each["packets"], each["bytes"]) for each in said["links"]}


def test_a_rate_is_the_difference_of_two_readings_by_the_nodes_own_clock():
    said = rates.shown(traffic(100, PAIRS), traffic(104, PAIRS))
    assert links(said) == {("nodeh1", "nodeh2"): (10, 1000), ("nodeh2", "nodeh1"): (2.5, 250)}
    (shop,) = said["overlays"]
    assert (shop["name"], shop["bytes"]) == ("shop", 2 * 1250), "as each of two hosts sent it"


def test_one_reading_says_nothing_of_now():
    assert rates.shown(xpb.AskReply(), traffic(100, PAIRS)) == {"links": [], "overlays": []}


@pytest.mark.parametrize("at", [100, 99, 100 + rates.LONGEST_S + 1])
def test_readings_too_far_apart_or_of_no_time_say_nothing(at):
    assert rates.shown(traffic(100, PAIRS), traffic(at, PAIRS))["links"] == []


def test_a_count_that_began_anew_is_all_new():
    anew = traffic(104, PAIRS)
    for each in anew.answers:
        for link in each.answer.traffic.links:
            link.packets, link.bytes = 4, 400
    said = rates.shown(traffic(100, PAIRS), anew)
    assert set(links(said).values()) == {(1, 100)}


def test_a_link_that_was_not_there_counts_from_nothing():
    more = {**PAIRS, ("h3", "h2"): 10.0}
    said = links(rates.shown(traffic(100, PAIRS), traffic(104, more)))
    assert said["nodeh3", "nodeh2"] == (2.5, 260)


def test_a_node_that_could_not_be_asked_is_left_out():
    now = traffic(104, PAIRS)
    now.answers[0].answer.error = "it is down"
    now.answers[0].answer.ClearField("traffic")
    assert set(links(rates.shown(traffic(100, PAIRS), now))) == {("nodeh1", "nodeh2")}
