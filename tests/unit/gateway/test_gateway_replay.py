"""What a real engine was asked and answered, asked again: the same status, text and specification.

The recording is of docker 28.2.2 and dockerd 20.10.24 (tests/unit/gateway/data). Ids and versions
of the recording are put in terms of ours as the answers come in. Left out of the comparison is what
the allocator and the updater write: endpoints, update status, addresses, VNIs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient
from strict_answers import refused

RECORDED = json.loads((Path(__file__).parent / "data" / "recorded.json").read_text())
LATER = {"Endpoint", "UpdateStatus", "ServiceStatus"}
VARIES = {"CreatedAt", "UpdatedAt", "Created", "Version", "ID", "Id"}


class Replay:
    """Ids and versions: the recording's to ours."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def ours(self, value: Any) -> Any:
        text = json.dumps(value)
        for theirs, mine in self.ids.items():
            text = text.replace(theirs, mine)
        return json.loads(text)

    def learn(self, theirs: Any, mine: Any) -> None:
        if isinstance(theirs, dict) and isinstance(mine, dict):
            for key in ("ID", "Id"):
                if key in theirs and key in mine:
                    self.ids[theirs[key]] = mine[key]
            if theirs.get("Spec", {}).get("Name") == "serene_curie":  # made up for it
                self.ids["serene_curie"] = mine["Spec"]["Name"]
            if "Version" in theirs and "Version" in mine:
                self.versions[str(theirs["Version"]["Index"])] = str(mine["Version"]["Index"])


def slim(value: Any) -> Any:
    """Without nulls and empty objects, which say the same as nothing."""
    if isinstance(value, dict):
        kept = {k: slim(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v not in (None, {}, [])}
    if isinstance(value, list):
        return [slim(v) for v in value]
    return value


async def test_replay(manager: TestClient):
    replay = Replay()
    for call in RECORDED:
        where = f"{call['row']} {call['method']} {call['path']}"
        query = {k: replay.ours(v) for k, v in call["query"].items()}
        if "version" in query:
            query["version"] = replay.versions[query["version"]]
        body = call["body"]
        answer = await manager.request(
            call["method"],
            "/v1.41" + replay.ours(call["path"]),
            params=query,
            data=None if body is None else json.dumps(replay.ours(body)),
        )
        text = await answer.text()
        assert answer.status == call["status"], f"{where}: {text}"
        assert answer.headers["Api-Version"] == "1.44"
        mine = json.loads(text) if text else None
        assert refused(mine) == [], where
        assert not (isinstance(mine, dict) and mine.get("Warnings")), where
        theirs = call["answer"]
        if isinstance(theirs, list):
            assert isinstance(mine, list), where
            compare_lists(replay, theirs, mine, where)
        else:
            compare(replay, theirs, mine, where)


def name_of(entry: dict[str, Any]) -> str:
    return str(entry["Name"] if "Name" in entry else entry["Spec"]["Name"])


def compare_lists(replay: Replay, theirs: list, mine: list, where: str) -> None:
    known = {name_of(entry): entry for entry in mine}
    for entry in theirs:
        if entry.get("Name") == "bridge" or name_of(entry) not in known:
            continue  # of a row that is not replayed
        compare(replay, entry, known[name_of(entry)], where)


def compare(replay: Replay, theirs: Any, mine: Any, where: str) -> None:
    replay.learn(theirs, mine)
    if not isinstance(theirs, dict):
        assert mine == theirs, where
        return
    if "message" in theirs:
        assert mine["message"] == replay.ours(theirs["message"]), where
        return
    newer = {"Status"} if "/networks/" in where else set()  # of API 1.52, recorded is 1.44
    assert set(theirs) - LATER == set(mine) - LATER - newer, where
    expected, got = replay.ours(slim(theirs)), slim(mine)
    for key in set(expected) - LATER - VARIES:
        if key == "IPAM":
            assert got[key].get("Driver") == expected[key]["Driver"], where
        elif key == "Options":
            continue
        elif key == "JobStatus":
            assert set(mine[key]) == set(theirs[key]), where
        elif key == "Spec" and "Data" not in expected[key]:
            assert got[key] == expected[key], where
