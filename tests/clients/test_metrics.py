"""Prometheus scrapes meshnetd and takes the rules; what a scrape says, promtool finds good."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_program import program_on

from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.clients("prometheus", "promtool"), pytest.mark.timeout(180)]
RULES = Path(__file__).parents[2] / "docs/metrics/alerts.yml"
H1, H2 = "192.168.50.11:9700", "192.168.50.12:9700"
CONFIG = f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}}
rule_files: ["{RULES}"]
scrape_configs:
- job_name: meshnet
  static_configs: [{{targets: ["{H1}", "{H2}"]}}]
"""
REFUSED = "7"
"""curl(1): nobody listens there."""
API = "curl -sS -m 3 127.0.0.1:9091/api/v1"


@pytest.fixture
def served(play: Play) -> Iterator[Play]:
    """
    Name: served; Scope: function; Depends: play.

    Both hosts serve metrics, and do not any more in the end.
    """
    play.on("h1", f"meshnet up --no-context --metrics {H1}")
    play.on("h2", f"meshnet up --no-context --metrics {H2}")
    yield play
    for host in ("h1", "h2"):
        play.on(host, "meshnet up --no-context --metrics off")
    for host, address in (("h1", H1), ("h2", H2)):
        nobody = f"curl -s -m 3 -o /dev/null {address}/metrics; echo $?"
        play.until(host, nobody, lambda said: said.strip() == REFUSED)


@pytest.fixture
def prometheus(served: Play, tmp_path: Path) -> Iterator[Play]:
    """
    Name: prometheus; Scope: function; Depends: served.

    One on the manager, asked there.
    """
    (tmp_path / "prometheus.yml").write_text(CONFIG)
    words = ["prometheus", f"--config.file={tmp_path}/prometheus.yml"]
    words += [f"--storage.tsdb.path={tmp_path}/data", "--web.listen-address=127.0.0.1:9091"]
    with program_on(served, "h1", words, tmp_path / "prometheus.log"):
        yield served


def query(expression: str) -> str:
    return f"{API}/query --data-urlencode 'query={expression}'"


def values(said: str) -> dict[str, str]:
    """Instance -> value."""
    rows = json.loads(said)["data"]["result"] if said.startswith("{") else []
    return {row["metric"].get("instance", ""): row["value"][1] for row in rows}


def are(**expected: str) -> Callable[[str], bool]:
    """Whether these are the values of h1 and h2, and no others."""
    at = {"h1": H1, "h2": H2}
    wanted = {at[host]: value for host, value in expected.items()}
    return lambda said: values(said) == wanted


def test_prometheus_reads_every_node(prometheus: Play) -> None:
    play = prometheus
    play.until("h1", query('up{job="meshnet"}'), are(h1="1", h2="1"))
    play.until("h1", query('meshnet_gossip_members{state="alive"}'), are(h1="1", h2="1"))
    play.until("h1", query("meshnet_manager_leader"), are(h1="1"))
    play.until("h1", query("min by (instance) (meshnet_part_up)"), are(h1="1", h2="1"))
    play.on("h1", "docker network create -d overlay measured")
    play.on(
        "h1",
        "docker service create -d --name measured --replicas 2 --network measured -p 8097:80 "
        "--stop-grace-period 1s meshnet/web:1",
    )
    ready = 'meshnet_service_backends{service="measured",state="ready"}'
    play.until("h1", query(ready), are(h1="2", h2="2"))
    for _ in range(4):
        play.on("h2", "curl -sS -m 5 http://192.168.50.11:8097/")
    play.until("h1", query('meshnet_service_connections{service="measured"} > 0'), are(h1="4"))
    started = 'meshnet_task_states_reached_total{state="running"} > 0'
    play.until("h1", query(started), lambda said: set(values(said)) == {H1, H2})
    commits = 'meshnet_store_commit_seconds_count{result="written"} > 0'
    play.until("h1", query(commits), lambda said: set(values(said)) == {H1})
    asked = 'meshnet_api_request_seconds_count{route="services",method="POST",code="2xx"} > 0'
    play.until("h1", query(asked), lambda said: set(values(said)) == {H1})
    play.on("h1", "docker service rm measured")


def test_what_others_take_away_is_counted_as_a_repair(prometheus: Play) -> None:
    play = prometheus
    repaired = 'sum by (instance) (meshnet_repairs_total{reconciler="lb"})'
    play.until("h1", query('up{job="meshnet"}'), are(h1="1", h2="1"))
    before = values(play.quietly("h1", query(repaired))).get(H2, "0")
    play.on("h2", "nft delete table ip meshnet")

    def more(said: str) -> bool:
        return float(values(said).get(H2, "0")) > float(before)

    play.until("h1", query(repaired), more)


def test_the_alert_rules_are_taken_and_none_fires(prometheus: Play) -> None:
    play = prometheus
    checked = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    play.until("h1", query('up{job="meshnet"}'), are(h1="1", h2="1"))

    def evaluated(said: str) -> bool:
        groups = json.loads(said)["data"]["groups"] if said.startswith("{") else []
        rules = [rule for group in groups for rule in group["rules"]]
        return bool(rules) and all(rule["health"] == "ok" for rule in rules)

    play.until("h1", f"{API}/rules", evaluated)
    firing = json.loads(play.quietly("h1", f"{API}/alerts"))["data"]["alerts"]
    assert [each["labels"] for each in firing if each["state"] == "firing"] == []


def test_what_is_said_is_good_by_promtool(served: Play) -> None:
    scrape = f"curl -sS -m 5 {H1}/metrics"
    said = served.until("h1", scrape, lambda text: "meshnet_store_commit_seconds" in text)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=said, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert checked.stderr == ""
