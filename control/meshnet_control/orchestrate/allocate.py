"""Gives networks, nodes, services and tasks their network resources. Pure.

    Network   VNI, subnet, gateway            once; one that nodes make for themselves: nothing;
                                              a dual stack network: a subnet of each family
    Node      its addresses on the ingress network, as soon as the node exists
    Service   virtual IPs (ingress first, then its networks in order), published ports
    Task      one address per network, in the same order; then it goes NEW -> PENDING,
              that of a container alone (``attachments``) NEW -> ASSIGNED

On a dual stack network services, tasks and nodes have an address of IPv4 and, behind it, one of
IPv6.

What is given stays: an update of a service takes or returns only what the change needs, so a VIP
is stable for the life of its service. A task's addresses are free again once its state is past
RUNNING and its node has said so or is gone, a service's and a node's once they are gone.

Be aware: what cannot be given is left out and tried again at every step; the tasks that wait for
it say why in Status.Err and stay NEW. A service with endpoint mode dnsrr gets no VIP.
Source: swarmkit manager/allocator/network.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network

from google.protobuf.timestamp_pb2 import Timestamp

from meshnet.model.families import FAMILIES, Family, IpNetwork
from meshnet.model.ids import Rng, new_id
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster import engine_networks, node_local, service_networks
from meshnet_control.cluster.attachments import is_attachment, not_found
from meshnet_control.orchestrate import ports
from meshnet_control.orchestrate.addresses import (
    ADDRESS_TAKEN,
    NO_ADDRESS,
    NO_VIP,
    Subnets,
    configs_of,
    family_of,
)
from meshnet_control.orchestrate.folds import OF_NODES, Held, Hold, Waiting
from meshnet_control.orchestrate.network_shares import age as _age
from meshnet_control.orchestrate.network_shares import allocated, families_of, networks, no_subnet
from meshnet_control.orchestrate.store_view import Put, Step, StoreView, Write, changed
from meshnet_control.orchestrate.tasks import holds_addresses

_Vip = tuple[str, Family]
"""A network, and of which family."""
PENDING_MESSAGE = "pending task scheduling"
ATTACHED_MESSAGE = "attached by its node"


def step(view: StoreView, now: float, rng: Rng) -> Step:
    """Allocate whatever lacks something."""
    given = networks(view) if view.scope.networks else []
    if given:
        view = view.apply(given)
    allocator = _Allocator(view)
    rest = [*allocator.services(), *allocator.nodes(), *allocator.tasks(now)]
    return Step((*given, *rest), lacking=frozenset(allocator.lacking))


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
    return min(view.indexes.ingress.values(), key=lambda n: n.id, default=None)


def _ingress_subnets(view: StoreView) -> Mapping[Family, IpNetwork]:
    """Of each family the subnet that nodes have addresses of."""
    ingress = ingress_of(view)
    if ingress is None or not allocated(ingress):
        return {}
    firsts = ((family, configs_of(ingress, family)[:1]) for family in families_of(ingress))
    return {
        family: ip_network(config.subnet, strict=False)
        for family, configs in firsts
        for config in configs
    }


def _own_address(node: pb.Node, family: Family) -> str:
    return node.ingress_address if family == FAMILIES[0] else node.ingress_address6


def _node_lacks(node: pb.Node, subnets: Mapping[Family, IpNetwork]) -> list[Family]:
    """Families of which its address is not what it should be."""
    return [
        family for family in FAMILIES if not _fits(_own_address(node, family), subnets.get(family))
    ]


def _fits(address: str, subnet: IpNetwork | None) -> bool:
    if subnet is None or not address:
        return subnet is None and not address
    try:
        return ip_interface(address).ip in subnet
    except ValueError:
        return False


def _vip_networks(view: StoreView, service: pb.Service) -> list[str]:
    spec = service.spec
    if spec.endpoint_spec.mode == "dnsrr":
        return []
    wanted = wanted_networks(view, service_networks.template(spec), spec.endpoint_spec)
    return [key for key in wanted if key not in engine_networks.NAMES and not _is_local(view, key)]


def _vips(view: StoreView, service: pb.Service) -> list[_Vip]:
    """Which virtual IPs a service should have, in order."""
    return [
        (key, family)
        for key in _vip_networks(view, service)
        for family in families_of(view.networks.get(key))
    ]


def _which(vip: pb.VirtualIP) -> _Vip:
    return vip.network_id, family_of(vip.addr)


def _is_local(view: StoreView, network_id: str) -> bool:
    network = view.networks.get(network_id)
    return network is not None and node_local.is_node_local(network)


def _settled(view: StoreView, service: pb.Service) -> bool:
    spec, endpoint = service.spec, service.endpoint
    return (
        endpoint.spec == _endpoint_spec(view, service)
        and list(map(_which, endpoint.virtual_ips)) == _vips(view, service)
        and len(endpoint.ports) == len(spec.endpoint_spec.ports)
    )


def _endpoint_spec(view: StoreView, service: pb.Service) -> pb.EndpointSpec:
    """What a service's endpoint was made from; empty for one that needs none, as Docker has it."""
    asked = service.spec.endpoint_spec
    return asked if asked.ports or _vip_networks(view, service) else pb.EndpointSpec()


