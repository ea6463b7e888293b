from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BalancingQuestion(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NetworkAddress(_message.Message):
    __slots__ = ("network", "address")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    network: str
    address: str
    def __init__(self, network: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class BalancedPort(_message.Message):
    __slots__ = ("protocol", "published", "target", "mode")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    protocol: str
    published: int
    target: int
    mode: str
    def __init__(self, protocol: _Optional[str] = ..., published: _Optional[int] = ..., target: _Optional[int] = ..., mode: _Optional[str] = ...) -> None: ...

class Counters(_message.Message):
    __slots__ = ("open", "connections", "packets", "bytes")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    open: int
    connections: int
    packets: int
    bytes: int
    def __init__(self, open: _Optional[int] = ..., connections: _Optional[int] = ..., packets: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Backend(_message.Message):
    __slots__ = ("task", "name", "node", "addresses", "state", "counters")
    TASK_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    task: str
    name: str
    node: str
    addresses: _containers.RepeatedCompositeFieldContainer[NetworkAddress]
    state: str
    counters: Counters
    def __init__(self, task: _Optional[str] = ..., name: _Optional[str] = ..., node: _Optional[str] = ..., addresses: _Optional[_Iterable[_Union[NetworkAddress, _Mapping]]] = ..., state: _Optional[str] = ..., counters: _Optional[_Union[Counters, _Mapping]] = ...) -> None: ...

class BalancedService(_message.Message):
    __slots__ = ("id", "name", "mode", "vips", "ports", "backends", "policy")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    VIPS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    mode: str
    vips: _containers.RepeatedCompositeFieldContainer[NetworkAddress]
    ports: _containers.RepeatedCompositeFieldContainer[BalancedPort]
    backends: _containers.RepeatedCompositeFieldContainer[Backend]
    policy: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., mode: _Optional[str] = ..., vips: _Optional[_Iterable[_Union[NetworkAddress, _Mapping]]] = ..., ports: _Optional[_Iterable[_Union[BalancedPort, _Mapping]]] = ..., backends: _Optional[_Iterable[_Union[Backend, _Mapping]]] = ..., policy: _Optional[str] = ...) -> None: ...

class BalancingAnswer(_message.Message):
    __slots__ = ("services", "unread")
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    UNREAD_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedCompositeFieldContainer[BalancedService]
    unread: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, services: _Optional[_Iterable[_Union[BalancedService, _Mapping]]] = ..., unread: _Optional[_Iterable[str]] = ...) -> None: ...

class NameQuestion(_message.Message):
    __slots__ = ("container", "name", "type")
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    container: str
    name: str
    type: str
    def __init__(self, container: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[str] = ...) -> None: ...

class NameRecord(_message.Message):
    __slots__ = ("name", "kind", "owner", "addresses")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    owner: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., owner: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class NameAnswer(_message.Message):
    __slots__ = ("container", "name", "type", "result", "records", "seconds", "reason", "network", "claims", "upstreams", "differs")
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAMS_FIELD_NUMBER: _ClassVar[int]
    DIFFERS_FIELD_NUMBER: _ClassVar[int]
    container: str
    name: str
    type: str
    result: str
    records: _containers.RepeatedScalarFieldContainer[str]
    seconds: float
    reason: str
    network: str
    claims: _containers.RepeatedCompositeFieldContainer[NameRecord]
    upstreams: _containers.RepeatedScalarFieldContainer[str]
    differs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, container: _Optional[str] = ..., name: _Optional[str] = ..., type: _Optional[str] = ..., result: _Optional[str] = ..., records: _Optional[_Iterable[str]] = ..., seconds: _Optional[float] = ..., reason: _Optional[str] = ..., network: _Optional[str] = ..., claims: _Optional[_Iterable[_Union[NameRecord, _Mapping]]] = ..., upstreams: _Optional[_Iterable[str]] = ..., differs: _Optional[_Iterable[str]] = ...) -> None: ...

class NamesQuestion(_message.Message):
    __slots__ = ("container",)
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    container: str
    def __init__(self, container: _Optional[str] = ...) -> None: ...

class NetworkNames(_message.Message):
    __slots__ = ("network", "subnet", "records", "differs")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    SUBNET_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    DIFFERS_FIELD_NUMBER: _ClassVar[int]
    network: str
    subnet: str
    records: _containers.RepeatedCompositeFieldContainer[NameRecord]
    differs: str
    def __init__(self, network: _Optional[str] = ..., subnet: _Optional[str] = ..., records: _Optional[_Iterable[_Union[NameRecord, _Mapping]]] = ..., differs: _Optional[str] = ...) -> None: ...

