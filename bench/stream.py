"""A stream of service changes through all managers in turn of chance, and what became of each.

Each ``Stream`` is a thread with services of its own: it creates, scales, updates and removes them,
one change at a time, each through another manager, and keeps a ledger of what it was told.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException

from bench.create20 import Api, spec
from bench.ledger import Json, Ledger, State, Wanted, wanted
from bench.rounds import BenchError

LIVING = 3
"""Services that one stream has at most."""
REPLICAS = 2
PAUSE_S = 1.2
REFUSED = re.compile(r": (400|404) ")
"""What did not happen, surely. A conflict can come of a try whose answer was lost."""
ERRORS = (BenchError, OSError, HTTPException, ValueError)
NOT_HEARD = (ConnectionRefusedError, FileNotFoundError)
"""Nobody was there whom the change could have been told."""
CREATE = "/services/create"
GRACE_NS = 1_000_000_000


class Stream(threading.Thread):
    """Changes until ``stop``.

    Attributes:
        ledger: what must be.
        outcomes: (operation, what became of it) to how often.
        stale: answers that lacked what was acknowledged before they were asked for; a manager
            without a quorum may give such.
        slowest_s: of an acknowledged change.
    """

    def __init__(self, word: str, hosts: list[str], api: Callable[[str], Api], seed: int) -> None:
        super().__init__(name=f"stream {word}", daemon=True)
        self.prefix = f"s{word}-"
        self.ledger = Ledger()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.stale: list[str] = []
        self.slowest_s = 0.0
        self.broken: BaseException | None = None
        self._hosts, self._api = hosts, api
        self._chance = random.Random(seed)
        self._stopped = threading.Event()
        self._never = set[str]()
        """Nobody answered when they were created, and they are not there: not asked for again."""
        self._number, self._began = 0, time.monotonic()

    def run(self) -> None:
        try:
            while not self._stopped.wait(self._chance.uniform(0.5, 1.5) * PAUSE_S):
                self._change()
        except BaseException as error:
            self.broken = error
            raise

    def stop(self) -> None:
        """Make no further change; returns when the last one has ended."""
        self._stopped.set()
        self.join()

    def _change(self) -> None:
        self._number += 1
        living = [name for name in self.ledger.living() if name not in self._never]
        kinds = ["scale", "update", "rm"] + (["create"] * 2 if len(living) < LIVING else [])
        kind = self._chance.choice(kinds) if living else "create"
        host, replicas = self._chance.choice(self._hosts), self._chance.randint(0, REPLICAS)
        name = self._chance.choice(living) if kind != "create" else self.prefix + str(self._number)
        api = self._api(host)
        if kind == "create":
            body = service(name, replicas, 0)
            self._try(kind, name, Wanted(replicas, 0), lambda: api.call("POST", CREATE, body))
            return
        read = self._read(api, host, name)
        if read is None:
            return
        path = f"/services/{read['ID']}"
        if kind == "rm":
            self._try(kind, name, None, lambda: api.call("DELETE", path))
            return
        old = wanted([read], name)[name]
        new = Wanted(replicas, old.mark) if kind == "scale" else Wanted(old.replicas, self._number)
        body = service(name, new.replicas, new.mark)
        path += f"/update?version={read['Version']['Index']}"
        self._try(kind, name, new, lambda: api.call("POST", path, body))

    def _at(self) -> str:
        return f"{time.monotonic() - self._began:.1f} s"

    def _read(self, api: Api, host: str, name: str) -> Json | None:
        """What a manager says of a service; None: nothing that can be changed."""
        try:
            read: Json = api.call("GET", f"/services/{name}")
        except ERRORS as error:
            known = REFUSED.search(str(error)) and None not in self.ledger.possible(name)
            if known:
                self.stale.append(f"{self._at()} {host} knows no {name}")
            elif REFUSED.search(str(error)):
                self._never.add(name)
            self.outcomes["read", "not there" if known else kind_of(error)] += 1
            return None
        state = wanted([read], name)[name]
        if state not in self.ledger.possible(name):
            self.stale.append(f"{self._at()} {host} says {name} is {state}")
        return read

    def _try(self, kind: str, name: str, state: State, write: Callable[[], object]) -> None:
        began = time.monotonic()
        try:
            write()
        except ERRORS as error:
            if not (isinstance(error, NOT_HEARD) or REFUSED.search(str(error))):
                self.ledger.unsure(name, state)
            self.outcomes[kind, kind_of(error)] += 1
            return
        self.ledger.wrote(name, state)
        self.outcomes[kind, "ok"] += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)


def service(name: str, replicas: int, mark: int) -> Json:
    """The spec of a service that ends as soon as it is told to."""
    body = spec(name, "app", replicas)
    program = body["TaskTemplate"]["ContainerSpec"]
    program |= {"Env": [f"MARK={mark}"], "StopGracePeriod": GRACE_NS}
    return body


def kind_of(error: Exception) -> str:
    """An error's words without what is different each time."""
    if not isinstance(error, BenchError):
        return f"{type(error).__name__} {error}"[:60]
    words = re.sub(r"^\S+ \S+: ", "", str(error))
    return re.sub(r"\b(?=\w*\d)\w{9,}\b|s\w-\d+", "…", words)[:110]
