"""The YAML of a stack file. Pure.

It is of version 1.2, so that ``22:22`` is a text and ``no`` a word; numbers that begin with a 0
are octal, as Docker reads them. Aliases and merge keys are weighed before they are followed: a
few lines of them can stand for more than a machine holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from meshnet_control.stack.merging import Override
from meshnet_control.stack.reach import VALUE
from meshnet_control.stack.values import StackError

_MOST: Final = 16 * 1024 * 1024
"""Bytes that a file may stand for, about; some 250 000 values."""
_UNDERWAY: Final = -1
_KEYS: Final = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


class _Constructor(SafeConstructor):
    """YAML 1.2, with Docker's octal numbers and Compose's tags."""

    weighed: Callable[[int], None]
    """Told what a file stands for before it is made."""

    def construct_document(self, node: Any) -> Any:  # noqa: ANN401 - ruamel's
        """A whole file, once it is known to be no larger than it may be."""
        self.weighed(_weighed(node, {}))
        return super().construct_document(node)

    def construct_yaml_int(self, node: Any) -> int:  # noqa: ANN401 - ruamel's
        """A whole number."""
        text = self.construct_scalar(node)
        digits = text.lstrip("-+")
        if len(digits) > 1 and digits.startswith("0") and digits.isdigit():
            return int(text, 8)
        return int(super().construct_yaml_int(node))

    def construct_reset(self, _node: Any) -> Override:  # noqa: ANN401 - ruamel's
        """``!reset``."""
        return Override(None)

    def construct_override(self, node: Any) -> Override:  # noqa: ANN401 - ruamel's
        """``!override``."""
        kind = type(node).__name__
        if kind == "MappingNode":
            return Override(self.construct_mapping(node, deep=True))
        if kind == "SequenceNode":
            return Override(self.construct_sequence(node, deep=True))
        return Override(self.construct_scalar(node))


_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_yaml_int)
_Constructor.add_constructor("!reset", _Constructor.construct_reset)
_Constructor.add_constructor("!override", _Constructor.construct_override)


def parsed(text: str, name: str, weighed: Callable[[int], None] = lambda _: None) -> Any:  # noqa: ANN401 - any YAML value
    """What a text of YAML says.

    Args:
        text: the YAML.
        name: of its file.
        weighed: told the bytes that it stands for, before it is made; may refuse.

    Raises:
        StackError: it is no YAML, has a key that is no text, or grows beyond reason.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = type("_Weighing", (_Constructor,), {"weighed": staticmethod(weighed)})
    try:
        return yaml.load(text)
    except StackError as error:
        raise StackError(f"{name}: {error}") from None
    except RecursionError:
        raise StackError(f"{name}: it is nested without end") from None
    except (YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark is not None else ""
        why = getattr(error, "problem", None) or str(error)
        raise StackError(f"{name}:{line} {' '.join(str(why).split())}") from None


def _weighed(node: Node, known: dict[int, int]) -> int:
    """Bytes that a node stands for, about, with every alias followed; ``known``: by id().

    Raises:
        StackError: more than a file may, without end, or a key is no text.
    """
    weight = known.get(id(node))
    if weight == _UNDERWAY:
        raise StackError("it is nested without end")
    if weight is None:
        known[id(node)] = _UNDERWAY
        weight = known[id(node)] = VALUE + _inside(node, known)
    if weight > _MOST:
        raise StackError(f"its aliases stand for more than {_MOST >> 20} MiB")
    return weight


def _inside(node: Node, known: dict[int, int]) -> int:
    if isinstance(node, ScalarNode):
        return len(node.value)
    if isinstance(node, SequenceNode):
        return sum(_weighed(each, known) for each in node.value)
    if not isinstance(node, MappingNode):
        return 0
    for key, _ in node.value:
        if key.tag not in _KEYS:
            raise StackError(
                f"line {key.start_mark.line + 1}: a key must be a text: "
                f"{key.value if isinstance(key, ScalarNode) else 'this is none'}"
            )
    return sum(_weighed(key, known) + _weighed(value, known) for key, value in node.value)
