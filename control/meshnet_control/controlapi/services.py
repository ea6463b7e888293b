"""Services: create, update, roll back, remove, list.

An update keeps the specification it replaces (one step of rollback) and clears UpdateStatus: the
updater starts anew. SpecVersion changes only when tasks would differ, so a scaled service keeps
its tasks. Source: swarmkit manager/controlapi/service.go, moby daemon/cluster/services.go.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from http import HTTPStatus

from meshnet.errors import ControlError
from meshnet.model.wellknown import VXLAN_PORT
from meshnet_control.api.control_pb2 import (
    TASK_STATE_COMPLETE,
    TASK_STATE_RUNNING,
    Cluster,
    Config,
    Network,
    Secret,
    Service,
    ServiceSpec,
    ServiceStatus,
    Task,
)
from meshnet_control.cluster import engine_networks, node_local
from meshnet_control.controlapi import filters, lookup
from meshnet_control.controlapi.access import Access, check_version, written
from meshnet_control.controlapi.refusals import (
    exists,
    invalid,
    not_to_be_changed,
    precondition,
)
from meshnet_control.controlapi.specs import service_checks, service_spec
from meshnet_control.controlapi.specs.names import random_name
from meshnet_control.store.index import name_of
from meshnet_control.store.store import Where

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
        if status and found:
            tasks: dict[str, list[Task]] = defaultdict(list)
            some = frozenset(s.id for s in found) if wanted else frozenset()
            where = Where(services=some, brief=True)
            for task in await self._access.all(Task, where):
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

    @written
    async def create(self, spec: ServiceSpec, auth: str = "") -> str:
        """Make a service and return its id.

        Args:
            spec: of the service.
            auth: credentials for its image's registry (``registry_auth``); empty: none.

        Raises:
            ControlError: the specification is refused, or its name or port is taken.
        """
        others = await self._access.all(Service)
        done = _with_auth(service_spec.complete(spec), auth)
        if not done.name:
            done.name = random_name({s.spec.name for s in others}, self._access.rng)
        await self._check(done, "", others)
        if any(s.spec.name == done.name for s in others):
            raise exists(
                f"name conflicts with an existing object: service {done.name} already exists"
            )
        service = Service(id=self._access.new_id(), spec=done)
        service.endpoint.spec.SetInParent()
        if service_spec.is_job(done):
            service.job_status.job_iteration.SetInParent()
            service.job_status.last_execution.CopyFrom(self._access.timestamp())
        await self._access.put(service)
        return str(service.id)

    @written
    async def update(
        self,
        reference: str,
        version: int,
        spec: ServiceSpec,
        auth: str | None = None,
        auth_from: str = "spec",
    ) -> None:
        """Replace a service's specification.

        Args:
            reference: id, name or prefix.
            version: ``Version.Index`` the caller has read.
            spec: the whole new specification.
            auth: credentials for its image's registry; None: those it has.
            auth_from: whose they are then, of ``spec`` or ``previous-spec``.

        Raises:
            ControlError: refused, not found, or changed since it was read.
        """
        service = await self._access.find(Service, reference)
        check_version(service, version)
        done = service_spec.complete(spec)
        if done.name != service.spec.name:
            raise not_to_be_changed("renaming services is not supported")
        if service_spec.mode_of(done) != service_spec.mode_of(service.spec):
            raise not_to_be_changed("service mode change is not allowed")
        done = _with_auth(done, _kept_auth(service, auth_from) if auth is None else auth)
        await self._check(done, service.id, await self._access.all(Service))
        await self._access.put(self._done_again(updated(service, done)))

    @written
    async def rollback(self, reference: str, version: int) -> None:
        """Go back to the specification before the last update; twice goes forward again.

        Raises:
            ControlError: nothing to go back to, not found, or changed since it was read.
        """
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
        await self._access.put(self._done_again(back))

    def _done_again(self, service: Service) -> Service:
        """In place: whatever was changed of a job, the whole of it begins anew."""
        if service_spec.is_job(service.spec):
            service.job_status.job_iteration.index += 1
            service.job_status.last_execution.CopyFrom(self._access.timestamp())
        return service

    @written
    async def remove(self, reference: str) -> None:
        """Remove a service; its tasks are the orchestrator's to stop."""
        await self._access.delete([await self._access.find(Service, reference)])

    async def _check(self, spec: ServiceSpec, service_id: str, others: list[Service]) -> None:
        cluster = next(iter(await self._access.store.list(Cluster)), None)
        port = cluster.data_path_port if cluster is not None else 0
        service_checks.check(spec, port or VXLAN_PORT)
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
        seen: dict[str, Network] = {}
        for attachment in spec.task_template.networks or spec.networks:
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
            seen[network.id] = network
            attachment.target = network.id
        published = any(port.publish_mode != "host" for port in spec.endpoint_spec.ports)
        why_not = engine_networks.conflict(seen, on_every_node=published)
        why_not = why_not or node_local.conflict(seen.values(), ports=spec.endpoint_spec.ports)
        if why_not is not None:
            raise invalid(why_not)
        if published and not any(network.spec.ingress for network in networks):
            raise precondition("service needs ingress network, but no ingress network is present")


