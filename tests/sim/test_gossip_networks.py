"""What is said on a network is known to those who are on it, soon, whole, and to nobody else."""

from __future__ import annotations

import random

import pytest
from gossip_figures import p99
from simulated_gossip import Cluster

from meshnet.gossip.audiences import EVERY
from meshnet.gossip.shares import key_of


def on_networks(size: int, networks: int, *, records: int = 1, loss: float = 0.0) -> Cluster:
    """Nodes that know each other, each on one of some networks, with so many records there."""
    c = Cluster(size, loss=loss)
    for number in range(size):
        c.engine(number).take_part([network_of(number, networks)], c.now)
        for task in range(records):
            say(c, number, network_of(number, networks), f"ep/{task}", str(number) * 50)
    c.introduce()
    c.run(2)
    return c


def network_of(number: int, networks: int) -> str:
    return f"net{number % networks}"


def say(c: Cluster, number: int, network: str, name: str, value: str | None) -> None:
    told = None if value is None else value.encode()
    c.engine(number).set_record(key_of(network, name), told, c.now)


def heard(c: Cluster, by: int, of: int, network: str, name: str) -> str | None:
    """What one knows that another said on a network."""
    value = c.engine(by).record(c.id_of(of), key_of(network, name))
    return value.decode() if value is not None else None


def held(c: Cluster, by: int) -> set[str]:
    """Shares that one holds of others, whether they count or not."""
    table = c.engine(by)._entropy.table
    return {share for share in table._shares if " " in share and not share.startswith(c.id_of(by))}


def is_right(c: Cluster, said: dict[tuple[int, str], str], on: dict[int, set[str]]) -> bool:
    """Whether everybody knows exactly what was said on its networks."""
    return all(
        heard(c, by, of, network, "said")
        == (value if network in on[of] and (network in on[by] or EVERY in on[by]) else None)
        for by in on
        if c.address(by) in c.engines
        for (of, network), value in said.items()
    )


def test_what_is_said_on_a_network_is_known_there_and_nowhere_else() -> None:
    c = on_networks(12, 3)
    say(c, 0, "net0", "ep/new", "here")
    c.engine(0).set_record("to-all", b"x", c.now)

    def soon() -> bool:
        return all(heard(c, by, 0, "net0", "ep/new") == "here" for by in (3, 6, 9)) and all(
            engine.record(c.id_of(0), "to-all") for engine in c.engines.values()
        )

    assert c.run(5, until=soon) < 0.3
    c.run(5)
    for by in range(12):
        mine = network_of(by, 3)
        assert {share.split(" ")[1] for share in held(c, by)} == {mine}
        assert (heard(c, by, 0, "net0", "ep/new") is not None) == (mine == "net0")
    assert c.refused == 0


def test_who_comes_to_a_network_has_all_of_it_with_one_exchange() -> None:
    """More than datagrams hold, of nodes of which most are not asked."""
    c = on_networks(40, 2, records=20)
    streams = c.streams
    c.engine(0).take_part(["net0", "net1"], c.now)

    def whole() -> bool:
        return all(heard(c, 0, of, "net1", "ep/19") for of in range(1, 40, 2))

    assert c.run(5, until=whole) == 0, "the exchange is begun at once"
    assert c.streams - streams == 1
    assert not any(heard(c, 0, of, "net1", "ep/0") is None for of in range(1, 40, 2))


def test_who_comes_is_told_by_others_where_whom_it_asked_lacks_something() -> None:
    """Of two that come at once each may ask the other."""
    c = on_networks(10, 1)
    c.partition([8], [9])
    for number in (8, 9):
        c.engine(number).take_part(["net0", "new"], c.now)
        say(c, number, "new", "ep/0", str(number))
    c.heal()

    def whole() -> bool:
        return heard(c, 8, 9, "new", "ep/0") == "9" and heard(c, 9, 8, "new", "ep/0") == "8"

    assert c.run(5, until=whole) < 1.5


def test_who_left_a_network_is_told_for_a_while_and_then_holds_nothing_of_it() -> None:
    c = on_networks(8, 2, records=3)
    c.engine(0).take_part([], c.now)
    say(c, 2, "net0", "ep/0", "still told")
    c.run(1)
    assert heard(c, 0, 2, "net0", "ep/0") == "still told"
    c.engine(0).take_part(["net0"], c.now)
    c.run(c.config.linger_s + 2)
    assert heard(c, 0, 2, "net0", "ep/0") == "still told", "it came back"
    c.engine(0).take_part([], c.now)
    c.run(c.config.linger_s + 2)
    assert heard(c, 0, 2, "net0", "ep/0") is None
    assert heard(c, 2, 0, "net0", "ep/0") is None, "it is not on it, whatever it said there"
    c.run(c.config.tombstone_s + 2)
    assert held(c, 0) == set()
    assert not any(share.startswith(f"{c.id_of(0)} ") for share in held(c, 2))


