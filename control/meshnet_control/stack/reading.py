"""The files of a stack, read: one tree, with everything in it that other files say.

``include``, ``extends``, ``env_file``, ``.env`` and the files of secrets and configs are read here;
paths are relative to the file that names them (``extends``, ``include``), or to the first file. How
much all of it may be: ``reach``.

Source: the Compose specification, 14-include.md and 05-services.md (extends, env_file).
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import dotenv

from meshnet_control.stack.interpolation import Variables
from meshnet_control.stack.merging import merged, settled
from meshnet_control.stack.names import DATA
from meshnet_control.stack.parsing import parsed
from meshnet_control.stack.reach import Reach, weight
from meshnet_control.stack.values import Section, StackError, scalar

STDIN: Final = "-"
_MOST_BYTES: Final = 4 * 1024 * 1024
"""Of one file."""


def read(files: Sequence[str], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The tree that files make together, later ones over earlier ones.

    Args:
        files: their names; ``-`` is standard input.
        environ: variables; they win over those of ``.env`` beside the first file.

    Returns:
        The tree, and names of variables that are used and not set.

    Raises:
        StackError: a file cannot be read or understood.
    """
    base = Path.cwd() if files[0] == STDIN else Path(files[0]).absolute().parent
    aside = base / ".env"
    beside = _dotenv(_text(aside), environ) if aside.is_file() else {}
    variables, reach = Variables({**beside, **environ}), Reach()
    tree: dict[str, Any] = {}
    try:
        for name in files:
            path = None if name == STDIN else Path(name).absolute()
            tree = merged(tree, _file(path, base, variables, reach))
        tree = dict(settled(tree))
        _fill(tree, variables, reach)
    except RecursionError:
        raise StackError(f"{', '.join(files)}: nested without end") from None
    return tree, list(variables.missed)


def _file(path: Path | None, base: Path, variables: Variables, reach: Reach) -> dict[str, Any]:
    """One file with what it includes and extends; relative paths made absolute."""
    name = str(path) if path is not None else "standard input"
    reach.file(name)
    raw = parsed(
        _text(path) if path is not None else _decoded(_some(sys.stdin.buffer, name), name),
        name,
        reach.holds,
    )
    tree: dict[str, Any] = variables.tree(_held(raw, name))
    services = tree.get("services")
    if isinstance(services, dict):
        for service in services:
            services[service] = _extended(services, service, (path, base), variables, reach)
    _absolute(tree, base)
    for included in _list(tree.pop("include", None)):
        tree = _beside(_included(included, base, variables, reach.deeper(name)), tree)
    return tree


def _held(raw: Any, name: str) -> dict[str, Any]:  # noqa: ANN401 - any YAML value
    if not isinstance(raw, dict):
        raise StackError(f"{name}: the top level must be a mapping")
    return raw


def _included(
    said: Any,  # noqa: ANN401 - any YAML value
    base: Path,
    variables: Variables,
    reach: Reach,
) -> dict[str, Any]:
    entry = Section(said if isinstance(said, Mapping) else {"path": said}, "include")
    paths = [base / path for path in entry.texts("path")]
    if not paths:
        raise StackError("include: no path is given")
    named = entry.text("project_directory")
    directory = base / named if named else paths[0].parent
    own = variables
    env_files = [base / name for name in entry.texts("env_file")] or [directory / ".env"]
    values = dict(variables.values)
    for path in env_files:
        if path.is_file():
            values = {**_dotenv(_text(path), values), **values}
    own = Variables(values)
    entry.done()
    tree: dict[str, Any] = {}
    for path in paths:
        tree = merged(tree, _file(path, directory, own, reach))
    variables.missed.update(own.missed)
    return tree


