from meshnet_control.manager.liveness import Liveness


def test_three_missed_periods_are_too_many():
    nodes = Liveness()
    nodes.opened("a", 0)
    nodes.heard("a", 10)
    assert nodes.overdue(25, 5) == []
    assert nodes.overdue(25.1, 5) == ["a"]


def test_a_broken_stream_counts_from_its_end():
    nodes = Liveness()
    nodes.opened("a", 0)
    nodes.closed("a", 10)
    assert nodes.overdue(24, 5) == []
    assert nodes.overdue(26, 5) == ["a"]


def test_gossip_alone_is_not_enough():
    nodes = Liveness()
    nodes.opened("a", 0)
    nodes.gossip_misses({"a", "stranger"})
    assert nodes.overdue(2.0, 5) == []
    assert nodes.overdue(2.1, 5) == ["a"]
    nodes.heard("a", 2.1)
    assert nodes.overdue(2.2, 5) == []
    nodes.closed("a", 2.2)
    assert nodes.overdue(2.2, 5) == ["a"]
    nodes.opened("a", 2.3)
    assert nodes.overdue(2.3, 5) == []


def test_who_was_ready_before_gets_the_usual_time():
    nodes = Liveness()
    nodes.opened("b", 3)
    nodes.expect("a", 0)
    nodes.expect("b", 0)
    assert nodes.overdue(16, 5) == ["a"]
    nodes.forget("a")
    assert nodes.overdue(16, 5) == []
