"""The resolver's control socket: ``<run dir>/resolver.sock``, msgpack maps in and out, root only.

One map asks, one map answers, in order; a client may send many before it reads. msgpack values end
by themselves, so there is no other framing. docs/protocol.md, section Resolver, has the messages.

Be aware: a client that sends what is not msgpack, or does not read, is disconnected.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgpack

from meshnet.errors import ControlError
from meshnet_dns.loop import EXHAUSTED, PAUSE_S, READ, WRITE, Loop, Timer

NAME: Final = "resolver.sock"
MOST_BYTES: Final = 64 << 20
"""Of one message; a zone of a million names is below."""
_RECEIVE: Final = 1 << 18

Handle = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class ControlSocket:
    """Listens from construction to ``close``."""

    def __init__(self, loop: Loop, path: Path, handle: Handle) -> None:
        """Bind ``path``.

        Raises:
            ControlError: another resolver serves there, or the path cannot be used.
        """
        self.loop = loop
        self.handle = handle
        self.clients: set[_Client] = set()
        self._path = path
        self._pause: Timer | None = None
        self._listener = _bind(path)
        loop.watch(self._listener.fileno(), READ, self._accept)

    def close(self) -> None:
        """Stop listening; the path is removed."""
        if self._pause is not None:
            self._pause.cancel()
        self.loop.forget(self._listener.fileno())
        self._listener.close()
        self._path.unlink(missing_ok=True)
        for client in list(self.clients):
            client.close()

    def _accept(self, _events: int) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._pause = self.loop.pause(self._listener.fileno(), READ, PAUSE_S)
            return
        accepted.settimeout(0)
        self.clients.add(_Client(self, accepted))


class _Client:
    def __init__(self, control: ControlSocket, accepted: socket.socket) -> None:
        self._control = control
        self._socket = accepted
        self._unpacker = msgpack.Unpacker(max_buffer_size=MOST_BYTES)
        self._out = b""
        control.loop.watch(accepted.fileno(), READ, self._ready)

    def close(self) -> None:
        self._control.clients.discard(self)
        self._control.loop.forget(self._socket.fileno())
        self._socket.close()

    def _ready(self, events: int) -> None:
        if events & ~WRITE:
            try:
                more = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                more = None
            except OSError:
                more = b""
            if more == b"" or (more and not self._take(more)):
                self.close()
                return
        self._flush()

    def _take(self, more: bytes) -> bool:
        """Handle the messages that are whole now; False: this is not our language."""
        try:
            self._unpacker.feed(more)
            for message in self._unpacker:
                if not isinstance(message, dict):
                    return False
                self._out += msgpack.packb(self._control.handle(message))
        except (ValueError, msgpack.UnpackException):
            return False
        return True

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._out) if self._out else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._out = self._out[sent:]
        if len(self._out) > MOST_BYTES:
            self.close()
            return
        self._control.loop.change(self._socket.fileno(), READ | WRITE if self._out else READ)


def _bind(path: Path) -> socket.socket:
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise ControlError(f"{path.parent}: {error.strerror}") from error
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with probe:
        if probe.connect_ex(str(path)) == 0:
            raise ControlError(f"{path} is served by another meshnet-resolver", status=409)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(16)
    except OSError as error:
        listener.close()
        raise ControlError(f"{path}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    return listener
