"""Who is gone, who must be asked, and what is remembered of those who are silent."""

from __future__ import annotations

import from_scratch
import msgpack
from hypothesis import example, given
from hypothesis import strategies as st

from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.gossip.members import Member, State
from meshnet.model.ids import NodeId
from meshnet_control.cluster.gossip_records import EPOCH_KEY
from meshnet_control.dataplane import liveness

NODES = [NodeId(f"n{i}") for i in range(4)]
MEMBERS = st.dictionaries(
    st.sampled_from(NODES),
    st.sampled_from(list(State)).map(lambda s: Member(NODES[0], ("192.0.2.1", 7946), 1, s, 0.0)),
)
ANSWERING = st.dictionaries(st.sampled_from(NODES), st.booleans())


@given(MEMBERS, ANSWERING)
def test_only_who_left_or_whose_host_is_silent_is_gone(members, answering):
    for node in NODES:
        member = members.get(node)
        gone = liveness.is_gone(member, answering=answering.get(node))
        if member is not None and member.state is State.LEFT:
            assert gone
        elif member is not None and member.present:
            assert not gone, "gossip's word that it lives is enough"
        else:
            assert gone is (answering.get(node) is False)
        if gone and member is not None and member.state is State.DEAD:
            assert node in liveness.doubtful(NODES, members), "asked, or it would be gone for ever"


@given(MEMBERS, ANSWERING, st.sets(st.sampled_from(NODES)))
def test_all_spoke_only_grows_with_what_is_known(members, answering, spoke):
    others = set(NODES)
    said = liveness.all_spoke(others, members, answering, spoke)
    assert liveness.all_spoke(others, members, answering, others)
    assert liveness.all_spoke(set(), members, answering, set())
    if said:
        assert liveness.all_spoke(others, members, answering, spoke | {NODES[0]})


RECORDS = st.dictionaries(
    st.tuples(
        st.sampled_from(NODES),
        st.sampled_from([EPOCH_KEY, UNREACHED_KEY, "ep/a", "ep/b"]),
    ),
    st.integers(1, 9).map(msgpack.packb),
)


@given(RECORDS, RECORDS, st.sets(st.sampled_from(NODES)))
def test_the_last_word_of_every_node_that_is_known_and_of_no_other(before, told, nodes):
    found = from_scratch.remembered(before, told, nodes)
    assert {owner for owner, _ in found} <= nodes
    for owner in nodes:
        now = {key: v for (o, key), v in told.items() if o == owner}
        then = {key: v for (o, key), v in before.items() if o == owner and key.startswith("ep/")}
        kept = {key: v for (o, key), v in found.items() if o == owner}
        assert kept == (now if EPOCH_KEY in now else {**then, **now})
    assert from_scratch.remembered(found, told, nodes) == found


ON_A_NETWORK = st.dictionaries(
    st.sampled_from(["epoch", "in/n", "in/m", "n epoch", "n ep/a", "n ep/b", "m ep/a"]),
    st.integers(1, 9).map(msgpack.packb),
)


@given(ON_A_NETWORK, ON_A_NETWORK)
@example({"n ep/a": b"\x01", "m ep/a": b"\x01"}, {"epoch": b"\x01", "in/n": b"\x01"})
@example({"n ep/a": b"\x01"}, {"epoch": b"\x01", "in/n": b"\x01", "n epoch": b"\x01"})
@example({"n ep/a": b"\x01"}, {"epoch": b"\x01"})
def test_the_last_word_on_a_network_stays_until_there_is_another_or_it_is_left(before, told):
    was, now = ({(NODES[0], k): v for k, v in each.items()} for each in (before, told))
    found = from_scratch.remembered(was, now, NODES[:1], {"n"})
    kept = {key: value for (_, key), value in found.items() if key not in told}
    on_it = {key: before[key] for key in ("n ep/a", "n ep/b") if key in before.keys() - told.keys()}
    if "epoch" not in told:
        assert {key: v for key, v in kept.items() if " " in key} == on_it, "it starts, so it was"
    elif "in/n" in told and "n epoch" not in told:
        assert kept == on_it, "it has found its tasks, and not said those here"
    else:
        assert kept == {}, "it said what it has, or is not on the network"


@given(st.binary(max_size=30))
def test_garbage_is_an_epoch_that_nobody_asks_for(garbage):
    generation, changes = from_scratch.epochs({(NODES[0], EPOCH_KEY): garbage})[NODES[0]]
    assert isinstance(generation, int)
    assert isinstance(changes, int)
