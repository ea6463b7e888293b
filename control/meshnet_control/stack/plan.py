"""What has to be done so that a cluster has a stack: (wanted, observed) -> steps. Pure.

```
 networks ─> secrets, configs ─> services, each after those it depends on ─> removals (--prune)
```
A service is compared as the cluster would store it: defaults written out, networks by name. What
a cluster does not tell (a secret's data) is compared by the manager when it is deployed.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from meshnet.errors import ControlError
from meshnet_control.api.control_pb2 import ServiceSpec
from meshnet_control.controlapi.refusals import INVALID
from meshnet_control.controlapi.specs import service_checks
from meshnet_control.controlapi.specs.names import check_dns_name, check_file_name
from meshnet_control.controlapi.specs.service_spec import complete
from meshnet_control.convert.engine_json import from_engine, to_engine
from meshnet_control.stack.model import Stack
from meshnet_control.stack.names import IMAGE, NAMESPACE
from meshnet_control.stack.values import StackError

Json: TypeAlias = dict[str, Any]

CREATE: Final = "create"
UPDATE: Final = "update"
UNCHANGED: Final = "unchanged"
REMOVE: Final = "remove"
KEPT: Final = "differs"
"""A network, which never changes: it is left as it is."""
_LONGEST: Final = 60
"""Characters of a value that is shown."""
_QUIET: Final = frozenset({"Env", "Data"})
"""Fields whose values may be secrets."""

_NETWORK_APART: Final = frozenset({"Name", "CheckDuplicate", "IPAM", "Options"})
"""What the cluster adds to, so that what is asked for must only be in it."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A cluster's objects, as the Engine API lists them."""

    networks: Sequence[Json] = ()
    secrets: Sequence[Json] = ()
    configs: Sequence[Json] = ()
    services: Sequence[Json] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one object."""

    kind: str
    """``network``, ``secret``, ``config`` or ``service``."""
    name: str
    verb: str
    fields: tuple[str, ...] = ()
    """What changes, a phrase each."""


def plan(stack: Stack, observed: Observed, *, prune: bool = False) -> list[Step]:
    """Everything that is to be done, and what is not, in order.

    Args:
        stack: what is wanted.
        observed: what is there.
        prune: services of the stack that it has no more are removed.

    Raises:
        StackError: what must be there already is not, or the cluster would refuse something.
    """
    _check(stack)
    _check_external(stack, observed)
    networks = {str(each["Id"]): str(each["Name"]) for each in observed.networks}
    steps = [_network(wanted, _by_name(observed.networks)) for wanted in stack.networks.values()]
    for kind, files, there in (
        ("secret", stack.secrets, observed.secrets),
        ("config", stack.configs, observed.configs),
    ):
        steps += [_file(kind, wanted, _by_spec(there).get(name)) for name, wanted in files.items()]
    services = _by_spec(observed.services)
    steps += [
        _service(wanted, services.get(name), networks) for name, wanted in stack.services.items()
    ]
    if prune:
        gone = (
            name
            for name, each in services.items()
            if _namespace(each["Spec"]) == stack.name and name not in stack.services
        )
        steps += [Step("service", name, REMOVE) for name in sorted(gone)]
    return steps


def canonical(spec: Mapping[str, Any], networks: Mapping[str, str]) -> Json:
    """A ServiceSpec as the cluster stores it, without what is not of the file's making.

    Args:
        spec: Engine JSON.
        networks: names by id.

    Raises:
        ControlError: the cluster would refuse it.
    """
    done = complete(from_engine(ServiceSpec, spec))
    task = done.task_template
    task.force_update = 0
    if not task.networks:
        task.networks.extend(done.networks)
    done.ClearField("networks")
    for attachment in task.networks:
        attachment.target = networks.get(attachment.target, attachment.target)
    for secret in task.container_spec.secrets:
        secret.secret_id = ""
    for config in task.container_spec.configs:
        config.config_id = ""
    # The docker CLI gives these in any order, and it says nothing.
    task.networks.sort(key=lambda each: each.target)
    task.container_spec.secrets.sort(key=lambda each: (each.secret_name, each.file.name))
    task.container_spec.configs.sort(key=lambda each: (each.config_name, each.file.name))
    return to_engine(done)


def pinned(wanted: Json, there: Mapping[str, Any] | None) -> Json:
    """A wanted spec that keeps the digest its unchanged image was resolved to, as Docker does.

    Not one that has a digest itself, of its registry's or of its file's.
    """
    template = wanted["TaskTemplate"]
    resolved = "@" in str(template["ContainerSpec"]["Image"])
    if resolved or there is None or (there.get("Labels") or {}).get(IMAGE) != _image(wanted):
        return wanted
    before = there["TaskTemplate"]
    kept = {
        "ContainerSpec": {**template["ContainerSpec"], "Image": before["ContainerSpec"]["Image"]}
    }
    platforms = (before.get("Placement") or {}).get("Platforms")
    if platforms:
        kept["Placement"] = {**(template.get("Placement") or {}), "Platforms": platforms}
    return {**wanted, "TaskTemplate": {**template, **kept}}


def changes(before: Any, after: Any, at: str = "") -> list[str]:  # noqa: ANN401 - any JSON value
    """What differs between two JSON values, a phrase for each field: ``Replicas 1 -> 2``."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: list[str] = []
        for key in sorted({*before, *after}):
            found += changes(before.get(key), after.get(key), f"{at}.{key}" if at else key)
        return found
    if (before or None) == (after or None):  # 0 and absent are one
        return []
    name = _short_name(at)
    if name.rpartition(".")[2] in _QUIET or isinstance(before or after, list | dict):
        return [name]
    return [f"{name} {_shown(before)} -> {_shown(after)}"]


