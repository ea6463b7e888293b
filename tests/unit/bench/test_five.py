"""What befalls five managers, and whose requests it excuses."""

from __future__ import annotations

import random
from collections import Counter

from bench.blows import LEADER, turn
from bench.create20 import Api
from bench.ledger import Wanted
from bench.rounds import BenchError
from bench.stream import Stream, kind_of
from bench.traffic import account

HOSTS = ["h1", "h2", "h3", "h4", "h5"]


def test_a_seed_says_what_befalls():
    def played(seed):
        chance = random.Random(seed)
        return [turn(chance, HOSTS) for _ in range(20)]

    assert played(3) == played(3)
    assert played(3) != played(4)


def test_a_majority_is_left_and_two_blows_never_meet_on_a_host():
    chance = random.Random(1)
    turns = [turn(chance, HOSTS) for _ in range(500)]
    kinds = Counter(blow.kind for each in turns for blow in each.blows)
    assert set(kinds) == {"kill", "freeze", "off", "cut"}
    for each in turns:
        assert sum(blow.kind == "off" for blow in each.blows) <= 1
        named = [host for blow in each.blows for host in blow.hosts]
        assert len(named) == len(set(named))
        assert named.count(LEADER) <= 1
        assert all(len(blow.hosts) == 1 + (blow.kind == "cut") for blow in each.blows)


def test_a_request_is_lost_unless_where_it_was_led_to_excuses_it():
    def row(port, outcome, seconds=0.1):
        return ("h1", 0.0, seconds, outcome, port, "address")

    led = {2: ["dead"], 3: ["well"], 5: ["well", "dead"]}
    rows = [row(1, "ok", 0.4), row(2, "no answer", 5.0), row(3, "no answer"), row(4, "refused")]
    rows.append(row(5, "refused"))
    found = account(
        "play",
        rows,
        lambda each: led.get(each[4], []),
        lambda _label, to, _row: to == "dead",
        lambda to, _row: to or "nobody",
    )
    assert (found.sent, found.excused, found.slowest_s) == (5, 2, 0.4)
    assert found.lost == {"h1, led to well: no answer": 1, "h1, led to nobody: refused": 1}


def test_errors_are_counted_by_their_words():
    def said(ident, name):
        return kind_of(BenchError(f"DELETE /services/{ident}: 404 service {name} not found"))

    assert said("2kwebehpgwqnl1y2krlqg7jfm", "s0-12") == said("7qrf16772zv7bcce2reeduvyl", "s1-3")


def test_a_stream_keeps_account_of_what_it_was_told():
    answers, asked = list[Exception | None](), list[tuple[str, str]]()

    class Answers(Api):
        def call(self, method, path, body=None):
            asked.append((method, path))
            if (error := answers.pop(0)) is not None:
                raise error

    stream = Stream("0", HOSTS, lambda _: Answers(""), seed=1)

    def told(error):
        answers.append(error)
        stream._change()
        return stream.ledger.possible(f"s0-{stream._number}")

    assert told(ConnectionRefusedError()) == {None}
    assert told(BenchError("POST /services/create: 400 no")) == {None}
    unsure = told(BenchError("POST /services/create: 500 no leader"))
    assert None in unsure
    assert any(isinstance(state, Wanted) for state in unsure)
    answers.extend([BenchError("no: 404 not found")] * 20)
    for _ in range(20):
        stream._change()
    assert asked.count(("GET", "/services/s0-3")) == 1
    assert stream.stale == []
