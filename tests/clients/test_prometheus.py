"""Prometheus finds a service's tasks through docker.sock, and reads what they say of themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_program import program_on

from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.clients("prometheus"), pytest.mark.timeout(120)]
CONFIG = """
global: {scrape_interval: 500ms, scrape_timeout: 400ms}
scrape_configs:
- job_name: tasks
  dockerswarm_sd_configs:
  - {host: "unix:///run/meshnet/docker.sock", role: tasks, refresh_interval: 1s}
  relabel_configs:
  - {source_labels: [__meta_dockerswarm_service_name], regex: counted, action: keep}
  - {source_labels: [__meta_dockerswarm_task_desired_state], regex: running, action: keep}
  - {source_labels: [__meta_dockerswarm_task_port_publish_mode], regex: host, action: keep}
  - {source_labels: [__meta_dockerswarm_network_id], regex: .+, action: drop}
  - {source_labels: [__meta_dockerswarm_node_hostname], target_label: node}
- job_name: services
  dockerswarm_sd_configs:
  - {host: "unix:///run/meshnet/docker.sock", role: services, refresh_interval: 1s}
- job_name: nodes
  dockerswarm_sd_configs:
  - {host: "unix:///run/meshnet/docker.sock", role: nodes, refresh_interval: 1s}
- job_name: containers
  docker_sd_configs:
  - {host: "unix:///run/meshnet/docker.sock", refresh_interval: 1s}
"""
API = "curl -sS -m 3 127.0.0.1:9090/api/v1"


@pytest.fixture
def prometheus(play: Play, tmp_path: Path) -> Iterator[Path]:
    """
    Name: prometheus; Scope: function; Depends: play.

    One on the manager, asked every second; its log.
    """
    (tmp_path / "prometheus.yml").write_text(CONFIG)
    words = ["prometheus", f"--config.file={tmp_path}/prometheus.yml"]
    words += [f"--storage.tsdb.path={tmp_path}/data", "--web.listen-address=127.0.0.1:9090"]
    with program_on(play, "h1", words, tmp_path / "prometheus.log"):
        yield tmp_path / "prometheus.log"


def discovered(job: str, holds: Callable[[list[dict]], bool]) -> Callable[[str], bool]:
    """Whether the targets of a job are as they should be, in what Prometheus says of them."""

    def seen(said: str) -> bool:
        targets = json.loads(said)["data"]["activeTargets"]
        return holds([each for each in targets if each["scrapePool"] == job])

    return seen


def test_prometheus(play: Play, prometheus: Path) -> None:
    play.on("h1", "echo 'answers_total 7' | docker config create metrics -")
    play.on("h1", "docker network create -d overlay --label of=tests counted")
    play.on(
        "h1",
        "docker service create -d --name counted --mode global --network counted "
        "--publish mode=host,target=80,published=8094 -p 8095:80 "
        "--config source=metrics,target=/www/metrics --label team=a --container-label c=d "
        "--stop-grace-period 1s meshnet/web:1",
    )
    up = f"{API}/query?query=answers_total%7Bjob=%22tasks%22%7D"

    def both(said: str) -> bool:
        found = {
            (row["metric"]["node"], row["metric"]["instance"]): row["value"][1]
            for row in json.loads(said)["data"]["result"]
        }
        return found == {
            ("h1", "192.168.50.11:8094"): "7",
            ("h2", "192.168.50.12:8094"): "7",
        }

    play.until("h1", up, both)
    targets = f"{API}/targets"
    play.until("h1", targets, discovered("tasks", lambda t: [e["health"] for e in t] == ["up"] * 2))

    def told(found: list[dict]) -> bool:
        for each in found:
            labels = each["discoveredLabels"]
            assert labels["__meta_dockerswarm_service_label_team"] == "a"
            assert labels["__meta_dockerswarm_service_mode"] == "global"
            assert labels["__meta_dockerswarm_container_label_c"] == "d"
            assert labels["__meta_dockerswarm_node_role"] in {"manager", "worker"}
            assert labels["__meta_dockerswarm_task_state"] == "running"
        return len(found) == 2

    play.until("h1", targets, discovered("tasks", told))
    vips = discovered(
        "services",
        lambda found: any(
            e["discoveredLabels"]["__meta_dockerswarm_network_name"] == "counted"
            and e["discoveredLabels"]["__meta_dockerswarm_network_label_of"] == "tests"
            for e in found
        ),
    )
    play.until("h1", targets, vips)
    addresses = discovered(
        "nodes",
        lambda found: (
            {e["discoveredLabels"]["__address__"] for e in found}
            == {"192.168.50.11:80", "192.168.50.12:80"}
        ),
    )
    play.until("h1", targets, addresses)
    here = discovered(
        "containers",
        lambda found: any(
            e["discoveredLabels"].get("__meta_docker_container_label_com_docker_swarm_service_name")
            == "counted"
            and e["discoveredLabels"]["__meta_docker_network_name"] == "counted"
            for e in found
        ),
    )
    play.until("h1", targets, here)
    play.on("h1", "docker service rm counted")
    play.until("h1", targets, discovered("tasks", lambda found: not found))
    refused = [line for line in prometheus.read_text().splitlines() if "Unable to refresh" in line]
    assert refused == []
