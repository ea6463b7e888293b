"""Every flag of ``docker service update``: what is typed, and what the specification says then.

``ADDED`` is one command for all of it, ``REMOVED`` another one after it; a value of None stands for
"is not there any more". Flags that a CLI does not have are left out of its commands; a flag of a
CLI that is in none of these tables is a gap in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Flag:
    """One flag, as typed."""

    name: str
    value: str | None
    """None: the flag takes none."""
    place: str
    """Where in the service's specification it is seen, dots between the names."""
    seen: Any

    @property
    def typed(self) -> str:
        return f"--{self.name}" if self.value is None else f"--{self.name} '{self.value}'"


_T, _C = "TaskTemplate.", "TaskTemplate.ContainerSpec."
_S = 1_000_000_000
GPU = [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 1}}]
ADDED = [
    Flag("args", "sleep 1000", _C + "Args", ["sleep", "1000"]),
    Flag("cap-add", "NET_ADMIN", _C + "CapabilityAdd", ["CAP_NET_ADMIN"]),
    Flag("cap-drop", "MKNOD", _C + "CapabilityDrop", ["CAP_MKNOD"]),
    Flag("config-add", "source={config},target=/c", _C + "Configs.0.File.Name", "/c"),
    Flag(
        "constraint-add",
        "node.platform.os==linux",
        _T + "Placement.Constraints",
        ["node.platform.os==linux"],
    ),
    Flag("container-label-add", "a=b", _C + "Labels", {"a": "b"}),
    Flag("dns-add", "10.9.9.9", _C + "DNSConfig.Nameservers", ["10.9.9.9"]),
    Flag("dns-option-add", "attempts:1", _C + "DNSConfig.Options", ["attempts:1"]),
    Flag("dns-search-add", "example.org", _C + "DNSConfig.Search", ["example.org"]),
    Flag("entrypoint", "env A=B", _C + "Command", ["env", "A=B"]),
    Flag("env-add", "E=1", _C + "Env", ["E=1"]),
    Flag("force", None, _T + "ForceUpdate", 1),
    Flag("generic-resource-add", "gpu=1", _T + "Resources.Reservations.GenericResources", GPU),
    Flag("group-add", "7", _C + "Groups", ["7"]),
    Flag("health-cmd", "true", _C + "Healthcheck.Test", ["CMD-SHELL", "true"]),
    Flag("health-interval", "2s", _C + "Healthcheck.Interval", 2 * _S),
    Flag("health-retries", "4", _C + "Healthcheck.Retries", 4),
    Flag("health-start-period", "3s", _C + "Healthcheck.StartPeriod", 3 * _S),
    Flag("health-timeout", "5s", _C + "Healthcheck.Timeout", 5 * _S),
    Flag("host-add", "other:10.9.9.8", _C + "Hosts", ["10.9.9.8 other"]),
    Flag("hostname", "{{{{.Service.Name}}}}", _C + "Hostname", "{{.Service.Name}}"),
    Flag("image", "meshnet/tools:1", _C + "Image", "meshnet/tools:1"),
    Flag("init", None, _C + "Init", seen=True),
    Flag("label-add", "l=m", "Labels", {"l": "m"}),
    Flag("limit-cpu", "0.5", _T + "Resources.Limits.NanoCPUs", 500_000_000),
    Flag("limit-memory", "64M", _T + "Resources.Limits.MemoryBytes", 64 << 20),
    Flag("limit-pids", "50", _T + "Resources.Limits.Pids", 50),
    Flag("log-driver", "json-file", _T + "LogDriver.Name", "json-file"),
    Flag("log-opt", "max-size=1m", _T + "LogDriver.Options", {"max-size": "1m"}),
    Flag(
        "mount-add",
        "type=tmpfs,target=/t,tmpfs-size=1048576",
        _C + "Mounts",
        [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20}}],
    ),
    Flag("network-add", "name={net},alias=also", _T + "Networks.0.Aliases", ["also"]),
    Flag("oom-score-adj", "100", _C + "OomScoreAdj", 100),
    Flag(
        "placement-pref-add",
        "spread=node.labels.rack",
        _T + "Placement.Preferences",
        [{"Spread": {"SpreadDescriptor": "node.labels.rack"}}],
    ),
    Flag(
        "publish-add", "published=8097,target=80,mode=host", "EndpointSpec.Ports.0.TargetPort", 80
    ),
    Flag("read-only", None, _C + "ReadOnly", seen=True),
    Flag("replicas-max-per-node", "3", _T + "Placement.MaxReplicas", 3),
    Flag("reserve-cpu", "0.01", _T + "Resources.Reservations.NanoCPUs", 10_000_000),
    Flag("reserve-memory", "16M", _T + "Resources.Reservations.MemoryBytes", 16 << 20),
    Flag("restart-condition", "on-failure", _T + "RestartPolicy.Condition", "on-failure"),
    Flag("restart-delay", "1s", _T + "RestartPolicy.Delay", _S),
    Flag("restart-max-attempts", "2", _T + "RestartPolicy.MaxAttempts", 2),
    Flag("restart-window", "3s", _T + "RestartPolicy.Window", 3 * _S),
    Flag("rollback-delay", "1ms", "RollbackConfig.Delay", 1_000_000),
    Flag("rollback-failure-action", "continue", "RollbackConfig.FailureAction", "continue"),
    Flag("rollback-max-failure-ratio", "0.5", "RollbackConfig.MaxFailureRatio", 0.5),
    Flag("rollback-monitor", "100ms", "RollbackConfig.Monitor", 100_000_000),
    Flag("rollback-order", "start-first", "RollbackConfig.Order", "start-first"),
    Flag("rollback-parallelism", "2", "RollbackConfig.Parallelism", 2),
    Flag("secret-add", "source={secret},target=s", _C + "Secrets.0.File.Name", "s"),
    Flag("stop-grace-period", "1s", _C + "StopGracePeriod", _S),
    Flag("stop-signal", "SIGUSR1", _C + "StopSignal", "SIGUSR1"),
    Flag("sysctl-add", "net.core.somaxconn=200", _C + "Sysctls", {"net.core.somaxconn": "200"}),
    Flag("tty", None, _C + "TTY", seen=True),
    Flag(
        "ulimit-add",
        "nofile=100:200",
        _C + "Ulimits",
        [{"Name": "nofile", "Hard": 200, "Soft": 100}],
    ),
    Flag("update-delay", "1ms", "UpdateConfig.Delay", 1_000_000),
    Flag("update-failure-action", "rollback", "UpdateConfig.FailureAction", "rollback"),
    Flag("update-max-failure-ratio", "0.25", "UpdateConfig.MaxFailureRatio", 0.25),
    Flag("update-monitor", "100ms", "UpdateConfig.Monitor", 100_000_000),
    Flag("update-order", "start-first", "UpdateConfig.Order", "start-first"),
    Flag("update-parallelism", "0", "UpdateConfig.Parallelism", 0),
    Flag("user", "1000", _C + "User", "1000"),
    Flag("workdir", "/srv", _C + "Dir", "/srv"),
]
REMOVED = [
    Flag("config-rm", "{config}", _C + "Configs", None),
    Flag("constraint-rm", "node.platform.os==linux", _T + "Placement.Constraints", None),
    Flag("container-label-rm", "a", _C + "Labels", None),
    Flag("dns-rm", "10.9.9.9", _C + "DNSConfig.Nameservers", None),
    Flag("dns-option-rm", "attempts:1", _C + "DNSConfig.Options", None),
    Flag("dns-search-rm", "example.org", _C + "DNSConfig.Search", None),
    Flag("endpoint-mode", "dnsrr", "EndpointSpec.Mode", "dnsrr"),
    Flag("env-rm", "E", _C + "Env", None),
    Flag("generic-resource-rm", "gpu", _T + "Resources.Reservations.GenericResources", None),
    Flag("group-rm", "7", _C + "Groups", None),
    Flag("host-rm", "other:10.9.9.8", _C + "Hosts", None),
    Flag("label-rm", "l", "Labels", None),
    Flag("mount-rm", "/t", _C + "Mounts", None),
    Flag("network-rm", "{net}", _T + "Networks", None),
    Flag("no-healthcheck", None, _C + "Healthcheck.Test", ["NONE"]),
    Flag("placement-pref-rm", "spread=node.labels.rack", _T + "Placement.Preferences", None),
    Flag("publish-rm", "published=8097,target=80,mode=host", "EndpointSpec.Ports", None),
    Flag("replicas", "1", "Mode.Replicated.Replicas", 1),
    Flag("secret-rm", "{secret}", _C + "Secrets", None),
    Flag("sysctl-rm", "net.core.somaxconn", _C + "Sysctls", None),
    Flag("ulimit-rm", "nofile", _C + "Ulimits", None),
]
ELSEWHERE = {
    "credential-spec": "refused: for Windows containers",
    "health-start-interval": "the CLI (28.2) sends it with create alone",
    "isolation": "refused: for Windows containers",
    "max-concurrent": "of a job: refused by the CLI of every service but a new one",
    "rollback": "a test of its own",
    **dict.fromkeys(["detach", "quiet", "no-resolve-image", "with-registry-auth"], "not in it"),
}


def value_at(spec: Any, place: str) -> Any:
    """What a specification has at a place; None: nothing, or nothing in it."""
    for name in place.split("."):
        if isinstance(spec, list):
            spec = spec[int(name)] if int(name) < len(spec) else None
        else:
            spec = (spec or {}).get(name)
    return None if spec in ([], {}) else spec
