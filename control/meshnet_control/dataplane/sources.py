"""Where the data plane hears of others: gossip, and what asks the hosts of silent daemons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Protocol

from meshnet.gossip.audiences import Audiences
from meshnet.gossip.members import Member
from meshnet.gossip.shares import Share
from meshnet.model.ids import NodeId
from meshnet.nft.flows import Flow
from meshnet_control.cluster.gossip_records import Epoch


class Gossip(Protocol):
    """What the data plane needs of gossip (meshnet.gossip.runner.GossipRunner)."""

    def members(self) -> Mapping[NodeId, Member]:
        """Every member known."""
        ...

    def records(self) -> Mapping[tuple[NodeId, str], bytes]:
        """Records of the members that take part."""
        ...

    def all_records(self) -> Mapping[tuple[NodeId, str], bytes]:
        """Records of every member known: what each last said."""
        ...

    def set_record(self, key: str, value: bytes | None) -> None:
        """Changes one of our records."""
        ...

    def take_part(self, networks: Collection[str]) -> None:
        """This node is on exactly these networks from now on (``taking_part``)."""
        ...

    @property
    def audiences(self) -> Audiences:
        """Who is on which network."""
        ...

    def applied(self, marks: Mapping[Share, Epoch]) -> None:
        """The epochs that this node chooses from, told to whoever asks."""
        ...

    def ask(self, wanted: Mapping[Share, Epoch]) -> None:
        """Asks exactly these from now on whether they choose from this epoch of ours."""
        ...

    def acknowledged(self) -> Mapping[Share, Epoch]:
        """From which epoch of ours each node chooses, of those that were asked."""
        ...


class Flows(Protocol):
    """What conntrack knows (meshnet.kernel.flow_reader)."""

    async def __call__(self, netns: str, /) -> Sequence[Flow]:
        """In a namespace; none when it is gone.

        Raises:
            MeshnetError: it cannot be read.
        """
        ...


class Probe(Protocol):
    """What the data plane needs to know of hosts (meshnet.kernel.host_probe.HostProbe)."""

    @property
    def answering(self) -> Mapping[NodeId, bool]:
        """Node -> whether its host answers; a node that is not in it is not known (yet)."""
        ...

    def watch(self, hosts: Mapping[NodeId, IPv4Address]) -> None:
        """Ask exactly these from now on."""
        ...

    async def close(self) -> None:
        """Stop asking."""
        ...
