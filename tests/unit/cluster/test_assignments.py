from itertools import combinations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshnet.errors import WireError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import assignments, news
from meshnet_control.cluster.node_state import NodeState, merge

DERIVED = (
    "tasks_of", "network_views", "node_views", "network_ids", "service_views", "managers",
)  # fmt: skip
IDS = st.sampled_from(["a", "b", "c", "d"])
NODES = st.sampled_from(["n1", "n2", "n3"])
FEW = st.sampled_from([found for size in range(3) for found in combinations("abcd", size)])
"""Ids without one twice: one draw, where a set is many."""


@st.composite
def tasks(draw):
    task = pb.Task(id=draw(IDS), node_id=draw(NODES), slot=draw(st.integers(1, 3)))
    task.status.state = draw(st.sampled_from([pb.TASK_STATE_PENDING, 192, 512, 640, 704]))
    for network in draw(FEW):
        task.networks_attachments.add().network.id = network
    for secret in draw(FEW):
        task.spec.container_spec.secrets.add(secret_id=secret)
    for config in draw(FEW)[:1]:
        task.spec.container_spec.configs.add(config_id=config)
    return task


@st.composite
def services(draw):
    service = pb.Service(id=draw(IDS))
    service.spec.name = draw(st.sampled_from(["web", "db"]))
    for network in draw(FEW):
        service.spec.task_template.networks.add(target=network)
        service.endpoint.virtual_ips.add(network_id=network, addr="10.0.1.2/24")
    if draw(st.booleans()):
        service.endpoint.ports.add(target_port=80, published_port=draw(st.integers(80, 82)))
    return service


@st.composite
def networks(draw):
    network = pb.Network(id=draw(IDS), vni=draw(st.integers(4096, 4098)))
    network.spec.name = f"net-{network.id}"
    network.spec.ingress = draw(st.booleans())
    return network


@st.composite
def nodes(draw):
    node = pb.Node(id=draw(NODES))
    node.status.state = draw(st.sampled_from(["ready", "down", "unknown"]))
    node.status.addr = draw(st.sampled_from(["", "10.1.0.1", "10.1.0.2"]))
    node.manager_status.addr = draw(st.sampled_from(["", "10.1.0.1:2377"]))
    return node


def named(kind):
    return st.builds(
        lambda id_, data: kind(id=id_, spec={"data": data}), IDS, st.binary(max_size=2)
    )


def by_id(messages):
    return st.lists(messages, max_size=4).map(lambda many: {one.id: one for one in many})


OBJECTS = st.builds(
    assignments.Objects,
    cluster=st.builds(
        lambda keys: pb.Cluster(id="c", gossip_keys=keys), st.lists(st.binary(max_size=2))
    ),
    nodes=by_id(nodes()),
    services=by_id(services()),
    tasks=by_id(tasks()),
    networks=by_id(networks()),
    secrets=by_id(named(pb.Secret)),
    configs=by_id(named(pb.Config)),
)


@settings(max_examples=150, deadline=None)
@given(OBJECTS, OBJECTS)
def test_law_a_merged_difference_is_the_new_state(before, after):
    old, new = assignments.node_assignments(before, "n1"), assignments.node_assignments(after, "n1")
    old.version, new.version = 1, 2
    message = assignments.difference(old, new)
    if message is None:
        new.version = 1
        assert old == new
    else:
        assert not message.full
        kept = old.SerializeToString(deterministic=True)
        assert merge(NodeState.of(old), message) == NodeState.of(new)
        assert old.SerializeToString(deterministic=True) == kept
    assert merge(NodeState.of(old), new) == NodeState.of(new)
    assert assignments.difference(new, new) is None


def between(before, after):
    kinds = (pb.Node, pb.Service, pb.Task, pb.Network, pb.Secret, pb.Config)
    return [
        (kind, name, after.of(kind).get(name))
        for kind in kinds
        for name in sorted({*before.of(kind), *after.of(kind)})
        if before.of(kind).get(name) != after.of(kind).get(name)
    ]


@settings(max_examples=150, deadline=None)
@given(OBJECTS, OBJECTS)
def test_law_objects_that_were_kept_are_those_made_anew(before, after):
    for name in DERIVED:
        getattr(before, name)
    kept = before.after(between(before, after)).with_cluster(after.cluster)
    assert kept.cluster == after.cluster
    for field in ("nodes", "services", "tasks", "networks", "secrets", "configs"):
        assert dict(getattr(kept, field)) == getattr(after, field)
    for name in DERIVED:
        assert getattr(kept, name) == getattr(after, name), name


