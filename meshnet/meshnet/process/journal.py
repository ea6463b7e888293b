"""Records of logging for systemd's journal, with fields: its native protocol.

One datagram for a record, ``KEY=value`` on a line each, a value of several lines as ``KEY``, its
length (64 bits, little endian) and itself. What is too large for a datagram goes in a sealed memfd,
whose descriptor is sent. Nobody need split lines again: a traceback is part of its message.

Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL; fields: systemd.journal-fields(7).
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import socket
import struct
from collections.abc import Mapping
from typing import Final

from meshnet.process.log_fields import fields

SOCKET: Final = "/run/systemd/journal/socket"
_PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG: Final = 7
_SENDS_S: Final = 0.2
"""A journal that does not read keeps us so long at most."""
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def priority(level: int) -> int:
    """The priority of syslog(3) for a level of logging. Pure."""
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG)


def datagram(said: Mapping[str, str]) -> bytes:
    """Fields as the journal takes them. Pure."""
    parts = []
    for key, value in said.items():
        data = value.encode(errors="replace")
        if b"\n" in data:
            parts.append(b"%s\n%s%s\n" % (key.encode(), struct.pack("<Q", len(data)), data))
        else:
            parts.append(b"%s=%s\n" % (key.encode(), data))
    return b"".join(parts)


class JournalHandler(logging.Handler):
    """Sends each record to the journal, or to another handler while there is none.

    Args:
        otherwise: who takes what the journal does not.
        name: of this program, which lines of the journal begin with.
        path: the journal's socket.
    """

    def __init__(self, otherwise: logging.Handler, name: str, path: str = SOCKET) -> None:
        super().__init__()
        self._otherwise, self._program, self._path = otherwise, name, path

    def emit(self, record: logging.LogRecord) -> None:
        """Send one."""
        try:
            message = f"{record.name}: {record.getMessage()}"
            if record.exc_info:
                trace = logging.Formatter().formatException(record.exc_info)
                message = f"{message}\n{trace}"
            said = {
                "MESSAGE": message,
                "PRIORITY": str(priority(record.levelno)),
                "SYSLOG_IDENTIFIER": self._program,
                "CODE_FUNC": str(record.funcName),
                "CODE_LINE": str(record.lineno),
                "MESHNET_FROM": record.name,
                **{f"MESHNET_{key.upper()}": value for key, value in fields(record).items()},
            }
            self._send(datagram(said))
        except OSError:
            self._otherwise.handle(record)
        except (TypeError, ValueError):  # arguments that do not fit their template
            self.handleError(record)

    def _send(self, data: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.settimeout(_SENDS_S)
            try:
                sending.sendto(data, self._path)
            except OSError as error:
                if error.errno not in {errno.EMSGSIZE, errno.ENOBUFS}:
                    raise
                self._send_file(sending, data)

    def _send_file(self, sending: socket.socket, data: bytes) -> None:
        descriptor = os.memfd_create("log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            sending.sendmsg([b""], rights, 0, self._path)
        finally:
            os.close(descriptor)
