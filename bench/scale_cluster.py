"""Clusters of any size as values: every service settled, every task RUNNING with its addresses.

``size`` 1 is a thousand services of ten tasks on a hundred nodes with twenty networks; 10 is ten
times the nodes and the services, on as many networks.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from ipaddress import IPv4Network

from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.allocate import ingress_network
from meshnet_control.store.store import Object

NOW = 1_700_000_000.0
SERVICES, NODES, TASKS, NETWORKS = 1_000, 100, 10, 20


def node(number: int) -> pb.Node:
    made = pb.Node(id=f"node{number:021d}", created_at={"seconds": int(NOW) - 9000})
    made.spec.role, made.spec.availability = "worker", "active"
    made.description.hostname = f"h{number}"
    made.description.platform.os, made.description.platform.architecture = "linux", "x86_64"
    made.description.resources.nano_cpus = 64 * 10**9
    made.description.resources.memory_bytes = 2**38
    made.status.state = "ready"
    made.status.addr = f"10.200.{number >> 8}.{number & 255}"
    return made


def network(number: int) -> pb.Network:
    made = pb.Network(id=f"net{number:022d}", vni=4097 + number)
    made.spec.name, made.spec.driver_configuration.name = f"net{number}", "overlay"
    subnet = IPv4Network((10 << 24 | (number + 1) << 18, 14))
    made.ipam_options.configs.add(subnet=str(subnet), gateway=str(subnet[1]))
    made.driver_state.name = "overlay"
    return made


def service(number: int, replicas: int = TASKS) -> pb.Service:
    made = pb.Service(id=f"service{number:018d}", created_at={"seconds": int(NOW) - 8000})
    made.spec.name = f"s{number}"
    made.spec.mode.replicated.replicas = replicas
    container = made.spec.task_template.container_spec
    container.image, container.env[:] = "registry/web:1@sha256:" + "0" * 64, ["A=1", "B=2"]
    made.spec.task_template.networks.add(target=f"net{number % NETWORKS:022d}")
    made.spec.endpoint_spec.mode = "vip"
    return made


def cluster() -> pb.Cluster:
    made = pb.Cluster(id="cluster00000000000000000", subnet_size=24, data_path_port=4789)
    made.spec.name = "default"
    return made


def settled(size: float, services: float = SERVICES, tasks: int = TASKS) -> Iterator[Object]:
    """Every object of a cluster with nothing to do but the addresses of its nodes.

    Args:
        size: how many times all of it.
        services: at size 1.
        tasks: of each service.
    """
    nodes = [node(number) for number in range(round(NODES * size))]
    networks = [network(number) for number in range(NETWORKS)]
    ingress = ingress_network(random.Random(1))
    ingress.spec.ipam_options.configs.add(subnet="172.20.0.0/14")
    first: list[Object] = [cluster(), ingress, *nodes, *networks]
    yield from first
    serial = [2] * NETWORKS
    for number in range(round(services * size)):
        made, on = service(number, tasks), number % NETWORKS
        base = int(IPv4Network(networks[on].ipam_options.configs[0].subnet).network_address)
        address = f"{IPv4Network(base + serial[on])[0]}/14"
        serial[on] += 1
        made.endpoint.spec.CopyFrom(made.spec.endpoint_spec)
        made.endpoint.virtual_ips.add(network_id=networks[on].id, addr=address)
        yield made
        for slot in range(1, tasks + 1):
            task = pb.Task(
                id=f"task{number:015d}{slot:06d}",
                service_id=made.id,
                service_name=made.spec.name,
                slot=slot,
                node_id=nodes[(number * tasks + slot) % len(nodes)].id,
                spec=made.spec.task_template,
                endpoint_spec=made.spec.endpoint_spec,
                desired_state=pb.TASK_STATE_RUNNING,
                created_at={"seconds": int(NOW) - 7000, "nanos": slot},
                allocated_at={"seconds": int(NOW) - 7000},
            )
            task.name = f"{made.spec.name}.{slot}.{task.id}"
            task.status.state = pb.TASK_STATE_RUNNING
            task.status.timestamp.seconds = int(NOW) - 7000
            address = f"{IPv4Network(base + serial[on])[0]}/14"
            serial[on] += 1
            task.networks_attachments.add(addresses=[address]).network.CopyFrom(networks[on])
            yield task