def of_a_service_on(network, *tasks):
    """A network, a service on it, and these tasks."""
    there = pb.Network(id=network, vni=4096)
    there.spec.name = network
    service = pb.Service(id="s")
    service.spec.task_template.networks.add(target=network)
    return assignments.Objects(
        cluster=pb.Cluster(id="c"),
        services={"s": service},
        tasks={task.id: task for task in tasks},
        networks={network: there},
    )


def running_on(network, node_id):
    task = pb.Task(id="t", node_id=node_id)
    task.status.state = pb.TASK_STATE_RUNNING
    task.networks_attachments.add().network.id = network
    return task


@settings(max_examples=150, deadline=None)
@example(of_a_service_on("a"), of_a_service_on("a", running_on("a", "n1")))
@example(of_a_service_on("a", running_on("a", "n1")), of_a_service_on("a"))
@given(OBJECTS, OBJECTS)
def test_law_news_of_what_changed_are_the_difference_of_everything(before, after):
    changes = between(before, after)
    now = before.after(changes).with_cluster(after.cluster)
    old, new = assignments.node_assignments(before, "n1"), assignments.node_assignments(after, "n1")
    needed = assignments.needs_of(before, "n1")
    changed = news.touched(before, now, changes)
    message, needs = news.news(before, now, "n1", needed, changed)
    assert needs == assignments.needs_of(after, "n1")
    assert message == assignments.difference(old, new)
    if message is not None:
        assert merge(NodeState.of(old), message) == NodeState.of(new)


@settings(max_examples=100, deadline=None)
@given(OBJECTS)
def test_a_node_gets_its_tasks_and_what_they_need_and_no_secret_more(objects):
    state = assignments.node_assignments(objects, "n1")
    own = [t for t in objects.tasks.values() if t.node_id == "n1" and t.status.state >= 192]
    live = [t for t in own if t.status.state <= 512]
    assert {t.id for t in state.tasks} == {t.id for t in own}
    wanted = {r.secret_id for t in live for r in t.spec.container_spec.secrets}
    assert {s.id for s in state.secrets} == wanted & objects.secrets.keys()
    attached = {a.network.id for t in live for a in t.networks_attachments}
    ingress = {n.id for n in objects.networks.values() if n.spec.ingress}
    assert {n.id for n in state.networks} == (attached | ingress) & objects.networks.keys()
    assert {n.id: n.down for n in state.nodes} == {
        n.id: n.status.state == "down" for n in objects.nodes.values() if n.status.addr
    }


def test_a_node_hears_when_its_networks_were_made():
    network = pb.Network(id="a")
    network.spec.ingress = True
    network.created_at.FromSeconds(1_795_222_333)
    objects = assignments.Objects(cluster=pb.Cluster(id="c"), networks={"a": network})
    (told,) = assignments.node_assignments(objects, "n1").networks
    assert told.created_at == network.created_at


def test_networks_are_named_by_id_even_where_the_spec_has_a_name():
    service = pb.Service(id="s")
    service.spec.task_template.networks.add(target="backend", aliases=["x"])
    network = pb.Network(id="netid")
    network.spec.name = "backend"
    task = pb.Task(id="t", node_id="n1")
    task.status.state = pb.TASK_STATE_RUNNING
    task.networks_attachments.add().network.id = "netid"
    objects = assignments.Objects(
        cluster=pb.Cluster(),
        services={"s": service},
        tasks={"t": task},
        networks={"netid": network},
    )
    (view,) = assignments.node_assignments(objects, "n1").services
    assert (view.networks[0].target, list(view.networks[0].aliases)) == ("netid", ["x"])
    assert view.endpoint_mode == "vip"


def test_running_is_no_news_but_a_beginning_and_an_end_are():
    task = pb.Task(id="t", node_id="n1")

    def state(value):
        task.status.state = value
        return assignments.node_assignments(
            assignments.Objects(cluster=pb.Cluster(), tasks={"t": task}), "n1"
        )

    running = state(pb.TASK_STATE_RUNNING)
    assert assignments.difference(state(pb.TASK_STATE_ASSIGNED), running) is not None
    assert assignments.difference(state(pb.TASK_STATE_STARTING), running) is None
    assert assignments.difference(state(pb.TASK_STATE_ASSIGNED), state(pb.TASK_STATE_READY)) is None
    assert assignments.difference(running, state(pb.TASK_STATE_FAILED)) is not None


