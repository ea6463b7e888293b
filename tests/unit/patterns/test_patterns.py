"""Regular expressions: the whole text, length first, linear; and nobody goes around them."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import meshnet
import meshnet_control
import meshnet_dns
import meshnet_lb
from meshnet.errors import ControlError
from meshnet.patterns import Pattern
from meshnet_control.controlapi import filters
from meshnet_control.controlapi.specs import names

ROOTS = (meshnet, meshnet_control, meshnet_dns, meshnet_lb)
BY_REGEX = {"re", "re2", "regex", "sre_compile", "sre_parse", "fnmatch", "glob"}
"""Modules that match by regular expressions of their own."""
LONG = 200_000


def sources() -> list[Path]:
    return [file for root in ROOTS for file in sorted(Path(root.__path__[0]).rglob("*.py"))]


def imported(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def patterns() -> dict[str, Pattern]:
    """Every pattern that a module holds, by where it stands."""
    found: dict[str, Pattern] = {}
    for root in ROOTS:
        for info in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            module = importlib.import_module(info.name)
            for name, value in vars(module).items():
                if isinstance(value, Pattern):
                    found[f"{info.name}.{name}"] = value
    return found


def test_only_the_pattern_module_imports_regular_expressions():
    users = {file.name for file in sources() if imported(file) & BY_REGEX}
    assert users == {"patterns.py"}


def test_every_pattern_has_a_length_and_refuses_what_is_longer_at_once():
    found = patterns()
    assert len(found) >= 8, "the walk finds the patterns"
    for where, pattern in found.items():
        assert 0 < pattern.longest <= 4096, where
        for letter in "a0 .-:/":
            text = letter * (pattern.longest + 1)
            assert not pattern.fits(text), where
            assert pattern.match(text) is None, where
            assert not pattern.within(text), where


@pytest.mark.parametrize(
    "expression",
    ["(a|aa)*b", "(a*)*b", "(?:[-_]*[a-z0-9]+)*", r"(a+)+\.", "(.*)(.*)(.*)(.*)(.*)b"],
)
def test_time_is_linear_whatever_the_expression(expression):
    """A backtracking engine would not come back from these within the suite's limit."""
    assert not Pattern(expression, longest=LONG).fits("a" * (LONG - 1) + "!")


def test_a_pattern_is_the_whole_text():
    pattern = Pattern("[a-z]+", longest=9)
    assert pattern.fits("web")
    for text in ("web\n", "\nweb", "web\r\n", "web\0", "we b", ""):
        assert not pattern.fits(text), text
        assert pattern.match(text) is None, text
    assert Pattern("^[a-z]+$", longest=9).fits("web")
    assert not Pattern("^[a-z]+$", longest=9).fits("web\n")


def test_groups_that_took_no_part_are_empty():
    found = Pattern("(a)(b)?(?P<rest>c*)", longest=9).match("acc")
    assert found == {1: "a", 2: "", 3: "cc", "rest": "cc"}


@pytest.mark.parametrize("expression", ["(", "a{1000}{1000}", r"(?=a)", r"(a)\1", "\ud800"])
def test_what_is_no_expression_is_refused(expression):
    with pytest.raises(ValueError, match="not a regular expression"):
        Pattern(expression, longest=9)


def test_half_a_surrogate_pair_fits_nothing():
    pattern = Pattern(".*", longest=9)
    assert not pattern.fits("a\udce4")
    assert pattern.match("\ud800") is None
    assert not pattern.within("\ud800")


def is_dns_name(text: str) -> bool:
    """The same rule without a regular expression."""
    good = {c for c in map(chr, range(128)) if c.isalnum()}
    return (
        1 <= len(text) <= 63
        and set(text) <= good | {"-", "_"}
        and text[0] in good
        and text[-1] in good
    )


@given(st.text(alphabet="aZ0-_.\n é", max_size=70))
def test_a_dns_name_is_letters_digits_and_inner_hyphens(text):
    try:
        names.check_dns_name(text)
    except ControlError:
        assert not is_dns_name(text)
    else:
        assert is_dns_name(text)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a" * 62 + "!", "name must be valid as a DNS name component"),
        ("a" * 64, "name must be 63 characters or fewer"),
        ("a" * 1_000_000 + "!", "name must be 63 characters or fewer"),
        ("web\n", "name must be valid as a DNS name component"),
        ("-web", "name must be valid as a DNS name component"),
        ("", "meta: name must be provided"),
    ],
)
def test_dns_names_are_refused_in_swarmkits_words(name, said):
    with pytest.raises(ControlError, match=f"InvalidArgument desc = {said}$"):
        names.check_dns_name(name)


@pytest.mark.parametrize("name", ["page\n", "a" * 65, "_a", "a/b", ".env", "a" * 63 + "!"])
def test_file_names_are_refused(name):
    with pytest.raises(ControlError, match="only 64"):
        names.check_file_name(name)


def test_a_users_expression_costs_linear_time_and_matches_as_in_go():
    assert filters.pattern(["^front"], "frontend")
    assert filters.pattern(["end$"], "frontend")
    assert not filters.pattern(["^end"], "frontend")
    assert filters.pattern(["["], "a[b")
    assert not filters.pattern(["(a*)*!"], "a" * 63)
    assert not filters.pattern(["(?:a?){200}" + "a{200}!"], "a" * 63)
