"""Gives networks, nodes, services and tasks their network resources. Pure.

    Network   VNI, subnet, gateway            once
    Node      its address on the ingress network, as soon as the node exists
    Service   virtual IPs (ingress first, then its networks in order), published ports
    Task      one address per network, in the same order; then it goes NEW -> PENDING

What is given stays: an update of a service takes or returns only what the change needs, so a VIP
is stable for the life of its service. A task's addresses are free again once its state is past
RUNNING and its node has said so or is gone, a service's and a node's once they are gone.

Be aware: what cannot be given is left out and tried again at every step; the tasks that wait for
it say why in Status.Err and stay NEW. A service with endpoint mode dnsrr gets no VIP.
Source: swarmkit manager/allocator/network.go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from meshnet.model.ids import Rng, new_id
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import engine_networks
from meshnet_control.orchestrate import ports
from meshnet_control.orchestrate.addresses import (
    FIRST_VNI,
    NO_ADDRESS,
    NO_SUBNET,
    NO_VIP,
    Addresses,
    subnet_for,
    vni_for,
)
from meshnet_control.orchestrate.store_view import Put, Step, StoreView, Write, changed
from meshnet_control.orchestrate.tasks import holds_addresses

VXLAN_IDS = "com.docker.network.driver.overlay.vxlanid_list"
PENDING_MESSAGE = "pending task scheduling"


def step(view: StoreView, now: float, rng: Rng) -> Step:
    """Allocate whatever lacks something."""
    networks = _networks(view)
    view = view.apply(networks)
    if not _something_to_do(view):
        return Step(tuple(networks))
    allocator = _Allocator(view)
    rest = [*allocator.services(), *allocator.nodes(), *allocator.tasks(now)]
    return Step((*networks, *rest))


def ingress_network(rng: Rng) -> pb.Network:
    """The network of the ports published on every node, to be written when a cluster is made.

    It gets 10.0.0.0/24 (the first subnet of the cluster's pool) and VNI 4096 from ``step``.
    """
    network = pb.Network(id=new_id(rng))
    network.spec.name, network.spec.ingress, network.spec.scope = "ingress", True, "swarm"
    network.spec.driver_configuration.name = "overlay"
    network.spec.ipam_options.driver.name = "default"
    return network


def wanted_networks(view: StoreView, spec: pb.TaskSpec, endpoint: pb.EndpointSpec) -> list[str]:
    """Ids of the networks a task or service is on: ingress first, then its own in order."""
    ids = [attachment.target for attachment in spec.networks]
    ingress = ingress_of(view)
    if ingress is not None and any(ports.is_ingress(port) for port in endpoint.ports):
        ids.insert(0, ingress.id)
    return ids


def ingress_of(view: StoreView) -> pb.Network | None:
    """The ingress network; None when it was removed."""
    return next((n for n in view.networks.values() if n.spec.ingress), None)


def allocated(network: pb.Network | None) -> bool:
    """True when a network has its VNI and subnet."""
    return network is not None and bool(network.vni and network.ipam_options.configs)


def _networks(view: StoreView) -> list[Write]:
    """Subnets and VNIs for the networks that have none, the ingress network first."""
    new = [n for n in view.networks.values() if not allocated(n)]
    if not new:
        return []
    known = dict(view.networks)
    last = view.cluster.last_vni if view.cluster else 0
    writes: list[Write] = []
    for old in sorted(new, key=lambda n: (not n.spec.ingress, *_age(n))):
        network = changed(old)
        if not _give_subnet(network, view.cluster, known.values()):
            continue
        free = FIRST_VNI not in {n.vni for n in known.values()}
        vni = FIRST_VNI if network.spec.ingress and free else vni_for(last, known)
        if vni is None:
            continue
        last = max(last, vni)
        network.vni = vni
        network.driver_state.name = "overlay"
        network.driver_state.options.update(network.spec.driver_configuration.options)
        network.driver_state.options[VXLAN_IDS] = str(vni)
        known[network.id] = network
        writes.append(Put(network))
    if view.cluster is not None and last > view.cluster.last_vni:
        cluster = changed(view.cluster)
        cluster.last_vni = last
        writes.append(Put(cluster))
    return writes


def _give_subnet(
    network: pb.Network, cluster: pb.Cluster | None, networks: Iterable[pb.Network]
) -> bool:
    """Fill in IPAMOptions, in place; False when no subnet is left."""
    asked = [config for config in network.spec.ipam_options.configs if config.subnet]
    options = network.ipam_options
    options.Clear()
    options.driver.name = network.spec.ipam_options.driver.name or "default"
    if asked:
        options.configs.extend(asked)
    else:
        subnet = subnet_for(cluster, networks)
        if subnet is None:
            return False
        options.configs.add(subnet=str(subnet))
    for config in options.configs:
        config.gateway = config.gateway or _first_host(config.subnet)
    return True


def _first_host(subnet: str) -> str:
    return str(Addresses(pb.IPAMConfig(subnet=subnet), ()).subnet[1])


def _something_to_do(view: StoreView) -> bool:
    """Cheap look whether anything could lack or hold too much; the usual answer is no."""
    return (
        any(_waits(task) for task in view.tasks.values())
        or any(not _settled(view, service) for service in view.services.values())
        or any(_node_lacks(view, node) for node in view.nodes.values())
    )


def _waits(task: pb.Task) -> bool:
    return bool(
        task.status.state == pb.TASK_STATE_NEW and task.desired_state <= pb.TASK_STATE_COMPLETE
    )


def _node_lacks(view: StoreView, node: pb.Node) -> bool:
    ingress = ingress_of(view)
    if ingress is None or not allocated(ingress):
        return bool(node.ingress_address)
    return node.ingress_address not in Addresses(ingress.ipam_options.configs[0], ())


def _vip_networks(view: StoreView, service: pb.Service) -> list[str]:
    spec = service.spec
    if spec.endpoint_spec.mode == "dnsrr":
        return []
    wanted = wanted_networks(view, spec.task_template, spec.endpoint_spec)
    return [network_id for network_id in wanted if network_id not in engine_networks.NAMES]


def _settled(view: StoreView, service: pb.Service) -> bool:
    spec, endpoint = service.spec, service.endpoint
    return (
        endpoint.spec == spec.endpoint_spec
        and service.HasField("endpoint")
        and [vip.network_id for vip in endpoint.virtual_ips] == _vip_networks(view, service)
        and len(endpoint.ports) == len(spec.endpoint_spec.ports)
    )


def _age(message: pb.Network | pb.Service | pb.Node | pb.Task) -> tuple[int, int, str]:
    """Sort key: oldest first; what the store has not stamped yet comes last."""
    if not message.HasField("created_at"):
        return (1 << 62, 0, message.id)
    return (message.created_at.seconds, message.created_at.nanos, message.id)


class _Allocator:
    """The free addresses of every network while one step hands them out."""

    def __init__(self, view: StoreView) -> None:
        self._view = view
        held: defaultdict[str, list[str]] = defaultdict(list)
        remembered: defaultdict[str, list[str]] = defaultdict(list)
        for service in view.services.values():
            for vip in service.endpoint.virtual_ips:
                held[vip.network_id].append(vip.addr)
        for task in view.tasks.values():
            into = held if holds_addresses(task, view) else remembered
            for attachment in task.networks_attachments:
                into[attachment.network.id].extend(attachment.addresses)
        self._ingress = ingress_of(view)
        if self._ingress is not None:
            addresses = (node.ingress_address for node in view.nodes.values())
            held[self._ingress.id].extend(address for address in addresses if address)
        self._free = {
            key: Addresses(network.ipam_options.configs[0], held[key], remembered[key])
            for key, network in view.networks.items()
            if allocated(network)
        }
        self._services = dict(view.services)
        self._ports_short: set[str] = set()

    def services(self) -> list[Write]:
        """Endpoints of new and changed services."""
        writes: list[Write] = []
        for old in sorted(self._view.services.values(), key=_age):
            if _settled(self._view, old):
                continue
            new = self._endpoint(old)
            if new != old:
                self._services[new.id] = new
                writes.append(Put(new))
        return writes

    def _endpoint(self, old: pb.Service) -> pb.Service:
        """The service with as much of its endpoint as there is."""
        new = changed(old)
        endpoint = new.endpoint
        endpoint.SetInParent()
        endpoint.spec.CopyFrom(new.spec.endpoint_spec)
        others = ports.taken(s for s in self._services.values() if s.id != new.id)
        given = ports.allocate(old, others)
        del endpoint.ports[:]
        if given is None:
            self._ports_short.add(new.id)
        else:
            endpoint.ports.extend(given)
        had = {vip.network_id: vip.addr for vip in old.endpoint.virtual_ips}
        del endpoint.virtual_ips[:]
        for network_id in _vip_networks(self._view, new):
            address = had.get(network_id) or self._take(network_id)
            if address is not None:
                endpoint.virtual_ips.add(network_id=network_id, addr=address)
        return new

    def _take(self, network_id: str) -> str | None:
        free = self._free.get(network_id)
        return None if free is None else free.take()

    def nodes(self) -> list[Write]:
        """Ingress addresses of nodes."""
        writes: list[Write] = []
        for old in sorted(self._view.nodes.values(), key=_age):
            if not _node_lacks(self._view, old):
                continue
            address = self._take(self._ingress.id) if self._ingress is not None else None
            if (address or "") != old.ingress_address:
                new = changed(old)
                new.ingress_address = address or ""
                writes.append(Put(new))
        return writes

    def tasks(self, now: float) -> list[Write]:
        """Addresses of the tasks that wait for them; what cannot be given is said in the task."""
        writes: list[Write] = []
        waiting = [task for task in self._view.tasks.values() if _waits(task)]
        given_at = self._later_than_all(now) if waiting else Timestamp()
        for old in sorted(waiting, key=lambda t: (t.service_id, t.slot, *_age(t))):
            service = self._services.get(old.service_id)
            if service is None:
                continue
            new = changed(old)
            error = None if _on_engine(new) else self._attach(new, service)
            if error is None:
                new.allocated_at.CopyFrom(given_at)
                new.status.state = pb.TASK_STATE_PENDING
                new.status.message = PENDING_MESSAGE
            new.status.err = error or ""
            if new != old:
                new.status.timestamp.CopyFrom(timestamp(now))
                writes.append(Put(new))
        return writes

    def _later_than_all(self, now: float) -> Timestamp:
        """A time for what is given now: the managers' word of whose an address is (claims.py).

        A clock that went back makes no address belong to who had it before.
        """
        given = (task.allocated_at.ToNanoseconds() for task in self._view.tasks.values())
        found = Timestamp()
        found.FromNanoseconds(max(timestamp(now).ToNanoseconds(), max(given, default=0) + 1))
        return found

    def _attach(self, task: pb.Task, service: pb.Service) -> str | None:
        """Give a task its addresses, in place and all or none; what is missing, in words."""
        if service.id in self._ports_short:
            return ports.NO_PORT
        has_vip = {vip.network_id for vip in service.endpoint.virtual_ips}
        needs_vip = set(_vip_networks(self._view, service))
        aliases = {config.target: config.aliases for config in task.spec.networks}
        endpoint = task.endpoint_spec if task.HasField("endpoint_spec") else service.endpoint.spec
        wanted = wanted_networks(self._view, task.spec, endpoint)
        for network_id in wanted:
            if network_id not in self._view.networks:
                return f"network {network_id} not found"
            if network_id not in self._free:
                return NO_SUBNET
            if network_id in needs_vip and network_id not in has_vip:
                return NO_VIP
        taken = [(network_id, self._take(network_id)) for network_id in wanted]
        if any(address is None for _, address in taken):
            for network_id, address in taken:
                if address is not None:
                    self._free[network_id].give_back(address)
            return NO_ADDRESS
        del task.networks_attachments[:]
        for network_id, address in taken:
            attachment = task.networks_attachments.add(addresses=[address or ""])
            attachment.network.CopyFrom(self._view.networks[network_id])
            attachment.aliases.extend(aliases.get(network_id, ()))
        return None


def _on_engine(task: pb.Task) -> bool:
    """Attach a task that wants a network of its engine, in place; False: it wants none."""
    networks = [engine_networks.network(config.target) for config in task.spec.networks]
    found = [network for network in networks if network is not None]
    if found:
        del task.networks_attachments[:]
        task.networks_attachments.add(network=found[0])
    return bool(found)


def timestamp(now: float) -> Timestamp:
    """Unix seconds as protobuf has them."""
    return Timestamp(seconds=int(now), nanos=int(now % 1 * 1e9))
