"""Who is gone, who must be asked, and what is remembered of those who are silent."""

from __future__ import annotations

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from meshnet.gossip.engine import UNREACHED_KEY
from meshnet.gossip.members import Member, State
from meshnet.model.ids import NodeId
from meshnet_control.cluster.gossip_records import EPOCH_KEY
from meshnet_control.dataplane import known_records, liveness

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
    found = known_records.remembered(before, told, nodes)
    assert {owner for owner, _ in found} <= nodes
    for owner in nodes:
        now = {key: v for (o, key), v in told.items() if o == owner}
        then = {key: v for (o, key), v in before.items() if o == owner and key.startswith("ep/")}
        kept = {key: v for (o, key), v in found.items() if o == owner}
        assert kept == (now if EPOCH_KEY in now else {**then, **now})
    assert known_records.remembered(found, told, nodes) == found


@given(st.binary(max_size=30))
def test_garbage_is_an_epoch_that_nobody_asks_for(garbage):
    generation, changes = known_records.epochs({(NODES[0], EPOCH_KEY): garbage})[NODES[0]]
    assert isinstance(generation, int)
    assert isinstance(changes, int)