def _beside(included: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """What a file includes is added to it; nothing may be in both."""
    for kind in ("services", "networks", "volumes", "secrets", "configs"):
        both = (included.get(kind) or {}).keys() & (tree.get(kind) or {}).keys()
        if both and any(included[kind][name] != tree[kind][name] for name in both):
            raise StackError(f"include: {kind}.{min(both)} is in two files, and differs")
    return dict(merged(included, tree))


def _extended(
    services: Mapping[str, Any],
    name: str,
    place: tuple[Path | None, Path],
    variables: Variables,
    reach: Reach,
) -> Any:  # noqa: ANN401 - any YAML value
    """A service over the one that it extends."""
    service = services[name]
    if not isinstance(service, dict) or "extends" not in service:
        return service
    said, where = service["extends"], f"services.{name}.extends"
    inner = reach.deeper(where)
    entry = Section(said if isinstance(said, Mapping) else {"service": said}, where)
    other, file = entry.text("service"), entry.text("file")
    entry.done()
    if file:
        path = (place[0].parent if place[0] is not None else place[1]) / file
        if (path, variables) not in reach.extended:
            reach.extended[path, variables] = _file(path, path.parent, variables, inner)
        base = (reach.extended[path, variables].get("services") or {}).get(other)
    else:
        base = services.get(other) and _extended(services, other, place, variables, inner)
    if not isinstance(base, dict):
        raise StackError(f"{where}: there is no service {other}")
    own = {key: value for key, value in service.items() if key != "extends"}
    reach.holds(weight(base), where)
    return merged({k: v for k, v in base.items() if k != "depends_on"}, own)


def _absolute(tree: dict[str, Any], base: Path) -> None:
    """In place: every path of a file, of environment or of a bind mount is absolute."""
    for kind in ("secrets", "configs"):
        for entry in _mappings(tree.get(kind)):
            if isinstance(entry.get("file"), str):
                entry["file"] = _at(base, entry["file"])
    for service in _mappings(tree.get("services")):
        if "env_file" in service:
            service["env_file"] = [_env_file(one, base) for one in _list(service["env_file"])]
        if isinstance(service.get("volumes"), list):
            service["volumes"] = [_volume(one, base) for one in service["volumes"]]


def _env_file(said: Any, base: Path) -> Any:  # noqa: ANN401 - any YAML value
    if isinstance(said, dict):
        return {**said, "path": _at(base, said["path"])} if "path" in said else said
    return _at(base, said)


def _volume(said: Any, base: Path) -> Any:  # noqa: ANN401 - any YAML value
    if isinstance(said, str) and said.startswith((".", "~")):
        source, colon, rest = said.partition(":")
        return f"{_at(base, source)}{colon}{rest}"
    if isinstance(said, dict) and said.get("type") == "bind":
        return {**said, "source": _at(base, said["source"])} if "source" in said else said
    return said


def _at(base: Path, said: object) -> str:
    name = scalar(said, "the path of a file")
    try:
        return str((base / Path(name).expanduser()).resolve(strict=False))
    except (RuntimeError, OSError, ValueError) as error:
        raise StackError(f"{name}: {error}") from None


def _fill(tree: dict[str, Any], variables: Variables, reach: Reach) -> None:
    """In place: what other files, or variables, say of environments, secrets and configs."""
    for name, service in _named(tree.get("services")):
        files = _list(service.pop("env_file", None))
        values: dict[str, str | None] = {}
        for one in files:
            found = _environment(one, f"services.{name}.env_file", variables)
            reach.holds(weight(found), f"services.{name}.env_file")
            values |= found
        own = Section(service, f"services.{name}").pairs("environment")
        both = values | {
            key: variables.values.get(key, v) if v is None else v for key, v in own.items()
        }
        if both:
            service["environment"] = both
    for kind in ("secrets", "configs"):
        for name, entry in _named(tree.get(kind)):
            if not entry.get("external"):
                entry[DATA] = _data(entry, f"{kind}.{name}", variables)
                reach.holds(len(entry[DATA]), f"{kind}.{name}")


def _environment(said: Any, where: str, variables: Variables) -> dict[str, str | None]:  # noqa: ANN401
    entry = Section(said if isinstance(said, Mapping) else {"path": said}, where)
    path = Path(entry.text("path"))
    required = "required" not in entry or entry.boolean("required")
    entry.take("required"), entry.take("format")
    entry.done()
    if not required and not path.exists():
        return {}
    return dict(_dotenv(_text(path), variables.values))


def _data(entry: dict[str, Any], where: str, variables: Variables) -> bytes:
    said = [key for key in ("file", "environment", "content") if entry.get(key) is not None]
    if len(said) != 1:
        raise StackError(f"{where}: give one of file, environment and content")
    value = scalar(entry.pop(said[0]), f"{where}.{said[0]}")
    if said[0] == "content":
        return value.encode()
    if said[0] == "file":
        return _content(Path(value), f"{where}: {value}")
    if value not in variables.values:
        raise StackError(f"{where}: environment variable {value} is not set")
    return variables.values[value].encode()


def _dotenv(text: str, values: Mapping[str, str]) -> dict[str, str]:
    found = dotenv.dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {key: values.get(key, "") if value is None else value for key, value in found.items()}


def _text(path: Path) -> str:
    return _decoded(_content(path, str(path)), str(path))


def _content(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            return _some(file, name)
    except (OSError, ValueError) as error:
        raise StackError(f"{name}: {getattr(error, 'strerror', None) or error}") from None


def _some(file: BinaryIO, name: str) -> bytes:
    content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise StackError(f"{name}: it is larger than {_MOST_BYTES >> 20} MiB")
    return content


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise StackError(f"{name}: it is not UTF-8") from None


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - any YAML value
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _named(section: Any) -> Iterable[tuple[str, dict[str, Any]]]:  # noqa: ANN401 - any YAML value
    found = section.items() if isinstance(section, dict) else ()
    return [(str(name), entry) for name, entry in found if isinstance(entry, dict)]


def _mappings(section: Any) -> Iterable[dict[str, Any]]:  # noqa: ANN401 - any YAML value
    return [entry for _, entry in _named(section)]
