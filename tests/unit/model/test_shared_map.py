"""A map that shares itself with its successors is a dict in all that it tells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshnet.model.shared_map import SharedMap, difference

Entries = st.dictionaries(st.integers(0, 40), st.sampled_from("abc"))
Changes = st.lists(st.tuples(Entries, st.frozensets(st.integers(0, 40))), max_size=5)


@given(Entries, Changes)
def test_it_holds_what_a_dict_changed_the_same_way_holds(first, changes):
    plain, shared = dict(first), SharedMap(first)
    for put, drop in changes:
        before, was = shared, dict(plain)
        plain = {key: value for key, value in plain.items() if key not in drop} | put
        shared = shared.changed(put, drop)
        assert before == was, "who holds the one before keeps it"
        assert shared == plain
        assert plain == shared
        assert dict(shared.items()) == plain
        assert sorted(shared.values()) == sorted(plain.values())
        assert set(shared) == plain.keys()
        assert len(shared) == len(plain)
        assert all(key in shared and shared.get(key) == plain[key] for key in plain)
        assert shared.get("none", "x") == "x"
        differing = {k for k in was.keys() | plain.keys() if was.get(k) != plain.get(k)}
        assert set(difference(before, shared)) == differing
        assert set(difference(was, plain)) == differing
        assert set(difference(was, shared)) == differing
        assert (shared is before) == (not differing)


def test_it_widens_as_it_grows_and_tells_the_difference_all_the_same():
    few = SharedMap(dict.fromkeys(range(250), "a"))
    many = few.changed(dict.fromkeys(range(250, 300), "a"))
    assert len(many.buckets) > len(few.buckets)
    assert set(difference(few, many)) == set(range(250, 300))
    assert set(difference(many, few)) == set(range(250, 300))


def test_a_change_copies_one_bucket():
    before = SharedMap(dict.fromkeys(range(1000), "a"))
    after = before.changed({7: "b"})
    pairs = list(zip(before.buckets, after.buckets, strict=True))
    assert sum(had is not has for had, has in pairs) == 1
