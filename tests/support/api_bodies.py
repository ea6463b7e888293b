"""Bodies of requests for a fuzzer: real ones, rich ones, and what can be done to them.

A body is changed in a few places at a time, so that most of what is refused is refused for that one
place, and what is accepted goes deep.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st
from whole_cluster import CONFIG, NODE, OVERLAY, SECRET, SERVICE

from meshnet_control.api import control_pb2 as pb

RECORDED = json.loads((Path(__file__).parents[1] / "unit/gateway/data/recorded.json").read_text())
SERVICE_BODY: dict[str, Any] = {
    "Name": "web",
    "Labels": {"a": "b"},
    "TaskTemplate": {
        "ContainerSpec": {
            "Image": "nginx:1.25@sha256:" + "0" * 64,
            "Labels": {"l": "{{.Task.Slot}}"},
            "Command": ["sh"],
            "Args": ["-c", "true"],
            "Hostname": "{{.Node.Hostname}}-{{.Task.Slot}}",
            "Env": ["A=1", "B={{.Service.Name}}", "C"],
            "Dir": "/srv",
            "User": "1000:1000",
            "Groups": ["g"],
            "Privileges": {
                "SELinuxContext": {"User": "u", "Role": "r", "Type": "t", "Level": "l"},
                "Seccomp": {"Mode": "custom", "Profile": "e30="},
                "AppArmor": {"Mode": "disabled"},
                "NoNewPrivileges": True,
            },
            "Init": True,
            "StopSignal": "SIGTERM",
            "TTY": False,
            "Mounts": [
                {"Type": "bind", "Source": "/a", "Target": "/a", "BindOptions": {}},
                {
                    "Type": "volume",
                    "Source": "v{{.Task.Slot}}",
                    "Target": "/v",
                    "VolumeOptions": {"Labels": {"x": "y"}, "DriverConfig": {"Name": "local"}},
                },
                {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 511}},
            ],
            "StopGracePeriod": 10**10,
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9, "Retries": 3},
            "Hosts": ["192.0.2.1 one uno", "2001:db8::1 two"],
            "DNSConfig": {"Nameservers": ["192.0.2.53"], "Search": ["x.y"], "Options": ["ndots:2"]},
            "Secrets": [
                {
                    "File": {"Name": "s", "UID": "0", "GID": "99", "Mode": 292},
                    "SecretID": SECRET,
                    "SecretName": "secret",
                }
            ],
            "Configs": [
                {
                    "File": {"Name": "/etc/c", "UID": "0", "GID": "0", "Mode": 292},
                    "ConfigID": CONFIG,
                    "ConfigName": "config",
                }
            ],
            "Sysctls": {"net.core.somaxconn": "1024"},
            "CapabilityAdd": ["CAP_NET_ADMIN"],
            "CapabilityDrop": ["ALL"],
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
            "OomScoreAdj": 0,
        },
        "Resources": {
            "Limits": {"NanoCPUs": 10**9, "MemoryBytes": 10**8, "Pids": 100},
            "Reservations": {
                "NanoCPUs": 10**8,
                "MemoryBytes": 10**7,
                "GenericResources": [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 0}}],
            },
            "SwapBytes": 10**8,
            "MemorySwappiness": 10,
        },
        "RestartPolicy": {"Condition": "any", "Delay": 10**9, "MaxAttempts": 2, "Window": 10**9},
        "Placement": {
            "Constraints": ["node.role == manager"],
            "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}],
            "MaxReplicas": 3,
            "Platforms": [{"Architecture": "amd64", "OS": "linux"}, {}],
        },
        "Networks": [{"Target": "net", "Aliases": ["w"], "DriverOpts": {}}],
        "LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}},
        "ForceUpdate": 1,
    },
    "Mode": {"Replicated": {"Replicas": 2}},
    "UpdateConfig": {
        "Parallelism": 1,
        "Delay": 10**9,
        "FailureAction": "rollback",
        "Monitor": 10**9,
        "MaxFailureRatio": 0.5,
        "Order": "start-first",
    },
    "RollbackConfig": {"Parallelism": 0, "FailureAction": "continue", "Order": "stop-first"},
    "EndpointSpec": {
        "Mode": "vip",
        "Ports": [
            {"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"},
            {"Protocol": "udp", "TargetPort": 53, "PublishMode": "host"},
            {"Name": "x", "TargetPort": 443},
        ],
    },
}
NETWORK_BODY: dict[str, Any] = {
    "Name": "other",
    "Driver": "overlay",
    "Scope": "swarm",
    "IPAM": {
        "Driver": "default",
        "Options": {},
        "Config": [
            {
                "Subnet": "10.0.9.0/24",
                "IPRange": "10.0.9.128/25",
                "Gateway": "10.0.9.1",
                "AuxiliaryAddresses": {"router": "10.0.9.7"},
            }
        ],
    },
    "Internal": False,
    "Attachable": True,
    "Options": {"com.docker.network.driver.mtu": "1400", "encrypted": "false"},
    "Labels": {"a": "b"},
}
CLUSTER_BODY: dict[str, Any] = {
    "Name": "default",
    "Labels": {"a": "b"},
    "Orchestration": {"TaskHistoryRetentionLimit": 3},
    "Raft": {"SnapshotInterval": 10000, "KeepOldSnapshots": 0, "HeartbeatTick": 1},
    "Dispatcher": {"HeartbeatPeriod": 5 * 10**9},
    "CAConfig": {"NodeCertExpiry": 7776 * 10**12},
    "TaskDefaults": {"LogDriver": {"Name": "json-file"}},
    "EncryptionConfig": {"AutoLockManagers": False},
}
INIT_BODY: dict[str, Any] = {
    "ListenAddr": "0.0.0.0:2377",
    "AdvertiseAddr": "192.168.50.11",
    "DataPathAddr": "",
    "DataPathPort": 4789,
    "Spec": CLUSTER_BODY,
    "Availability": "active",
    "DefaultAddrPool": ["10.0.0.0/8"],
    "SubnetSize": 24,
}
JOIN_BODY: dict[str, Any] = {
    "ListenAddr": "0.0.0.0:2377",
    "AdvertiseAddr": "192.168.50.12",
    "RemoteAddrs": ["192.168.50.11:2377"],
    "JoinToken": "SWMTKN-1-" + "a" * 50 + "-" + "b" * 25,
    "Availability": "active",
}
NODE_BODY: dict[str, Any] = {"Labels": {"zone": "a"}, "Role": "worker", "Availability": "drain"}
FILE_BODY: dict[str, Any] = {"Name": "new", "Labels": {"a": "b"}, "Data": "YQ=="}

STRINGS = (
    *("", "a", "web", "net", "ingress", "bridge", "host", "none", "\0", "a\nb", "web\n", " ", "²"),
    *("a" * 26 + "!", "x" * 64, "x" * 300, "é" * 40, "\U0001f600", "\x7f", "../../etc/passwd", "/"),
    *("{{", "{{.Task.ID}}", "{{-}}", '{{index .Service.Labels "a"}}', "{{.No}}", "}}{{" * 40),
    *("0", "-1", "99999999999", "4294967295", "4294967294", "0x1f", "007", "+5", "1e3", "٣"),
    *("10.0.9.0/24", "10.0.9.1/24", "0.0.0.0/0", "10.0.0.0/8", "224.0.0.0/4", "1.2.3.4/33"),
    *("10.0.9.9", "1.2.3", "::1", "fe80::1%eth0", "fd00::/64", "1.2.3.4 a", "1.2.3.4", "a 1.2.3.4"),
    *("tcp", "udp", "sctp", "TCP", "vip", "dnsrr", "ingress", "any", "pause", "rollback", "global"),
    *("node.role==manager", "node.ip==10.0.0.0/8", "node.ip!=x", "a=b", "!=", "==", "a==b==c"),
    *("node.labels.a==", "SIGKILL", "99", "RTMIN+3", "CMD-SHELL", "manager", "active", "drain"),
    *("192.168.50.11:2377", "0.0.0.0:0", "224.0.0.1:2377", "eth0:99999", ":", "[::1]:2377"),
    *("0001-01-01T00:00:00Z", "e30=", "/w==", "volume", "bind", "tmpfs", "overlay", "npipe"),
    *(OVERLAY, SECRET, CONFIG, SERVICE, NODE, NODE[:3], "sha256:" + "0" * 64),
)
INTEGERS = (
    *(0, 1, 2, 3, -1, -2, 7, 30, 53, 80, 1023, 30000, 32767, 65535, 65536, 10**6, 10**9),
    *(2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**32, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64),
    *(-(2**63) - 1, 10**30),
)
"""None between 100 and the largest number of replicas: a fuzzer has other things to wait for."""
SCALARS = st.one_of(
    st.sampled_from(STRINGS),
    st.sampled_from(INTEGERS),
    st.sampled_from((None, True, False, 0.5, -0.0, 1e300, 1.5, float("inf"), float("nan"))),
    st.text(max_size=12),
    st.integers(-5, 60),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


def of_message(descriptor: Descriptor, depth: int = 4) -> st.SearchStrategy[Any]:
    """JSON that fits a message's types, with values that need not make sense."""
    if depth == 0:
        return st.just({})
    return st.fixed_dictionaries(
        {}, optional={f.json_name: _of_field(f, depth) for f in descriptor.fields}
    )


