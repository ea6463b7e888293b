"""What is published on a host is held there, or left to the process that had it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from plane_bed import Host, cluster, turn

from meshnet.model.ids import NetworkId, NodeId, ServiceId, TaskId, Vni
from meshnet.model.shared_map import SharedMap
from meshnet.model.snapshot import Network, PublishedPort, Sandbox, Service, Snapshot
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.node_state import NodeState
from meshnet_control.dataplane.fake import FakeSockets, GossipRoom
from meshnet_control.dataplane.host_ports import PublishedPorts

INGRESS, WEB, TASK = NetworkId("ingress"), ServiceId("web"), TaskId("task")
WIDE = Network(
    INGRESS, "ingress", Vni(4096), IPv4Network("10.0.0.0/24"), IPv4Address("10.0.0.1"), ingress=True
)
IN_MESH, HERE = PublishedPort("tcp", 80, 8080), PublishedPort("udp", 53, 5353, "host")
BOX = Sandbox(TASK, "/run/netns/x", (), IPv4Interface("172.18.0.2/16"), (IN_MESH, HERE))
SNAPSHOT = Snapshot(
    1,
    NodeId("n"),
    networks={INGRESS: WIDE},
    services={WEB: Service(WEB, "web", ports=(IN_MESH, HERE))},
    sandboxes={TASK: BOX},
)


def test_the_mesh_is_published_here_and_what_containers_here_publish_themselves() -> None:
    assert SNAPSHOT.published == {("tcp", 8080), ("udp", 5353)}
    assert replace(SNAPSHOT, sandboxes={}).published == {("tcp", 8080)}
    assert replace(SNAPSHOT, networks={}).published == {("udp", 5353)}
    box = replace(BOX, gateway_address=None)
    assert replace(SNAPSHOT, networks={}, sandboxes={TASK: box}).published == frozenset()


@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from([ServiceId(name) for name in "abc"]),
                st.frozensets(st.integers(8080, 8083), max_size=3),
            ),
            st.booleans(),
            st.booleans(),
        ),
        max_size=6,
    )
)
def test_whatever_came_before_what_is_published_is_what_the_snapshot_says(
    history: list[tuple[dict[ServiceId, frozenset[int]], bool, bool]],
) -> None:
    sockets = FakeSockets()
    ports, before = PublishedPorts(sockets), replace(SNAPSHOT, services={})
    for said, on_mesh, box in history:
        services = {
            id_: Service(id_, id_, ports=tuple(PublishedPort("tcp", 80, n) for n in sorted(on)))
            for id_, on in said.items()
        }
        now = replace(
            before,
            services=SharedMap(services),
            networks={INGRESS: WIDE} if on_mesh else {},
            sandboxes={TASK: BOX} if box else {},
        )
        assert ports.keep(before, now).taken == frozenset()
        assert sockets.held == now.published
        before = now


def test_a_service_that_is_gone_holds_no_port() -> None:
    sockets = FakeSockets()
    ports = PublishedPorts(sockets)
    seen = ports.keep(SNAPSHOT, SNAPSHOT)
    gone = replace(seen, services={})
    ports.keep(seen, gone)
    assert sockets.held == {("udp", 5353)}


def test_a_port_of_a_process_is_left_to_it_until_it_gives_it_back() -> None:
    sockets = FakeSockets()
    ports = PublishedPorts(sockets)
    sockets.processes = {("tcp", 8080): "nginx (process 12)", ("tcp", 22): "sshd (process 7)"}
    seen = ports.keep(SNAPSHOT, SNAPSHOT)
    assert seen.taken == {("tcp", 8080)}
    assert seen.revision == 2
    assert seen.reserved == sockets.held == {("udp", 5353)}
    [said] = ports.troubles()
    assert "8080/tcp" in said
    assert "nginx (process 12)" in said
    assert not ports.look()
    assert ports.keep(seen, seen) is seen
    del sockets.processes["tcp", 8080]
    assert ports.look()
    seen = ports.keep(seen, seen)
    assert (seen, ports.troubles()) == (replace(SNAPSHOT, revision=3), [])
    assert not ports.look()
    ports.close()
    assert not sockets.held


def test_a_port_may_be_a_process_s_by_ipv6_alone_and_is_said_so() -> None:
    dual = replace(WIDE, subnets6=(IPv6Network("fd00::/64"),))
    now = replace(SNAPSHOT, networks={INGRESS: dual})
    assert (sorted(SNAPSHOT.published6), sorted(now.published6)) == ([], [("tcp", 8080)])
    sockets = FakeSockets()
    ports = PublishedPorts(sockets)
    sockets.processes6 = {("tcp", 8080): "nginx"}
    seen = ports.keep(now, now)
    assert (sorted(seen.taken), sorted(seen.taken6)) == ([], [("tcp", 8080)])
    assert (sockets.held, sockets.held6) == (now.published, frozenset())
    [said] = ports.troubles()
    assert "on this node by IPv6: nginx had it before" in said
    sockets.processes = sockets.processes6
    assert ports.look()
    seen = ports.keep(seen, seen)
    assert (sorted(seen.taken), sorted(seen.taken6)) == ([("tcp", 8080)], [("tcp", 8080)])
    [said] = ports.troubles()
    assert "on this node: nginx had it before" in said
    sockets.processes = sockets.processes6 = {}
    assert ports.look()
    seen = ports.keep(seen, seen)
    assert (seen.taken, seen.taken6) == (frozenset(), frozenset())
    assert sockets.held6 == {("tcp", 8080)}


def test_what_others_have_is_all_but_the_task_s_own() -> None:
    sockets = FakeSockets()
    sockets.processes = {("tcp", 22): "sshd"}
    ports = PublishedPorts(sockets)
    others = ports.of_others(SNAPSHOT, TASK)
    assert others == (frozenset({("tcp", 8080)}), frozenset({("tcp", 22)}))
    assert ports.of_others(SNAPSHOT, TaskId("other")).published == SNAPSHOT.published


def published(assignments: pb.Assignments) -> pb.Assignments:
    ingress = assignments.networks.add(id="ingress", vni=4100)
    ingress.spec.ingress = True
    ingress.ipam_options.configs.add(subnet="10.0.0.0/24", gateway="10.0.0.1")
    assignments.services[0].ports.add(target_port=80, published_port=8080)
    return assignments


def test_a_data_plane_holds_what_is_published_and_looks_again_for_what_was_taken() -> None:
    async def scene(_: GossipRoom, a: Host) -> None:
        a.sockets.processes = {("tcp", 8080): "nginx"}
        a.start()
        a.plane.assignments(NodeState.of(published(a.told())))
        await turn()
        assert a.plane.snapshot.taken == {("tcp", 8080)}
        assert len(a.plane.port_troubles) == 1
        a.plane.look()
        await turn()
        revision = a.plane.snapshot.revision
        a.sockets.processes.clear()
        a.plane.look()
        await turn()
        assert (a.plane.snapshot.taken, a.plane.port_troubles) == (frozenset(), [])
        assert a.plane.snapshot.revision == revision + 1
        assert a.sockets.held == {("tcp", 8080)}
        await a.plane.close()
        assert not a.sockets.held

    cluster(1, scene)