class NamesAnswer(_message.Message):
    __slots__ = ("container", "networks", "upstreams")
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAMS_FIELD_NUMBER: _ClassVar[int]
    container: str
    networks: _containers.RepeatedCompositeFieldContainer[NetworkNames]
    upstreams: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, container: _Optional[str] = ..., networks: _Optional[_Iterable[_Union[NetworkNames, _Mapping]]] = ..., upstreams: _Optional[_Iterable[str]] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("host", "place", "what", "found", "should", "ok", "ends", "mend", "target", "warns")
    HOST_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    SHOULD_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    MEND_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WARNS_FIELD_NUMBER: _ClassVar[int]
    host: str
    place: str
    what: str
    found: str
    should: str
    ok: bool
    ends: bool
    mend: str
    target: str
    warns: bool
    def __init__(self, host: _Optional[str] = ..., place: _Optional[str] = ..., what: _Optional[str] = ..., found: _Optional[str] = ..., should: _Optional[str] = ..., ok: _Optional[bool] = ..., ends: _Optional[bool] = ..., mend: _Optional[str] = ..., target: _Optional[str] = ..., warns: _Optional[bool] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("task", "name", "node", "hostname", "network", "address", "port", "protocol", "source", "mesh")
    TASK_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MESH_FIELD_NUMBER: _ClassVar[int]
    task: str
    name: str
    node: str
    hostname: str
    network: str
    address: str
    port: int
    protocol: str
    source: str
    mesh: bool
    def __init__(self, task: _Optional[str] = ..., name: _Optional[str] = ..., node: _Optional[str] = ..., hostname: _Optional[str] = ..., network: _Optional[str] = ..., address: _Optional[str] = ..., port: _Optional[int] = ..., protocol: _Optional[str] = ..., source: _Optional[str] = ..., mesh: _Optional[bool] = ...) -> None: ...

class PathQuestion(_message.Message):
    __slots__ = ("source", "to", "port", "protocol", "ipv6")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    IPV6_FIELD_NUMBER: _ClassVar[int]
    source: str
    to: str
    port: int
    protocol: str
    ipv6: bool
    def __init__(self, source: _Optional[str] = ..., to: _Optional[str] = ..., port: _Optional[int] = ..., protocol: _Optional[str] = ..., ipv6: _Optional[bool] = ...) -> None: ...

class PathAnswer(_message.Message):
    __slots__ = ("steps", "targets", "task", "address", "port")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    targets: _containers.RepeatedCompositeFieldContainer[Target]
    task: str
    address: str
    port: int
    def __init__(self, steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[Target, _Mapping]]] = ..., task: _Optional[str] = ..., address: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class ArrivalQuestion(_message.Message):
    __slots__ = ("targets",)
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    targets: _containers.RepeatedCompositeFieldContainer[Target]
    def __init__(self, targets: _Optional[_Iterable[_Union[Target, _Mapping]]] = ...) -> None: ...

class ArrivalAnswer(_message.Message):
    __slots__ = ("steps",)
    STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    def __init__(self, steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ...) -> None: ...

