"""Whether a row that appeared is one of ours: pure.

Neighbours and FDB rows come and age in the kernel all the time, and we make thousands. What is told
of each is compared with what is wanted, so that a row that somebody else makes or turns is put
right at once, and nothing is read again for those that are as they should be.
"""

from __future__ import annotations

from meshnet.netstate.objects import Neighbour
from meshnet.netstate.values import NetnsSpec


def is_disturbed(
    spec: NetnsSpec, name: str | None, row: Neighbour, *, is_fdb: bool, lasts: bool
) -> bool:
    """Whether what is wanted of a namespace's rows may be otherwise since this one was made.

    Args:
        spec: what should be there.
        name: the row's link; None: not known (yet).
        row: as the kernel tells of it.
        is_fdb: an FDB row; otherwise a neighbour.
        lasts: it does not age, as ours do not.
    """
    if is_fdb:
        # A VXLAN device of ours learns nothing: whoever names a VTEP is somebody.
        told = lasts or row.destination is not None
        wanted = (name, row.mac, row.destination) in spec.fdb
    else:
        told = lasts or any(
            (link, at) == (name, row.destination) for link, at, _ in spec.neighbours
        )
        wanted = (name, row.destination, row.mac) in spec.neighbours
    return (told or wanted) and not (lasts and wanted)
