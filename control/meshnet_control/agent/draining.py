"""Whether a task that is to stop waits for its open connections, and what it says meanwhile. Pure.

```
 withdrawn > every node knows > its connections end, or it waits no longer > stop signal > grace
```

Without a label it waits while others serve in its place, and never longer than the grace period or
``DEFAULT_S``: a connection that nobody uses would hold up each update, and where nobody else serves
the wait would only be time in which new connections are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshnet.errors import ControlError
from meshnet_control.agent.step import TaskView, final
from meshnet_control.cluster import service_labels

DEFAULT_S: Final = 10.0
LOOK_S: Final = 0.5
"""Pause between two counts; each walks the machine's conntrack table."""


def waits(labels: Mapping[str, str], view: TaskView, now: float, *, others_serve: bool) -> bool:
    """Whether it waits, if it has a connection left.

    Args:
        labels: of its service.
        view: what is known of it.
        now: seconds, same clock as ``draining_since``.
        others_serve: another task of its service takes new connections.
    """
    ending = view.failing or view.forgotten or final(view.state)
    if ending or view.stopping_since is not None:
        return False
    waited = 0.0 if view.draining_since is None else now - view.draining_since
    return waited < longest_s(labels, view.grace_s, others_serve=others_serve)


def longest_s(labels: Mapping[str, str], grace_s: float, *, others_serve: bool) -> float:
    """How long it may wait, seconds."""
    try:
        said = service_labels.drain_s(labels)
    except ControlError:  # of a service that was made when nobody looked at its labels
        said = None
    if said is not None:
        return said
    return min(grace_s, DEFAULT_S) if others_serve else 0.0


def words(left: int) -> str:
    """``docker service ps`` cuts an error at 30 characters."""
    return f"draining, {left} connection{'s' if left != 1 else ''} left"
