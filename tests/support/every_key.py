"""A stack file with every key of Compose's version 3 that the docker CLI hands to the cluster.

What it leaves out, with a warning (``build``, ``privileged``, ``restart`` ...), never comes here.
Source: docker/cli compose/types and compose/convert.
"""

from __future__ import annotations

from typing import Any

FILES = {"secret.txt": "hush", "config.txt": "page", "env.txt": "FROMFILE=1\n"}
FILES |= {"template.txt": 'slot {{.Task.Slot}} of {{.Service.Name}}: {{secret "2"}}\n'}
FULL: dict[str, Any] = {
    "image": "meshnet/tools:1",
    "entrypoint": ["sh", "-c"],
    "command": ["trap 'exit 0' USR1; while :; do sleep 0.1; done"],
    "environment": {"A": "1", "B": "${UNSET:-two}"},
    "env_file": ["env.txt"],
    "networks": {"inner": {"aliases": ["other"]}, "second": None},
    "volumes": [
        "data:/data",
        {"type": "volume", "source": "named", "target": "/n", "volume": {"nocopy": True}},
        {"type": "tmpfs", "target": "/t", "tmpfs": {"size": 1048576}},
        {"type": "bind", "source": "/etc", "target": "/e", "read_only": True},
        "/anonymous",
    ],
    "secrets": ["s1", {"source": "s1", "target": "2", "uid": "7", "gid": "8", "mode": 0o400}],
    "configs": [
        "c1",
        "c3",
        {"source": "c1", "target": "/srv/2", "uid": "7", "gid": "8", "mode": 0o440},
    ],
    "healthcheck": {"test": ["CMD", "true"], "interval": "1s", "timeout": "2s", "retries": 4},
    "hostname": "{{.Service.Name}}",
    "labels": {"cl": "1"},
    "logging": {"driver": "json-file", "options": {"max-size": "1m"}},
    "stop_grace_period": "1s",
    "stop_signal": "SIGUSR1",
    "user": "0",
    "working_dir": "/srv",
    "tty": True,
    "stdin_open": True,
    "read_only": True,
    "init": True,
    "cap_add": ["NET_ADMIN"],
    "cap_drop": ["MKNOD"],
    "sysctls": {"net.core.somaxconn": "300"},
    "ulimits": {"nofile": {"soft": 1000, "hard": 2000}},
    "dns": ["10.9.9.9"],
    "dns_search": ["example.org"],
    "extra_hosts": ["peer:10.1.2.3"],
    "isolation": "default",
    "depends_on": ["one"],
    "deploy": {
        "mode": "replicated",
        "replicas": 2,
        "endpoint_mode": "vip",
        "labels": {"sl": "1"},
        "update_config": {
            "parallelism": 2,
            "delay": "1ms",
            "failure_action": "rollback",
            "monitor": "100ms",
            "max_failure_ratio": 0.2,
            "order": "start-first",
        },
        "rollback_config": {
            "parallelism": 2,
            "delay": "1ms",
            "failure_action": "continue",
            "monitor": "100ms",
            "max_failure_ratio": 0.1,
            "order": "start-first",
        },
        "resources": {
            "limits": {"cpus": "0.5", "memory": "64M", "pids": 100},
            "reservations": {"cpus": "0.1", "memory": "16M"},
        },
        "restart_policy": {
            "condition": "on-failure", "delay": "1s", "max_attempts": 3, "window": "10s"
        },
        "placement": {
            "constraints": ["node.platform.os==linux"],
            "preferences": [{"spread": "node.labels.zone"}],
            "max_replicas_per_node": 1,
        },
    },
}  # fmt: skip
ONE = {
    "image": "meshnet/web:1",
    "networks": ["second"],
    "deploy": {"endpoint_mode": "dnsrr", "mode": "global"},
}


def stack(first_port: int, name: str) -> dict[str, Any]:
    """The file; it publishes two ports from the first one on, and has a network by that name."""
    by_host = {"target": 81, "published": first_port + 1, "protocol": "udp", "mode": "host"}
    full = FULL | {"ports": [f"{first_port}:80", by_host]}
    return {
        "version": "3.9",
        "services": {"full": full, "one": ONE},
        "networks": {
            "inner": {
                "driver": "overlay",
                "attachable": True,
                "driver_opts": {"com.docker.network.driver.mtu": "1400"},
                "labels": {"nl": "1"},
                "ipam": {"driver": "default", "config": [{"subnet": "10.77.1.0/24"}]},
            },
            "second": {"internal": True, "name": name},
        },
        "volumes": {"data": {"driver": "local", "labels": {"vl": "1"}}, "named": {"name": name}},
        "secrets": {"s1": {"file": "./secret.txt", "labels": {"a": "b"}}},
        "configs": {
            "c1": {"file": "./config.txt", "name": f"{name}c"},
            "c3": {"file": "./template.txt", "template_driver": "golang"},
        },
        "x-more": {"ours": "alone"},
    }


INSIDE = """
ls -ln /run/secrets /c1 /srv/2 | awk 'NF > 5 { print $1, $3, $4, $NF }'
cat /run/secrets/2; cat /srv/2; echo; sed 's/slot [12]/slot/' /c3
echo $A $B $FROMFILE; hostname; pwd; ulimit -Hn; cat /proc/sys/net/core/somaxconn
grep -c peer /etc/hosts; grep search /etc/resolv.conf; mount | grep -c ' on /t type tmpfs'
touch /x 2>&1 | grep -c Read-only; touch /data/x /n/x /anonymous/x /t/x && echo writable
"""
"""What is asked in a container of ``full``."""
SEEN = [
    "-r-------- 7 8 2", "-r--r--r-- 0 0 s1", "-r--r--r-- 0 0 /c1", "-r--r----- 7 8 /srv/2",
    "hushpage", "slot of NAME_full: hush", "1 two 1", "NAME_full", "/srv", "2000", "300", "1",
    "search example.org", "1", "1", "writable",
]  # fmt: skip
"""What is said there, in any order of the files."""
