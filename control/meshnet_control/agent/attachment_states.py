"""What the managers say of a node's attachments (addresses, troubles), and the waiting for it.

Two words come apart: addresses with the assignments, and states as the answer to what the node
wants. An address counts once the managers have said that it is this one: of what was given back and
asked for again, an older word may still be on its way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Set
from http import HTTPStatus
from typing import Final, TypeAlias

from meshnet.errors import ControlError
from meshnet_control.agent.attached import Attached
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.attachments import could_not, is_attachment

_log = logging.getLogger(__name__)

ATTACH_S: Final = 20.0
"""For the managers to give an address, and for the kernel (moby daemon/container_operations.go)."""
_LATE: Final = "context deadline exceeded"
Key: TypeAlias = tuple[str, str]
"""Container and network, by id."""


class AttachmentStates:
    """The managers' newest words."""

    def __init__(self) -> None:
        self._assigned: dict[Key, pb.Task] = {}
        self._states: dict[Key, pb.AttachmentState] = {}
        """What the managers answered last."""
        self._news = asyncio.Event()
        """Replaced by another one as it is set: the managers said something."""

    def assign(self, tasks: Iterable[pb.Task]) -> None:
        """Addresses, of all tasks of this node."""
        self._assigned = {
            (task.spec.network_attachment_spec.container_id, attachment.network.id): task
            for task in tasks
            if is_attachment(task)
            for attachment in task.networks_attachments
        }

    def answered(self, states: Iterable[pb.AttachmentState]) -> None:
        """How it is with each, now; a new trouble is logged."""
        before, self._states = self._states, {(s.container_id, s.network_id): s for s in states}
        for key, state in self._states.items():
            if state.trouble and (key not in before or before[key].trouble != state.trouble):
                _log.warning("container %s: %s", key[0][:12], state.trouble)

    @property
    def assigned(self) -> Set[Key]:
        """Where the managers give an address."""
        return self._assigned.keys()

    @property
    def unsure(self) -> bool:
        """Some address is not said to be this one yet."""
        return any(self._made(key) != self._confirmed(key) for key in self._assigned)

    def given(self) -> Iterator[tuple[Key, pb.NetworkAttachment, int]]:
        """Addresses that are sure, and when each was given, nanoseconds since 1970."""
        for key, task in self._assigned.items():
            made = self._made(key)
            if made != self._confirmed(key):
                continue
            yield key, task.networks_attachments[0], made

    def tell(self) -> None:
        """Whoever waits for an address looks again."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def addressed(self, attached: Attached) -> None:
        """Returns when a container has an address on each of its networks.

        Raises:
            ControlError: the managers refuse one, or say nothing for too long.
        """
        attached.hold(ATTACH_S)
        container = attached.record.container
        for network in attached.lacking:  # what was answered is about an earlier wish
            self._states.pop((container, network), None)
        try:
            async with asyncio.timeout(ATTACH_S):
                while attached.lacking:
                    self._refuse(attached)
                    await self._news.wait()
        except TimeoutError:
            names = ", ".join(p.name for p in attached.record.places if not p.given)
            raise _refused(names, _LATE) from None

    # ---- inside ----

    def _made(self, key: Key) -> int:
        return max(0, self._assigned[key].allocated_at.ToNanoseconds())

    def _confirmed(self, key: Key) -> int:
        state = self._states.get(key)
        return state.made if state is not None else 0

    def _refuse(self, attached: Attached) -> None:
        """Raises ControlError: the managers say why it has no address on a network."""
        for place in attached.record.places:
            state = self._states.get((attached.record.container, place.network))
            if not place.given and state is not None and state.trouble:
                raise _refused(place.name, state.trouble)


def _refused(name: str, why: str) -> ControlError:
    return ControlError(could_not(name, why), HTTPStatus.INTERNAL_SERVER_ERROR)