@dataclass
class _Wanted:
    """What tasks of one specification need."""

    spec: pb.TaskSpec
    endpoint: pb.EndpointSpec
    networks: Sequence[str]
    aliases: Mapping[str, Sequence[str]]
    missing: str | None = None
    """In words."""
    free: Sequence[tuple[pb.Network, Sequence[Subnets]]] = ()
    """Those networks, if nothing is missing, and what they have left of each family."""


@dataclass(frozen=True)
class _Holders:
    """Who has addresses, of networks that are one."""

    view: StoreView
    networks: Sequence[str]

    def numbers(self) -> Sequence[int]:
        """Blocks that anybody has addresses of, ascending."""
        indexes = self.view.indexes
        return sorted({n for name in self.networks for n in indexes.blocks.get(name, ())})

    def of(self, block: int) -> tuple[set[int], set[int]]:
        """Addresses of a block in use, and those of dead tasks."""
        held: set[int] = set()
        remembered: set[int] = set()
        for name in self.networks:
            by_holder: Mapping[Held, Hold] = self.view.indexes.addresses.get((name, block), {})
            for (number, holder), hold in by_holder.items():
                firm = hold is Hold.FIRM or (hold is Hold.UNSURE and self._may_run(holder))
                (held if firm else remembered).add(number)
        return held, remembered

    def _may_run(self, task_id: str) -> bool:
        return holds_addresses(self.view.tasks[task_id], self.view)


