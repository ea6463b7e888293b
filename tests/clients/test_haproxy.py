"""haproxy, at both of its places: before docker.sock, and before a service.

As a service it is one of an image made with ``docker import``, global on the managers. It finds its
servers by the names of tasks, asking 127.0.0.11, and shows its statistics on port 1936.
"""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_program import program_on
from program_image import program

from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.clients("haproxy"), pytest.mark.timeout(120)]
SERVERS = 6
"""Servers that the door has places for."""
VERSION = "^(/v[0-9.]+)?"
BEFORE_THE_SOCKET = f"""
global
    maxconn 100
defaults
    mode http
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout tunnel 10m
backend docker
    server docker unix@/run/meshnet/docker.sock
frontend proxy
    bind 127.0.0.1:2375
    acl reads method GET HEAD
    acl attaches path_reg {VERSION}/containers/[a-z0-9]+/(attach|wait)
    acl shown path_reg {VERSION}/(_ping|version|info|events)
    acl shown path_reg {VERSION}/(services|tasks|nodes|networks|containers)
    http-request deny unless reads || attaches
    http-request deny unless shown
    default_backend docker
"""
DOOR = f"""
global
    maxconn 100
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
resolvers docker
    nameserver dns 127.0.0.11:53
    resolve_retries 2
    timeout resolve 300ms
    timeout retry 300ms
    hold valid 300ms
    hold obsolete 300ms
    hold nx 300ms
    accepted_payload_size 8192
frontend web
    bind :80
    default_backend tasks
backend tasks
    balance roundrobin
    option redispatch
    default-server check inter 500ms resolvers docker init-addr none
    server-template web {SERVERS} tasks.behind:80
listen stats
    bind :1936
    stats enable
    stats uri /
    stats auth stats:word
"""


@pytest.fixture
def front(play: Play, tmp_path: Path) -> Iterator[str]:
    """
    Name: front; Scope: function; Depends: play.

    The docker CLI by way of a haproxy before the manager's socket: it may look, and attach.
    """
    (tmp_path / "front.cfg").write_text(BEFORE_THE_SOCKET)
    argv = ["haproxy", "-db", "-f", str(tmp_path / "front.cfg")]
    with program_on(play, "h1", argv, tmp_path / "haproxy.log"):
        play.until("h1", "curl -sS -m 3 127.0.0.1:2375/_ping", lambda said: said == "OK")
        yield "docker -H tcp://127.0.0.1:2375"


def test_before_docker_sock(play: Play, front: str) -> None:
    play.on("h1", "docker service create -d --name web --mode global meshnet/web:1")
    play.until("h1", f"{front} service ls", lambda said: "2/2" in said)
    assert play.on("h1", f"{front} node ls").count("Ready") == 2
    assert play.on("h1", f"{front} service ps web").count("Running") == 4
    seen = play.on("h1", f"{front} service inspect --format '{{{{.Spec.Name}}}}' web")
    assert seen == "web\n"
    # An exec does not pass: haproxy takes the upgrade from a request that has a body.
    play.on("h1", "docker run -di --name echoes --network none meshnet/tools:1 cat")
    typed = f"(echo piped; sleep 1) | timeout -s KILL 2 {front} attach echoes; true"
    said = play.on("h1", typed)
    assert "piped" in said, "an upgraded stream passes, both ways"
    heard = f"timeout 3 {front} events --filter type=service & sleep 1; "
    heard += "docker service update -d --label-add a=b web; wait"
    assert "service update" in play.on("h1", heard), "a stream comes through as it is said"
    code, said = play.attempt("h1", f"{front} service rm web")
    assert code != 0
    assert "403" in said
    assert "web" in play.on("h1", "docker service ls")


def test_before_a_service(play: Play, tmp_path: Path) -> None:
    found = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert found is not None
    (tmp_path / "haproxy.tar").write_bytes(program(found))
    (tmp_path / "haproxy.cfg").write_text(DOOR)
    play.on("h1", f"docker import {tmp_path}/haproxy.tar programs/haproxy:1")
    play.on("h1", f"docker config create door {tmp_path}/haproxy.cfg")
    play.on("h1", "docker network create -d overlay inner")
    play.on(
        "h1",
        "docker service create -d --name behind --replicas 2 --network inner "
        "--stop-grace-period 1s meshnet/web:1",
    )
    play.on(
        "h1",
        "docker service create -d --name door --mode global --constraint node.role==manager "
        "--network inner -p 8093:80 -p 1936:1936 --config source=door,target=/haproxy.cfg "
        "--stop-grace-period 1s --no-resolve-image programs/haproxy:1 "
        "haproxy -db -f /haproxy.cfg",
    )
    try:
        behind(play, 2, 20)
        unknown = "curl -sS -m 3 -o /dev/null -w '%{http_code}' http://h2:1936/"
        assert play.on("client", unknown) == "401"
        assert "Statistics Report" in play.on("client", "curl -sS -m 3 -u stats:word h2:1936/")
        for replicas in (4, 1):
            play.on("h1", f"docker service scale -d behind={replicas}")
            count = f" {replicas}/{replicas} "
            play.until("h1", "docker service ls --filter name=behind", count_in(count))
            began = time.monotonic()
            behind(play, replicas, 20)
            took_s = time.monotonic() - began
            assert took_s < 2, f"{replicas} servers after {took_s:.1f} s"
    finally:
        play.on("h1", "docker service rm door behind")


def count_in(said: str) -> Callable[[str], bool]:
    return lambda output: said in output


def behind(play: Play, servers: int, timeout_s: float) -> None:
    """Wait until the door leads to so many servers, as it says itself and as is seen."""
    stats = "curl -sS -m 3 -u stats:word 'http://h1:1936/;csv'"
    asked = "; ".join(["curl -sS -m 3 http://h2:8093/"] * SERVERS)

    def there(said: str) -> bool:
        rows = csv.DictReader(io.StringIO(said.removeprefix("# ")))
        up = [r for r in rows if r["pxname"] == "tasks" and r["svname"].startswith("web")]
        return len([row for row in up if row["status"].startswith("UP")]) == servers

    play.until("client", stats, there, timeout_s=timeout_s)
    names = {line.split()[1] for line in play.on("client", asked).splitlines() if " sees " in line}
    assert len(names) == servers
