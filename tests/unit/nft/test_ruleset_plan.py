"""Laws of ``meshnet.nft.ruleset_plan``, checked by playing its commands on a model of nftables."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnet.nft import canonical
from meshnet.nft.objects import Chain, Ruleset, Set
from meshnet.nft.ruleset_plan import (
    OURS,
    Made,
    ObservedChain,
    ObservedSet,
    ObservedTable,
    TableKey,
    as_observed,
    plan,
)

HOOKS = (
    "type nat hook output priority -100; policy accept;",
    "type nat hook output priority -90; policy accept;",
)
NAMES = ("svc-a", "svc-b", "svc-c")
VIPS = "ipv4_addr : verdict"

VOLATILE = (
    Set("served", "inet_service", flags=("dynamic",)),
    Set("young", "ifname", {'"eth0"': ""}, flags=("timeout",), timeout_s=5),
)
COUNTING = Set("counted", "ipv4_addr", {"10.0.0.1": ""}, counts=True)


SLOTTED = st.tuples(*[st.dictionaries(st.sampled_from("0123"), st.just("10.0.0.9"))] * 2)


class RefusedError(Exception):
    """The kernel would say no."""


class Model:
    """As much of nftables as the planner uses; says no where the kernel does."""

    def __init__(self, observed):
        self.tables = {}
        for key, table in observed.items():
            self.tables[key] = (
                {n: [c.hook, [("?", c.fingerprint)] * c.rules] for n, c in table.chains.items()},
                {
                    n: [s.type, s.flags, s.timeout_s, s.counts, dict(s.elements)]
                    for n, s in table.sets.items()
                },
            )

    def observed(self):
        return {key: self._observed(*table) for key, table in self.tables.items()}

    def _observed(self, chains, sets):
        seen = {}
        for name, (hook, rules) in chains.items():
            said = {comment for _, comment in rules}
            seen[name] = ObservedChain(hook, said.pop() if len(said) == 1 else "", len(rules))
        return ObservedTable(
            seen, {n: ObservedSet(t, dict(e), f, s, c) for n, (t, f, s, c, e) in sets.items()}
        )

    def run(self, change):
        for command in change.commands:
            self.command(command)
        assert self.observed().get(change.table) == change.result

    def command(self, text):
        verb, kind, family, table, *rest = text.split(" ", 5)
        key = (family, table)
        if (verb, kind) == ("delete", "table"):
            del self.tables[key]
            return
        chains, sets = self.tables.setdefault(key, ({}, {}))
        name, body = (*rest, "", "")[:2]
        inner = body.strip("{} ")
        match verb, kind:
            case "add", "table":
                assert not chains
                assert not sets
            case "add", "chain":
                assert name not in chains
                chains[name] = [canonical.hook(inner or None), []]
            case "flush", "chain":
                chains[name][1].clear()
            case "delete", "chain":
                self.free(text, name, chains, sets)
                del chains[name]
            case "add", "rule":
                rule, _, comment = body.rstrip('"').rpartition(' comment "')
                self.need(text, rule, chains, sets)
                chains[name][1].append((rule, comment))
            case "add", ("set" | "map"):
                assert name not in sets
                parts = inner.rstrip(";").split("; ")
                said = dict(part.split(" ", 1) for part in parts if part != "counter")
                flags = frozenset(filter(None, said.get("flags", "").split(","))) - {"dynamic"}
                lasts = int(said.get("timeout", "0s")[:-1])
                sets[name] = [said["type"], flags, lasts, "counter" in parts, {}]
            case "delete", ("set" | "map"):
                if any(f"@{name}" in rule for _, rules in chains.values() for rule, _ in rules):
                    raise RefusedError(text)
                del sets[name]
            case "add" | "delete", "element":
                for item in inner.split(", "):
                    self.element(text, verb, item.partition(" : "), chains, sets[name][4])

    def element(self, text, verb, item, chains, elements):
        item, _, value = item
        if verb == "delete":
            if elements.pop(item) != value:
                raise RefusedError(text)
        else:
            if elements.get(item, value) != value:
                raise RefusedError(text)
            self.need(text, value, chains, {})
            elements[item] = value

    def need(self, text, rule, chains, sets):
        for kind, name in re.findall(r"(goto |jump |@)(\S+)", rule):
            if name not in (sets if kind == "@" else chains):
                raise RefusedError(text)

    def free(self, text, name, chains, sets):
        if chains[name][1] or name in self.targets(chains, sets):
            raise RefusedError(text)

    def targets(self, chains, sets):
        texts = [rule for _, rules in chains.values() for rule, _ in rules]
        texts += [value for *_, elements in sets.values() for value in elements.values()]
        return {name for text in texts for name in re.findall(r"(?:goto|jump) (\S+)", text)}


addresses = st.integers(1, 6).map("10.0.0.{}".format)


@st.composite
def rulesets(draw, key: TableKey = OURS[0]):
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    services = [
        Chain(n, tuple(draw(st.lists(addresses.map("dnat to {}".format), max_size=2))))
        for n in names
    ]
    elements = {}
    if names:
        verdicts = st.builds(
            "{} {}".format, st.sampled_from(("goto", "jump")), st.sampled_from(names)
        )
        elements = draw(st.dictionaries(addresses, verdicts, max_size=4))
    rules = tuple(draw(st.lists(st.sampled_from(("ip daddr vmap @vips", "accept")), max_size=2)))
    sets = [Set("vips", VIPS, elements)]
    if draw(st.booleans()):
        sets.append(Set("empty", "ipv4_addr", dict.fromkeys(draw(st.sets(addresses)), "")))
    sets += draw(st.lists(st.sampled_from(VOLATILE), unique_by=lambda set_: set_.name))
    sets += draw(st.sampled_from(([], [COUNTING], [replace(COUNTING, counts=False)])))
    base = Chain("output", rules, draw(st.sampled_from(HOOKS)))
    return Ruleset(key[0], key[1], (base, *services), tuple(sets))


@st.composite
def desireds(draw):
    keys = draw(st.lists(st.sampled_from(OURS), unique=True))
    return [draw(rulesets(key)) for key in keys]


def applied(desired, observed, *, prune=True):
    model = Model(observed)
    for change in plan(desired, observed, prune=prune):
        model.run(change)
    return model.observed()


@settings(max_examples=50)
@given(desireds(), desireds())
def test_a_plan_reaches_what_is_desired_from_anywhere(before, after):
    there = applied(after, applied(before, {}))
    assert plan(after, there, prune=True) == []
    assert there == applied(after, {})


@settings(max_examples=200)
@given(rulesets(), rulesets(), st.data())
def test_of_what_was_left_the_same_is_planned_as_of_a_whole_look(before, other, data):
    keep = data.draw(st.sets(st.sampled_from([each.name for each in before.chains + before.sets])))
    chains = {each.name: each for each in other.chains}
    chains |= {each.name: each for each in before.chains if each.name in keep}
    sets = {each.name: each for each in other.sets}
    sets |= {each.name: each for each in before.sets if each.name in keep}
    slots = [Set("slots", "integer : ipv4_addr", e, slots=True) for e in data.draw(SLOTTED)]
    before = replace(before, sets=(*before.sets, slots[0]))
    after = replace(other, chains=tuple(chains.values()), sets=(*sets.values(), slots[1]))
    [first] = plan([before], {}, prune=True)
    assert first.result is not None
    there = {OURS[0]: first.result}
    made = {OURS[0]: Made(before, first.result)}
    whole = plan([after], there, prune=True)
    assert plan([after], there, prune=True, made=made) == whole
    assert plan([before], there, prune=True, made=made) == []
    strange = {OURS[0]: replace(first.result, chains={})}
    assert plan([after], strange, prune=True, made=made) == plan([after], strange, prune=True)
    for change in whole:
        assert change.result is not None
        left = {OURS[0]: Made(after, change.result)}
        assert plan([after], {OURS[0]: change.result}, prune=True, made=left) == []


@settings(max_examples=50)
@given(desireds(), desireds())
def test_without_prune_nothing_of_before_is_lost(before, after):
    old = applied(before, {})
    there = applied(after, old, prune=False)
    assert plan(after, there, prune=False) == []
    for key, table in old.items():
        assert table.chains.keys() <= there[key].chains.keys()
        for name, set_ in table.sets.items():
            assert set_.elements.keys() <= there[key].sets[name].elements.keys()
    assert applied(after, there) == applied(after, {})


@settings(max_examples=50)
@given(desireds(), desireds(), st.randoms(use_true_random=False))
def test_the_order_of_inputs_does_not_matter(before, after, turn: random.Random):
    def shuffled(items):
        items = list(items)
        turn.shuffle(items)
        return items

    other = [
        Ruleset(
            r.family,
            r.name,
            tuple(shuffled(r.chains)),
            tuple(
                replace(s, elements=dict(shuffled(s.elements.items()))) for s in shuffled(r.sets)
            ),
        )
        for r in shuffled(after)
    ]
    there = applied(before, {})
    assert plan(after, there, prune=True) == plan(other, there, prune=True)


@given(rulesets(), st.data())
def test_only_the_changed_chain_is_in_the_transaction(ruleset, data):
    there = applied([ruleset], {})
    changed = data.draw(st.sampled_from(ruleset.chains))
    chains = tuple(
        Chain(c.name, (*c.rules, "counter"), c.hook) if c is changed else c for c in ruleset.chains
    )
    (change,) = plan([Ruleset(*OURS[0], chains, ruleset.sets)], there, prune=True)
    assert {command.split()[4] for command in change.commands} == {changed.name}


@given(rulesets(), st.data())
def test_damage_is_seen(ruleset, data):
    there = applied([ruleset], {})
    table = there[OURS[0]]
    name = data.draw(st.sampled_from(sorted(table.chains)))
    chain = table.chains[name]
    damaged = data.draw(
        st.sampled_from(
            [
                ObservedChain(chain.hook, chain.fingerprint, chain.rules + 1),
                ObservedChain(chain.hook, "mn:0", max(chain.rules, 1)),
            ]
        )
    )
    (change,) = plan(
        [ruleset],
        {OURS[0]: ObservedTable({**table.chains, name: damaged}, table.sets)},
        prune=True,
    )
    assert change.result == table


def test_a_value_that_changed_is_replaced_in_one_transaction():
    chains = (Chain("a", ("accept",)), Chain("b", ("accept",)))
    first, second = (
        Ruleset("ip", "meshnet", chains, (Set("v", VIPS, {"10.0.0.1": f"goto {to}"}),))
        for to in "ab"
    )
    (change,) = plan([second], applied([first], {}), prune=False)
    assert change.commands == (
        "delete element ip meshnet v { 10.0.0.1 : goto a }",
        "add element ip meshnet v { 10.0.0.1 : goto b }",
    )


def test_a_set_of_another_type_is_written_anew_only_when_pruning():
    first = Ruleset("ip", "meshnet", (), (Set("v", "ipv4_addr", {"10.0.0.1": ""}),))
    second = Ruleset("ip", "meshnet", (), (Set("v", "inet_service", {"80": ""}),))
    there = applied([first], {})
    assert plan([second], there, prune=False) == []
    (change,) = plan([second], there, prune=True)
    assert change.commands[:2] == ("delete table ip meshnet", "add table ip meshnet")


@pytest.mark.parametrize("wanted", VOLATILE, ids=lambda set_: set_.name)
@given(ports=st.dictionaries(st.integers(1, 9).map(str), st.just("")), prune=st.booleans())
def test_what_rules_and_time_do_to_a_set_is_no_difference(wanted, ports, prune):
    ruleset = Ruleset(*OURS[0], (), (wanted,))
    there = applied([ruleset], {})[OURS[0]]
    assert there.sets[wanted.name].elements == wanted.elements
    later = replace(there.sets[wanted.name], elements=ports)
    assert plan([ruleset], {OURS[0]: ObservedTable({}, {wanted.name: later})}, prune=prune) == []


SLOTS = "integer : ipv4_addr"
ADDRESSES = st.integers(1, 30).map("10.0.1.{}".format)


@given(
    there=st.dictionaries(st.integers(0, 12).map(str), ADDRESSES),
    wanted=st.lists(ADDRESSES, unique=True, max_size=10),
    prune=st.booleans(),
)
def test_who_has_a_slot_keeps_it_and_every_slot_is_taken(there, wanted, prune):
    set_ = Set("m", SLOTS, {str(at): to for at, to in enumerate(wanted)}, slots=True)
    before: dict[TableKey, ObservedTable] = {
        ("ip", "t"): ObservedTable(sets={"m": ObservedSet(SLOTS, there)})
    }
    kernel = Model(before)
    ruleset = Ruleset("ip", "t", sets=(set_,))
    for change in plan([ruleset], before, prune=prune):
        kernel.run(change)
    after = kernel.observed()["ip", "t"].sets["m"].elements
    assert plan([ruleset], kernel.observed(), prune=prune) == []
    assert after.keys() >= set_.elements.keys()
    if not prune:
        assert after.items() >= there.items()
        return
    assert after.keys() == set_.elements.keys()
    assert sorted(after.values()) == sorted(wanted)
    for slot in there.keys() & after.keys():
        alone = list(there.values()).count(there[slot]) == 1
        assert not (alone and there[slot] in wanted) or after[slot] == there[slot]


@pytest.mark.parametrize(
    "described",
    [
        {"type": "integer", "map": "ipv4_addr"},
        {
            "type": {"typeof": {"numgen": {"mode": "inc", "mod": 1, "offset": 0}}},
            "map": {"typeof": {"payload": {"protocol": "ip", "field": "daddr"}}},
        },
    ],
)
def test_a_map_declared_by_its_expressions_has_the_type_of_these(described):
    assert canonical.json_type(described) == SLOTS


def test_who_takes_turns_is_found_in_the_rule_and_in_the_map_that_it_names():
    key = {"numgen": {"mode": "inc", "mod": 2}}

    def dnat(data):
        return {"rule": {"expr": [{"dnat": {"addr": {"map": {"key": key, "data": data}}}}]}}

    listing = [
        {"map": {"name": "other", "elem": [[0, "10.0.1.9"]]}},
        {"map": {"name": "m", "elem": [[0, "10.0.1.1"], [1, "10.0.1.2"]]}},
        {"map": {"name": "empty"}},
        dnat("@m"),
        dnat("@empty"),
        dnat({"set": [[0, "10.0.1.3"]]}),
    ]
    assert canonical.turns(listing) == {"10.0.1.1", "10.0.1.2", "10.0.1.3"}


def test_another_timeout_is_written_anew():
    young = VOLATILE[1]
    there = applied([Ruleset(*OURS[0], (), (replace(young, timeout_s=3),))], {})
    after = applied([Ruleset(*OURS[0], (), (young,))], there)
    assert after[OURS[0]].sets["young"].timeout_s == young.timeout_s


def test_two_rulesets_for_one_table_are_refused():
    with pytest.raises(ValueError, match="two rulesets"):
        plan([Ruleset("ip", "meshnet"), Ruleset("ip", "meshnet")], {}, prune=True)


def test_the_fingerprint_tells_rules_and_hooks_apart():
    chains = [Chain("c", rules, hook) for rules in (("a",), ("b",), ("a", "b")) for hook in HOOKS]
    assert len({as_observed(chain).fingerprint for chain in chains}) == len(chains)
    assert as_observed(chains[0]) == as_observed(Chain("other", ("a",), HOOKS[0]))


@pytest.mark.parametrize(
    ("type_", "written", "listed"),
    [
        (VIPS, ("10.0.0.1", "goto  a"), ["10.0.0.1", {"goto": {"target": "a"}}]),
        (VIPS, ("10.0.0.1", "drop"), ["10.0.0.1", {"drop": None}]),
        (
            "inet_proto . inet_service:verdict",
            ("6 . 80", "jump a"),
            [{"concat": ["tcp", 80]}, {"jump": {"target": "a"}}],
        ),
        ("ether_addr : mark", ("2:0:a:FF:0:A", "0x1aff000a"), ["02:00:0a:ff:00:0a", 0x1AFF000A]),
        ("mark : ether_addr", ("0xa", "02:00:00:00:00:0A"), [10, "02:00:00:00:00:0a"]),
        ("inet_proto", ("132", ""), "sctp"),
        ("ifname", ("eth0", ""), "eth0"),
        ("ipv4_addr", ("10.0.0.1/32", ""), "10.0.0.1"),
        ("ipv4_addr", ("10.0.0.0/24", ""), {"prefix": {"addr": "10.0.0.0", "len": 24}}),
        ("ipv4_addr", ("10.0.0.1-10.0.0.3", ""), {"range": ["10.0.0.1", "10.0.0.3"]}),
        ("inet_service", ("80", ""), {"elem": {"val": 80, "counter": {"packets": 1, "bytes": 2}}}),
    ],
)
def test_an_element_reads_the_same_from_us_and_from_nft(type_, written, listed):
    ours = canonical.element(type_, *written)
    assert ours == canonical.json_element(canonical.type_text(type_), listed)
    assert canonical.element(type_, *ours) == ours


def test_hooks_read_the_same_from_us_and_from_nft():
    facts = {"type": "filter", "hook": "egress", "prio": 5, "policy": "accept", "dev": "eth0"}
    text = "type filter hook egress device eth0 priority filter + 5;"
    assert canonical.hook(text) == canonical.json_hook(facts)
    assert canonical.hook(None) == canonical.json_hook({"name": "svc"}) == ""
    with pytest.raises(ValueError, match="not a hook"):
        canonical.hook("type nat hook output")


def test_an_element_of_another_type_is_refused():
    with pytest.raises(ValueError, match="not a inet_proto"):
        canonical.element("inet_proto . inet_service", "80")
