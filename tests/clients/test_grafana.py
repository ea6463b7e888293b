"""The Grafana dashboard, as far as it can be told without Grafana: promtool parses its queries."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.clients("promtool")
BOARD = Path(__file__).parents[2] / "docs/metrics/dashboard.json"


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """
    Name: nothing_left; Scope: function; Depends: nothing.

    This needs no lab, so there is none to be tidied.
    """


def test_promtool_parses_every_query_with_its_variables_filled_in(tmp_path: Path) -> None:
    board: dict[str, Any] = json.loads(BOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"query_{number}", "expr": query.replace("$instance", ".*")}
        for number, query in enumerate(queries)
    ]
    assert not any("$" in rule["expr"] for rule in rules)
    file = tmp_path / "rules.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(queries)} rules found" in done.stdout
