"""What a node was told so far, whole; a message makes the next state at its own cost. Pure.

    state n ──merge(difference)──> state n+1     shares with state n whatever the message is not of

Law: merging ``difference(old, new)`` into ``old`` gives ``new`` (``assignments``).

Be aware: the messages in a state are shared. What no message was of is the same object in the next
state, the set of all nodes or services included: who keeps something up of one asks whether it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Generic, Protocol, TypeVar

from immutables import Map

from meshnet.errors import WireError
from meshnet_control.api import control_pb2 as pb

KINDS: Final = ("tasks", "networks", "services", "nodes", "secrets", "configs")


class _Named(Protocol):
    @property
    def id(self) -> str: ...


M = TypeVar("M", bound=_Named)


class ById(Generic[M]):
    """Objects of one kind, in the order of their ids.

    Args:
        objects: by id.
    """

    def __init__(self, objects: Map[str, M]) -> None:
        self._objects = objects

    @classmethod
    def of(cls, objects: Iterable[M]) -> ById[M]:
        """These; of two with an id the last."""
        return cls(Map((each.id, each) for each in objects))

    def get(self, id_: str) -> M | None:
        """The one of this id; None: there is none."""
        return self._objects.get(id_)

    def __len__(self) -> int:
        """How many."""
        return len(self._objects)

    def __iter__(self) -> Iterator[M]:
        """All, sorted when they are asked for first."""
        return iter(self._ordered)

    def __eq__(self, other: object) -> bool:
        """The same objects by the same ids."""
        return isinstance(other, ById) and bool(self._objects == other._objects)

    __hash__ = None  # type: ignore[assignment] # messages have none

    @cached_property
    def _ordered(self) -> Sequence[M]:
        return [self._objects[id_] for id_ in sorted(self._objects)]

    def after(self, put: Iterable[M], removed: Iterable[str]) -> ById[M]:
        """With some put in, and some gone; itself when nothing differs."""
        new = {each.id: each for each in put}
        gone = [id_ for id_ in removed if id_ in self._objects or id_ in new]
        if not new and not gone:
            return self
        edit = self._objects.mutate()
        edit.update(new)
        for id_ in gone:
            edit.pop(id_, None)
        return ById(edit.finish())


@dataclass(frozen=True)
class NodeState:
    """Everything that one node works from."""

    version: int
    """Of the last message."""
    settings: pb.Assignments
    """What is no object."""
    tasks: ById[pb.Task]
    networks: ById[pb.Network]
    services: ById[pb.ServiceView]
    nodes: ById[pb.NodeView]
    secrets: ById[pb.SecretAssignment]
    configs: ById[pb.ConfigAssignment]
    published: ById[pb.ServiceView]
    """Services that have ports."""

    @classmethod
    def of(cls, message: pb.Assignments) -> NodeState:
        """What a full message says; it is taken over, not copied."""
        return cls(
            version=message.version,
            settings=settings(message),
            tasks=ById.of(message.tasks),
            networks=ById.of(message.networks),
            services=ById.of(message.services),
            nodes=ById.of(message.nodes),
            secrets=ById.of(message.secrets),
            configs=ById.of(message.configs),
            published=ById.of(each for each in message.services if each.ports),
        )

    @property
    def heartbeat_period(self) -> int:
        """Nanoseconds."""
        return int(self.settings.heartbeat_period)

    def after(self, message: pb.Assignments) -> NodeState:
        """The state after a difference to this one."""
        services = _copied(message.services)
        mute = (each.id for each in services if not each.ports)
        return replace(
            self,
            version=message.version,
            settings=settings(message),
            tasks=self.tasks.after(_copied(message.tasks), message.removed_tasks),
            networks=self.networks.after(_copied(message.networks), message.removed_networks),
            services=self.services.after(services, message.removed_services),
            nodes=self.nodes.after(_copied(message.nodes), message.removed_nodes),
            secrets=self.secrets.after(_copied(message.secrets), message.removed_secrets),
            configs=self.configs.after(_copied(message.configs), message.removed_configs),
            published=self.published.after(
                (each for each in services if each.ports), (*mute, *message.removed_services)
            ),
        )


def merge(state: NodeState | None, message: pb.Assignments) -> NodeState:
    """The state after a message.

    Args:
        state: the state before, which stays as it is; None: nothing was received yet.
        message: full, or a difference to exactly this state.

    Raises:
        WireError: a difference without a state it could apply to.
    """
    if message.full:
        return NodeState.of(message)
    if state is None:
        raise WireError(peer="manager", why="incremental assignments before the first full ones")
    return state.after(message)


def settings(message: pb.Assignments) -> pb.Assignments:
    """What a message says besides objects; it is whole in each."""
    return pb.Assignments(
        gossip_keys=message.gossip_keys,
        cluster_id=message.cluster_id,
        heartbeat_period=message.heartbeat_period,
        managers=message.managers,
        trust_root=message.trust_root,
        issuer_key=message.issuer_key,
        data_path_port=message.data_path_port,
        esp_keys=message.esp_keys,
    )


def _copied(messages: Iterable[M]) -> list[M]:
    """Copies of parts of a message: one that is kept would keep all of it in memory."""
    made: list[M] = []
    for each in messages:
        copy: Callable[[], M] = type(each)
        made.append(copy())
        made[-1].CopyFrom(each)  # type: ignore[attr-defined] # a protobuf message
    return made
