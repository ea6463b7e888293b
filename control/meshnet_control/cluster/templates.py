"""Templates in a container's specification and files: ``{{.Service.Name}}`` and friends. PURE.

Go's text/template as far as Swarm's documents go: a field of the task's context, or ``index`` of
labels; in environment values, mounts and the hostname. In a secret or config with a template driver
also ``env "A"``, ``secret "target"`` and ``config "target"``, of the same task. A manager expands
them with a task made up, to refuse what no node could expand; a node with its task. What templates
put in is bounded: a long label named often would be more than any host has memory.

Source: swarmkit template/context.go, expand.go, getter.go; Go text/template/parse for the words of
errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Final

from meshnet.errors import ControlError
from meshnet.patterns import Pattern
from meshnet_control.api import control_pb2 as pb

_INDEX: Final = Pattern(r'index\s+(\.\w+\.Labels)\s+"([^"]*)"', longest=1024)
_CALL: Final = Pattern(r'(env|secret|config)\s+"([^"]*)"', longest=1024)
_FIELD: Final = Pattern(r"\.\w+(?:\.\w+)*", longest=1024)
_WORD: Final = Pattern(r"\w+", longest=1024)
_SPACE: Final = " \t\r\n"
"""What ``{{- `` and `` -}}`` take away beside them (Go's text/template)."""
MOST_PUT_IN: Final = 1 << 20
"""Characters that the templates of one container put in, all together."""
_OPENING: Final = frozenset({"block", "define", "if", "range", "template", "with"})
_INNER: Final = frozenset({"break", "continue", "else", "end"})
_FUNCTIONS: Final = frozenset(
    {"and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or",
     "print", "printf", "println", "slice", "urlquery"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Where:
    """The node a container runs on, and the task's name there."""

    task_name: str
    node_id: str
    hostname: str
    architecture: str
    os: str


def expanded(task: pb.Task, where: Where) -> pb.ContainerSpec:
    """A copy of a task's container specification with its templates replaced.

    Raises:
        ControlError: a template that cannot be, in Swarm's words (400).
    """
    words = _Words(task, where)
    spec = pb.ContainerSpec()
    spec.CopyFrom(task.spec.container_spec)
    for at, entry in enumerate(spec.env):
        name, given, value = entry.partition("=")
        said = f"expanding env failed: expanding env {_quoted(entry)}"
        spec.env[at] = name + given + words.expand(value, said)
    for mount in spec.mounts:
        for field in ("source", "target"):
            text = getattr(mount, field)
            said = f"expanding mounts failed: expanding mount {field} {_quoted(text)}"
            setattr(mount, field, words.expand(text, said))
        if mount.HasField("volume_options"):
            volume, failed = mount.volume_options, "expanding mounts failed: expanding volume"
            _map(volume.labels, words.expand, f"{failed} labels")
            _map(volume.driver_config.options, words.expand, f"{failed} driver config")
    spec.hostname = words.expand(spec.hostname, "expanding hostname failed")
    return spec


def payload(
    data: bytes, task: pb.Task, where: Where, files: Mapping[tuple[str, str], bytes]
) -> bytes:
    """A secret's or config's data with its templates replaced.

    Args:
        data: as it is stored; bytes that are no text stay as they are.
        task: whose it is to be.
        where: its node.
        files: data of the task's secrets and configs by ``secret`` or ``config`` and target, as
            they are stored.

    Raises:
        ControlError: a template that cannot be, or names what the task does not have.
    """
    env = dict(entry.partition("=")[::2] for entry in task.spec.container_spec.env)
    words = _Words(task, where, lambda kind, name: _called(kind, name, env, files))
    return words.expand(_text(data), "").encode(errors="surrogateescape")


def check_payload(data: bytes) -> None:
    """Refuse data that no node could expand, whatever its task.

    Raises:
        ControlError: a template that cannot be.
    """
    words = _Words(pb.Task(), Where("", "", "", "", ""), lambda *_: "")
    words.expand(_text(data), "")


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _called(
    kind: str, name: str, env: Mapping[str, str], files: Mapping[tuple[str, str], bytes]
) -> str:
    if kind == "env":
        return env.get(name, "")
    if (kind, name) not in files:
        raise ControlError(f"{kind} target {name} not found")
    return _text(files[kind, name])


def _map(values: MutableMapping[str, str], expand: Callable[[str, str], str], said: str) -> None:
    for key, value in list(values.items()):
        entry = f"{_quoted(key)}={_quoted(value)}"
        values[key] = expand(value, f"{said}: expanding map entry {entry}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class _Words:
    """What a template may name."""

    def __init__(
        self, task: pb.Task, where: Where, call: Callable[[str, str], str] | None = None
    ) -> None:
        self._call = call
        self._labels = {
            ".Service.Labels": dict(task.service_labels),
            ".Node.Labels": dict[str, str](),
        }
        self._left = MOST_PUT_IN
        self._values = {
            ".Service.ID": task.service_id,
            ".Service.Name": task.service_name,
            ".Node.ID": where.node_id,
            ".Node.Hostname": where.hostname,
            ".Node.Platform.Architecture": where.architecture,
            ".Node.Platform.OS": where.os,
            ".Task.ID": task.id,
            ".Task.Name": where.task_name,
            ".Task.Slot": str(task.slot or task.node_id),
        }

    def expand(self, text: str, said: str) -> str:
        """``text`` with its templates replaced; ``said``: what leads an error."""
        said = f"{said}: " if said else ""
        first, *templates = text.split("{{")
        done, line = [first], 1 + first.count("\n")  # the last of done is text, not put in
        for template in templates:
            inside, closed, rest = template.partition("}}")
            if not closed:
                raise ControlError(f"{said}template: expansion:{line}: unclosed action")
            if inside.startswith("- "):
                done[-1] = done[-1].rstrip(_SPACE)
            if inside.endswith(" -"):
                rest = rest.lstrip(_SPACE)
            asked = inside.removeprefix("- ").removesuffix(" -").strip()
            value = self._value(asked)
            if value is None:
                raise ControlError(f"{said}template: expansion:{line}: {_wrong(asked)}")
            self._left -= len(value)
            if self._left < 0:
                raise ControlError(
                    f"{said}template: expansion:{line}: what templates of one container put in "
                    f"must not be longer than {MOST_PUT_IN} characters"
                )
            done += (value, rest)
            line += template.count("\n")
        return "".join(done)

    def _value(self, asked: str) -> str | None:
        if asked in self._values:
            return self._values[asked]
        called = _CALL.match(asked) if self._call is not None else None
        if self._call is not None and called is not None:
            return self._call(called[1], called[2])
        index = _INDEX.match(asked)
        if index is None or index[1] not in self._labels:
            return None
        return self._labels[index[1]].get(index[2], "")


def _wrong(asked: str) -> str:
    """Why an action cannot be replaced, in Go's words where Go would not do it either."""
    first = asked.split(maxsplit=1)[0] if asked else ""
    if not asked:
        return "missing value for command"
    if asked in _OPENING:
        return f"missing value for {asked}"
    if first in _INNER:
        return f"unexpected {{{{{first}}}}}"
    if _FIELD.fits(asked):
        field = asked.rpartition(".")[2]
        return f'executing "expansion" at <{asked}>: can\'t evaluate field {field}'
    if _WORD.fits(first) and first not in _FUNCTIONS | _OPENING and not first[0].isdigit():
        return f'function "{first}" not defined'
    return (
        f"{{{{{asked}}}}} is not supported by this version of meshnet: name a field as in "
        '{{.Task.Slot}} or a label as in {{index .Service.Labels "key"}}'
    )
