from meshnet_control.cluster.hosts import Hosts
from meshnet_control.manager.liveness import AWAY_S, Liveness


def test_three_missed_periods_are_too_many():
    nodes = Liveness()
    nodes.opened("a", 0)
    nodes.heard("a", 10)
    assert nodes.overdue(25, 5) == []
    assert nodes.overdue(25.1, 5) == [("a", "down")]
    assert nodes.overdue(26, 5) == [], "said once"


def test_a_broken_stream_counts_from_its_end():
    nodes = Liveness()
    nodes.opened("a", 0)
    nodes.closed("a", 10)
    assert nodes.overdue(24, 5) == []
    assert nodes.overdue(26, 5) == [("a", "down")]


def test_a_host_that_is_gone_is_down_at_once_unless_its_stream_speaks():
    nodes = Liveness()
    nodes.opened("a", 0)
    nodes.hosts(Hosts(gone={"a", "stranger"}))
    assert nodes.overdue(2.0, 5) == []
    nodes.heard("a", 2.1)
    assert nodes.overdue(2.2, 5) == []
    assert nodes.overdue(4.2, 5) == [("a", "down")]
    nodes.opened("a", 5.0)
    assert nodes.overdue(5.1, 5) == []
    nodes.closed("a", 5.2)
    assert nodes.overdue(5.2, 5) == [("a", "down")]


def test_a_daemon_that_is_away_while_its_host_answers_costs_its_node_nothing_for_a_minute():
    nodes = Liveness()
    nodes.opened("a", 0)
    nodes.closed("a", 10)
    nodes.hosts(Hosts(there={"a"}))
    assert nodes.overdue(25, 5) == []
    assert nodes.overdue(25.1, 5) == [("a", "unknown")]
    assert nodes.overdue(10 + AWAY_S, 5) == []
    assert nodes.overdue(10.1 + AWAY_S, 5) == [("a", "down")]


def test_a_daemon_that_comes_back_begins_anew():
    nodes = Liveness()
    nodes.opened("a", 0)
    nodes.closed("a", 0)
    nodes.hosts(Hosts(there={"a"}))
    assert nodes.overdue(16, 5) == [("a", "unknown")]
    nodes.opened("a", 40)
    assert nodes.overdue(41, 5) == []
    nodes.closed("a", 50)
    assert nodes.overdue(66, 5) == [("a", "unknown")]


def test_a_host_that_goes_off_beside_its_silent_daemon_is_down_at_once():
    nodes = Liveness()
    nodes.opened("a", 0)
    nodes.closed("a", 0)
    nodes.hosts(Hosts(there={"a"}))
    assert nodes.overdue(16, 5) == [("a", "unknown")]
    nodes.hosts(Hosts(gone={"a"}))
    assert nodes.overdue(17, 5) == [("a", "down")]


def test_long_heartbeats_lengthen_the_minute():
    nodes = Liveness()
    nodes.opened("a", 0)
    nodes.hosts(Hosts(there={"a"}))
    assert nodes.overdue(90, 30) == []
    assert nodes.overdue(90.1, 30) == [("a", "down")]


def test_who_was_ready_before_gets_the_usual_time():
    nodes = Liveness()
    nodes.opened("b", 3)
    nodes.expect("a", 0)
    nodes.expect("b", 0)
    assert nodes.overdue(16, 5) == [("a", "down")]
    nodes.forget("a")
    assert nodes.overdue(16, 5) == []
