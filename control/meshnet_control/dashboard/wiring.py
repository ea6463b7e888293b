"""The dashboard of a node: what it reads, and the files that say where and for whom."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from meshnet_control.api import explain_pb2 as xpb
from meshnet_control.dashboard import token
from meshnet_control.dashboard.counted import Shares, Traffic
from meshnet_control.dashboard.feed import Feed
from meshnet_control.dashboard.server import DashboardServer
from meshnet_control.dashboard.task_log import Read, TaskLogs
from meshnet_control.dashboard.token import DASHBOARD
from meshnet_control.node.node import Node


def of_node(node: Node, state_dir: Path) -> DashboardServer:
    """That of this node.

    Args:
        node: this one.
        state_dir: its files.
    """

    async def ask(request: xpb.AskRequest) -> xpb.AskReply | None:
        membership = node.membership
        return await membership.questions.ask(request) if membership is not None else None

    def logs() -> Read | None:
        reader = node.logs()
        return reader.read if reader is not None else None

    return DashboardServer(
        Feed(node.store),
        Shares(ask),
        Traffic(ask),
        TaskLogs(node.store, logs),
        partial(DASHBOARD.kept, state_dir),
        partial(token.kept, state_dir),
    )
