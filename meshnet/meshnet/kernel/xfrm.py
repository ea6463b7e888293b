"""The client of XFRM: what of the host's packets is encrypted, read back and changed.

Be aware: used from the kernel thread only. No key is told to anybody but the kernel, and none of
the kernel's answers is kept.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable
from typing import Final

from meshnet.errors import KernelError, MeshnetError, kernel_error
from meshnet.kernel import netns, xfrm_codec
from meshnet.kernel.encode import Message
from meshnet.kernel.netlink_socket import NetlinkSocket
from meshnet.netstate.esp import (
    AddAssociation,
    AddPolicy,
    BeginLife,
    DelAssociation,
    DelPolicy,
    EndLife,
    EspChange,
    EspState,
    Life,
    NoEspError,
    Remember,
    digest,
)

_SALT_BYTES: Final = 16
_KEY_BYTES: Final = 20
_WITHOUT: Final = frozenset({errno.EPROTONOSUPPORT, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOENT})
"""What a kernel says that has no ESP, or no AES-GCM."""
_GONE: Final = frozenset({errno.ENOENT, errno.ESRCH})


class XfrmClient:
    """XFRM of one network namespace.

    Args:
        host_netns: path of the namespace that stands for the host; None: the thread's own.
        on_life: called with the salt of this node's life when it is another; empty: it is over.
    """

    def __init__(
        self, host_netns: str | None = None, on_life: Callable[[bytes], None] = lambda _: None
    ) -> None:
        self._host_netns = host_netns
        self._on_life = on_life
        self._told = b""
        self._open: NetlinkSocket | None = None

    def observe(self) -> EspState:
        """What of ours is there. A kernel without XFRM has nothing.

        Raises:
            KernelError: it does not say.
        """
        try:
            states = self._socket.dump(xfrm_codec.dump_associations(), bytes)
            policies = self._socket.dump(xfrm_codec.dump_policies(), xfrm_codec.policy_of)
        except KernelError as error:
            if error.errno in _WITHOUT:
                return EspState()
            raise
        found = [xfrm_codec.association_of(body) for body in states]
        lives = [xfrm_codec.life_of(body) for body in states]
        life = next((each for each in lives if each is not None), None)
        self._tell(life)
        return EspState(
            frozenset(each for each in found if each is not None),
            frozenset(each for each in policies if each is not None),
            life,
        )

    def apply(self, changes: Iterable[EspChange]) -> None:
        """Make changes in order.

        Raises:
            NoEspError: the kernel cannot encrypt.
            ExceptionGroup: of the errors of those that failed; the others are made.
        """
        failed: list[MeshnetError] = []
        for change in changes:
            try:
                self._make(change)
            except KernelError as error:
                if error.errno in _WITHOUT and isinstance(change, BeginLife | AddPolicy):
                    raise NoEspError(os.strerror(error.errno)) from error
                failed.append(error)
        if failed:
            raise ExceptionGroup("encryption", failed)

    def tries(self) -> bool:
        """Whether an association can be made: one that is nobody's, and removed at once.

        Raises:
            KernelError: XFRM cannot be asked.
        """
        added, removed = xfrm_codec.trial(_throwaway())
        (code,) = self._socket.send([added])
        self._socket.send([removed])
        return code in {0, errno.EEXIST}

    def close(self) -> None:
        """Close the socket; what is there stays."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _make(self, change: EspChange) -> None:
        match change:
            case AddPolicy(policy):
                self._ask("encrypt", str(policy), xfrm_codec.add_policy(policy))
            case DelPolicy(policy):
                self._ask("delete", str(policy), xfrm_codec.delete_policy(policy), _GONE)
            case AddAssociation(each):
                self._ask("add", str(each), xfrm_codec.add(each))
            case DelAssociation(each):
                self._ask("delete", str(each), xfrm_codec.delete(each), _GONE)
            case BeginLife():
                self._ask("end", "a life", xfrm_codec.end(), _GONE)
                there = self.observe().associations
                life = Life(secrets.token_bytes(_SALT_BYTES), digest(there))
                self._ask("begin", "a life", xfrm_codec.begin(life, _throwaway()))
                self._tell(life)
            case Remember(life):
                self._ask("keep", "a life", xfrm_codec.rewrite(life, _throwaway()))
            case EndLife():
                self._ask("end", "a life", xfrm_codec.end(), _GONE)
                self._tell(None)

    def _tell(self, life: Life | None) -> None:
        salt = life.salt if life is not None else b""
        if salt != self._told:
            self._told = salt
            self._on_life(salt)

    def _ask(
        self, op: str, target: str, message: Message, fine: frozenset[int] = frozenset()
    ) -> None:
        (code,) = self._socket.send([message])
        if code and code not in fine:
            raise kernel_error(op, target, code)

    @property
    def _socket(self) -> NetlinkSocket:
        if self._open is None:
            with netns.inside(self._host_netns):
                self._open = NetlinkSocket(self._host_netns or "host", xfrm_codec.NETLINK_XFRM)
        return self._open


def can_encrypt(host_netns: str | None = None) -> bool:
    """Whether the kernel has ESP and AES-GCM: it is tried, as its modules come when asked for."""
    client = XfrmClient(host_netns)
    try:
        return client.tries()
    except KernelError:
        return False
    finally:
        client.close()


def _throwaway() -> bytes:
    return secrets.token_bytes(_KEY_BYTES)
