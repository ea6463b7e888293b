"""What programs ask that cannot be run here, asked again: the fields they read are in the answers.

Each row is read in the program's source: Traefik pkg/provider/docker/pswarm.go, Portainer
api/docker/snapshot.go and its raw proxy, caddy-docker-proxy loader.go and generator/services.go,
Sablier pkg/provider/dockerswarm, swarm-cronjob internal/docker, Swarmpit docker/engine/client.clj,
dockersamples/visualizer's data provider.
"""

from __future__ import annotations

import json
import re
import subprocess
from ipaddress import ip_interface
from typing import Any
from urllib.parse import quote

import pytest

from meshnet_control.lab.play import Play

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]
READ = [
    # program, request ({} filled in), fields every entry of the answer has, and of what form
    ("traefik", "/v1.24/version", {"ApiVersion": r"1\.\d\d"}),
    ("traefik", "/v1.24/services", {
        "ID": r"\w{25}", "Spec.Name": "web", "Spec.Labels.com": "x",
        "Spec.EndpointSpec.Mode": "vip|dnsrr", "Endpoint.VirtualIPs.*.Addr": "CIDR",
        "Endpoint.VirtualIPs.*.NetworkID": r"\w{25}", "Spec.Mode.Replicated.Replicas": "2",
    }),
    ("traefik", '/v1.24/networks?filters={{"scope":{{"swarm":true}}}}', {
        "Id": r"\w{25}", "Name": "inner|ingress", "Scope": "swarm", "Driver": "overlay",
    }),
    ("traefik",
     '/v1.24/tasks?filters={{"service":{{"{service}":true}},"desired-state":{{"running":true}}}}', {
        "Status.State": "running", "NodeID": r"\w{25}", "Slot": r"[12]",
        "NetworksAttachments.*.Addresses.*": "CIDR", "NetworksAttachments.*.Network.ID": r"\w{25}",
        "NetworksAttachments.*.Network.Spec.Name": "inner|ingress",
        "Status.ContainerStatus.ContainerID": r"\w{64}",
    }),
    ("traefik", "/v1.24/nodes/{node}", {"Status.Addr": "ADDR", "ID": r"\w{25}"}),
    ("caddy", "/v1.44/services", {
        "Spec.Labels.com": "x", "Endpoint.VirtualIPs.*.Addr": "CIDR",
        "Spec.TaskTemplate.Networks.*.Target": r"\w{25}",
    }),
    ("caddy", '/v1.44/tasks?filters={{"service":{{"{service}":true}}}}', {
        "Status.State": r"\w+", "DesiredState": r"\w+",
        "NetworksAttachments.*.Network.Spec.Name": "inner|ingress",
    }),
    ("caddy", '/v1.44/configs?filters={{"label":{{"caddy":true}}}}', {
        "ID": r"\w{25}", "Spec.Name": "page", "Spec.Data": "cGFnZQo=",
    }),
    ("swarm-cronjob", '/v1.44/services?filters={{"label":{{"com=x":true}}}}', {
        "Version.Index": r"\d+", "UpdatedAt": "TIME", "Spec.TaskTemplate.ForceUpdate": r"\d+",
    }),
    ("swarm-cronjob", '/v1.44/tasks?filters={{"service":{{"{service}":true,"web":true}}}}', {
        "ServiceID": "{service}", "Status.Timestamp": "TIME", "CreatedAt": "TIME",
    }),
    ("sablier", '/v1.44/services?filters={{"name":{{"web":true}}}}', {
        "Spec.Name": "web", "Spec.Mode.Replicated.Replicas": "2", "Version.Index": r"\d+",
    }),
    ("sablier", '/v1.44/services?status=1', {
        "ServiceStatus.RunningTasks": "2", "ServiceStatus.DesiredTasks": "2",
    }),
    ("portainer", "/v1.44/info", {
        "Swarm.NodeID": r"\w{25}", "Swarm.ControlAvailable": "True", "Swarm.Nodes": "2",
        "Swarm.Managers": "1", "Swarm.Cluster.ID": r"\w{25}", "NCPU": r"\d+", "MemTotal": r"\d+",
        "Swarm.RemoteManagers.*.Addr": r"192\.168\.50\.11:2377",
    }),
    ("portainer", "/v1.44/nodes", {
        "Description.Resources.NanoCPUs": r"\d+", "Description.Resources.MemoryBytes": r"\d+",
        "Description.Hostname": "h[12]", "Description.Platform.OS": "linux",
        "Description.Engine.EngineVersion": r"\d.*", "Spec.Role": "manager|worker",
        "Spec.Availability": "active", "Status.State": "ready",
    }),
    ("portainer", "/v1.44/containers/json?all=1", {
        "Id": r"\w{64}", "State": r"\w+", "Labels.com.docker.swarm.service.id": r"\w{25}",
        "NetworkSettings.Networks": ".+",
    }),
    ("portainer", "/v1.44/secrets", {"ID": r"\w{25}", "Spec.Name": "word", "CreatedAt": "TIME"}),
    ("portainer", "/v1.44/swarm", {
        "JoinTokens.Worker": "SWMTKN-1-.*", "JoinTokens.Manager": "SWMTKN-1-.*",
    }),
    ("portainer", "/v1.44/system/df", {"LayersSize": r"\d+"}),
    ("swarmpit", '/v1.44/tasks?filters={{"node":["{node}"],"desired-state":["running"]}}', {
        "NodeID": "{node}", "Spec.ContainerSpec.Image": r"meshnet/web:1.*", "Version.Index": r"\d+",
    }),
    ("swarmpit", "/v1.44/networks/inner", {
        "Name": "inner", "Attachable": "False", "IPAM.Config.*.Subnet": "CIDR",
        "IPAM.Config.*.Gateway": "ADDR", "Labels.of": "tests",
    }),
    ("swarmpit", "/v1.44/services/{service}", {
        "CreatedAt": "TIME", "Spec.TaskTemplate.ContainerSpec.Secrets.*.SecretName": "word",
        "Endpoint.Ports.*.PublishedPort": "8097", "Endpoint.Ports.*.Protocol": "tcp",
        "Endpoint.Ports.*.PublishMode": "ingress",
    }),
    ("swarmpit", "/v1.44/nodes/{node}", {"Version.Index": r"\d+", "Description.Platform": ".+"}),
    ("visualizer", "/services", {"ID": r"\w{25}", "Spec.Name": "web"}),
    ("visualizer", "/tasks", {
        "ServiceID": "{service}", "NodeID": r"\w{25}", "DesiredState": r"\w+",
        "Status.Message": r"\w+", "Spec.ContainerSpec.Image": ".+", "UpdatedAt": "TIME",
    }),
    ("visualizer", "/nodes", {
        "Description.Hostname": "h[12]", "Spec.Labels": ".*", "Description.Platform.Architecture":
        r"\w+", "Description.Resources.MemoryBytes": r"\d+", "Status.Addr": "ADDR",
    }),
]  # fmt: skip
DOTTED = "com.docker.swarm.service.id"