def test_what_was_said_before_leaving_never_comes_back() -> None:
    """A version of a share is never said twice, also by who was away from the network."""
    c = on_networks(6, 1)
    for value in "abc":
        say(c, 0, "net0", "said", value)
    c.run(1)
    c.partition([5], [0, 1, 2, 3, 4])
    c.engine(0).take_part([], c.now)
    c.run(c.config.linger_s + c.config.tombstone_s + 2)
    c.engine(0).take_part(["net0"], c.now)
    say(c, 0, "net0", "said", "d")
    c.heal()
    assert (
        c.run(10, until=lambda: all(heard(c, by, 0, "net0", "said") == "d" for by in range(6))) < 5
    )


def test_who_hears_of_every_network_knows_all_that_is_said() -> None:
    c = on_networks(12, 4, records=2)
    c.engine(0).take_part(["net0", EVERY], c.now)
    c.engine(1).take_part(["net1", EVERY], c.now)
    c.run(3)
    for by in (0, 1):
        assert all(heard(c, by, of, network_of(of, 4), "ep/1") for of in range(12))
    say(c, 7, "net3", "ep/1", "new")
    assert c.run(5, until=lambda: heard(c, 0, 7, "net3", "ep/1") == "new") < 0.3
    assert {share.split(" ")[1] for share in held(c, 2)} == {"net2"}


def test_a_process_that_starts_anew_takes_the_place_of_what_it_had_said() -> None:
    c = on_networks(6, 2)
    c.kill(0)
    c.run(0.2)
    c.start(0).take_part(["net0"], c.now)
    c.run(2)
    assert heard(c, 2, 0, "net0", "ep/0"), "until it says something itself"
    say(c, 0, "net0", "said", "again")
    assert c.run(5, until=lambda: heard(c, 2, 0, "net0", "said") == "again") < 0.5
    assert heard(c, 2, 0, "net0", "ep/0") is None
    assert c.run(5, until=lambda: heard(c, 0, 2, "net0", "ep/0") is not None) < 2


def test_a_change_on_a_network_costs_the_others_nothing() -> None:
    c = on_networks(60, 20)

    def cost(seconds: float) -> int:
        before = c.bytes
        c.run(seconds)
        return c.bytes - before

    rest = cost(4)
    for _ in range(40):  # ten a second, of a node on one of twenty networks
        say(c, 0, "net0", "ep/0", str(c.now) * 20)
        c.run(0.1)
    changing = cost(4)
    assert changing < 1.1 * rest
    before = c.bytes
    for _ in range(40):
        say(c, 0, "net0", "ep/0", str(c.now) * 20)
        c.run(0.1)
    assert c.bytes - before - rest < 40 * 4 * 1_200, "each to the two others, and a proof of it"


def test_on_a_network_a_change_is_everywhere_as_soon_as_among_all() -> None:
    c = on_networks(100, 10)
    times = []
    for change in range(30):
        begun, owner = c.now, change % 100
        network = network_of(owner, 10)
        say(c, owner, network, "said", str(change))
        c.run(
            5,
            until=lambda n=network, o=owner, v=str(change): all(  # type: ignore[misc]
                heard(c, by, o, n, "said") == v for by in range(o % 10, 100, 10)
            ),
        )
        times.append(c.now - begun)
    assert p99(times) <= 0.6


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_everybody_knows_exactly_its_networks_in_the_end(seed: int) -> None:
    """Nodes come to networks, leave them, start anew and lose packets."""
    draw = random.Random(seed)
    size, networks = 8, ["n1", "n2", "n3"]
    c = Cluster(size, loss=0.1, seed=seed)
    on: dict[int, set[str]] = {number: set() for number in range(size)}
    said: dict[tuple[int, str], str] = {}
    for turn in range(60):
        number, network = draw.randrange(size), draw.choice(networks)
        match draw.randrange(5):
            case 0 | 1:
                on[number] ^= {network if draw.random() < 0.9 else EVERY}
                c.engine(number).take_part(on[number], c.now)
            case 2 | 3 if network in on[number]:
                said[number, network] = str(turn)
                say(c, number, network, "said", str(turn))
            case 4 if number:
                c.kill(number)
                c.run(draw.random())
                c.start(number).take_part(on[number], c.now)
                for (of, where), value in list(said.items()):
                    if of == number:
                        say(c, of, where, "said", value)
            case _:
                pass
        c.run(draw.choice([0.05, 0.5, 3.0]))
    c.loss = 0.0
    c.run(c.config.linger_s + 3)
    c.run(30, until=lambda: is_right(c, said, on))
    assert is_right(c, said, on)
    assert c.refused == 0
