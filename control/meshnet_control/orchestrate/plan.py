"""What the leader is to decide next, as the store changes under it. Pure.

    Plan ──noted(changes)──> Plan ──decide(now)──> Decision(batches to write, the Plan after them)

A decision looks at a part of what is due, so that it takes a moment, however much changed: a large
service gets its tasks in portions. What is left is due at once; time makes due what waits for it;
and what lacked something is looked at again with whatever changes.

Be aware: the Plan after a decision is to be gone on with only when all of it is written. Otherwise
the one before is, with what the store has now; nothing is lost by that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate.pipeline import converge, find, key_of
from meshnet_control.orchestrate.scope import Due, scope_of
from meshnet_control.orchestrate.store_view import Put, StoreView, Write
from meshnet_control.store.store import Object

PART: Final = 32
"""Services, nodes, and tasks of none, that one decision looks at."""
MOST_NEW: Final = 256
"""Tasks that one decision makes."""
MOST_WRITES: Final = 256
"""Objects of one commit, unless more belong together."""


@dataclass(frozen=True)
class Plan:
    """The cluster, and what is to be looked at."""

    view: StoreView = field(default_factory=StoreView)
    wakes: Mapping[Due, float] = field(default_factory=dict)
    """Service, slot or node -> Unix seconds at which it is due."""
    lacking: frozenset[str] = frozenset()
    """Services and nodes that wait for what another's change may bring."""

    @classmethod
    def of(cls, objects: Iterable[Object]) -> Plan:
        """Nothing was looked at yet."""
        return cls(StoreView.of(objects))

    def noted(self, changes: Sequence[Write]) -> Plan:
        """The store has changed: what it concerns is due."""
        return replace(self, view=self.view.apply(changes)) if changes else self

    def written(self, changes: Sequence[Write]) -> Plan:
        """The store has what was decided: nothing is due for it."""
        if not changes:
            return self
        return replace(self, view=self.view.apply(changes).within(self.view.scope))

    def anew(self) -> Plan:
        """Everything is due."""
        return replace(self, view=self.view.within(self.view.everything()))

    def is_small(self) -> bool:
        """What is due is less than a decision looks at: more may come to it."""
        return not self.view.scope.cut(PART)[1]

    def due_at(self) -> float | None:
        """When there is something to decide, Unix seconds; 0.0: now; None: never by time alone."""
        return 0.0 if self.view.scope else min(self.wakes.values(), default=None)


@dataclass(frozen=True)
class Decision:
    """What to write, and how to go on."""

    batches: Sequence[Sequence[Write]]
    """Each is to be written as one."""
    after: Plan


def decide(plan: Plan, now: float, rng: Rng) -> Decision:
    """Decide about a part of what is due.

    Args:
        plan: the cluster, and what is due.
        now: Unix seconds.
        rng: for the ids of new tasks.
    """
    scope = plan.view.scope | scope_of(due for due, at in plan.wakes.items() if at <= now)
    if not scope:
        return Decision((), plan)
    plan.view.indexes.settle()
    part, rest = scope.cut(PART)
    if not rest:
        part |= scope_of(plan.lacking)
    step = converge(plan.view.within(part, MOST_NEW), now, rng)
    lacking = (plan.lacking - part.services - part.nodes) | step.lacking
    wakes = {due: at for due, at in plan.wakes.items() if not part.looks_at(due)}
    for due, at in step.wakes.items():  # of a service of which a slot alone was looked at, too
        wakes[due] = min(at, wakes.get(due, at))
    after = Plan(plan.view.within(rest), wakes, lacking)
    return Decision(batches(step.writes, plan.view, MOST_WRITES), after)


def batches(writes: Sequence[Write], view: StoreView, most: int) -> list[list[Write]]:
    """Writes in portions that may be written one after the other: a slot's tasks in one.

    Args:
        writes: what was decided.
        view: from what.
        most: in one portion, unless more belong together. What is no task comes first.
    """
    groups: dict[tuple[str, ...], list[Write]] = {}
    for write in writes:
        groups.setdefault(_place(write, view), []).append(write)
    found: list[list[Write]] = []
    for _, group in sorted(groups.items()):
        if not found or len(found[-1]) + len(group) > most:
            found.append([])
        found[-1] += group
    return found


def _place(write: Write, view: StoreView) -> tuple[str, ...]:
    """What a write belongs to: a slot; () for what all tasks may depend on."""
    kind, _ = key = key_of(write)
    task = write.message if isinstance(write, Put) else find(view, key)
    if kind is not pb.Task or not isinstance(task, pb.Task):
        return ()
    place = f"{task.slot:09d}" if task.slot else task.node_id
    return task.service_id, place
