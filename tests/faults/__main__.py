"""``./dev mutate``: deliberate faults, one at a time; the tests named beside each must catch it.

```
 faults.toml ──> for each fault: a copy of the tree with that one fault in it ──> pytest caught_by
                                        failed tests: caught      all passed: a survivor
```
A list by hand, not a generator: each entry is a mistake that somebody made or could make. The tree
as it is has to pass the same tests first, or every fault would count as caught.

Be aware: a fault whose text is not in its file exactly once is stale, and one whose tree cannot be
imported tests nothing; both fail the run as a survivor does. Faults for the unit and sim tiers run
two at a time, those that need namespaces alone.

Exit status: 0 when every fault is caught.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("faults.toml")
SOURCES = ("meshnet", "control", "dns", "lb", "tests", "pyproject.toml")
FAILED, INTERRUPTED = 1, 2
"""Exit statuses of pytest: tests failed; a module could not be collected."""
LIMIT_S = 300.0
_ALONE = threading.Lock()


@dataclass(frozen=True)
class Fault:
    """One deliberate mistake."""

    why: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]
    """Paths of tests, as pytest takes them."""

    @property
    def alone(self) -> bool:
        return any(not path.startswith(("tests/unit", "tests/sim")) for path in self.caught_by)


def load(path: Path) -> list[Fault]:
    entries = tomllib.loads(path.read_text())["fault"]
    return [Fault(**{**entry, "caught_by": tuple(entry["caught_by"])}) for entry in entries]


def run_tests(tree: Path, paths: tuple[str, ...]) -> tuple[int, str]:
    """Exit status and output of pytest on ``paths`` in a tree; 0 only when all passed."""
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    sources = os.pathsep.join(str(tree / each) for each in ("meshnet", "control", "dns", "lb"))
    environ = {**os.environ, "PYTHONPATH": sources, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*argv, "--hypothesis-profile=steady", *paths],
            cwd=tree, env=environ, capture_output=True, text=True, check=False, timeout=LIMIT_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return FAILED, f"no end after {LIMIT_S:.0f} s"
    return done.returncode, done.stdout + done.stderr


def judge(fault: Fault, tree: Path) -> str:
    """Put the fault in, run its tests, take it out: empty when it is caught, else what is wrong."""
    path = tree / fault.file
    text = path.read_text() if path.exists() else ""
    if text.count(fault.old) != 1:
        return f"stale: its text stands {text.count(fault.old)} times in {fault.file}"
    path.write_text(text.replace(fault.old, fault.new))
    try:
        if fault.alone:
            with _ALONE:
                code, output = run_tests(tree, fault.caught_by)
        else:
            code, output = run_tests(tree, fault.caught_by)
    finally:
        path.write_text(text)
    if code == 0:
        return f"survived {' '.join(fault.caught_by)}"
    if code != FAILED:
        return f"tests nothing: pytest ended with {code}: {output.strip().splitlines()[-1:]}"
    return ""


def copy(into: Path) -> Path:
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, into / name, ignore=ignored, symlinks=True)
        else:
            shutil.copy2(source, into / name)
    return into


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev mutate", description=__doc__)
    parser.add_argument("words", nargs="*", help="only faults whose file or reason has one of them")
    asked = parser.parse_args()
    faults = [
        fault
        for fault in load(LIST)
        if not asked.words or any(word in fault.file + fault.why for word in asked.words)
    ]
    began = time.monotonic()
    wrong: list[str] = []
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="meshnet-faults-") as place:
        trees: queue.Queue[Path] = queue.Queue()
        for number in range(workers):
            trees.put(copy(Path(place) / str(number)))
        tree = trees.get()
        needed = tuple(sorted({path for fault in faults for path in fault.caught_by}))
        code, output = run_tests(tree, needed)
        trees.put(tree)
        if code != 0:
            print(output)
            print("the tree as it is fails these tests: nothing can be said of faults")
            return 1

        def work(fault: Fault) -> tuple[Fault, str]:
            mine = trees.get()
            try:
                return fault, judge(fault, mine)
            finally:
                trees.put(mine)

        with ThreadPoolExecutor(workers) as pool:
            for fault, said in pool.map(work, faults):
                print(f"{'caught' if not said else 'WRONG '}  {fault.why}", flush=True)
                if said:
                    wrong.append(f"{fault.why}: {said}")
    for line in wrong:
        print(line)
    caught = len(faults) - len(wrong)
    print(f"{caught} of {len(faults)} faults caught ({time.monotonic() - began:.0f} s)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
