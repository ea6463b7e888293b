"""Services: create, update, roll back, remove, list.

An update keeps the specification it replaces (one step of rollback) and clears UpdateStatus: the
updater starts anew. SpecVersion changes only when tasks would differ, so a scaled service keeps
its tasks. Source: swarmkit manager/controlapi/service.go, moby daemon/cluster/services.go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from meshnet_control.api.control_pb2 import (
    TASK_STATE_COMPLETE,
    TASK_STATE_RUNNING,
    Config,
    Network,
    Secret,
    Service,
    ServiceSpec,
    ServiceStatus,
    Task,
)
from meshnet_control.cluster import engine_networks
from meshnet_control.controlapi import filters, lookup
from meshnet_control.controlapi.access import Access, check_version, name_of
from meshnet_control.controlapi.refusals import (
    exists,
    invalid,
    precondition,
    unimplemented,
)
from meshnet_control.controlapi.specs import service_checks, service_spec
from meshnet_control.controlapi.specs.names import random_name

_FILTERS = ("id", "label", "mode", "name", "runtime")


class Services:
    """The services of a cluster."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def select(self, raw_filters: str | None, *, status: bool) -> list[Service]:
        """Services that match, with ServiceStatus when asked for.

        Raises:
            ControlError: a filter that is not understood.
        """
        wanted = filters.parse(raw_filters, _FILTERS)
        found = [s for s in await self._access.all(Service) if _matches(s, wanted)]
        if status:
            tasks: dict[str, list[Task]] = defaultdict(list)
            for task in await self._access.all(Task):
                tasks[task.service_id].append(task)
            found = [with_status(s, tasks[s.id]) for s in found]
        return found

    async def inspect(self, reference: str, *, defaults: bool) -> Service:
        """One service; with the orchestrator's defaults filled in when asked for."""
        service = await self._access.find(Service, reference)
        if not defaults:
            return service
        full = Service()
        full.CopyFrom(service)
        full.spec.CopyFrom(service_spec.with_defaults(service.spec))
        return full

    async def create(self, spec: ServiceSpec) -> str:
        """Make a service and return its id.

        Raises:
            ControlError: the specification is refused, or its name or port is taken.
        """
        async with self._access.writing:
            others = await self._access.all(Service)
            done = service_spec.complete(spec)
            if not done.name:
                done.name = random_name({s.spec.name for s in others}, self._access.rng)
            await self._check(done, "", others)
            if any(s.spec.name == done.name for s in others):
                raise exists(
                    f"name conflicts with an existing object: service {done.name} already exists"
                )
            service = Service(id=self._access.new_id(), spec=done)
            await self._access.put(service)
        return str(service.id)

    async def update(self, reference: str, version: int, spec: ServiceSpec) -> None:
        """Replace a service's specification.

        Args:
            reference: id, name or prefix.
            version: ``Version.Index`` the caller has read.
            spec: the whole new specification.

        Raises:
            ControlError: refused, not found, or changed since it was read.
        """
        async with self._access.writing:
            service = await self._access.find(Service, reference)
            check_version(service, version)
            done = service_spec.complete(spec)
            if done.name != service.spec.name:
                raise unimplemented("renaming services is not supported")
            if service_spec.mode_of(done) != service_spec.mode_of(service.spec):
                raise unimplemented("service mode change is not allowed")
            await self._check(done, service.id, await self._access.all(Service))
            await self._access.put(_updated(service, done))

    async def rollback(self, reference: str, version: int) -> None:
        """Go back to the specification before the last update; twice goes forward again.

        Raises:
            ControlError: nothing to go back to, not found, or changed since it was read.
        """
        async with self._access.writing:
            service = await self._access.find(Service, reference)
            check_version(service, version)
            if not service.HasField("previous_spec"):
                raise precondition(f"service {service.id} does not have a previous spec")
            back = Service()
            back.CopyFrom(service)
            back.spec.CopyFrom(service.previous_spec)
            back.previous_spec.CopyFrom(service.spec)
            back.spec_version = service.previous_spec_version
            back.previous_spec_version = service.spec_version
            status = back.update_status
            status.Clear()
            status.state = "rollback_started"
            status.message = "manually requested rollback"
            status.started_at.CopyFrom(self._access.timestamp())
            await self._access.put(back)

    async def remove(self, reference: str) -> None:
        """Remove a service; its tasks are the orchestrator's to stop."""
        async with self._access.writing:
            await self._access.delete([await self._access.find(Service, reference)])

    async def _check(self, spec: ServiceSpec, service_id: str, others: list[Service]) -> None:
        service_checks.check(spec)
        await self._resolve_networks(spec)
        service_spec.check_ports(spec, service_id, others)
        container = spec.task_template.container_spec
        for kind, references in (
            (Secret, {s.secret_id: s.secret_name for s in container.secrets}),
            (Config, {c.config_id: c.config_name for c in container.configs}),
        ):
            await self._check_files(kind, references)

    async def _check_files(
        self, kind: type[Secret] | type[Config], references: Mapping[str, str]
    ) -> None:
        missing = [
            name
            for identifier, name in references.items()
            if await self._access.store.get(kind, identifier) is None
        ]
        if missing:
            word = kind.DESCRIPTOR.name.lower() + ("s" if len(missing) > 1 else "")
            raise invalid(f"{word} not found: {', '.join(missing)}")

    async def _resolve_networks(self, spec: ServiceSpec) -> None:
        """Turn names of networks into ids, in place."""
        networks = await self._access.all(Network)
        seen: set[str] = set()
        for attachment in spec.task_template.networks:
            network = engine_networks.network(attachment.target) or lookup.find(
                "network", networks, attachment.target, name_of
            )
            if network.spec.ingress:
                raise invalid(
                    "Service cannot be explicitly attached to the ingress network "
                    f'"{network.spec.name}"'
                )
            if network.id in seen:
                raise invalid(f"network {network.spec.name} is attached more than once")
            seen.add(network.id)
            attachment.target = network.id
        published = any(port.publish_mode != "host" for port in spec.endpoint_spec.ports)
        why_not = engine_networks.conflict(seen, on_every_node=published)
        if why_not is not None:
            raise invalid(why_not)


