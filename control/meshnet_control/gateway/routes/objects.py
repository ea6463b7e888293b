"""``/services*``, ``/tasks*``, ``/secrets*`` and ``/configs*``."""

from __future__ import annotations

from http import HTTPStatus
from typing import Generic, TypeVar

from aiohttp import web

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import (
    Config,
    ConfigSpec,
    Secret,
    SecretSpec,
    ServiceSpec,
)
from meshnet_control.cluster.registry_auth import credentials
from meshnet_control.controlapi.files import Files
from meshnet_control.convert.engine_json import to_engine
from meshnet_control.gateway import responses
from meshnet_control.gateway.request import (
    FILE_BYTES,
    HandlerContext,
    body,
    flag,
    read,
    reference,
    version,
)
from meshnet_control.gateway.routes.service_networks import name_engine_networks

F = TypeVar("F", Secret, Config)


class ServiceRoutes:
    """Handlers of services and their tasks."""

    def __init__(self, context: HandlerContext) -> None:
        self._context = context

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        return [
            ("GET", "/services", self.list),
            ("POST", "/services/create", self.create),
            ("GET", "/services/{id}", self.inspect),
            ("POST", "/services/{id}/update", self.update),
            ("DELETE", "/services/{id}", self.remove),
            ("GET", "/tasks", self.tasks),
            ("GET", "/tasks/{id}", self.task),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """``GET /services``."""
        services = await self._context.api().services.select(
            request.query.get("filters"), status=flag(request, "status")
        )
        return responses.ok([to_engine(s) for s in services])

    async def create(self, request: web.Request) -> web.StreamResponse:
        """``POST /services/create``."""
        spec = await read(request, ServiceSpec)
        await name_engine_networks(self._context, spec)
        made = await self._context.api().services.create(spec, _auth(request) or "")
        return responses.ok({"ID": made}, HTTPStatus.CREATED)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        """``GET /services/{id}``."""
        service = await self._context.api().services.inspect(
            reference(request), defaults=flag(request, "insertDefaults")
        )
        return responses.ok(to_engine(service))

    async def update(self, request: web.Request) -> web.StreamResponse:
        """``POST /services/{id}/update``; ``rollback=previous`` ignores the body."""
        spec = await read(request, ServiceSpec)
        at = version(request, "service")
        rollback = request.query.get("rollback", "")
        if rollback not in {"", "previous"}:
            raise ControlError(f'unrecognized rollback option "{rollback}"')
        services = self._context.api().services
        if rollback:
            await services.rollback(reference(request), at)
        else:
            await name_engine_networks(self._context, spec)
            auth_from = request.query.get("registryAuthFrom", "")
            await services.update(reference(request), at, spec, _auth(request), auth_from)
        return responses.ok({"Warnings": None})

    async def remove(self, request: web.Request) -> web.StreamResponse:
        """``DELETE /services/{id}`` answers 200, not 204."""
        await self._context.api().services.remove(reference(request))
        return responses.empty(HTTPStatus.OK)

    async def tasks(self, request: web.Request) -> web.StreamResponse:
        """``GET /tasks``."""
        found = await self._context.api().tasks.select(request.query.get("filters"))
        return responses.ok([to_engine(t) for t in found])

    async def task(self, request: web.Request) -> web.StreamResponse:
        """``GET /tasks/{id}``."""
        return responses.ok(to_engine(await self._context.api().tasks.inspect(reference(request))))


def _auth(request: web.Request) -> str | None:
    """The credentials that came with a request, empty for none; None: nothing is said of any."""
    said = request.headers.get("X-Registry-Auth", "")
    return credentials(said) if said else None


class FileRoutes(Generic[F]):
    """Handlers of secrets, or of configs.

    Args:
        context: the gateway's.
        kind: ``Secret`` or ``Config``.
    """

    def __init__(self, context: HandlerContext, kind: type[F]) -> None:
        self._context = context
        self._kind: type[F] = kind
        self._word = kind.DESCRIPTOR.name.lower()

    def routes(self) -> responses.Routes:
        """Method, path and handler."""
        base = f"/{self._word}s"
        return [
            ("GET", base, self.list),
            ("POST", f"{base}/create", self.create),
            ("GET", base + "/{id}", self.inspect),
            ("POST", base + "/{id}/update", self.update),
            ("POST", base + "/{id}/data", self.replace),
            ("DELETE", base + "/{id}", self.remove),
        ]

    def _files(self) -> Files[F]:
        api = self._context.api()
        files: Files[F] = getattr(api, f"{self._word}s")
        return files

    async def _spec(self, request: web.Request) -> SecretSpec | ConfigSpec:
        if self._word == "secret":
            return await read(request, SecretSpec, FILE_BYTES)
        return await read(request, ConfigSpec, FILE_BYTES)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """``GET /secrets``."""
        found = await self._files().select(request.query.get("filters"))
        return responses.ok([to_engine(f) for f in found])

    async def create(self, request: web.Request) -> web.StreamResponse:
        """``POST /secrets/create``."""
        spec = await self._spec(request)
        return responses.ok({"ID": await self._files().create(spec)}, HTTPStatus.CREATED)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        """``GET /secrets/{id}``."""
        return responses.ok(to_engine(await self._files().inspect(reference(request))))

    async def update(self, request: web.Request) -> web.StreamResponse:
        """``POST /secrets/{id}/update``."""
        spec = await self._spec(request)
        await self._files().update(reference(request), version(request, self._word), spec)
        return responses.empty(HTTPStatus.OK)

    async def replace(self, request: web.Request) -> web.StreamResponse:
        """``POST /secrets/{id}/data``, no request of Docker's: the body is the new data."""
        services = await self._files().replace(
            reference(request),
            await body(request, FILE_BYTES),
            hot=flag(request, "hot"),
            signal=request.query.get("signal", ""),
        )
        return responses.ok({"Services": services})

    async def remove(self, request: web.Request) -> web.StreamResponse:
        """``DELETE /secrets/{id}``."""
        await self._files().remove(reference(request))
        return responses.empty(HTTPStatus.NO_CONTENT)
