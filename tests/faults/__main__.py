"""``./dev mutate``: deliberate faults, one at a time; the tests named beside each must catch it.

```
 *.toml ──> for each fault: a copy of the tree with that one fault in it ──> pytest caught_by
                                     a test fails: caught      all hold: a survivor
```
Lists by hand, not a generator: each entry is a mistake that somebody made or could make. The tree
as it is has to hold under the same tests, or every fault would count as caught.

Be aware: a fault whose text is not in its file exactly once is stale, one whose tree cannot be
imported or whose tests are not there tests nothing, and one whose process others kill twice says
nothing; each fails the run as a survivor does. Tests that have no end are taken down:
caught. Faults for the unit and sim tiers run one more at a time than there are processors, then
those that need namespaces, alone.

Exit status: 0 when every fault is caught.
"""

from __future__ import annotations

import argparse
import compileall
import os
import py_compile
import queue
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

from tests.faults.trial import FAILED, PACKAGES, ROOT, Outcome, Trials

LISTS = Path(__file__).parent
SOURCES = (*PACKAGES, "bench", "tests", "docs", "pyproject.toml")
LIMIT_S = 300.0
"""For one fault. Pytest's limit for one test and that of processor time (``trial``) come before."""


@dataclass(frozen=True)
class Fault:
    """One deliberate mistake."""

    why: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]
    """Tests, as pytest takes them: paths or node ids."""

    @property
    def alone(self) -> bool:
        return not all(_is_quick(test) for test in self.caught_by)


def _is_quick(test: str) -> bool:
    return test.startswith(("tests/unit", "tests/sim"))


def load(folder: Path) -> list[Fault]:
    """The faults of every list in the folder, lists by name.

    Raises:
        ValueError: a list cannot be read, or an entry has a field too many or too few.
    """
    found = []
    for path in sorted(folder.glob("*.toml")):
        try:
            entries = tomllib.loads(path.read_text())["fault"]
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path.name}: {error}") from error
        for entry in entries:
            if entry.keys() != _FIELDS:
                odd = ", ".join(sorted(entry.keys() ^ _FIELDS))
                raise ValueError(f"{path.name}: {entry.get('why', entry)}: not right: {odd}")
            found.append(Fault(**{**entry, "caught_by": tuple(entry["caught_by"])}))
    return found


_FIELDS = {field.name for field in fields(Fault)}


def stale(fault: Fault, tree: Path) -> str:
    """Why the fault does not fit the tree; empty: it does."""
    path = tree / fault.file
    count = path.read_text().count(fault.old) if path.is_file() else 0
    if count != 1:
        return f"stale: its text stands {count} times in {fault.file}"
    if fault.old == fault.new:
        return "stale: it changes nothing"
    missing = [test for test in fault.caught_by if not (tree / test.partition("::")[0]).exists()]
    if missing or not fault.caught_by:
        return f"stale: no such test: {' '.join(missing)}"
    return ""


@dataclass(frozen=True)
class Verdict:
    """What came of one fault."""

    fault: Fault
    wrong: str
    """Why it is not caught; empty: it is."""
    by: str
    """The test that caught it."""
    took_s: float


def wrong_with(outcome: Outcome) -> str:
    """Empty when the tests failed, as they must; else what is wrong."""
    if outcome.endless or outcome.status == FAILED:
        return ""
    if outcome.status == 0:
        return "survived"
    if outcome.status < 0:
        return f"says nothing: the process was killed by signal {-outcome.status}"
    said = outcome.output.strip().splitlines()[-1:]
    return f"tests nothing: pytest ended with {outcome.status}: {' '.join(said)}"


def judge(trials: Trials, fault: Fault, tree: Path) -> Verdict:
    """Put the fault in, run its tests, take it out."""
    began = time.monotonic()
    old = stale(fault, tree)
    if old:
        return Verdict(fault, old, "", 0.0)
    path = tree / fault.file
    text = path.read_text()
    path.write_text(text.replace(fault.old, fault.new))
    try:
        outcome = trials.run(tree, fault.caught_by, bounded=not fault.alone)
        # Killed, or its status got lost on its way (multiprocessing says 255 then).
        if outcome.status not in {0, FAILED} and not outcome.endless:
            outcome = trials.run(tree, fault.caught_by, bounded=not fault.alone)
    finally:
        path.write_text(text)
    wrong = wrong_with(outcome)
    by = "no end" if outcome.endless else outcome.by
    return Verdict(fault, wrong, by, time.monotonic() - began)