class _Allocator:
    """The free addresses of every network while one step hands them out."""

    def __init__(self, view: StoreView) -> None:
        self._view = view
        self._ingress = ingress_of(view)
        self._free: dict[_Vip, Subnets | None] = {}
        self._given: dict[str, pb.Service] = {}
        self._ports: dict[ports.PortKey, str] = {}
        """Given in this step, and to whom."""
        self._ports_short: set[str] = set()
        self._wanted: dict[tuple[str, int], _Wanted] = {}
        self.lacking: set[str] = set()
        """Services and nodes that did not get everything."""

    def _free_of(self, network_id: str, family: Family = 4) -> Subnets | None:
        """What a network has left; None: there is no such network, or it has no subnet."""
        key = network_id, family
        if key not in self._free:
            network = self._view.networks.get(network_id)
            known = network is not None and allocated(network)
            configs = configs_of(network, family) if known and network else []
            self._free[key] = self._addresses(network_id, configs) if configs else None
        return self._free[key]

    def _addresses(self, network_id: str, configs: Sequence[pb.IPAMConfig]) -> Subnets:
        of_nodes = self._ingress is not None and network_id == self._ingress.id
        if not of_nodes:
            return Subnets(configs, _Holders(self._view, [network_id]))
        # A version before let the ingress network have several; nodes are in the first alone.
        return Subnets(configs[:1], _Holders(self._view, [network_id, OF_NODES]))

    def _families(self, network_id: str) -> tuple[Family, ...]:
        return families_of(self._view.networks.get(network_id))

    def services(self) -> list[Write]:
        """Endpoints of new and changed services."""
        writes: list[Write] = []
        due = (each for each in self._view.due_services() if not _settled(self._view, each))
        for old in sorted(due, key=_age):
            new = self._endpoint(old)
            self._given[new.id] = new
            self._ports.update(dict.fromkeys(ports.taken([new]), new.id))
            if not _settled(self._view, new):
                self.lacking.add(new.id)
            if new != old:
                writes.append(Put(new))
        return writes

    def _endpoint(self, old: pb.Service) -> pb.Service:
        """The service with as much of its endpoint as there is."""
        new = changed(old)
        endpoint = new.endpoint
        endpoint.spec.CopyFrom(_endpoint_spec(self._view, new))
        given = ports.allocate(old, lambda port: self._has_port(port, new.id))
        del endpoint.ports[:]
        if given is None:
            self._ports_short.add(new.id)
        else:
            endpoint.ports.extend(given)
        had = {_which(vip): vip.addr for vip in old.endpoint.virtual_ips}
        del endpoint.virtual_ips[:]
        for network_id, family in _vips(self._view, new):
            address = had.get((network_id, family)) or self._take(network_id, family)
            if address is not None:
                endpoint.virtual_ips.add(network_id=network_id, addr=address)
        return new

    def _has_port(self, port: ports.PortKey, but: str) -> bool:
        """Whether a service other than this one has a port, or wants it."""
        others = self._view.indexes.ports.get(port, ())
        return any(name != but for name in others) or self._ports.get(port, but) != but

    def _take(self, network_id: str, family: Family = 4) -> str | None:
        free = self._free_of(network_id, family)
        return None if free is None else free.take()

    def nodes(self) -> list[Write]:
        """Ingress addresses of nodes."""
        writes: list[Write] = []
        subnets = _ingress_subnets(self._view)
        due = (node for node in self._view.due_nodes() if _node_lacks(node, subnets))
        for old in sorted(due, key=_age):
            new = changed(old)
            for family in _node_lacks(old, subnets):
                known = self._ingress is not None and family in subnets
                address = self._take(self._ingress.id, family) if self._ingress and known else None
                if address is None and known:
                    self.lacking.add(old.id)
                if family == FAMILIES[0]:
                    new.ingress_address = address or ""
                else:
                    new.ingress_address6 = address or ""
            if new != old:
                writes.append(Put(new))
        return writes

    def tasks(self, now: float) -> list[Write]:
        """Addresses of the tasks that wait for them; what cannot be given is said in the task."""
        writes: list[Write] = []
        waiting = self._view.waiting(Waiting.ADDRESS)
        given_at = self._later_than_all(now)
        for old in sorted(waiting, key=lambda t: (t.service_id, not _asks(t), t.slot, *_age(t))):
            service = self._given.get(old.service_id) or self._view.services.get(old.service_id)
            alone = is_attachment(old)
            if service is None and not alone:
                continue
            wants = None
            if service is not None and not _wants_engine(old):
                wants = self._wants(old, service)
            missing = self._missing(wants, service) if wants and service else None
            if missing is not None and missing == old.status.err:
                continue
            new = changed(old)
            if service is None:
                error = self._attach_alone(new)
            elif missing is not None:
                error = missing
            elif wants is not None:
                error = self._attach(new, wants)
            else:
                _attach_to_engine(new)
                error = None
            if error is None:
                new.allocated_at.CopyFrom(given_at)
                new.status.state = pb.TASK_STATE_ASSIGNED if alone else pb.TASK_STATE_PENDING
                new.status.message = ATTACHED_MESSAGE if alone else PENDING_MESSAGE
            new.status.err = error or ""
            if error is None or new != old:
                new.status.timestamp.CopyFrom(timestamp(now))
                writes.append(Put(new))
        return writes

    def _attach_alone(self, task: pb.Task) -> str | None:
        """Give a container its addresses on the one network of its task, in place, all or none."""
        wanted = task.spec.networks[0]
        asked = {family_of(address): address for address in wanted.addresses}
        given: list[str] = []
        for family in self._families(wanted.target):
            free = self._free_of(wanted.target, family)
            if free is None:
                self._give_back(wanted.target, given)
                there = self._view.networks.get(wanted.target)
                return no_subnet(there, self._view) if there else not_found(wanted.target)
            address = free.take_this(asked[family]) if family in asked else free.take()
            if address is None:
                self._give_back(wanted.target, given)
                return ADDRESS_TAKEN if family in asked else NO_ADDRESS
            given.append(address)
        del task.networks_attachments[:]
        attachment = task.networks_attachments.add(addresses=given)
        attachment.network.CopyFrom(self._view.networks[wanted.target])
        return None

    def _give_back(self, network_id: str, addresses: Iterable[str]) -> None:
        """Undo what was taken of a network in this step."""
        for address in addresses:
            free = self._free_of(network_id, family_of(address))
            if free is not None:
                free.give_back(address)

    def _later_than_all(self, now: float) -> Timestamp:
        """A time for what is given now: the managers' word of whose an address is (claims.py).

        A clock that went back makes no address belong to who had it before.
        """
        found = Timestamp()
        last = self._view.indexes.given_ns
        found.FromNanoseconds(max(timestamp(now).ToNanoseconds(), last + 1))
        return found

    def _wants(self, task: pb.Task, service: pb.Service) -> _Wanted:
        """What a task needs, found out once for the tasks of a specification."""
        key = service.id, task.spec_version
        known = self._wanted.get(key)
        if known is not None and known.spec == task.spec and known.endpoint == task.endpoint_spec:
            return known
        endpoint = task.endpoint_spec if task.HasField("endpoint_spec") else service.endpoint.spec
        found = _Wanted(
            spec=task.spec,
            endpoint=task.endpoint_spec,
            networks=wanted_networks(self._view, task.spec, endpoint),
            aliases={config.target: list(config.aliases) for config in task.spec.networks},
        )
        has_vip = set(map(_which, service.endpoint.virtual_ips))
        needs_vip = set(_vips(self._view, service))
        for network_id in found.networks:
            network = self._view.networks.get(network_id)
            if network is None:
                found.missing = f"network {network_id} not found"
            elif not node_local.is_node_local(network) and any(
                self._free_of(network_id, family) is None for family in families_of(network)
            ):
                found.missing = no_subnet(network, self._view)
            elif any(name == network_id for name, _ in needs_vip - has_vip):
                found.missing = NO_VIP
            if found.missing is not None:
                break
        else:
            once = dict.fromkeys(found.networks)
            found.free = [(self._view.networks[name], self._left(name)) for name in once]
        self._wanted[key] = found
        return found

    def _left(self, network_id: str) -> Sequence[Subnets]:
        """What a network has left of each family; of one that nodes make nothing is given."""
        if _is_local(self._view, network_id):
            return ()
        every = (self._free_of(network_id, family) for family in self._families(network_id))
        return [each for each in every if each is not None]

    def _missing(self, wants: _Wanted, service: pb.Service) -> str | None:
        """Why a task cannot get its addresses now, in words; None: perhaps it can."""
        if service.id in self._ports_short:
            return ports.NO_PORT
        if wants.missing is not None:
            return wants.missing
        exhausted = any(each.exhausted for _, families in wants.free for each in families)
        return NO_ADDRESS if exhausted else None

    def _attach(self, task: pb.Task, wants: _Wanted) -> str | None:
        """Give a task its addresses, in place and all or none; what is missing, in words."""
        taken: list[tuple[pb.Network, list[str]]] = []
        for network, families in wants.free:
            taken.append((network, []))
            for free in families:
                address = free.take()
                if address is None:
                    for each, addresses in taken:
                        self._give_back(each.id, addresses)
                    return NO_ADDRESS
                taken[-1][1].append(address)
        del task.networks_attachments[:]
        for network, addresses in taken:
            attachment = task.networks_attachments.add(addresses=addresses)
            attachment.network.CopyFrom(network)
            attachment.aliases.extend(wants.aliases.get(network.id, ()))
        return None


def _asks(task: pb.Task) -> bool:
    """The task wants a certain address, which nobody who takes any must get before."""
    return any(config.addresses for config in task.spec.networks)


def _wants_engine(task: pb.Task) -> bool:
    """The task wants a network of its engine, and so no other."""
    return any(config.target in engine_networks.NAMES for config in task.spec.networks)


def _attach_to_engine(task: pb.Task) -> None:
    """Attach such a task, in place."""
    networks = (engine_networks.network(config.target) for config in task.spec.networks)
    found = next(network for network in networks if network is not None)
    del task.networks_attachments[:]
    task.networks_attachments.add(network=found)


def timestamp(now: float) -> Timestamp:
    """Unix seconds as protobuf has them."""
    return Timestamp(seconds=int(now), nanos=int(now % 1 * 1e9))