@pytest.fixture
def ids(play: Play) -> dict[str, str]:
    """
    Name: ids; Scope: function; Depends: play.

    Of one service with all that programs look at, its network, secret and config, and a node.
    """
    play.on("h1", "docker network create -d overlay --label of=tests inner")
    play.on("h1", "echo topsecret | docker secret create word -")
    play.on("h1", "echo page | docker config create --label caddy page -")
    play.on(
        "h1",
        "docker service create -d --name web --replicas 2 --network inner -p 8097:80 --label com=x "
        "--secret word --config page --stop-grace-period 1s --limit-memory 64M meshnet/web:1",
    )
    play.until("h1", "docker service ls", lambda said: "2/2" in said)
    return {
        "service": play.quietly("h1", "docker service inspect -f '{{.ID}}' web"),
        "node": play.quietly("h1", "docker node inspect -f '{{.ID}}' h1"),
    }


def asked(play: Play, path: str, *words: str) -> tuple[int, Any]:
    """Status and JSON of the manager's answer."""
    place = quote(path, safe="/?=&")
    curl = ["curl", "-sS", "-m", "10", "--unix-socket", "/run/meshnet/docker.sock"]
    argv = [*curl, "-w", "\n%{http_code}", *words, f"http://d{place}"]
    done = subprocess.run(play.lab.command("h1", argv), capture_output=True, check=True)
    body, _, status = done.stdout.decode().rpartition("\n")
    return int(status), json.loads(body) if body.strip() else None