def _of_field(item: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    message = item.message_type
    if message is not None and message.GetOptions().map_entry:
        entry = message.fields_by_name["value"]
        return st.dictionaries(st.sampled_from(STRINGS), _single(entry, depth), max_size=2)
    one = _single(item, depth)
    return st.lists(one, max_size=3) if item.is_repeated else one


def _single(item: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if item.message_type is not None:
        return of_message(item.message_type, depth - 1)
    if item.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if item.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.sampled_from(STRINGS)
    if item.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return st.sampled_from((0, 1, 0.5, -1, 2, 1e300))
    return st.sampled_from(INTEGERS)


def places(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a body."""
    found = [path] if path else []
    inner = (
        body.items()
        if isinstance(body, dict)
        else enumerate(body)
        if isinstance(body, list)
        else ()
    )
    for key, value in inner:
        found += places(value, (*path, key))
    return found


@st.composite
def changed(draw: st.DrawFn, base: Any) -> Any:
    """A body with up to three places of it replaced, removed, doubled or put elsewhere."""
    body = deepcopy(base)
    for _ in range(draw(st.integers(0, 3))):
        known = places(body)
        if not known:
            break
        *way, last = draw(st.sampled_from(known))
        holder = body
        for key in way:
            holder = holder[key]
        match draw(st.sampled_from(("replace", "replace", "replace", "remove", "double", "move"))):
            case "replace":
                old = holder[last]
                same = (
                    st.sampled_from(STRINGS) if isinstance(old, str) else st.sampled_from(INTEGERS)
                )
                typed = isinstance(old, str | int) and not isinstance(old, bool)
                holder[last] = draw(same | VALUES if typed else VALUES)
            case "remove":
                del holder[last]
            case "double" if isinstance(holder, list):
                holder.append(deepcopy(holder[last]))
            case "double" | "move":
                source = body
                for key in draw(st.sampled_from(known)):
                    try:
                        source = source[key]
                    except (KeyError, IndexError, TypeError):
                        break
                holder[last] = deepcopy(source)
    return body


Request = tuple[str, str, dict[str, str], Any]
"""Method, path, query, JSON body."""

_QUERIES = st.dictionaries(
    st.sampled_from(
        ("filters", "status", "force", "verbose", "rollback", "insertDefaults", "scope")
    ),
    st.sampled_from(STRINGS)
    | st.sampled_from(
        (
            '{"name":{"web":true}}',
            '{"name":["^w","(a*)*b","["]}',
            '{"desired-state":["running"],"service":["old"]}',
            '{"label":["a=b","\\ud800"]}',
            '{"until":["1h"],"label!":["x"]}',
            '{"type":{"service":true}}',
            '{"is-task":{"false":true},"network":["net"]}',
            "[" * 3000,
            '{"name":' + "[" * 3000,
            "NaN",
        )
    ),
    max_size=2,
)


def _posts() -> st.SearchStrategy[Request]:
    creates: list[tuple[str, Any, Any]] = [
        ("/services/create", SERVICE_BODY, pb.ServiceSpec),
        ("/networks/create", NETWORK_BODY, pb.NetworkCreateRequest),
        ("/secrets/create", FILE_BODY, pb.SecretSpec),
        ("/configs/create", FILE_BODY, pb.ConfigSpec),
        ("/containers/create", {"HostConfig": {"NetworkMode": "net"}}, pb.NetworkCreateRequest),
        (f"/services/{SERVICE}/update", SERVICE_BODY | {"Name": "old"}, pb.ServiceSpec),
        (f"/secrets/{SECRET}/update", {"Labels": {"a": "b"}}, pb.SecretSpec),
        (f"/configs/{CONFIG}/update", {"Labels": {"a": "b"}}, pb.ConfigSpec),
        (f"/nodes/{NODE}/update", NODE_BODY | {"Role": "manager"}, pb.NodeSpec),
        ("/nodes/h2/update", NODE_BODY, pb.NodeSpec),
        ("/swarm/update", CLUSTER_BODY, pb.ClusterSpec),
        ("/swarm/init", INIT_BODY, pb.SwarmInitRequest),
        ("/swarm/join", JOIN_BODY, pb.SwarmJoinRequest),
        ("/networks/prune", {}, pb.NetworkCreateRequest),
        (f"/networks/{OVERLAY}/connect", {"Container": "c"}, pb.NetworkCreateRequest),
        ("/swarm/leave", {}, pb.NodeSpec),
        ("/swarm/unlock", {}, pb.NodeSpec),
    ]
    made: list[st.SearchStrategy[Request]] = [
        st.tuples(
            st.just("POST"),
            st.just(path),
            _QUERIES,
            changed(body) | of_message(cls.DESCRIPTOR),
        )
        for path, body, cls in creates
    ]
    services = st.tuples(st.just("POST"), st.just(creates[0][0]), _QUERIES, changed(SERVICE_BODY))
    recorded: list[st.SearchStrategy[Request]] = [
        st.tuples(st.just("POST"), st.just(call["path"]), st.just({}), changed(call["body"]))
        for call in RECORDED
        if call["method"] == "POST" and call["path"].endswith("/create")
    ]
    return st.one_of(*made, *[services] * 4, st.one_of(recorded))


_NAMES = (
    "web",
    "old",
    "net",
    "other",
    "ingress",
    "h2",
    "new",
    "nobody",
    "é",
    "%00",
    "%ff",
    "a%2fb",
)
READS = st.tuples(
    st.sampled_from(("GET", "GET", "DELETE")),
    st.sampled_from(("services", "networks", "secrets", "configs", "nodes", "tasks")).flatmap(
        lambda kind: st.sampled_from([f"/{kind}", *(f"/{kind}/{name}" for name in _NAMES)])
    )
    | st.sampled_from(
        (
            *("/swarm", "/info", "/version", "/_ping", "/swarm/unlockkey", "/v1.41/tasks"),
            *("/containers/json", "/v1.41/containers/json", "/containers/web/json"),
        )
    ),
    _QUERIES,
    st.none(),
)
REQUESTS = _posts()