def copies(into: Path, number: int) -> Iterator[Path]:
    """Copies of the tree, compiled; bytecode is checked by content: faults come and go fast."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    first = into / "0"
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, first / name, ignore=ignored, symlinks=True)
        else:
            shutil.copy2(source, first / name)
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(first, quiet=2, invalidation_mode=mode)
    yield first
    for each in range(1, number):
        yield Path(shutil.copytree(first, into / str(each), symlinks=True))


def shares(tests: Iterable[str], number: int) -> list[tuple[str, ...]]:
    """The tests in so many shares, each file's in one; ids that a path covers are left out."""
    wanted = sorted(set(tests))
    wanted = [
        each for each in wanted
        if not any(each.startswith((f"{path}/", f"{path}::")) for path in wanted)
    ]  # fmt: skip
    files = sorted({test.partition("::")[0] for test in wanted})
    turns = {file: turn % number for turn, file in enumerate(files)}
    return [
        tuple(test for test in wanted if turns[test.partition("::")[0]] == share)
        for share in range(min(number, len(files)))
    ]


class Session:
    """Trees and processes of one run."""

    def __init__(self, place: Path, workers: int) -> None:
        self._trials = Trials(LIMIT_S)
        self._baseline = Trials(LIMIT_S * 4)
        self._trees: queue.Queue[Path] = queue.Queue()
        for tree in copies(place, workers):
            self._trees.put(tree)

    def as_it_is(self, tests: tuple[str, ...]) -> str:
        """Empty when the tests hold without a fault; else what pytest says."""
        tree = self._trees.get()
        try:
            outcome = self._baseline.run(tree, tests, bounded=False)
        finally:
            self._trees.put(tree)
        return "" if outcome.status == 0 else outcome.output or f"ended with {outcome.status}"

    def judge(self, fault: Fault) -> Verdict:
        tree = self._trees.get()
        try:
            return judge(self._trials, fault, tree)
        finally:
            self._trees.put(tree)


def _tried(session: Session, faults: list[Fault], workers: int) -> list[str] | None:
    """What is wrong with the faults; None when the tree as it is fails too, which is printed."""
    wrong: list[str] = []
    with ThreadPoolExecutor(workers) as pool:
        tests = shares((test for fault in faults for test in fault.caught_by), workers)
        for said in pool.map(session.as_it_is, tests):
            if said:
                print(*(f"    {line}" for line in said.splitlines()), sep="\n")
                print("the tree as it is fails these tests: nothing can be said of faults")
                return None
        try:
            for each in pool.map(session.judge, faults):
                word = "WRONG " if each.wrong else "caught"
                print(f"{word} {each.took_s:5.1f} s  {each.fault.why}  [{each.by}]", flush=True)
                if each.wrong:
                    wrong.append(
                        f"{each.fault.why}: {each.wrong} ({' '.join(each.fault.caught_by)})"
                    )
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev mutate", description=__doc__)
    parser.add_argument("words", nargs="*", help="only faults whose file or reason has one of them")
    parser.add_argument(
        "--pure", action="store_true", help="only faults that tests without the machine catch"
    )
    asked = parser.parse_args()
    faults = [
        fault
        for fault in load(LISTS)
        if not asked.words or any(word in fault.file + fault.why for word in asked.words)
        if not (asked.pure and fault.alone)
    ]
    began = time.monotonic()
    wrong: list[str] = []
    workers = len(os.sched_getaffinity(0)) + 1  # some wait for a time-out of the thing tested
    with tempfile.TemporaryDirectory(prefix="meshnet-faults-") as place:
        session = Session(Path(place), workers)
        for alone, at_once in ((False, workers), (True, 1)):
            said = _tried(session, [each for each in faults if each.alone is alone], at_once)
            if said is None:
                return 1
            wrong += said
    for line in wrong:
        print(line)
    caught = len(faults) - len(wrong)
    print(f"{caught} of {len(faults)} faults caught ({time.monotonic() - began:.0f} s)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