def found(value: Any, path: str) -> list[Any]:
    """What there is at a path of members; ``*``: of each entry."""
    if not path:
        return [value]
    if path.startswith(DOTTED):
        return [value[DOTTED]]
    name, _, rest = path.partition(".")
    if name == "*":
        assert value, "no entry"
        return [each for entry in value for each in found(entry, rest)]
    return found(value[name], rest)


def fits(value: Any, form: str) -> bool:
    """Whether a value is of a form: an address, one with its prefix, a time, or a pattern."""
    said = str(value)
    if form in {"CIDR", "ADDR"}:
        return ("/" in said) == (form == "CIDR") and str(ip_interface(said)).startswith(said)
    if form == "TIME":
        form = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
    return re.fullmatch(form, said, re.DOTALL) is not None


def test_what_programs_read(play: Play, ids: dict[str, str]) -> None:
    for program, request, fields in READ:
        path = request.format(**ids)
        status, said = asked(play, path)
        where = f"{program}: {path}"
        assert status == 200, f"{where}: {said}"
        entries = said if isinstance(said, list) else [said]
        assert entries, where
        for entry in entries:
            for field, form in fields.items():
                for value in found(entry, field):
                    wanted = form.replace("{service}", ids["service"]).replace(
                        "{node}", ids["node"]
                    )
                    assert fits(value, wanted), f"{where}: {field} is {value!r}"


def test_what_programs_change(play: Play, ids: dict[str, str]) -> None:
    service = f"/v1.44/services/{ids['service']}"

    def update(query: str = "", **changes: Any) -> Any:
        _, now = asked(play, service)
        spec = now["Spec"]
        for path, value in changes.items():
            *where, last = path.split("__")
            place = spec
            for name in where:
                place = place[name]
            place[last] = value(now) if callable(value) else value
        index = now["Version"]["Index"]
        words = ["-H", "Content-Type: application/json", "-d", json.dumps(spec)]
        return asked(play, f"{service}/update?version={index}{query}", "-X", "POST", *words)

    nothing = (200, {"Warnings": None})
    # Sablier: to nothing and back; swarm-cronjob: once more, by the version it read
    assert update(Mode__Replicated__Replicas=0) == nothing
    play.until("h1", "docker service ls", lambda said: "0/0" in said)
    assert update(Mode__Replicated__Replicas=2) == nothing
    forced = update(
        "&registryAuthFrom=spec",
        TaskTemplate__ForceUpdate=lambda now: now["Version"]["Index"],
    )
    assert forced == nothing
    play.until("h1", "docker service ls", lambda said: "2/2" in said)
    _, now = asked(play, service)
    assert now["Spec"]["TaskTemplate"]["ForceUpdate"] > 0
    assert now["PreviousSpec"]["TaskTemplate"]["ForceUpdate"] == 0
    # Portainer: back by the button, a probe that is no route, logs as its page asks
    assert update("&rollback=previous") == nothing
    assert asked(play, "/v1.44/ping")[0] == 404
    logs = f"{service}/logs?stdout=1&stderr=1&timestamps=1&tail=100&since=0"
    argv = ["curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code} %{content_type}"]
    argv += ["--unix-socket", "/run/meshnet/docker.sock", f"http://d{logs}"]
    said = subprocess.run(play.lab.command("h1", argv), capture_output=True, text=True, check=True)
    assert said.stdout == "200 application/vnd.docker.multiplexed-stream"
    # Swarmpit: a secret's data is base64, which it tells apart by the engine's words
    status, answer = asked(
        play, "/v1.44/secrets/create", "-X", "POST", "-d", '{"Name": "s", "Data": "%%"}'
    )
    assert status == 400
    assert "illegal base64 data" in answer["message"]
