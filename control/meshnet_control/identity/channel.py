"""gRPC connections between nodes: credentials, options and bounds, in one place.

Mutual TLS always. A client insists on the name that only managers have in their certificates, and
on the cluster's root: which address was dialled proves nothing.

Be aware: every channel has connections of its own (local subchannel pool): gRPC otherwise shares
them, with their back-off, between channels to one address. Proxies of the environment are not used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from meshnet.errors import MeshnetError
from meshnet_control.identity import ca
from meshnet_control.identity.identity import Certificates
from meshnet_control.identity.referral import leader_of

ASSIGNMENTS_BYTES: Final = 64 * 1024 * 1024
"""Longest message of a manager: all that a node has to know, with its secrets and configs."""
REQUEST_BYTES: Final = 4 * 1024 * 1024
"""Longest message a manager takes from a node: descriptions, statuses in parts, lines of logs."""
STREAMS: Final = 256
"""Calls of one connection at a time: a session, and one for each log that is being read."""
CLIENT_OPTIONS: Final = (
    ("grpc.max_receive_message_length", ASSIGNMENTS_BYTES),
    ("grpc.max_send_message_length", REQUEST_BYTES),
    ("grpc.ssl_target_name_override", ca.MANAGER_NAME),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
SERVER_OPTIONS: Final = (
    ("grpc.max_receive_message_length", REQUEST_BYTES),
    ("grpc.max_send_message_length", ASSIGNMENTS_BYTES),
    ("grpc.max_concurrent_streams", STREAMS),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)
"""Pings end the connections of hosts that vanished without a word."""


class CallEndedError(MeshnetError):
    """A call is over: refused, broken, ended by the peer, or finished before it was used.

    Args:
        why: in the peer's words or gRPC's.
        code: the peer's, when it gave one.
        leader: ``host:port`` of the manager that it was referred to, empty: nobody knows which;
            None: that is not why.
    """

    def __init__(
        self, why: str, code: grpc.StatusCode | None = None, leader: str | None = None
    ) -> None:
        self.why, self.code, self.leader = why, code, leader
        super().__init__(why)


@contextmanager
def call_ends() -> Iterator[None]:
    """Around each await on a peer: every way in which it ends badly is one error.

    gRPC has four: the status of the call, InvalidStateError and UsageError from a call that had
    ended when it was used, InternalError while it breaks, and CancelledError in whoever waits when
    another task cancelled the call. A cancellation of the waiting task itself stays one. The fifth
    is protobuf's: bytes that are no message.

    Raises:
        CallEndedError: the call is over.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        why = error.details() or error.code().name
        raise CallEndedError(why, error.code(), leader_of(error)) from None
    except (asyncio.InvalidStateError, grpc.aio.UsageError, grpc.aio.InternalError) as error:
        raise CallEndedError(str(error) or type(error).__name__) from None
    except DecodeError:
        raise CallEndedError("the peer sent what is no message of ours") from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise CallEndedError("the call was cancelled") from None


def channel(remote: str, certs: Certificates) -> grpc.aio.Channel:
    """A channel to a manager at ``host:port``; connects on first use."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=certs.root,
        private_key=certs.key,
        certificate_chain=certs.certificate,
    )
    return grpc.aio.secure_channel(remote, credentials, options=CLIENT_OPTIONS)