def test_agents_beat_every_second_or_as_often_as_the_cluster_says():
    cluster = pb.Cluster()
    assert (
        assignments.node_assignments(assignments.Objects(cluster), "n1").heartbeat_period == 10**9
    )
    cluster.spec.dispatcher.heartbeat_period = 10**8
    assert (
        assignments.node_assignments(assignments.Objects(cluster), "n1").heartbeat_period == 10**8
    )


def test_every_node_is_told_vxlan_s_port():
    old = assignments.node_assignments(assignments.Objects(pb.Cluster()), "n1")
    new = assignments.node_assignments(assignments.Objects(pb.Cluster(data_path_port=7777)), "n1")
    told = assignments.difference(old, new)
    assert told is not None
    assert merge(NodeState.of(old), told).settings.data_path_port == 7777


def test_a_difference_needs_a_state():
    with pytest.raises(WireError, match="incremental"):
        merge(None, pb.Assignments(version=2))


def test_a_node_hears_of_a_task_when_it_was_given_to_it_and_not_while_it_is_planned():
    tasks = {}
    for state in (pb.TASK_STATE_NEW, pb.TASK_STATE_PENDING, pb.TASK_STATE_ASSIGNED):
        task = pb.Task(id=f"t{state}", node_id="n1")
        task.status.state = state
        tasks[task.id] = task
    told = assignments.node_assignments(assignments.Objects(pb.Cluster(), tasks=tasks), "n1")
    assert [task.id for task in told.tasks] == [f"t{pb.TASK_STATE_ASSIGNED}"]


def test_nodes_turn_to_managers_that_are_not_down():
    nodes = {}
    for name, said in (("m1", "ready"), ("m2", "down"), ("m3", "unknown"), ("w1", "ready")):
        node = pb.Node(id=name)
        node.status.state = said
        node.manager_status.addr = "" if name == "w1" else f"{name}:2377"
        nodes[name] = node
    state = assignments.node_assignments(assignments.Objects(pb.Cluster(), nodes=nodes), "w1")
    assert [manager.node_id for manager in state.managers] == ["m1", "m3"]


def test_nodes_turn_to_the_manager_that_leads_first():
    nodes = {name: pb.Node(id=name) for name in ("m1", "m2", "m3")}
    for name, node in nodes.items():
        node.manager_status.addr, node.manager_status.leader = f"{name}:2377", name == "m2"
    state = assignments.node_assignments(assignments.Objects(pb.Cluster(), nodes=nodes), "w1")
    assert [manager.node_id for manager in state.managers] == ["m2", "m1", "m3"]


def test_a_manager_is_one_until_the_others_have_let_it_go():
    demoted = pb.Node(id="m1", spec={"role": "worker"}, status={"addr": "10.0.0.1"})
    demoted.manager_status.addr = "10.0.0.1:2377"
    promoted = pb.Node(id="w1", spec={"role": "manager"}, status={"addr": "10.0.0.2"})
    nodes = {node.id: node for node in (demoted, promoted)}
    objects = assignments.Objects(pb.Cluster(), nodes=nodes)
    assert {view.role for view in objects.node_views.values()} == {"manager"}
    demoted.ClearField("manager_status")
    objects = assignments.Objects(pb.Cluster(), nodes=nodes)
    assert objects.node_views["m1"].role == "worker"


def test_a_node_whose_address_no_host_can_have_is_told_to_nobody():
    said = ["10.0.0.1", "", "0.0.0.0", "224.0.0.1", "255.255.255.255", "h1", "10.0.0.1/24"]  # noqa: S104 - values
    nodes = {}
    for number, address in enumerate(said):
        nodes[f"n{number}"] = node = pb.Node(id=f"n{number}")
        node.status.addr = address
    state = assignments.node_assignments(assignments.Objects(pb.Cluster(), nodes=nodes), "n0")
    assert [node.id for node in state.nodes] == ["n0"]