def _with_auth(spec: ServiceSpec, auth: str) -> ServiceSpec:
    """A specification with these credentials, in place; empty: with none."""
    container = spec.task_template.container_spec
    container.ClearField("pull_options")
    if auth:
        container.pull_options.registry_auth = auth
    return spec


def _kept_auth(service: Service, auth_from: str) -> str:
    """The credentials that an update leaves as they are.

    Raises:
        ControlError: there is no such specification (500, as the engine has it).
    """
    if auth_from not in {"", "spec", "previous-spec"}:
        raise ControlError("unsupported registryAuthFrom value", HTTPStatus.INTERNAL_SERVER_ERROR)
    previous = auth_from == "previous-spec"
    if previous and not service.HasField("previous_spec"):
        raise ControlError(
            "service does not have a previous spec", HTTPStatus.INTERNAL_SERVER_ERROR
        )
    spec = service.previous_spec if previous else service.spec
    return str(spec.task_template.container_spec.pull_options.registry_auth)


def updated(service: Service, spec: ServiceSpec) -> Service:
    """A copy of a service with another specification; what it had can be rolled back to. PURE."""
    new = Service()
    new.CopyFrom(service)
    new.previous_spec.CopyFrom(service.spec)
    new.previous_spec_version = service.spec_version
    new.spec.CopyFrom(spec)
    new.ClearField("update_status")
    if (
        service.spec.task_template != spec.task_template
        or service.spec.endpoint_spec != spec.endpoint_spec
        or service.spec.networks != spec.networks
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
    """A copy of a service with its tasks counted; of a job those of its latest iteration. PURE.

    Desired of a replicated job are as many as may run at once, of a global one those not done yet.

    Source: swarmkit manager/controlapi/service.go ListServiceStatuses. Differs: what was done twice
    in a slot, as a lost node came back, counts once.
    """
    mode = service.spec.mode
    iteration = service.job_status.job_iteration.index
    job = service_spec.is_job(service.spec)
    if job:
        tasks = [task for task in tasks if task.job_iteration.index == iteration]
    done = {
        (t.slot, "" if mode.HasField("replicated_job") else t.node_id)
        for t in tasks
        if t.status.state == TASK_STATE_COMPLETE
    }
    if mode.HasField("replicated_job"):
        desired = mode.replicated_job.max_concurrent
    elif mode.HasField("replicated"):
        desired = mode.replicated.replicas
    else:
        to = TASK_STATE_COMPLETE if job else TASK_STATE_RUNNING
        desired = sum(
            t.desired_state == to and t.status.state != TASK_STATE_COMPLETE and not t.displaced
            for t in tasks
        )
    counted = Service()
    counted.CopyFrom(service)
    counted.service_status.CopyFrom(
        ServiceStatus(
            running_tasks=sum(t.status.state == TASK_STATE_RUNNING for t in tasks),
            desired_tasks=desired,
            completed_tasks=len(done) if job else 0,
        )
    )
    return counted
