"""From what is to what should be: every step in turn until none wants a change. Pure.

    roots -> returned -> globals -> replicated -> jobs -> update -> restart
      ^                                                                │
      └─────── again ─────── schedule <- allocate <- attachments <- reap

One call takes a new service to assigned tasks; its writes are committed together, each object once.
A step is asked again when something was written since that it may decide by: what ``PLACING``
writes (addresses, NEW -> PENDING -> ASSIGNED) no step before them does.

Be aware: steps that undo each other would go round for ever; that is a programming error and is
raised after ``MAX_ROUNDS``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from meshnet.model.ids import Rng
from meshnet_control.api import control_pb2 as pb
from meshnet_control.orchestrate import (
    allocate,
    attachments,
    jobs,
    reap,
    replicated,
    restart,
    returned,
    roots,
    schedule,
    update,
)
from meshnet_control.orchestrate import globals as global_services
from meshnet_control.orchestrate.scope import Due
from meshnet_control.orchestrate.store_view import Delete, Put, Step, StepFunction, StoreView, Write
from meshnet_control.store.store import Key, Object

STEPS: Sequence[StepFunction] = (
    roots.step,
    returned.step,
    global_services.step,
    replicated.step,
    jobs.step,
    update.step,
    restart.step,
    reap.step,
    attachments.step,
    allocate.step,
    schedule.step,
)
PLACING = frozenset({allocate.step, schedule.step})
MAX_ROUNDS = 50


def converge(view: StoreView, now: float, rng: Rng, steps: Sequence[StepFunction] = STEPS) -> Step:
    """All writes that lead from the view to one where no step wants a change.

    Args:
        view: the cluster as it is; what of it is in its scope is looked at.
        now: Unix seconds.
        rng: for the ids of new tasks.
        steps: in the order in which they run.

    Returns:
        The writes, at most one for an object and none without effect; when a step wants to be
        called again, about what; and what lacks something.

    Raises:
        RuntimeError: the steps do not come to an end.
    """
    current, last = view, dict[Key, Write]()
    said, asked_at = dict[StepFunction, Step](), dict[StepFunction, tuple[int, int]]()
    decided = placed = 0
    for _ in range(MAX_ROUNDS):
        quiet = True
        for step in steps:
            now_at = decided, placed if step in PLACING else 0
            if asked_at.get(step) == now_at:
                continue
            asked_at[step], said[step] = now_at, (wanted := step(current, now, rng))
            if wanted.writes:
                quiet = False
                current = current.apply(wanted.writes)
                last.update((key_of(write), write) for write in wanted.writes)
                placed, decided = placed + (step in PLACING), decided + (step not in PLACING)
        if quiet:
            return _together(_effective(view, last.values()), said.values())
    names = ", ".join(f"{kind.DESCRIPTOR.name} {key}" for kind, key in sorted(last, key=str)[:5])
    raise RuntimeError(f"orchestration does not settle after {MAX_ROUNDS} rounds: {names}")


def _together(writes: Iterable[Write], said: Iterable[Step]) -> Step:
    """What is to be written, and what each step said of its wakes when it was asked last."""
    wakes, lacking = dict[Due, float](), frozenset[str]()
    for step in said:
        lacking |= step.lacking
        for key, at in step.wakes.items():
            wakes[key] = min(at, wakes.get(key, at))
    return Step(tuple(writes), wakes, lacking)


def key_of(write: Write) -> Key:
    """Kind and id of the object that a write is about."""
    if isinstance(write, Put):
        return type(write.message), write.message.id
    return write.kind, write.id


def find(view: StoreView, key: Key) -> Object | None:
    """The object of a view by its key; None: the view has none."""
    kind, identifier = key
    if view.cluster is not None and kind is type(view.cluster):
        return view.cluster if view.cluster.id == identifier else None
    found: Mapping[type, Mapping[str, Object]] = {
        pb.Node: view.nodes,
        pb.Service: view.services,
        pb.Task: view.tasks,
        pb.Network: view.networks,
    }
    return found[kind].get(identifier) if kind in found else None


def _effective(view: StoreView, writes: Iterable[Write]) -> Iterable[Write]:
    """Without what is so already: an object put as it was, the removal of one that never was."""
    for write in writes:
        old = find(view, key_of(write))
        if isinstance(write, Delete) and old is None:
            continue
        if isinstance(write, Put) and write.message == old:
            continue
        yield write
