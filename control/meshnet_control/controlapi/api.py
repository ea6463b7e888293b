"""The control API of one cluster: every kind of object behind one interface."""

from __future__ import annotations

from meshnet_control.api.control_pb2 import Config, Secret
from meshnet_control.controlapi.access import Access
from meshnet_control.controlapi.files import Files
from meshnet_control.controlapi.networks import Networks
from meshnet_control.controlapi.nodes import Nodes
from meshnet_control.controlapi.services import Services
from meshnet_control.controlapi.swarm import Swarm
from meshnet_control.controlapi.tasks import Tasks


class ControlApi:
    """Validated reads and writes on a cluster's store.

    Args:
        access: the store, with the lock that all of these share.
    """

    def __init__(self, access: Access) -> None:
        self.swarm = Swarm(access)
        self.nodes = Nodes(access)
        self.services = Services(access)
        self.tasks = Tasks(access)
        self.networks = Networks(access)
        self.secrets = Files(access, Secret)
        self.configs = Files(access, Config)
