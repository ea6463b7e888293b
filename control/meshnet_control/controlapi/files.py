"""Secrets and configs: the same object twice, but for who may read it back.

A secret's data leaves the store only towards the nodes whose tasks need it: never through here.
Docker's own update changes labels alone; ``replace`` is meshnet's, for the data.
Source: swarmkit manager/controlapi/secret.go and config.go, api/validation/secrets.go.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import (
    Config,
    ConfigSpec,
    Secret,
    SecretSpec,
    Service,
    ServiceSpec,
)
from meshnet_control.cluster.templates import check_payload
from meshnet_control.controlapi import filters
from meshnet_control.controlapi.access import Access, check_version, written
from meshnet_control.controlapi.refusals import exists, invalid, unimplemented
from meshnet_control.controlapi.services import updated
from meshnet_control.controlapi.specs.container_checks import is_signal
from meshnet_control.controlapi.specs.names import check_file_name
from meshnet_control.controlapi.specs.service_spec import is_job

F = TypeVar("F", Secret, Config)
Spec = SecretSpec | ConfigSpec

_FILTERS = ("id", "label", "name", "names")
_MAX_BYTES = {"secret": 500 * 1024, "config": 1000 * 1024}


class Files(Generic[F]):
    """The secrets, or the configs, of a cluster.

    Args:
        access: the cluster.
        kind: ``Secret`` or ``Config``.
    """

    def __init__(self, access: Access, kind: type[F]) -> None:
        self._access = access
        self._kind: type[F] = kind
        self._word = kind.DESCRIPTOR.name.lower()

    async def select(self, raw_filters: str | None) -> list[F]:
        """Objects that match.

        Raises:
            ControlError: a filter that is not understood.
        """
        wanted = filters.parse(raw_filters, _FILTERS)
        return [
            self._shown(f)
            for f in await self._access.all(self._kind)
            if filters.prefix(wanted.get("id"), f.id)
            and filters.prefix(wanted.get("name"), f.spec.name)
            and filters.exact(wanted.get("names"), f.spec.name)
            and filters.labels(wanted.get("label"), f.spec.labels)
        ]

    async def inspect(self, reference: str) -> F:
        """One object; a secret without its data."""
        return self._shown(await self._access.find(self._kind, reference))

    @written
    async def create(self, spec: Spec) -> str:
        """Store a new object and return its id.

        Raises:
            ControlError: refused, or the name is taken.
        """
        self._check(spec)
        if any(f.spec.name == spec.name for f in await self._access.all(self._kind)):
            raise exists(f"{self._word} {spec.name} already exists")
        new = self._kind(id=self._access.new_id())
        new.spec.MergeFromString(spec.SerializeToString())
        await self._access.put(new)
        return str(new.id)

    @written
    async def update(self, reference: str, version: int, spec: Spec) -> None:
        """Replace an object's labels; nothing else of it ever changes.

        Raises:
            ControlError: another field differs, not found, or changed since it was read.
        """
        stored = await self._access.find(self._kind, reference)
        check_version(stored, version)
        if (spec.name and spec.name != stored.spec.name) or (
            spec.data and spec.data != stored.spec.data
        ):
            raise invalid("only updates to Labels are allowed")
        new = self._kind()
        new.CopyFrom(stored)
        new.spec.labels.clear()
        new.spec.labels.update(spec.labels)
        await self._access.put(new)

    @written
    async def replace(
        self, reference: str, data: bytes, *, hot: bool = False, signal: str = ""
    ) -> list[str]:
        """Replace an object's data under its name and id; the same data again changes nothing.

        Args:
            reference: id, name or prefix.
            data: the new data, whole.
            hot: nodes rewrite the file in tasks that run; else services that use the object are
                updated (ForceUpdate), each as its update config says. A job is left alone.
            signal: for programs whose file was rewritten; empty: none.

        Returns:
            Names of the services that use it and are rolled, or whose files are rewritten.

        Raises:
            ControlError: refused, or not found.
        """
        if signal and not hot:
            raise invalid("a signal is for programs whose file is rewritten: ask for hot, too")
        if signal and not is_signal(signal):
            raise invalid(f"invalid signal: {signal}")
        stored = await self._access.find(self._kind, reference)
        if data == stored.spec.data:
            return []
        new = self._kind()
        new.CopyFrom(stored)
        new.spec.data, new.hot, new.signal = data, hot, signal
        self._check(new.spec)
        using = [s for s in await self._access.all(Service) if stored.id in self._used_by(s)]
        if hot:
            await self._access.put(new)
            return sorted(s.spec.name for s in using)
        rolled = [_forced(service) for service in using if not is_job(service.spec)]
        await self._access.put(new, *rolled)
        return sorted(s.spec.name for s in rolled)

    @written
    async def remove(self, reference: str) -> None:
        """Remove an object that no service uses.

        Raises:
            ControlError: not found, or in use and by whom.
        """
        stored = await self._access.find(self._kind, reference)
        names = sorted(
            s.spec.name for s in await self._access.all(Service) if stored.id in self._used_by(s)
        )
        if names:
            services = "services" if len(names) > 1 else "service"
            raise invalid(
                f"{self._word} '{stored.spec.name}' is in use by the following "
                f"{services}: {', '.join(names)}"
            )
        await self._access.delete([stored])

    def _used_by(self, service: Service) -> set[str]:
        container = service.spec.task_template.container_spec
        if self._word == "secret":
            return {s.secret_id for s in container.secrets}
        return {c.config_id for c in container.configs}

    def _check(self, spec: Spec) -> None:
        check_file_name(spec.name)
        if isinstance(spec, SecretSpec) and spec.driver.name:
            raise unimplemented(
                f"secret driver {spec.driver.name} is not supported by this version of meshnet: "
                "store the secret's data in the swarm, without --driver"
            )
        if spec.templating.name not in {"", "golang"}:
            raise unimplemented(
                f"template driver {spec.templating.name} is not supported by this version of "
                f"meshnet: create the {self._word} with --template-driver golang, or its data as "
                "the container shall read it"
            )
        if spec.templating.name:
            try:
                check_payload(spec.data)
            except ControlError as error:
                raise invalid(error.message) from None
        limit = _MAX_BYTES[self._word]
        if not 0 < len(spec.data) < limit:
            raise invalid(f"{self._word} data must be larger than 0 and less than {limit} bytes")

    def _shown(self, stored: F) -> F:
        if self._word != "secret":
            return stored
        shown: F = self._kind()
        shown.CopyFrom(stored)
        shown.spec.ClearField("data")
        return shown


def _forced(service: Service) -> Service:
    """A service whose tasks are all to be replaced, as ``docker service update --force`` has it."""
    spec = ServiceSpec()
    spec.CopyFrom(service.spec)
    spec.task_template.force_update += 1
    return updated(service, spec)