def _updated(service: Service, spec: ServiceSpec) -> Service:
    new = Service()
    new.CopyFrom(service)
    new.previous_spec.CopyFrom(service.spec)
    new.previous_spec_version = service.spec_version
    new.spec.CopyFrom(spec)
    new.ClearField("update_status")
    if (
        service.spec.task_template != spec.task_template
        or service.spec.endpoint_spec != spec.endpoint_spec
    ):
        new.spec_version = service.version.index
    return new


def _matches(service: Service, wanted: filters.Filters) -> bool:
    spec = service.spec
    return (
        filters.prefix(wanted.get("id"), service.id)
        and filters.prefix(wanted.get("name"), spec.name)
        and filters.labels(wanted.get("label"), spec.labels)
        and filters.exact(wanted.get("mode"), service_spec.mode_of(spec))
        and filters.exact(wanted.get("runtime"), spec.task_template.runtime or "container")
    )


def with_status(service: Service, tasks: list[Task]) -> Service:
    """A copy of a service with its tasks counted; PURE.

    Source: swarmkit manager/controlapi/service.go ListServiceStatuses.
    """
    desired = (
        sum(t.desired_state == TASK_STATE_RUNNING and not t.displaced for t in tasks)
        if service_spec.mode_of(service.spec) == "global"
        else service.spec.mode.replicated.replicas
    )
    counted = Service()
    counted.CopyFrom(service)
    counted.service_status.CopyFrom(
        ServiceStatus(
            running_tasks=sum(t.status.state == TASK_STATE_RUNNING for t in tasks),
            desired_tasks=desired,
            completed_tasks=sum(t.status.state == TASK_STATE_COMPLETE for t in tasks)
            if service_spec.mode_of(service.spec).endswith("-job")
            else 0,
        )
    )
    return counted
