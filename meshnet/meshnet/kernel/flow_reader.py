"""Reads what conntrack knows in network namespaces; changes nothing.

Be aware: moves the calling thread (``netns.inside``); a thread that does nothing but look may use
it, the event loop's must not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshnet.errors import MeshnetError, NotFoundError
from meshnet.kernel import netns
from meshnet.kernel.nfnetlink import NfnetlinkSocket
from meshnet.nft.flows import Flow


def flows(
    paths: Iterable[str | None],
) -> tuple[Mapping[str | None, list[Flow]], list[MeshnetError]]:
    """The flows of each namespace, None the host's, and why some could not be read.

    A namespace that is not there (any more) has none; that is no error.
    """
    found: dict[str | None, list[Flow]] = {}
    errors: list[MeshnetError] = []
    for path in paths:
        try:
            with netns.inside(path):
                socket = NfnetlinkSocket()
            try:
                found[path] = socket.flows()
            finally:
                socket.close()
        except NotFoundError:
            continue
        except MeshnetError as error:
            errors.append(error)
    return found, errors