# ---- inside ----


def _service(wanted: Json, there: Json | None, networks: Mapping[str, str]) -> Step:
    name = str(wanted["Name"])
    spec = None if there is None else there["Spec"]
    after = canonical(pinned(wanted, spec), networks)
    if spec is None:
        return Step("service", name, CREATE)
    found = changes(canonical(spec, networks), after)
    return Step("service", name, UPDATE if found else UNCHANGED, tuple(found))


def _network(wanted: Json, there: Mapping[str, Json]) -> Step:
    name = str(wanted["Name"])
    found = there.get(name)
    if found is None:
        return Step("network", name, CREATE)
    told = {key: value for key, value in wanted.items() if key not in _NETWORK_APART}
    differ = changes({key: found.get(key) for key in told}, told)
    options = wanted.get("Options") or {}
    if any((found.get("Options") or {}).get(key) != value for key, value in options.items()):
        differ.append("Options")
    if not _subnets(wanted) <= _subnets(found):
        differ.append("IPAM")
    return Step("network", name, KEPT if differ else UNCHANGED, tuple(differ))


def _subnets(network: Json) -> set[str]:
    configs = (network.get("IPAM") or {}).get("Config") or []
    return {str(each["Subnet"]) for each in configs if each.get("Subnet")}


def _file(kind: str, wanted: Json, there: Json | None) -> Step:
    name = str(wanted["Name"])
    if there is None:
        return Step(kind, name, CREATE)
    spec = there["Spec"]
    found = changes(spec.get("Labels") or {}, wanted["Labels"], "Labels")
    if kind == "config" and b64decode(spec.get("Data") or "") != b64decode(wanted["Data"]):
        found.append("Data")
    if found or kind == "config":
        return Step(kind, name, UPDATE if found else UNCHANGED, tuple(found))
    return Step(kind, name, UNCHANGED, ("but for its data, which the manager compares",))


def _check(stack: Stack) -> None:
    """What the manager would refuse, before anything is done."""
    for kind, names, check in (
        ("network", stack.networks, check_dns_name),
        ("secret", stack.secrets, check_file_name),
        ("config", stack.configs, check_file_name),
    ):
        for name in names:
            with _refused(f"{kind} {name}"):
                check(name)
    for name, wanted in stack.services.items():
        with _refused(f"service {name}"):
            spec = complete(from_engine(ServiceSpec, wanted))
            for secret in spec.task_template.container_spec.secrets:
                secret.secret_id = secret.secret_name
            for config in spec.task_template.container_spec.configs:
                config.config_id = config.config_name
            service_checks.check(spec)


@contextmanager
def _refused(what: str) -> Iterator[None]:
    try:
        yield
    except ControlError as error:
        raise StackError(f"{what}: {error.message.removeprefix(INVALID)}") from None


def _check_external(stack: Stack, observed: Observed) -> None:
    there = {
        "networks": set(_by_name(observed.networks)),
        "secrets": set(_by_spec(observed.secrets)),
        "configs": set(_by_spec(observed.configs)),
    }
    for kind, names in stack.external.items():
        for name in names:
            if name not in there[kind]:
                word = kind.removesuffix("s")
                raise StackError(f'{word} "{name}" is declared as external, but is not there')


def _by_name(found: Iterable[Json]) -> dict[str, Json]:
    return {str(each["Name"]): each for each in found}


def _by_spec(found: Iterable[Json]) -> dict[str, Json]:
    return {str(each["Spec"]["Name"]): each for each in found}


def _image(spec: Json) -> str | None:
    return (spec.get("Labels") or {}).get(IMAGE)


def _namespace(spec: Mapping[str, Any]) -> str:
    return str((spec.get("Labels") or {}).get(NAMESPACE, ""))


def _short_name(at: str) -> str:
    return at.removeprefix("TaskTemplate.").removeprefix("ContainerSpec.")


def _shown(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