def test_nodes_are_told_of_a_node_s_underlay_address_whatever_users_are_shown():
    behind, before = pb.Node(id="n1"), pb.Node(id="n2")
    behind.status.addr, behind.status.data_path_addr = "203.0.113.5", "10.0.0.1"
    before.status.addr = "10.0.0.2"
    objects = assignments.Objects(pb.Cluster(), nodes={"n1": behind, "n2": before})
    views = objects.node_views
    assert {key: view.addr for key, view in views.items()} == {"n1": "10.0.0.1", "n2": "10.0.0.2"}


def test_what_changed_takes_the_place_of_what_was_there():
    state = pb.Assignments(full=True, services=[pb.ServiceView(id=name) for name in "dbf"])
    merged = merge(None, state)
    for name in "abcdg":
        change = pb.Assignments(services=[pb.ServiceView(id=name, name="new")])
        merged = merge(merged, change)
    merged = merge(merged, pb.Assignments(removed_services=["f", "a", "e"]))
    assert [(each.id, each.name) for each in merged.services] == [(name, "new") for name in "bcdg"]
    assert [each.id for each in state.services] == ["d", "b", "f"]


def test_what_a_message_is_not_of_is_the_same_object_after_it():
    services = [pb.ServiceView(id=f"s{at:03}", name="old") for at in range(300)]
    services[7].ports.add(target_port=80, published_port=8080)
    nodes = [pb.NodeView(id=f"n{at:03}") for at in range(100)]
    before = NodeState.of(pb.Assignments(full=True, version=1, services=services, nodes=nodes))
    kept = list(before.services)
    one = pb.ServiceView(id="s100", name="new")
    message = pb.Assignments(version=2, services=[one], removed_tasks=["none"])
    after = merge(before, message)
    assert [a is b for a, b in zip(kept, after.services, strict=True)].count(False) == 1
    assert after.services.get("s100") == one
    assert before.services.get("s100") == services[100]
    for kind in ("nodes", "networks", "tasks", "secrets", "configs", "published"):
        assert getattr(after, kind) is getattr(before, kind), kind
    message.services[0].name = "later"
    assert after.services.get("s100") == one  # a part of a message would keep all of it in memory


def test_services_with_ports_are_those_that_have_some_now():
    with_port = pb.ServiceView(id="a")
    with_port.ports.add(target_port=80, published_port=8080)
    state = NodeState.of(pb.Assignments(services=[with_port, pb.ServiceView(id="b")]))
    assert [each.id for each in state.published] == ["a"]
    state = merge(state, pb.Assignments(services=[pb.ServiceView(id="a")]))
    assert [each.id for each in state.published] == []
    state = merge(state, pb.Assignments(services=[with_port]))
    assert [each.id for each in state.published] == ["a"]
    state = merge(state, pb.Assignments(removed_services=["a"]))
    assert (len(state.published), len(state.services)) == (0, 1)


def test_keys_of_encrypted_overlays_are_told_to_who_is_on_one_alone():
    on, off = pb.Task(id="t", node_id="n1"), pb.Task(id="u", node_id="n2")
    plain, secret = pb.Network(id="a"), pb.Network(id="b")
    secret.spec.driver_configuration.options["encrypted"] = ""
    for task, network in ((on, "b"), (off, "a")):
        task.status.state = pb.TASK_STATE_RUNNING
        task.networks_attachments.add().network.id = network
    before = assignments.Objects(
        pb.Cluster(id="c", gossip_keys=[b"g"], esp_keys=[b"k"]),
        networks={"a": plain, "b": secret},
        tasks={"t": on, "u": off},
    )
    assert list(assignments.node_assignments(before, "n1").esp_keys) == [b"k"]
    assert not assignments.node_assignments(before, "n2").esp_keys
    over = pb.Task()
    over.CopyFrom(on)
    over.status.state = pb.TASK_STATE_COMPLETE
    changes: list[assignments.Change] = [(pb.Task, "t", over)]
    after = before.after(changes)
    needs = assignments.needs_of(before, "n1")
    message, _ = news.news(before, after, "n1", needs, news.touched(before, after, changes))
    assert message is not None
    assert not message.esp_keys, "and no more when its last task there is over"
    turned = pb.Cluster()
    turned.CopyFrom(before.cluster)
    turned.esp_rotation.next_key = b"n"
    rotated = before.with_cluster(turned)
    for node, keys in (("n1", [b"k", b"n"]), ("n2", None)):
        needs = assignments.needs_of(before, node)
        message, _ = news.news(before, rotated, node, needs, news.Touched())
        assert (list(message.esp_keys) if message is not None else None) == keys
