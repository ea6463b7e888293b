"""A short memory: each sentence once, with its last time and how often; the oldest go first."""

from __future__ import annotations

from meshnet.happened import MOST, Change, Event, Journal, Memory


def test_the_same_again_is_one_event_and_the_newest():
    now = [0.0]
    memory = Memory(lambda: now[0])
    for now[0], what in ((1.0, "a"), (2.0, "b"), (3.0, "a")):
        memory.note(what)
    assert memory.recent() == (Event(2.0, "b", 1), Event(3.0, "a", 2))


def test_the_oldest_are_forgotten():
    memory = Memory(lambda: 0.0)
    for number in range(MOST + 2):
        memory.note(str(number))
    assert [event.what for event in memory.recent()] == [str(n) for n in range(2, MOST + 2)]


def test_the_journal_is_in_order_bounded_and_read_from_where_one_was():
    now = [5.0]
    journal = Journal(lambda: now[0], most=3)
    for now[0], what in ((6.0, "a"), (7.0, "b"), (8.0, "c"), (9.0, "d")):
        journal.record("lb", "others", what, repaired_s=0.5)
    found = journal.after(0)
    assert [(each.at, each.what) for each in found] == [(7.0, "b"), (8.0, "c"), (9.0, "d")]
    assert journal.after(found[1].number) == (
        Change(found[1].number + 1, 9.0, "lb", "others", "d", 0.5),
    )
    assert journal.after(found[2].number) == ()
    journal.record("host", "", "e", at=1.0)
    assert (journal.after(found[2].number)[0].at, journal.after(0)[-1].repaired_s) == (1.0, -1.0)


def test_a_journal_of_a_later_process_goes_on_with_greater_numbers():
    first, second = Journal(lambda: 100.0), Journal(lambda: 160.0)
    first.record("lb", "meshnet", "a")
    second.record("lb", "meshnet", "b")
    assert second.after(first.after(0)[-1].number)[0].what == "b"


def test_what_befell_the_host_is_told_on():
    told: list[str] = []
    memory = Memory(lambda: 0.0, told.append)
    memory.note("a")
    memory.note("a")
    assert told == ["a", "a"]
