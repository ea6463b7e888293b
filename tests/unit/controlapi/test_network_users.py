"""Who keeps a network from being removed."""

from __future__ import annotations

from meshnet_control.api import control_pb2 as pb
from meshnet_control.controlapi.network_resource import users

NETWORK = pb.Network(id="net")
SERVICE = pb.Service(
    id="svc",
    spec=pb.ServiceSpec(
        task_template=pb.TaskSpec(networks=[pb.NetworkAttachmentConfig(target="net")])
    ),
)


def task(state: pb.TaskState, service: str = "svc") -> pb.Task:
    return pb.Task(
        id="task",
        service_id=service,
        desired_state=state,
        status=pb.TaskStatus(state=state),
        networks_attachments=[pb.NetworkAttachment(network=NETWORK)],
    )


def test_a_service_keeps_its_network() -> None:
    assert users(NETWORK, [SERVICE], []) == "service svc"
    assert users(pb.Network(id="other"), [SERVICE], []) is None


def test_a_task_keeps_it_while_its_service_is_there_and_it_runs() -> None:
    moved = pb.Service(id="svc")
    assert users(NETWORK, [moved], [task(pb.TASK_STATE_RUNNING)]) == "task task"
    assert users(NETWORK, [moved], [task(pb.TASK_STATE_SHUTDOWN)]) is None


def test_a_task_whose_service_was_removed_keeps_nothing() -> None:
    assert users(NETWORK, iter([]), [task(pb.TASK_STATE_RUNNING)]) is None


def test_a_task_without_a_service_keeps_it() -> None:
    assert users(NETWORK, [], [task(pb.TASK_STATE_RUNNING, service="")]) == "task task"