class ProbeQuestion(_message.Message):
    __slots__ = ("task", "address", "port")
    TASK_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    task: str
    address: str
    port: int
    def __init__(self, task: _Optional[str] = ..., address: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class ProbeAnswer(_message.Message):
    __slots__ = ("result", "seconds", "source_port", "backend", "answered")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_PORT_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    result: str
    seconds: float
    source_port: int
    backend: str
    answered: bool
    def __init__(self, result: _Optional[str] = ..., seconds: _Optional[float] = ..., source_port: _Optional[int] = ..., backend: _Optional[str] = ..., answered: _Optional[bool] = ...) -> None: ...

class SightQuestion(_message.Message):
    __slots__ = ("address", "source_port")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_PORT_FIELD_NUMBER: _ClassVar[int]
    address: str
    source_port: int
    def __init__(self, address: _Optional[str] = ..., source_port: _Optional[int] = ...) -> None: ...

class SightAnswer(_message.Message):
    __slots__ = ("task", "arrived")
    TASK_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    task: str
    arrived: bool
    def __init__(self, task: _Optional[str] = ..., arrived: _Optional[bool] = ...) -> None: ...

class FactsQuestion(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Reach(_message.Message):
    __slots__ = ("host", "address", "what", "why")
    HOST_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    host: str
    address: str
    what: str
    why: str
    def __init__(self, host: _Optional[str] = ..., address: _Optional[str] = ..., what: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class Room(_message.Message):
    __slots__ = ("what", "used", "most")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    what: str
    used: int
    most: int
    def __init__(self, what: _Optional[str] = ..., used: _Optional[int] = ..., most: _Optional[int] = ...) -> None: ...

class View(_message.Message):
    __slots__ = ("node_id", "hostname", "state")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    hostname: str
    state: str
    def __init__(self, node_id: _Optional[str] = ..., hostname: _Optional[str] = ..., state: _Optional[str] = ...) -> None: ...

class Loop(_message.Message):
    __slots__ = ("name", "error", "last_round")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LAST_ROUND_FIELD_NUMBER: _ClassVar[int]
    name: str
    error: str
    last_round: float
    def __init__(self, name: _Optional[str] = ..., error: _Optional[str] = ..., last_round: _Optional[float] = ...) -> None: ...

class HostFacts(_message.Message):
    __slots__ = ("hostname", "version", "clock", "reaches", "sysctls", "droppers", "routes_in_way", "leftovers", "certificate_ends", "rooms", "members", "reconcilers", "troubles", "narrow", "since", "first_seen", "lacks")
    class SysctlsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SinceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class FirstSeenEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    REACHES_FIELD_NUMBER: _ClassVar[int]
    SYSCTLS_FIELD_NUMBER: _ClassVar[int]
    DROPPERS_FIELD_NUMBER: _ClassVar[int]
    ROUTES_IN_WAY_FIELD_NUMBER: _ClassVar[int]
    LEFTOVERS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ENDS_FIELD_NUMBER: _ClassVar[int]
    ROOMS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    RECONCILERS_FIELD_NUMBER: _ClassVar[int]
    TROUBLES_FIELD_NUMBER: _ClassVar[int]
    NARROW_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_FIELD_NUMBER: _ClassVar[int]
    LACKS_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    version: str
    clock: float
    reaches: _containers.RepeatedCompositeFieldContainer[Reach]
    sysctls: _containers.ScalarMap[str, str]
    droppers: _containers.RepeatedScalarFieldContainer[str]
    routes_in_way: _containers.RepeatedScalarFieldContainer[str]
    leftovers: _containers.RepeatedScalarFieldContainer[str]
    certificate_ends: float
    rooms: _containers.RepeatedCompositeFieldContainer[Room]
    members: _containers.RepeatedCompositeFieldContainer[View]
    reconcilers: _containers.RepeatedCompositeFieldContainer[Loop]
    troubles: _containers.RepeatedScalarFieldContainer[str]
    narrow: _containers.RepeatedScalarFieldContainer[str]
    since: _containers.ScalarMap[str, float]
    first_seen: _containers.ScalarMap[str, float]
    lacks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, hostname: _Optional[str] = ..., version: _Optional[str] = ..., clock: _Optional[float] = ..., reaches: _Optional[_Iterable[_Union[Reach, _Mapping]]] = ..., sysctls: _Optional[_Mapping[str, str]] = ..., droppers: _Optional[_Iterable[str]] = ..., routes_in_way: _Optional[_Iterable[str]] = ..., leftovers: _Optional[_Iterable[str]] = ..., certificate_ends: _Optional[float] = ..., rooms: _Optional[_Iterable[_Union[Room, _Mapping]]] = ..., members: _Optional[_Iterable[_Union[View, _Mapping]]] = ..., reconcilers: _Optional[_Iterable[_Union[Loop, _Mapping]]] = ..., troubles: _Optional[_Iterable[str]] = ..., narrow: _Optional[_Iterable[str]] = ..., since: _Optional[_Mapping[str, float]] = ..., first_seen: _Optional[_Mapping[str, float]] = ..., lacks: _Optional[_Iterable[str]] = ...) -> None: ...

class EventsQuestion(_message.Message):
    __slots__ = ("after",)
    class AfterEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: _containers.ScalarMap[str, int]
    def __init__(self, after: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("number", "at", "part", "who", "what", "repaired_s")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_S_FIELD_NUMBER: _ClassVar[int]
    number: int
    at: float
    part: str
    who: str
    what: str
    repaired_s: float
    def __init__(self, number: _Optional[int] = ..., at: _Optional[float] = ..., part: _Optional[str] = ..., who: _Optional[str] = ..., what: _Optional[str] = ..., repaired_s: _Optional[float] = ...) -> None: ...

class EventsAnswer(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class TrafficQuestion(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LinkCount(_message.Message):
    __slots__ = ("node", "packets", "bytes")
    NODE_FIELD_NUMBER: _ClassVar[int]
    PACKETS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    node: str
    packets: int
    bytes: int
    def __init__(self, node: _Optional[str] = ..., packets: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class OverlayCount(_message.Message):
    __slots__ = ("network", "received_packets", "received_bytes", "sent_packets", "sent_bytes")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_PACKETS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_PACKETS_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    network: str
    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int
    def __init__(self, network: _Optional[str] = ..., received_packets: _Optional[int] = ..., received_bytes: _Optional[int] = ..., sent_packets: _Optional[int] = ..., sent_bytes: _Optional[int] = ...) -> None: ...

class TrafficAnswer(_message.Message):
    __slots__ = ("at", "links", "overlays")
    AT_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    OVERLAYS_FIELD_NUMBER: _ClassVar[int]
    at: float
    links: _containers.RepeatedCompositeFieldContainer[LinkCount]
    overlays: _containers.RepeatedCompositeFieldContainer[OverlayCount]
    def __init__(self, at: _Optional[float] = ..., links: _Optional[_Iterable[_Union[LinkCount, _Mapping]]] = ..., overlays: _Optional[_Iterable[_Union[OverlayCount, _Mapping]]] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("balancing", "name", "names", "path", "arrival", "probe", "sight", "facts", "events", "traffic")
    BALANCING_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ARRIVAL_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    SIGHT_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    balancing: BalancingQuestion
    name: NameQuestion
    names: NamesQuestion
    path: PathQuestion
    arrival: ArrivalQuestion
    probe: ProbeQuestion
    sight: SightQuestion
    facts: FactsQuestion
    events: EventsQuestion
    traffic: TrafficQuestion
    def __init__(self, balancing: _Optional[_Union[BalancingQuestion, _Mapping]] = ..., name: _Optional[_Union[NameQuestion, _Mapping]] = ..., names: _Optional[_Union[NamesQuestion, _Mapping]] = ..., path: _Optional[_Union[PathQuestion, _Mapping]] = ..., arrival: _Optional[_Union[ArrivalQuestion, _Mapping]] = ..., probe: _Optional[_Union[ProbeQuestion, _Mapping]] = ..., sight: _Optional[_Union[SightQuestion, _Mapping]] = ..., facts: _Optional[_Union[FactsQuestion, _Mapping]] = ..., events: _Optional[_Union[EventsQuestion, _Mapping]] = ..., traffic: _Optional[_Union[TrafficQuestion, _Mapping]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("balancing", "name", "names", "path", "arrival", "probe", "sight", "facts", "events", "traffic", "error")
    BALANCING_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ARRIVAL_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    SIGHT_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    balancing: BalancingAnswer
    name: NameAnswer
    names: NamesAnswer
    path: PathAnswer
    arrival: ArrivalAnswer
    probe: ProbeAnswer
    sight: SightAnswer
    facts: HostFacts
    events: EventsAnswer
    traffic: TrafficAnswer
    error: str
    def __init__(self, balancing: _Optional[_Union[BalancingAnswer, _Mapping]] = ..., name: _Optional[_Union[NameAnswer, _Mapping]] = ..., names: _Optional[_Union[NamesAnswer, _Mapping]] = ..., path: _Optional[_Union[PathAnswer, _Mapping]] = ..., arrival: _Optional[_Union[ArrivalAnswer, _Mapping]] = ..., probe: _Optional[_Union[ProbeAnswer, _Mapping]] = ..., sight: _Optional[_Union[SightAnswer, _Mapping]] = ..., facts: _Optional[_Union[HostFacts, _Mapping]] = ..., events: _Optional[_Union[EventsAnswer, _Mapping]] = ..., traffic: _Optional[_Union[TrafficAnswer, _Mapping]] = ..., error: _Optional[str] = ...) -> None: ...

class AskRequest(_message.Message):
    __slots__ = ("question", "all", "nodes")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    question: Question
    all: bool
    nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, question: _Optional[_Union[Question, _Mapping]] = ..., all: _Optional[bool] = ..., nodes: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeAnswer(_message.Message):
    __slots__ = ("node_id", "hostname", "answer")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    hostname: str
    answer: Answer
    def __init__(self, node_id: _Optional[str] = ..., hostname: _Optional[str] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ...) -> None: ...

class AskReply(_message.Message):
    __slots__ = ("answers", "missing")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[NodeAnswer]
    missing: str
    def __init__(self, answers: _Optional[_Iterable[_Union[NodeAnswer, _Mapping]]] = ..., missing: _Optional[str] = ...) -> None: ...

class RebalanceRequest(_message.Message):
    __slots__ = ("dry_run",)
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    dry_run: bool
    def __init__(self, dry_run: _Optional[bool] = ...) -> None: ...

class Moved(_message.Message):
    __slots__ = ("task", "source", "target", "done", "left")
    TASK_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    task: str
    source: str
    target: str
    done: bool
    left: int
    def __init__(self, task: _Optional[str] = ..., source: _Optional[str] = ..., target: _Optional[str] = ..., done: _Optional[bool] = ..., left: _Optional[int] = ...) -> None: ...

class NodeQuestion(_message.Message):
    __slots__ = ("number", "question")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    number: int
    question: Question
    def __init__(self, number: _Optional[int] = ..., question: _Optional[_Union[Question, _Mapping]] = ...) -> None: ...

class NodeReply(_message.Message):
    __slots__ = ("number", "answer")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    number: int
    answer: Answer
    def __init__(self, number: _Optional[int] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ...) -> None: ...
