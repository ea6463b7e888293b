"""``meshnet stack deploy``: a file by the Compose specification becomes a stack of the cluster.

The requests are those that ``docker stack deploy`` makes, so that ``docker stack ls``, ``ps`` and
``rm`` know the stack. What is to be done is found by ``stack.plan`` and printed by ``--dry-run``.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import click
from rich.table import Table

from meshnet.errors import ControlError
from meshnet_control.cli import registry_login
from meshnet_control.cli.asking import Api, asking
from meshnet_control.cli.beside import beside
from meshnet_control.cli.showing import wide_console
from meshnet_control.cli.visible import say
from meshnet_control.stack import images, model, plan, reading, waiting
from meshnet_control.stack.plan import CREATE, KEPT, REMOVE, UNCHANGED, UPDATE, Observed, Step
from meshnet_control.stack.values import StackError

_LOOK_S: Final = 0.25
_WAIT_S: Final = 300.0
Login: TypeAlias = Callable[[str], dict[str, str]]


@click.command()
@click.option(
    "-c", "--compose-file", "files", multiple=True, metavar="FILE", default=("compose.yaml",),
    show_default=True, help="Stack file, - for standard input; several: later ones win.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--prune", is_flag=True, help="Remove services that the stack has no more.")
@click.option(
    "--resolve-image", type=click.Choice(images.MODES), default=images.ALWAYS, show_default=True,
    help="Whether registries are asked which digests images have.",
)  # fmt: skip
@click.option("--with-registry-auth", is_flag=True, help="Nodes pull with your docker login.")
@click.option("--profile", "profiles", multiple=True, help="Services of this profile, too.")
@click.option(
    "--wait-timeout", "wait_s", type=click.FloatRange(min=0), default=_WAIT_S, show_default=True,
    help="Seconds that a service waits for what it depends on.",
)  # fmt: skip
@click.argument("name", required=False, default="")
def deploy(
    *,
    files: Sequence[str],
    dry_run: bool,
    prune: bool,
    resolve_image: str,
    with_registry_auth: bool,
    profiles: Sequence[str],
    wait_s: float,
    name: str,
) -> None:
    """Deploy a stack NAME (else name: of the file) from a file by the Compose specification.

    A service is made, or updated, once those it depends on are there (condition of depends_on).
    Changed data of a secret or config is replaced, and services that use it are rolled. A service
    whose image is in no registry that answers keeps what it has while the file names the same one.
    """
    tree, missed = reading.read(files, os.environ)
    named = [each for each in os.environ.get("COMPOSE_PROFILES", "").split(",") if each]
    wanted = model.stack(tree, name, [*profiles, *named])
    for variable in missed:
        _say(f'the variable "{variable}" is not set: it stands for nothing')
    for key in wanted.ignored:
        _say(f"{key} means nothing in a cluster: left out")

    async def work(api: Api) -> None:
        observed = await _observed(api)
        login = registry_login.header if with_registry_auth else _no_login
        due = images.due(wanted, observed.services, resolve_image)
        stack = images.resolved(wanted, await _looked_up(api, due, login))
        steps = plan.plan(stack, observed, prune=prune)
        if dry_run:
            wide_console().print(table(steps))
            return
        await _Deployment(api, stack, wait_s, login).carry_out(steps)

    asking(work)


def table(steps: Sequence[Step]) -> Table:
    """A plan as a person reads it. Pure."""
    shown = Table("", "KIND", "NAME", "CHANGES", box=None)
    signs = {CREATE: "+", UPDATE: "~", REMOVE: "-", KEPT: "!", UNCHANGED: " "}
    for step in steps:
        why = ", ".join(step.fields)
        if step.verb == KEPT:
            why = f"differs in {why}: a network is never changed, remove it first"
        shown.add_row(f"{signs[step.verb]} {step.verb}", step.kind, step.name, why)
    return shown


def _say(sentence: str) -> None:
    say(f"meshnet: {sentence}", err=True)


async def _observed(api: Api) -> Observed:
    lists = [
        await api.ask("GET", f"/{kind}") for kind in ("networks", "secrets", "configs", "services")
    ]
    return Observed(*(found or [] for found in lists))


def _no_login(_image: str) -> dict[str, str]:
    return {}


async def _looked_up(api: Api, due: Sequence[str], login: Login) -> dict[str, images.Found]:
    """What registries say of images; one that cannot be had is left out, and told."""

    async def one(image: str) -> images.Found | None:
        path = f"/distribution/{quote(images.tagged(image), safe='/:@')}/json"
        try:
            said = await api.ask("GET", path, headers=login(image))
            return images.found(said)
        except (ControlError, KeyError, TypeError) as error:
            _say(f"{image} is looked up in vain, each node takes what it finds: {error}")
            return None

    found = zip(due, await asyncio.gather(*map(one, due)), strict=True)
    return {image: answer for image, answer in found if answer is not None}


class _Deployment:
    """One deployment.

    Args:
        api: of the cluster.
        stack: what is wanted.
        wait_s: how long a service may wait for what it depends on.
        login: credentials for an image, as a header.
    """

    def __init__(self, api: Api, stack: model.Stack, wait_s: float, login: Login) -> None:
        self._api, self._stack, self._wait_s, self._login = api, stack, wait_s, login
        self._ids: dict[str, dict[str, str]] = {}

    async def carry_out(self, steps: Sequence[Step]) -> None:
        """Do what a plan says, in its order.

        Raises:
            StackError: what a service waits for does not come.
            ControlError: the cluster refuses something.
        """
        for step in steps:
            if step.kind == "network":
                await self._network(step)
            elif step.kind != "service":
                await self._file(step)
        for kind in ("secret", "config"):
            listed = await self._api.ask("GET", f"/{kind}s")
            self._ids[kind] = {each["Spec"]["Name"]: each["ID"] for each in listed or []}
        for step in steps:
            if step.kind == "service":
                await self._service(step)

    async def _network(self, step: Step) -> None:
        if step.verb == CREATE:
            click.echo(f"Creating network {step.name}")
            body = self._stack.networks[step.name]
            await self._api.ask("POST", "/networks/create", json_body=body)
        elif step.verb == KEPT:
            _say(f"network {step.name} differs in {', '.join(step.fields)}: it stays as it is")

    async def _file(self, step: Step) -> None:
        files = self._stack.secrets if step.kind == "secret" else self._stack.configs
        spec, base = files[step.name], f"/{step.kind}s"
        if step.verb == CREATE:
            click.echo(f"Creating {step.kind} {step.name}")
            await self._api.ask("POST", f"{base}/create", json_body=spec)
            return
        path = f"{base}/{quote(step.name, safe='')}"
        data = b64decode(spec["Data"])
        if step.verb == UPDATE:
            there = await self._api.ask("GET", path)
            said = {"version": str(there["Version"]["Index"])}
            labels = {**there["Spec"], "Labels": spec["Labels"]}
            await self._api.ask("POST", f"{path}/update", said, json_body=labels)
        rolled = (await self._api.ask("POST", f"{path}/data", body=data))["Services"]
        if rolled or step.verb == UPDATE:
            users = f" (rolled out by {', '.join(rolled)})" if rolled else ""
            click.echo(f"Updating {step.kind} {step.name}{users}")

    async def _service(self, step: Step) -> None:
        path = f"/services/{quote(step.name, safe='')}"
        if step.verb == REMOVE:
            click.echo(f"Removing service {step.name}")
            await self._api.ask("DELETE", path)
            return
        if step.verb == UNCHANGED:
            return
        for wait in self._stack.waits.get(step.name, ()):
            await self._wait(step.name, wait)
        wanted = self._with_ids(self._stack.services[step.name])
        login = self._login(images.named(wanted))
        if step.verb == CREATE:
            click.echo(f"Creating service {step.name}")
            await self._api.ask("POST", "/services/create", json_body=wanted, headers=login)
            return
        there = await self._api.ask("GET", path)
        click.echo(f"Updating service {step.name} (id: {there['ID']})")
        spec = plan.pinned(wanted, there["Spec"])
        spec["TaskTemplate"]["ForceUpdate"] = there["Spec"]["TaskTemplate"].get("ForceUpdate", 0)
        said = {"version": str(there["Version"]["Index"])}
        await self._api.ask("POST", f"{path}/update", said, json_body=spec, headers=login)

    def _with_ids(self, spec: dict[str, Any]) -> dict[str, Any]:
        """A copy with the ids of its secrets and configs."""
        done: dict[str, Any] = json.loads(json.dumps(spec))
        container = done["TaskTemplate"]["ContainerSpec"]
        for kind, word in (("secret", "Secret"), ("config", "Config")):
            for ref in container.get(f"{word}s", ()):
                ref[f"{word}ID"] = self._ids[kind].get(ref[f"{word}Name"], "")
        return done

    async def _wait(self, name: str, wait: model.Wait) -> None:
        words = f"{wait.service} {waiting.WORDS[wait.condition]}"
        until = time.monotonic() + self._wait_s
        said, told = False, ""
        while True:
            tasks, there = await self._seen(wait.service, wait.condition)
            if there:
                return
            if time.monotonic() >= until:
                why = waiting.trouble(tasks)
                late = f"{name} waits for {words}: not within {self._wait_s:g} s"
                late += f" ({why})" if why else ""
                if wait.required:
                    raise StackError(late)
                _say(late)
                return
            if not said:
                said = True
                say(f"Waiting for {words}")
            why = waiting.trouble(tasks)
            if why != told:
                told = why
                _say(f"{wait.service}: {why}")
            await asyncio.sleep(_LOOK_S)

    async def _seen(self, name: str, condition: str) -> tuple[list[Any], bool]:
        """The tasks of a service, and whether it is where it is to be."""
        filters = json.dumps({"name": [name]})
        found = await self._api.ask("GET", "/services", {"filters": filters, "status": "true"})
        service = next((each for each in found or [] if each["Spec"]["Name"] == name), None)
        if service is None:
            raise StackError(f"service {name} is not there any more")
        filters = json.dumps({"service": [service["ID"]]})
        tasks = await self._api.ask("GET", "/tasks", {"filters": filters}) or []
        return tasks, waiting.reached(condition, service, tasks)


stack = beside("stack", deploy)
