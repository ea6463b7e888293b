import datetime

from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_STATE_NEW: _ClassVar[TaskState]
    TASK_STATE_PENDING: _ClassVar[TaskState]
    TASK_STATE_ASSIGNED: _ClassVar[TaskState]
    TASK_STATE_ACCEPTED: _ClassVar[TaskState]
    TASK_STATE_PREPARING: _ClassVar[TaskState]
    TASK_STATE_READY: _ClassVar[TaskState]
    TASK_STATE_STARTING: _ClassVar[TaskState]
    TASK_STATE_RUNNING: _ClassVar[TaskState]
    TASK_STATE_COMPLETE: _ClassVar[TaskState]
    TASK_STATE_SHUTDOWN: _ClassVar[TaskState]
    TASK_STATE_FAILED: _ClassVar[TaskState]
    TASK_STATE_REJECTED: _ClassVar[TaskState]
    TASK_STATE_REMOVE: _ClassVar[TaskState]
    TASK_STATE_ORPHANED: _ClassVar[TaskState]
TASK_STATE_NEW: TaskState
TASK_STATE_PENDING: TaskState
TASK_STATE_ASSIGNED: TaskState
TASK_STATE_ACCEPTED: TaskState
TASK_STATE_PREPARING: TaskState
TASK_STATE_READY: TaskState
TASK_STATE_STARTING: TaskState
TASK_STATE_RUNNING: TaskState
TASK_STATE_COMPLETE: TaskState
TASK_STATE_SHUTDOWN: TaskState
TASK_STATE_FAILED: TaskState
TASK_STATE_REJECTED: TaskState
TASK_STATE_REMOVE: TaskState
TASK_STATE_ORPHANED: TaskState
HIDDEN_FIELD_NUMBER: _ClassVar[int]
hidden: _descriptor.FieldDescriptor
ALWAYS_FIELD_NUMBER: _ClassVar[int]
always: _descriptor.FieldDescriptor
INSTEAD_FIELD_NUMBER: _ClassVar[int]
instead: _descriptor.FieldDescriptor

class Version(_message.Message):
    __slots__ = ("index", "asked")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    index: int
    asked: int
    def __init__(self, index: _Optional[int] = ..., asked: _Optional[int] = ...) -> None: ...

class Platform(_message.Message):
    __slots__ = ("architecture", "os")
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    architecture: str
    os: str
    def __init__(self, architecture: _Optional[str] = ..., os: _Optional[str] = ...) -> None: ...

class GenericResource(_message.Message):
    __slots__ = ("named_resource_spec", "discrete_resource_spec")
    NAMED_RESOURCE_SPEC_FIELD_NUMBER: _ClassVar[int]
    DISCRETE_RESOURCE_SPEC_FIELD_NUMBER: _ClassVar[int]
    named_resource_spec: NamedResourceSpec
    discrete_resource_spec: DiscreteResourceSpec
    def __init__(self, named_resource_spec: _Optional[_Union[NamedResourceSpec, _Mapping]] = ..., discrete_resource_spec: _Optional[_Union[DiscreteResourceSpec, _Mapping]] = ...) -> None: ...

class NamedResourceSpec(_message.Message):
    __slots__ = ("kind", "value")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    value: str
    def __init__(self, kind: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class DiscreteResourceSpec(_message.Message):
    __slots__ = ("kind", "value")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    value: int
    def __init__(self, kind: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...

class NodeResources(_message.Message):
    __slots__ = ("nano_cpus", "memory_bytes", "generic_resources")
    NANO_CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GENERIC_RESOURCES_FIELD_NUMBER: _ClassVar[int]
    nano_cpus: int
    memory_bytes: int
    generic_resources: _containers.RepeatedCompositeFieldContainer[GenericResource]
    def __init__(self, nano_cpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., generic_resources: _Optional[_Iterable[_Union[GenericResource, _Mapping]]] = ...) -> None: ...

class EnginePlugin(_message.Message):
    __slots__ = ("type", "name")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    type: str
    name: str
    def __init__(self, type: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class EngineDescription(_message.Message):
    __slots__ = ("engine_version", "labels", "plugins")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PLUGINS_FIELD_NUMBER: _ClassVar[int]
    engine_version: str
    labels: _containers.ScalarMap[str, str]
    plugins: _containers.RepeatedCompositeFieldContainer[EnginePlugin]
    def __init__(self, engine_version: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., plugins: _Optional[_Iterable[_Union[EnginePlugin, _Mapping]]] = ...) -> None: ...

class TLSInfo(_message.Message):
    __slots__ = ("trust_root", "cert_issuer_subject", "cert_issuer_public_key")
    TRUST_ROOT_FIELD_NUMBER: _ClassVar[int]
    CERT_ISSUER_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CERT_ISSUER_PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    trust_root: str
    cert_issuer_subject: bytes
    cert_issuer_public_key: bytes
    def __init__(self, trust_root: _Optional[str] = ..., cert_issuer_subject: _Optional[bytes] = ..., cert_issuer_public_key: _Optional[bytes] = ...) -> None: ...

class NodeDescription(_message.Message):
    __slots__ = ("hostname", "platform", "resources", "engine", "tls_info", "underlay_mtu", "routes", "gossip_key", "esp", "routes6")
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    TLS_INFO_FIELD_NUMBER: _ClassVar[int]
    UNDERLAY_MTU_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_KEY_FIELD_NUMBER: _ClassVar[int]
    ESP_FIELD_NUMBER: _ClassVar[int]
    ROUTES6_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    platform: Platform
    resources: NodeResources
    engine: EngineDescription
    tls_info: TLSInfo
    underlay_mtu: int
    routes: _containers.RepeatedCompositeFieldContainer[HostRoute]
    gossip_key: bytes
    esp: bool
    routes6: _containers.RepeatedCompositeFieldContainer[HostRoute]
    def __init__(self, hostname: _Optional[str] = ..., platform: _Optional[_Union[Platform, _Mapping]] = ..., resources: _Optional[_Union[NodeResources, _Mapping]] = ..., engine: _Optional[_Union[EngineDescription, _Mapping]] = ..., tls_info: _Optional[_Union[TLSInfo, _Mapping]] = ..., underlay_mtu: _Optional[int] = ..., routes: _Optional[_Iterable[_Union[HostRoute, _Mapping]]] = ..., gossip_key: _Optional[bytes] = ..., esp: _Optional[bool] = ..., routes6: _Optional[_Iterable[_Union[HostRoute, _Mapping]]] = ...) -> None: ...

class HostRoute(_message.Message):
    __slots__ = ("destination", "link")
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    destination: str
    link: str
    def __init__(self, destination: _Optional[str] = ..., link: _Optional[str] = ...) -> None: ...

class NodeSpec(_message.Message):
    __slots__ = ("name", "labels", "role", "availability")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.ScalarMap[str, str]
    role: str
    availability: str
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., role: _Optional[str] = ..., availability: _Optional[str] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("state", "message", "addr", "data_path_addr")
    STATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    DATA_PATH_ADDR_FIELD_NUMBER: _ClassVar[int]
    state: str
    message: str
    addr: str
    data_path_addr: str
    def __init__(self, state: _Optional[str] = ..., message: _Optional[str] = ..., addr: _Optional[str] = ..., data_path_addr: _Optional[str] = ...) -> None: ...

class ManagerStatus(_message.Message):
    __slots__ = ("leader", "reachability", "addr")
    LEADER_FIELD_NUMBER: _ClassVar[int]
    REACHABILITY_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    leader: bool
    reachability: str
    addr: str
    def __init__(self, leader: _Optional[bool] = ..., reachability: _Optional[str] = ..., addr: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("id", "version", "created_at", "updated_at", "spec", "description", "status", "manager_status", "ingress_address", "certificate", "ingress_address6")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MANAGER_STATUS_FIELD_NUMBER: _ClassVar[int]
    INGRESS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    INGRESS_ADDRESS6_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: Version
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    spec: NodeSpec
    description: NodeDescription
    status: NodeStatus
    manager_status: ManagerStatus
    ingress_address: str
    certificate: bytes
    ingress_address6: str
    def __init__(self, id: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., spec: _Optional[_Union[NodeSpec, _Mapping]] = ..., description: _Optional[_Union[NodeDescription, _Mapping]] = ..., status: _Optional[_Union[NodeStatus, _Mapping]] = ..., manager_status: _Optional[_Union[ManagerStatus, _Mapping]] = ..., ingress_address: _Optional[str] = ..., certificate: _Optional[bytes] = ..., ingress_address6: _Optional[str] = ...) -> None: ...

class Driver(_message.Message):
    __slots__ = ("name", "options")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    options: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ...) -> None: ...

class IPAMConfig(_message.Message):
    __slots__ = ("subnet", "ip_range", "gateway", "auxiliary_addresses")
    class AuxiliaryAddressesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SUBNET_FIELD_NUMBER: _ClassVar[int]
    IP_RANGE_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    AUXILIARY_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    subnet: str
    ip_range: str
    gateway: str
    auxiliary_addresses: _containers.ScalarMap[str, str]
    def __init__(self, subnet: _Optional[str] = ..., ip_range: _Optional[str] = ..., gateway: _Optional[str] = ..., auxiliary_addresses: _Optional[_Mapping[str, str]] = ...) -> None: ...

class IPAMOptions(_message.Message):
    __slots__ = ("driver", "configs")
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    CONFIGS_FIELD_NUMBER: _ClassVar[int]
    driver: Driver
    configs: _containers.RepeatedCompositeFieldContainer[IPAMConfig]
    def __init__(self, driver: _Optional[_Union[Driver, _Mapping]] = ..., configs: _Optional[_Iterable[_Union[IPAMConfig, _Mapping]]] = ...) -> None: ...

class NetworkSpec(_message.Message):
    __slots__ = ("name", "labels", "driver_configuration", "ipv6_enabled", "internal", "attachable", "ingress", "ipam_options", "scope", "config_from")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    DRIVER_CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    IPV6_ENABLED_FIELD_NUMBER: _ClassVar[int]
    INTERNAL_FIELD_NUMBER: _ClassVar[int]
    ATTACHABLE_FIELD_NUMBER: _ClassVar[int]
    INGRESS_FIELD_NUMBER: _ClassVar[int]
    IPAM_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FROM_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.ScalarMap[str, str]
    driver_configuration: Driver
    ipv6_enabled: bool
    internal: bool
    attachable: bool
    ingress: bool
    ipam_options: IPAMOptions
    scope: str
    config_from: str
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., driver_configuration: _Optional[_Union[Driver, _Mapping]] = ..., ipv6_enabled: _Optional[bool] = ..., internal: _Optional[bool] = ..., attachable: _Optional[bool] = ..., ingress: _Optional[bool] = ..., ipam_options: _Optional[_Union[IPAMOptions, _Mapping]] = ..., scope: _Optional[str] = ..., config_from: _Optional[str] = ...) -> None: ...

class Network(_message.Message):
    __slots__ = ("id", "version", "created_at", "updated_at", "spec", "driver_state", "ipam_options", "vni")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DRIVER_STATE_FIELD_NUMBER: _ClassVar[int]
    IPAM_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    VNI_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: Version
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    spec: NetworkSpec
    driver_state: Driver
    ipam_options: IPAMOptions
    vni: int
    def __init__(self, id: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., spec: _Optional[_Union[NetworkSpec, _Mapping]] = ..., driver_state: _Optional[_Union[Driver, _Mapping]] = ..., ipam_options: _Optional[_Union[IPAMOptions, _Mapping]] = ..., vni: _Optional[int] = ...) -> None: ...

class IPAM(_message.Message):
    __slots__ = ("driver", "options", "config")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    driver: str
    options: _containers.ScalarMap[str, str]
    config: _containers.RepeatedCompositeFieldContainer[IPAMConfig]
    def __init__(self, driver: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., config: _Optional[_Iterable[_Union[IPAMConfig, _Mapping]]] = ...) -> None: ...

class ConfigReference(_message.Message):
    __slots__ = ("network",)
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    network: str
    def __init__(self, network: _Optional[str] = ...) -> None: ...

class PeerInfo(_message.Message):
    __slots__ = ("name", "ip")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IP_FIELD_NUMBER: _ClassVar[int]
    name: str
    ip: str
    def __init__(self, name: _Optional[str] = ..., ip: _Optional[str] = ...) -> None: ...

class EndpointResource(_message.Message):
    __slots__ = ("name", "endpoint_id", "mac_address", "ipv4_address", "ipv6_address")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_ID_FIELD_NUMBER: _ClassVar[int]
    MAC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    IPV4_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    IPV6_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    name: str
    endpoint_id: str
    mac_address: str
    ipv4_address: str
    ipv6_address: str
    def __init__(self, name: _Optional[str] = ..., endpoint_id: _Optional[str] = ..., mac_address: _Optional[str] = ..., ipv4_address: _Optional[str] = ..., ipv6_address: _Optional[str] = ...) -> None: ...

class NetworkResource(_message.Message):
    __slots__ = ("name", "id", "created", "scope", "driver", "enable_ipv6", "ipam", "internal", "attachable", "ingress", "config_from", "config_only", "options", "labels", "peers", "containers")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ContainersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: EndpointResource
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[EndpointResource, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    ENABLE_IPV6_FIELD_NUMBER: _ClassVar[int]
    IPAM_FIELD_NUMBER: _ClassVar[int]
    INTERNAL_FIELD_NUMBER: _ClassVar[int]
    ATTACHABLE_FIELD_NUMBER: _ClassVar[int]
    INGRESS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FROM_FIELD_NUMBER: _ClassVar[int]
    CONFIG_ONLY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: str
    created: _timestamp_pb2.Timestamp
    scope: str
    driver: str
    enable_ipv6: bool
    ipam: IPAM
    internal: bool
    attachable: bool
    ingress: bool
    config_from: ConfigReference
    config_only: bool
    options: _containers.ScalarMap[str, str]
    labels: _containers.ScalarMap[str, str]
    peers: _containers.RepeatedCompositeFieldContainer[PeerInfo]
    containers: _containers.MessageMap[str, EndpointResource]
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., scope: _Optional[str] = ..., driver: _Optional[str] = ..., enable_ipv6: _Optional[bool] = ..., ipam: _Optional[_Union[IPAM, _Mapping]] = ..., internal: _Optional[bool] = ..., attachable: _Optional[bool] = ..., ingress: _Optional[bool] = ..., config_from: _Optional[_Union[ConfigReference, _Mapping]] = ..., config_only: _Optional[bool] = ..., options: _Optional[_Mapping[str, str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., peers: _Optional[_Iterable[_Union[PeerInfo, _Mapping]]] = ..., containers: _Optional[_Mapping[str, EndpointResource]] = ...) -> None: ...

class NetworkCreateRequest(_message.Message):
    __slots__ = ("name", "check_duplicate", "driver", "scope", "enable_ipv6", "enable_ipv4", "ipam", "internal", "attachable", "ingress", "config_only", "config_from", "options", "labels")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHECK_DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    ENABLE_IPV6_FIELD_NUMBER: _ClassVar[int]
    ENABLE_IPV4_FIELD_NUMBER: _ClassVar[int]
    IPAM_FIELD_NUMBER: _ClassVar[int]
    INTERNAL_FIELD_NUMBER: _ClassVar[int]
    ATTACHABLE_FIELD_NUMBER: _ClassVar[int]
    INGRESS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_ONLY_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FROM_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    check_duplicate: bool
    driver: str
    scope: str
    enable_ipv6: bool
    enable_ipv4: bool
    ipam: IPAM
    internal: bool
    attachable: bool
    ingress: bool
    config_only: bool
    config_from: ConfigReference
    options: _containers.ScalarMap[str, str]
    labels: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., check_duplicate: _Optional[bool] = ..., driver: _Optional[str] = ..., scope: _Optional[str] = ..., enable_ipv6: _Optional[bool] = ..., enable_ipv4: _Optional[bool] = ..., ipam: _Optional[_Union[IPAM, _Mapping]] = ..., internal: _Optional[bool] = ..., attachable: _Optional[bool] = ..., ingress: _Optional[bool] = ..., config_only: _Optional[bool] = ..., config_from: _Optional[_Union[ConfigReference, _Mapping]] = ..., options: _Optional[_Mapping[str, str]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class FileTarget(_message.Message):
    __slots__ = ("name", "uid", "gid", "mode")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    gid: str
    mode: int
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., gid: _Optional[str] = ..., mode: _Optional[int] = ...) -> None: ...

class SecretReference(_message.Message):
    __slots__ = ("file", "secret_id", "secret_name")
    FILE_FIELD_NUMBER: _ClassVar[int]
    SECRET_ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_NAME_FIELD_NUMBER: _ClassVar[int]
    file: FileTarget
    secret_id: str
    secret_name: str
    def __init__(self, file: _Optional[_Union[FileTarget, _Mapping]] = ..., secret_id: _Optional[str] = ..., secret_name: _Optional[str] = ...) -> None: ...

class ConfigObjectReference(_message.Message):
    __slots__ = ("file", "config_id", "config_name")
    FILE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_NAME_FIELD_NUMBER: _ClassVar[int]
    file: FileTarget
    config_id: str
    config_name: str
    def __init__(self, file: _Optional[_Union[FileTarget, _Mapping]] = ..., config_id: _Optional[str] = ..., config_name: _Optional[str] = ...) -> None: ...

class BindOptions(_message.Message):
    __slots__ = ("propagation", "non_recursive", "create_mountpoint", "read_only_non_recursive", "read_only_force_recursive")
    PROPAGATION_FIELD_NUMBER: _ClassVar[int]
    NON_RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    CREATE_MOUNTPOINT_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_NON_RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FORCE_RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    propagation: str
    non_recursive: bool
    create_mountpoint: bool
    read_only_non_recursive: bool
    read_only_force_recursive: bool
    def __init__(self, propagation: _Optional[str] = ..., non_recursive: _Optional[bool] = ..., create_mountpoint: _Optional[bool] = ..., read_only_non_recursive: _Optional[bool] = ..., read_only_force_recursive: _Optional[bool] = ...) -> None: ...

class VolumeOptions(_message.Message):
    __slots__ = ("no_copy", "labels", "driver_config", "subpath")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NO_COPY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    DRIVER_CONFIG_FIELD_NUMBER: _ClassVar[int]
    SUBPATH_FIELD_NUMBER: _ClassVar[int]
    no_copy: bool
    labels: _containers.ScalarMap[str, str]
    driver_config: Driver
    subpath: str
    def __init__(self, no_copy: _Optional[bool] = ..., labels: _Optional[_Mapping[str, str]] = ..., driver_config: _Optional[_Union[Driver, _Mapping]] = ..., subpath: _Optional[str] = ...) -> None: ...

class TmpfsOptions(_message.Message):
    __slots__ = ("size_bytes", "mode")
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    mode: int
    def __init__(self, size_bytes: _Optional[int] = ..., mode: _Optional[int] = ...) -> None: ...

class Mount(_message.Message):
    __slots__ = ("type", "source", "target", "read_only", "consistency", "bind_options", "volume_options", "tmpfs_options")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    BIND_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    VOLUME_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TMPFS_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    type: str
    source: str
    target: str
    read_only: bool
    consistency: str
    bind_options: BindOptions
    volume_options: VolumeOptions
    tmpfs_options: TmpfsOptions
    def __init__(self, type: _Optional[str] = ..., source: _Optional[str] = ..., target: _Optional[str] = ..., read_only: _Optional[bool] = ..., consistency: _Optional[str] = ..., bind_options: _Optional[_Union[BindOptions, _Mapping]] = ..., volume_options: _Optional[_Union[VolumeOptions, _Mapping]] = ..., tmpfs_options: _Optional[_Union[TmpfsOptions, _Mapping]] = ...) -> None: ...

class HealthConfig(_message.Message):
    __slots__ = ("test", "interval", "timeout", "start_period", "start_interval", "retries")
    TEST_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    START_PERIOD_FIELD_NUMBER: _ClassVar[int]
    START_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    test: _containers.RepeatedScalarFieldContainer[str]
    interval: int
    timeout: int
    start_period: int
    start_interval: int
    retries: int
    def __init__(self, test: _Optional[_Iterable[str]] = ..., interval: _Optional[int] = ..., timeout: _Optional[int] = ..., start_period: _Optional[int] = ..., start_interval: _Optional[int] = ..., retries: _Optional[int] = ...) -> None: ...

class DNSConfig(_message.Message):
    __slots__ = ("nameservers", "search", "options")
    NAMESERVERS_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    nameservers: _containers.RepeatedScalarFieldContainer[str]
    search: _containers.RepeatedScalarFieldContainer[str]
    options: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, nameservers: _Optional[_Iterable[str]] = ..., search: _Optional[_Iterable[str]] = ..., options: _Optional[_Iterable[str]] = ...) -> None: ...

class Ulimit(_message.Message):
    __slots__ = ("name", "hard", "soft")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HARD_FIELD_NUMBER: _ClassVar[int]
    SOFT_FIELD_NUMBER: _ClassVar[int]
    name: str
    hard: int
    soft: int
    def __init__(self, name: _Optional[str] = ..., hard: _Optional[int] = ..., soft: _Optional[int] = ...) -> None: ...

class SELinuxContext(_message.Message):
    __slots__ = ("disable", "user", "role", "type", "level")
    DISABLE_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    disable: bool
    user: str
    role: str
    type: str
    level: str
    def __init__(self, disable: _Optional[bool] = ..., user: _Optional[str] = ..., role: _Optional[str] = ..., type: _Optional[str] = ..., level: _Optional[str] = ...) -> None: ...

class CredentialSpec(_message.Message):
    __slots__ = ("config", "file", "registry")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_FIELD_NUMBER: _ClassVar[int]
    config: str
    file: str
    registry: str
    def __init__(self, config: _Optional[str] = ..., file: _Optional[str] = ..., registry: _Optional[str] = ...) -> None: ...

class SeccompOpts(_message.Message):
    __slots__ = ("mode", "profile")
    MODE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    mode: str
    profile: bytes
    def __init__(self, mode: _Optional[str] = ..., profile: _Optional[bytes] = ...) -> None: ...

class AppArmorOpts(_message.Message):
    __slots__ = ("mode",)
    MODE_FIELD_NUMBER: _ClassVar[int]
    mode: str
    def __init__(self, mode: _Optional[str] = ...) -> None: ...

class Privileges(_message.Message):
    __slots__ = ("credential_spec", "se_linux_context", "seccomp", "app_armor", "no_new_privileges")
    CREDENTIAL_SPEC_FIELD_NUMBER: _ClassVar[int]
    SE_LINUX_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SECCOMP_FIELD_NUMBER: _ClassVar[int]
    APP_ARMOR_FIELD_NUMBER: _ClassVar[int]
    NO_NEW_PRIVILEGES_FIELD_NUMBER: _ClassVar[int]
    credential_spec: CredentialSpec
    se_linux_context: SELinuxContext
    seccomp: SeccompOpts
    app_armor: AppArmorOpts
    no_new_privileges: bool
    def __init__(self, credential_spec: _Optional[_Union[CredentialSpec, _Mapping]] = ..., se_linux_context: _Optional[_Union[SELinuxContext, _Mapping]] = ..., seccomp: _Optional[_Union[SeccompOpts, _Mapping]] = ..., app_armor: _Optional[_Union[AppArmorOpts, _Mapping]] = ..., no_new_privileges: _Optional[bool] = ...) -> None: ...

class PullOptions(_message.Message):
    __slots__ = ("registry_auth",)
    REGISTRY_AUTH_FIELD_NUMBER: _ClassVar[int]
    registry_auth: str
    def __init__(self, registry_auth: _Optional[str] = ...) -> None: ...

class ContainerSpec(_message.Message):
    __slots__ = ("image", "labels", "command", "args", "hostname", "env", "dir", "user", "groups", "privileges", "init", "stop_signal", "tty", "open_stdin", "read_only", "mounts", "stop_grace_period", "healthcheck", "hosts", "dns_config", "secrets", "configs", "isolation", "sysctls", "capability_add", "capability_drop", "ulimits", "oom_score_adj", "pull_options")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SysctlsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    DIR_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    PRIVILEGES_FIELD_NUMBER: _ClassVar[int]
    INIT_FIELD_NUMBER: _ClassVar[int]
    STOP_SIGNAL_FIELD_NUMBER: _ClassVar[int]
    TTY_FIELD_NUMBER: _ClassVar[int]
    OPEN_STDIN_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    MOUNTS_FIELD_NUMBER: _ClassVar[int]
    STOP_GRACE_PERIOD_FIELD_NUMBER: _ClassVar[int]
    HEALTHCHECK_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    DNS_CONFIG_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    CONFIGS_FIELD_NUMBER: _ClassVar[int]
    ISOLATION_FIELD_NUMBER: _ClassVar[int]
    SYSCTLS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_ADD_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_DROP_FIELD_NUMBER: _ClassVar[int]
    ULIMITS_FIELD_NUMBER: _ClassVar[int]
    OOM_SCORE_ADJ_FIELD_NUMBER: _ClassVar[int]
    PULL_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    image: str
    labels: _containers.ScalarMap[str, str]
    command: _containers.RepeatedScalarFieldContainer[str]
    args: _containers.RepeatedScalarFieldContainer[str]
    hostname: str
    env: _containers.RepeatedScalarFieldContainer[str]
    dir: str
    user: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    privileges: Privileges
    init: bool
    stop_signal: str
    tty: bool
    open_stdin: bool
    read_only: bool
    mounts: _containers.RepeatedCompositeFieldContainer[Mount]
    stop_grace_period: int
    healthcheck: HealthConfig
    hosts: _containers.RepeatedScalarFieldContainer[str]
    dns_config: DNSConfig
    secrets: _containers.RepeatedCompositeFieldContainer[SecretReference]
    configs: _containers.RepeatedCompositeFieldContainer[ConfigObjectReference]
    isolation: str
    sysctls: _containers.ScalarMap[str, str]
    capability_add: _containers.RepeatedScalarFieldContainer[str]
    capability_drop: _containers.RepeatedScalarFieldContainer[str]
    ulimits: _containers.RepeatedCompositeFieldContainer[Ulimit]
    oom_score_adj: int
    pull_options: PullOptions
    def __init__(self, image: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., command: _Optional[_Iterable[str]] = ..., args: _Optional[_Iterable[str]] = ..., hostname: _Optional[str] = ..., env: _Optional[_Iterable[str]] = ..., dir: _Optional[str] = ..., user: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ..., privileges: _Optional[_Union[Privileges, _Mapping]] = ..., init: _Optional[bool] = ..., stop_signal: _Optional[str] = ..., tty: _Optional[bool] = ..., open_stdin: _Optional[bool] = ..., read_only: _Optional[bool] = ..., mounts: _Optional[_Iterable[_Union[Mount, _Mapping]]] = ..., stop_grace_period: _Optional[int] = ..., healthcheck: _Optional[_Union[HealthConfig, _Mapping]] = ..., hosts: _Optional[_Iterable[str]] = ..., dns_config: _Optional[_Union[DNSConfig, _Mapping]] = ..., secrets: _Optional[_Iterable[_Union[SecretReference, _Mapping]]] = ..., configs: _Optional[_Iterable[_Union[ConfigObjectReference, _Mapping]]] = ..., isolation: _Optional[str] = ..., sysctls: _Optional[_Mapping[str, str]] = ..., capability_add: _Optional[_Iterable[str]] = ..., capability_drop: _Optional[_Iterable[str]] = ..., ulimits: _Optional[_Iterable[_Union[Ulimit, _Mapping]]] = ..., oom_score_adj: _Optional[int] = ..., pull_options: _Optional[_Union[PullOptions, _Mapping]] = ...) -> None: ...

class Limit(_message.Message):
    __slots__ = ("nano_cpus", "memory_bytes", "pids")
    NANO_CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PIDS_FIELD_NUMBER: _ClassVar[int]
    nano_cpus: int
    memory_bytes: int
    pids: int
    def __init__(self, nano_cpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., pids: _Optional[int] = ...) -> None: ...

class ResourceRequirements(_message.Message):
    __slots__ = ("limits", "reservations", "swap_bytes", "memory_swappiness")
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    RESERVATIONS_FIELD_NUMBER: _ClassVar[int]
    SWAP_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_SWAPPINESS_FIELD_NUMBER: _ClassVar[int]
    limits: Limit
    reservations: NodeResources
    swap_bytes: int
    memory_swappiness: int
    def __init__(self, limits: _Optional[_Union[Limit, _Mapping]] = ..., reservations: _Optional[_Union[NodeResources, _Mapping]] = ..., swap_bytes: _Optional[int] = ..., memory_swappiness: _Optional[int] = ...) -> None: ...

class RestartPolicy(_message.Message):
    __slots__ = ("condition", "delay", "max_attempts", "window")
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    condition: str
    delay: int
    max_attempts: int
    window: int
    def __init__(self, condition: _Optional[str] = ..., delay: _Optional[int] = ..., max_attempts: _Optional[int] = ..., window: _Optional[int] = ...) -> None: ...

class SpreadOver(_message.Message):
    __slots__ = ("spread_descriptor",)
    SPREAD_DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    spread_descriptor: str
    def __init__(self, spread_descriptor: _Optional[str] = ...) -> None: ...

class PlacementPreference(_message.Message):
    __slots__ = ("spread",)
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    spread: SpreadOver
    def __init__(self, spread: _Optional[_Union[SpreadOver, _Mapping]] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("constraints", "preferences", "max_replicas", "platforms")
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    PREFERENCES_FIELD_NUMBER: _ClassVar[int]
    MAX_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    PLATFORMS_FIELD_NUMBER: _ClassVar[int]
    constraints: _containers.RepeatedScalarFieldContainer[str]
    preferences: _containers.RepeatedCompositeFieldContainer[PlacementPreference]
    max_replicas: int
    platforms: _containers.RepeatedCompositeFieldContainer[Platform]
    def __init__(self, constraints: _Optional[_Iterable[str]] = ..., preferences: _Optional[_Iterable[_Union[PlacementPreference, _Mapping]]] = ..., max_replicas: _Optional[int] = ..., platforms: _Optional[_Iterable[_Union[Platform, _Mapping]]] = ...) -> None: ...

class NetworkAttachmentConfig(_message.Message):
    __slots__ = ("target", "aliases", "driver_opts", "addresses")
    class DriverOptsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    DRIVER_OPTS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    target: str
    aliases: _containers.RepeatedScalarFieldContainer[str]
    driver_opts: _containers.ScalarMap[str, str]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, target: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., driver_opts: _Optional[_Mapping[str, str]] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class NetworkAttachmentSpec(_message.Message):
    __slots__ = ("container_id",)
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    def __init__(self, container_id: _Optional[str] = ...) -> None: ...

class TaskSpec(_message.Message):
    __slots__ = ("container_spec", "resources", "restart_policy", "placement", "networks", "log_driver", "force_update", "runtime", "network_attachment_spec")
    CONTAINER_SPEC_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    RESTART_POLICY_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_FIELD_NUMBER: _ClassVar[int]
    LOG_DRIVER_FIELD_NUMBER: _ClassVar[int]
    FORCE_UPDATE_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ATTACHMENT_SPEC_FIELD_NUMBER: _ClassVar[int]
    container_spec: ContainerSpec
    resources: ResourceRequirements
    restart_policy: RestartPolicy
    placement: Placement
    networks: _containers.RepeatedCompositeFieldContainer[NetworkAttachmentConfig]
    log_driver: Driver
    force_update: int
    runtime: str
    network_attachment_spec: NetworkAttachmentSpec
    def __init__(self, container_spec: _Optional[_Union[ContainerSpec, _Mapping]] = ..., resources: _Optional[_Union[ResourceRequirements, _Mapping]] = ..., restart_policy: _Optional[_Union[RestartPolicy, _Mapping]] = ..., placement: _Optional[_Union[Placement, _Mapping]] = ..., networks: _Optional[_Iterable[_Union[NetworkAttachmentConfig, _Mapping]]] = ..., log_driver: _Optional[_Union[Driver, _Mapping]] = ..., force_update: _Optional[int] = ..., runtime: _Optional[str] = ..., network_attachment_spec: _Optional[_Union[NetworkAttachmentSpec, _Mapping]] = ...) -> None: ...

class ReplicatedService(_message.Message):
    __slots__ = ("replicas",)
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    replicas: int
    def __init__(self, replicas: _Optional[int] = ...) -> None: ...

class GlobalService(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReplicatedJob(_message.Message):
    __slots__ = ("max_concurrent", "total_completions")
    MAX_CONCURRENT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COMPLETIONS_FIELD_NUMBER: _ClassVar[int]
    max_concurrent: int
    total_completions: int
    def __init__(self, max_concurrent: _Optional[int] = ..., total_completions: _Optional[int] = ...) -> None: ...

class GlobalJob(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ServiceMode(_message.Message):
    __slots__ = ("replicated", "replicated_job", "global_job")
    REPLICATED_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_FIELD_NUMBER: _ClassVar[int]
    REPLICATED_JOB_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_JOB_FIELD_NUMBER: _ClassVar[int]
    replicated: ReplicatedService
    replicated_job: ReplicatedJob
    global_job: GlobalJob
    def __init__(self, replicated: _Optional[_Union[ReplicatedService, _Mapping]] = ..., replicated_job: _Optional[_Union[ReplicatedJob, _Mapping]] = ..., global_job: _Optional[_Union[GlobalJob, _Mapping]] = ..., **kwargs) -> None: ...

class UpdateConfig(_message.Message):
    __slots__ = ("parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order")
    PARALLELISM_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    FAILURE_ACTION_FIELD_NUMBER: _ClassVar[int]
    MONITOR_FIELD_NUMBER: _ClassVar[int]
    MAX_FAILURE_RATIO_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    parallelism: int
    delay: int
    failure_action: str
    monitor: int
    max_failure_ratio: float
    order: str
    def __init__(self, parallelism: _Optional[int] = ..., delay: _Optional[int] = ..., failure_action: _Optional[str] = ..., monitor: _Optional[int] = ..., max_failure_ratio: _Optional[float] = ..., order: _Optional[str] = ...) -> None: ...

class PortConfig(_message.Message):
    __slots__ = ("name", "protocol", "target_port", "published_port", "publish_mode")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TARGET_PORT_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_PORT_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_MODE_FIELD_NUMBER: _ClassVar[int]
    name: str
    protocol: str
    target_port: int
    published_port: int
    publish_mode: str
    def __init__(self, name: _Optional[str] = ..., protocol: _Optional[str] = ..., target_port: _Optional[int] = ..., published_port: _Optional[int] = ..., publish_mode: _Optional[str] = ...) -> None: ...

class EndpointSpec(_message.Message):
    __slots__ = ("mode", "ports")
    MODE_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    mode: str
    ports: _containers.RepeatedCompositeFieldContainer[PortConfig]
    def __init__(self, mode: _Optional[str] = ..., ports: _Optional[_Iterable[_Union[PortConfig, _Mapping]]] = ...) -> None: ...

class ServiceSpec(_message.Message):
    __slots__ = ("name", "labels", "task_template", "mode", "update_config", "rollback_config", "networks", "endpoint_spec")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TASK_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_CONFIG_FIELD_NUMBER: _ClassVar[int]
    ROLLBACK_CONFIG_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_SPEC_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.ScalarMap[str, str]
    task_template: TaskSpec
    mode: ServiceMode
    update_config: UpdateConfig
    rollback_config: UpdateConfig
    networks: _containers.RepeatedCompositeFieldContainer[NetworkAttachmentConfig]
    endpoint_spec: EndpointSpec
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., task_template: _Optional[_Union[TaskSpec, _Mapping]] = ..., mode: _Optional[_Union[ServiceMode, _Mapping]] = ..., update_config: _Optional[_Union[UpdateConfig, _Mapping]] = ..., rollback_config: _Optional[_Union[UpdateConfig, _Mapping]] = ..., networks: _Optional[_Iterable[_Union[NetworkAttachmentConfig, _Mapping]]] = ..., endpoint_spec: _Optional[_Union[EndpointSpec, _Mapping]] = ...) -> None: ...

class VirtualIP(_message.Message):
    __slots__ = ("network_id", "addr")
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    network_id: str
    addr: str
    def __init__(self, network_id: _Optional[str] = ..., addr: _Optional[str] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("spec", "ports", "virtual_ips")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    VIRTUAL_IPS_FIELD_NUMBER: _ClassVar[int]
    spec: EndpointSpec
    ports: _containers.RepeatedCompositeFieldContainer[PortConfig]
    virtual_ips: _containers.RepeatedCompositeFieldContainer[VirtualIP]
    def __init__(self, spec: _Optional[_Union[EndpointSpec, _Mapping]] = ..., ports: _Optional[_Iterable[_Union[PortConfig, _Mapping]]] = ..., virtual_ips: _Optional[_Iterable[_Union[VirtualIP, _Mapping]]] = ...) -> None: ...

class UpdateStatus(_message.Message):
    __slots__ = ("state", "started_at", "completed_at", "message")
    STATE_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_AT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    state: str
    started_at: _timestamp_pb2.Timestamp
    completed_at: _timestamp_pb2.Timestamp
    message: str
    def __init__(self, state: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., completed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., message: _Optional[str] = ...) -> None: ...

class ServiceStatus(_message.Message):
    __slots__ = ("running_tasks", "desired_tasks", "completed_tasks")
    RUNNING_TASKS_FIELD_NUMBER: _ClassVar[int]
    DESIRED_TASKS_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_TASKS_FIELD_NUMBER: _ClassVar[int]
    running_tasks: int
    desired_tasks: int
    completed_tasks: int
    def __init__(self, running_tasks: _Optional[int] = ..., desired_tasks: _Optional[int] = ..., completed_tasks: _Optional[int] = ...) -> None: ...

class JobStatus(_message.Message):
    __slots__ = ("job_iteration", "last_execution")
    JOB_ITERATION_FIELD_NUMBER: _ClassVar[int]
    LAST_EXECUTION_FIELD_NUMBER: _ClassVar[int]
    job_iteration: Version
    last_execution: _timestamp_pb2.Timestamp
    def __init__(self, job_iteration: _Optional[_Union[Version, _Mapping]] = ..., last_execution: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Service(_message.Message):
    __slots__ = ("id", "version", "created_at", "updated_at", "spec", "previous_spec", "endpoint", "update_status", "service_status", "job_status", "spec_version", "previous_spec_version")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_SPEC_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_STATUS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_STATUS_FIELD_NUMBER: _ClassVar[int]
    JOB_STATUS_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: Version
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    spec: ServiceSpec
    previous_spec: ServiceSpec
    endpoint: Endpoint
    update_status: UpdateStatus
    service_status: ServiceStatus
    job_status: JobStatus
    spec_version: int
    previous_spec_version: int
    def __init__(self, id: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., spec: _Optional[_Union[ServiceSpec, _Mapping]] = ..., previous_spec: _Optional[_Union[ServiceSpec, _Mapping]] = ..., endpoint: _Optional[_Union[Endpoint, _Mapping]] = ..., update_status: _Optional[_Union[UpdateStatus, _Mapping]] = ..., service_status: _Optional[_Union[ServiceStatus, _Mapping]] = ..., job_status: _Optional[_Union[JobStatus, _Mapping]] = ..., spec_version: _Optional[int] = ..., previous_spec_version: _Optional[int] = ...) -> None: ...

class ContainerStatus(_message.Message):
    __slots__ = ("container_id", "pid", "exit_code")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    pid: int
    exit_code: int
    def __init__(self, container_id: _Optional[str] = ..., pid: _Optional[int] = ..., exit_code: _Optional[int] = ...) -> None: ...

class PortStatus(_message.Message):
    __slots__ = ("ports",)
    PORTS_FIELD_NUMBER: _ClassVar[int]
    ports: _containers.RepeatedCompositeFieldContainer[PortConfig]
    def __init__(self, ports: _Optional[_Iterable[_Union[PortConfig, _Mapping]]] = ...) -> None: ...

class TaskStatus(_message.Message):
    __slots__ = ("timestamp", "state", "message", "err", "container_status", "port_status", "applied_by")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERR_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_STATUS_FIELD_NUMBER: _ClassVar[int]
    PORT_STATUS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_BY_FIELD_NUMBER: _ClassVar[int]
    timestamp: _timestamp_pb2.Timestamp
    state: TaskState
    message: str
    err: str
    container_status: ContainerStatus
    port_status: PortStatus
    applied_by: str
    def __init__(self, timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[_Union[TaskState, str]] = ..., message: _Optional[str] = ..., err: _Optional[str] = ..., container_status: _Optional[_Union[ContainerStatus, _Mapping]] = ..., port_status: _Optional[_Union[PortStatus, _Mapping]] = ..., applied_by: _Optional[str] = ...) -> None: ...

class NetworkAttachment(_message.Message):
    __slots__ = ("network", "addresses", "aliases")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    network: Network
    addresses: _containers.RepeatedScalarFieldContainer[str]
    aliases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, network: _Optional[_Union[Network, _Mapping]] = ..., addresses: _Optional[_Iterable[str]] = ..., aliases: _Optional[_Iterable[str]] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("id", "version", "created_at", "updated_at", "name", "labels", "spec", "service_id", "slot", "node_id", "status", "desired_state", "networks_attachments", "generic_resources", "job_iteration", "service_name", "spec_version", "endpoint_spec", "not_before", "service_labels", "running_since", "displaced", "allocated_at")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ServiceLabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DESIRED_STATE_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_ATTACHMENTS_FIELD_NUMBER: _ClassVar[int]
    GENERIC_RESOURCES_FIELD_NUMBER: _ClassVar[int]
    JOB_ITERATION_FIELD_NUMBER: _ClassVar[int]
    SERVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_SPEC_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_LABELS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_SINCE_FIELD_NUMBER: _ClassVar[int]
    DISPLACED_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: Version
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    name: str
    labels: _containers.ScalarMap[str, str]
    spec: TaskSpec
    service_id: str
    slot: int
    node_id: str
    status: TaskStatus
    desired_state: TaskState
    networks_attachments: _containers.RepeatedCompositeFieldContainer[NetworkAttachment]
    generic_resources: _containers.RepeatedCompositeFieldContainer[GenericResource]
    job_iteration: Version
    service_name: str
    spec_version: int
    endpoint_spec: EndpointSpec
    not_before: _timestamp_pb2.Timestamp
    service_labels: _containers.ScalarMap[str, str]
    running_since: _timestamp_pb2.Timestamp
    displaced: bool
    allocated_at: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., spec: _Optional[_Union[TaskSpec, _Mapping]] = ..., service_id: _Optional[str] = ..., slot: _Optional[int] = ..., node_id: _Optional[str] = ..., status: _Optional[_Union[TaskStatus, _Mapping]] = ..., desired_state: _Optional[_Union[TaskState, str]] = ..., networks_attachments: _Optional[_Iterable[_Union[NetworkAttachment, _Mapping]]] = ..., generic_resources: _Optional[_Iterable[_Union[GenericResource, _Mapping]]] = ..., job_iteration: _Optional[_Union[Version, _Mapping]] = ..., service_name: _Optional[str] = ..., spec_version: _Optional[int] = ..., endpoint_spec: _Optional[_Union[EndpointSpec, _Mapping]] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., service_labels: _Optional[_Mapping[str, str]] = ..., running_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., displaced: _Optional[bool] = ..., allocated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SecretSpec(_message.Message):
    __slots__ = ("name", "labels", "data", "driver", "templating")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    TEMPLATING_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.ScalarMap[str, str]
    data: bytes
    driver: Driver
    templating: Driver
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., data: _Optional[bytes] = ..., driver: _Optional[_Union[Driver, _Mapping]] = ..., templating: _Optional[_Union[Driver, _Mapping]] = ...) -> None: ...

class Secret(_message.Message):
    __slots__ = ("id", "version", "created_at", "updated_at", "spec", "hot", "signal")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    HOT_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: Version
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    spec: SecretSpec
    hot: bool
    signal: str
    def __init__(self, id: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., spec: _Optional[_Union[SecretSpec, _Mapping]] = ..., hot: _Optional[bool] = ..., signal: _Optional[str] = ...) -> None: ...

class ConfigSpec(_message.Message):
    __slots__ = ("name", "labels", "data", "templating")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TEMPLATING_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.ScalarMap[str, str]
    data: bytes
    templating: Driver
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., data: _Optional[bytes] = ..., templating: _Optional[_Union[Driver, _Mapping]] = ...) -> None: ...

class Config(_message.Message):
    __slots__ = ("id", "version", "created_at", "updated_at", "spec", "hot", "signal")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    HOT_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: Version
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    spec: ConfigSpec
    hot: bool
    signal: str
    def __init__(self, id: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., spec: _Optional[_Union[ConfigSpec, _Mapping]] = ..., hot: _Optional[bool] = ..., signal: _Optional[str] = ...) -> None: ...

class OrchestrationConfig(_message.Message):
    __slots__ = ("task_history_retention_limit",)
    TASK_HISTORY_RETENTION_LIMIT_FIELD_NUMBER: _ClassVar[int]
    task_history_retention_limit: int
    def __init__(self, task_history_retention_limit: _Optional[int] = ...) -> None: ...

class RaftConfig(_message.Message):
    __slots__ = ("snapshot_interval", "keep_old_snapshots", "log_entries_for_slow_followers", "election_tick", "heartbeat_tick")
    SNAPSHOT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    KEEP_OLD_SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    LOG_ENTRIES_FOR_SLOW_FOLLOWERS_FIELD_NUMBER: _ClassVar[int]
    ELECTION_TICK_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_TICK_FIELD_NUMBER: _ClassVar[int]
    snapshot_interval: int
    keep_old_snapshots: int
    log_entries_for_slow_followers: int
    election_tick: int
    heartbeat_tick: int
    def __init__(self, snapshot_interval: _Optional[int] = ..., keep_old_snapshots: _Optional[int] = ..., log_entries_for_slow_followers: _Optional[int] = ..., election_tick: _Optional[int] = ..., heartbeat_tick: _Optional[int] = ...) -> None: ...

class DispatcherConfig(_message.Message):
    __slots__ = ("heartbeat_period",)
    HEARTBEAT_PERIOD_FIELD_NUMBER: _ClassVar[int]
    heartbeat_period: int
    def __init__(self, heartbeat_period: _Optional[int] = ...) -> None: ...

class ExternalCA(_message.Message):
    __slots__ = ("protocol", "url", "options", "ca_cert")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CA_CERT_FIELD_NUMBER: _ClassVar[int]
    protocol: str
    url: str
    options: _containers.ScalarMap[str, str]
    ca_cert: str
    def __init__(self, protocol: _Optional[str] = ..., url: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., ca_cert: _Optional[str] = ...) -> None: ...

class CAConfig(_message.Message):
    __slots__ = ("node_cert_expiry", "external_cas", "signing_ca_cert", "signing_ca_key", "force_rotate")
    NODE_CERT_EXPIRY_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_CAS_FIELD_NUMBER: _ClassVar[int]
    SIGNING_CA_CERT_FIELD_NUMBER: _ClassVar[int]
    SIGNING_CA_KEY_FIELD_NUMBER: _ClassVar[int]
    FORCE_ROTATE_FIELD_NUMBER: _ClassVar[int]
    node_cert_expiry: int
    external_cas: _containers.RepeatedCompositeFieldContainer[ExternalCA]
    signing_ca_cert: str
    signing_ca_key: str
    force_rotate: int
    def __init__(self, node_cert_expiry: _Optional[int] = ..., external_cas: _Optional[_Iterable[_Union[ExternalCA, _Mapping]]] = ..., signing_ca_cert: _Optional[str] = ..., signing_ca_key: _Optional[str] = ..., force_rotate: _Optional[int] = ...) -> None: ...

class TaskDefaults(_message.Message):
    __slots__ = ("log_driver",)
    LOG_DRIVER_FIELD_NUMBER: _ClassVar[int]
    log_driver: Driver
    def __init__(self, log_driver: _Optional[_Union[Driver, _Mapping]] = ...) -> None: ...

class EncryptionConfig(_message.Message):
    __slots__ = ("auto_lock_managers",)
    AUTO_LOCK_MANAGERS_FIELD_NUMBER: _ClassVar[int]
    auto_lock_managers: bool
    def __init__(self, auto_lock_managers: _Optional[bool] = ...) -> None: ...

class ClusterSpec(_message.Message):
    __slots__ = ("name", "labels", "orchestration", "raft", "dispatcher", "ca_config", "task_defaults", "encryption_config")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ORCHESTRATION_FIELD_NUMBER: _ClassVar[int]
    RAFT_FIELD_NUMBER: _ClassVar[int]
    DISPATCHER_FIELD_NUMBER: _ClassVar[int]
    CA_CONFIG_FIELD_NUMBER: _ClassVar[int]
    TASK_DEFAULTS_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTION_CONFIG_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.ScalarMap[str, str]
    orchestration: OrchestrationConfig
    raft: RaftConfig
    dispatcher: DispatcherConfig
    ca_config: CAConfig
    task_defaults: TaskDefaults
    encryption_config: EncryptionConfig
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., orchestration: _Optional[_Union[OrchestrationConfig, _Mapping]] = ..., raft: _Optional[_Union[RaftConfig, _Mapping]] = ..., dispatcher: _Optional[_Union[DispatcherConfig, _Mapping]] = ..., ca_config: _Optional[_Union[CAConfig, _Mapping]] = ..., task_defaults: _Optional[_Union[TaskDefaults, _Mapping]] = ..., encryption_config: _Optional[_Union[EncryptionConfig, _Mapping]] = ...) -> None: ...

class JoinTokens(_message.Message):
    __slots__ = ("worker", "manager")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    MANAGER_FIELD_NUMBER: _ClassVar[int]
    worker: str
    manager: str
    def __init__(self, worker: _Optional[str] = ..., manager: _Optional[str] = ...) -> None: ...

class RootRotation(_message.Message):
    __slots__ = ("ca_certificate", "ca_key", "cross_signed", "abandoned")
    CA_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CA_KEY_FIELD_NUMBER: _ClassVar[int]
    CROSS_SIGNED_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_FIELD_NUMBER: _ClassVar[int]
    ca_certificate: bytes
    ca_key: bytes
    cross_signed: bytes
    abandoned: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, ca_certificate: _Optional[bytes] = ..., ca_key: _Optional[bytes] = ..., cross_signed: _Optional[bytes] = ..., abandoned: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GossipRotation(_message.Message):
    __slots__ = ("next_key", "begun", "moved", "wanted", "made", "in_haste")
    NEXT_KEY_FIELD_NUMBER: _ClassVar[int]
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    MADE_FIELD_NUMBER: _ClassVar[int]
    IN_HASTE_FIELD_NUMBER: _ClassVar[int]
    next_key: bytes
    begun: int
    moved: int
    wanted: int
    made: int
    in_haste: bool
    def __init__(self, next_key: _Optional[bytes] = ..., begun: _Optional[int] = ..., moved: _Optional[int] = ..., wanted: _Optional[int] = ..., made: _Optional[int] = ..., in_haste: _Optional[bool] = ...) -> None: ...

class Cluster(_message.Message):
    __slots__ = ("id", "version", "created_at", "updated_at", "spec", "tls_info", "root_rotation_in_progress", "default_addr_pool", "subnet_size", "data_path_port", "join_tokens", "ca_certificate", "ca_key", "gossip_keys", "last_vni", "unlock_key", "root_rotation", "ca_cross_signed", "gossip_rotation", "esp_keys", "esp_rotation")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    TLS_INFO_FIELD_NUMBER: _ClassVar[int]
    ROOT_ROTATION_IN_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_ADDR_POOL_FIELD_NUMBER: _ClassVar[int]
    SUBNET_SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_PATH_PORT_FIELD_NUMBER: _ClassVar[int]
    JOIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CA_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CA_KEY_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_KEYS_FIELD_NUMBER: _ClassVar[int]
    LAST_VNI_FIELD_NUMBER: _ClassVar[int]
    UNLOCK_KEY_FIELD_NUMBER: _ClassVar[int]
    ROOT_ROTATION_FIELD_NUMBER: _ClassVar[int]
    CA_CROSS_SIGNED_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_ROTATION_FIELD_NUMBER: _ClassVar[int]
    ESP_KEYS_FIELD_NUMBER: _ClassVar[int]
    ESP_ROTATION_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: Version
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    spec: ClusterSpec
    tls_info: TLSInfo
    root_rotation_in_progress: bool
    default_addr_pool: _containers.RepeatedScalarFieldContainer[str]
    subnet_size: int
    data_path_port: int
    join_tokens: JoinTokens
    ca_certificate: bytes
    ca_key: bytes
    gossip_keys: _containers.RepeatedScalarFieldContainer[bytes]
    last_vni: int
    unlock_key: bytes
    root_rotation: RootRotation
    ca_cross_signed: bytes
    gossip_rotation: GossipRotation
    esp_keys: _containers.RepeatedScalarFieldContainer[bytes]
    esp_rotation: GossipRotation
    def __init__(self, id: _Optional[str] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., spec: _Optional[_Union[ClusterSpec, _Mapping]] = ..., tls_info: _Optional[_Union[TLSInfo, _Mapping]] = ..., root_rotation_in_progress: _Optional[bool] = ..., default_addr_pool: _Optional[_Iterable[str]] = ..., subnet_size: _Optional[int] = ..., data_path_port: _Optional[int] = ..., join_tokens: _Optional[_Union[JoinTokens, _Mapping]] = ..., ca_certificate: _Optional[bytes] = ..., ca_key: _Optional[bytes] = ..., gossip_keys: _Optional[_Iterable[bytes]] = ..., last_vni: _Optional[int] = ..., unlock_key: _Optional[bytes] = ..., root_rotation: _Optional[_Union[RootRotation, _Mapping]] = ..., ca_cross_signed: _Optional[bytes] = ..., gossip_rotation: _Optional[_Union[GossipRotation, _Mapping]] = ..., esp_keys: _Optional[_Iterable[bytes]] = ..., esp_rotation: _Optional[_Union[GossipRotation, _Mapping]] = ...) -> None: ...

class SwarmInitRequest(_message.Message):
    __slots__ = ("listen_addr", "advertise_addr", "data_path_addr", "data_path_port", "force_new_cluster", "spec", "auto_lock_managers", "availability", "default_addr_pool", "subnet_size")
    LISTEN_ADDR_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_ADDR_FIELD_NUMBER: _ClassVar[int]
    DATA_PATH_ADDR_FIELD_NUMBER: _ClassVar[int]
    DATA_PATH_PORT_FIELD_NUMBER: _ClassVar[int]
    FORCE_NEW_CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    AUTO_LOCK_MANAGERS_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_ADDR_POOL_FIELD_NUMBER: _ClassVar[int]
    SUBNET_SIZE_FIELD_NUMBER: _ClassVar[int]
    listen_addr: str
    advertise_addr: str
    data_path_addr: str
    data_path_port: int
    force_new_cluster: bool
    spec: ClusterSpec
    auto_lock_managers: bool
    availability: str
    default_addr_pool: _containers.RepeatedScalarFieldContainer[str]
    subnet_size: int
    def __init__(self, listen_addr: _Optional[str] = ..., advertise_addr: _Optional[str] = ..., data_path_addr: _Optional[str] = ..., data_path_port: _Optional[int] = ..., force_new_cluster: _Optional[bool] = ..., spec: _Optional[_Union[ClusterSpec, _Mapping]] = ..., auto_lock_managers: _Optional[bool] = ..., availability: _Optional[str] = ..., default_addr_pool: _Optional[_Iterable[str]] = ..., subnet_size: _Optional[int] = ...) -> None: ...

class SwarmJoinRequest(_message.Message):
    __slots__ = ("listen_addr", "advertise_addr", "data_path_addr", "remote_addrs", "join_token", "availability")
    LISTEN_ADDR_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_ADDR_FIELD_NUMBER: _ClassVar[int]
    DATA_PATH_ADDR_FIELD_NUMBER: _ClassVar[int]
    REMOTE_ADDRS_FIELD_NUMBER: _ClassVar[int]
    JOIN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    listen_addr: str
    advertise_addr: str
    data_path_addr: str
    remote_addrs: _containers.RepeatedScalarFieldContainer[str]
    join_token: str
    availability: str
    def __init__(self, listen_addr: _Optional[str] = ..., advertise_addr: _Optional[str] = ..., data_path_addr: _Optional[str] = ..., remote_addrs: _Optional[_Iterable[str]] = ..., join_token: _Optional[str] = ..., availability: _Optional[str] = ...) -> None: ...

class SwarmUnlockRequest(_message.Message):
    __slots__ = ("unlock_key",)
    UNLOCK_KEY_FIELD_NUMBER: _ClassVar[int]
    unlock_key: str
    def __init__(self, unlock_key: _Optional[str] = ...) -> None: ...

class IDResponse(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class RemoteManager(_message.Message):
    __slots__ = ("node_id", "addr")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    addr: str
    def __init__(self, node_id: _Optional[str] = ..., addr: _Optional[str] = ...) -> None: ...

class SwarmInfo(_message.Message):
    __slots__ = ("node_id", "node_addr", "local_node_state", "control_available", "error", "remote_managers", "nodes", "managers", "cluster", "warnings")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ADDR_FIELD_NUMBER: _ClassVar[int]
    LOCAL_NODE_STATE_FIELD_NUMBER: _ClassVar[int]
    CONTROL_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REMOTE_MANAGERS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    MANAGERS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    node_addr: str
    local_node_state: str
    control_available: bool
    error: str
    remote_managers: _containers.RepeatedCompositeFieldContainer[RemoteManager]
    nodes: int
    managers: int
    cluster: Cluster
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node_id: _Optional[str] = ..., node_addr: _Optional[str] = ..., local_node_state: _Optional[str] = ..., control_available: _Optional[bool] = ..., error: _Optional[str] = ..., remote_managers: _Optional[_Iterable[_Union[RemoteManager, _Mapping]]] = ..., nodes: _Optional[int] = ..., managers: _Optional[int] = ..., cluster: _Optional[_Union[Cluster, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeView(_message.Message):
    __slots__ = ("id", "hostname", "addr", "ingress_address", "role", "down", "gossip_key", "weight", "ingress_address6")
    ID_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    INGRESS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    DOWN_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_KEY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    INGRESS_ADDRESS6_FIELD_NUMBER: _ClassVar[int]
    id: str
    hostname: str
    addr: str
    ingress_address: str
    role: str
    down: bool
    gossip_key: bytes
    weight: int
    ingress_address6: str
    def __init__(self, id: _Optional[str] = ..., hostname: _Optional[str] = ..., addr: _Optional[str] = ..., ingress_address: _Optional[str] = ..., role: _Optional[str] = ..., down: _Optional[bool] = ..., gossip_key: _Optional[bytes] = ..., weight: _Optional[int] = ..., ingress_address6: _Optional[str] = ...) -> None: ...

class ServiceView(_message.Message):
    __slots__ = ("id", "name", "endpoint_mode", "virtual_ips", "ports", "networks", "lb", "lb_weights")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_MODE_FIELD_NUMBER: _ClassVar[int]
    VIRTUAL_IPS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_FIELD_NUMBER: _ClassVar[int]
    LB_FIELD_NUMBER: _ClassVar[int]
    LB_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    endpoint_mode: str
    virtual_ips: _containers.RepeatedCompositeFieldContainer[VirtualIP]
    ports: _containers.RepeatedCompositeFieldContainer[PortConfig]
    networks: _containers.RepeatedCompositeFieldContainer[NetworkAttachmentConfig]
    lb: str
    lb_weights: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., endpoint_mode: _Optional[str] = ..., virtual_ips: _Optional[_Iterable[_Union[VirtualIP, _Mapping]]] = ..., ports: _Optional[_Iterable[_Union[PortConfig, _Mapping]]] = ..., networks: _Optional[_Iterable[_Union[NetworkAttachmentConfig, _Mapping]]] = ..., lb: _Optional[str] = ..., lb_weights: _Optional[str] = ...) -> None: ...

class SecretAssignment(_message.Message):
    __slots__ = ("id", "data", "templated", "hot", "signal")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TEMPLATED_FIELD_NUMBER: _ClassVar[int]
    HOT_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    data: bytes
    templated: bool
    hot: bool
    signal: str
    def __init__(self, id: _Optional[str] = ..., data: _Optional[bytes] = ..., templated: _Optional[bool] = ..., hot: _Optional[bool] = ..., signal: _Optional[str] = ...) -> None: ...

class ConfigAssignment(_message.Message):
    __slots__ = ("id", "data", "templated", "hot", "signal")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TEMPLATED_FIELD_NUMBER: _ClassVar[int]
    HOT_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    data: bytes
    templated: bool
    hot: bool
    signal: str
    def __init__(self, id: _Optional[str] = ..., data: _Optional[bytes] = ..., templated: _Optional[bool] = ..., hot: _Optional[bool] = ..., signal: _Optional[str] = ...) -> None: ...

class Assignments(_message.Message):
    __slots__ = ("version", "full", "tasks", "networks", "services", "nodes", "secrets", "configs", "gossip_keys", "removed_tasks", "removed_networks", "removed_services", "removed_nodes", "removed_secrets", "removed_configs", "cluster_id", "heartbeat_period", "managers", "trust_root", "issuer_key", "data_path_port", "esp_keys")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    CONFIGS_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_KEYS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_TASKS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_NETWORKS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_SERVICES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_NODES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_SECRETS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_CONFIGS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_PERIOD_FIELD_NUMBER: _ClassVar[int]
    MANAGERS_FIELD_NUMBER: _ClassVar[int]
    TRUST_ROOT_FIELD_NUMBER: _ClassVar[int]
    ISSUER_KEY_FIELD_NUMBER: _ClassVar[int]
    DATA_PATH_PORT_FIELD_NUMBER: _ClassVar[int]
    ESP_KEYS_FIELD_NUMBER: _ClassVar[int]
    version: int
    full: bool
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    networks: _containers.RepeatedCompositeFieldContainer[Network]
    services: _containers.RepeatedCompositeFieldContainer[ServiceView]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeView]
    secrets: _containers.RepeatedCompositeFieldContainer[SecretAssignment]
    configs: _containers.RepeatedCompositeFieldContainer[ConfigAssignment]
    gossip_keys: _containers.RepeatedScalarFieldContainer[bytes]
    removed_tasks: _containers.RepeatedScalarFieldContainer[str]
    removed_networks: _containers.RepeatedScalarFieldContainer[str]
    removed_services: _containers.RepeatedScalarFieldContainer[str]
    removed_nodes: _containers.RepeatedScalarFieldContainer[str]
    removed_secrets: _containers.RepeatedScalarFieldContainer[str]
    removed_configs: _containers.RepeatedScalarFieldContainer[str]
    cluster_id: str
    heartbeat_period: int
    managers: _containers.RepeatedCompositeFieldContainer[RemoteManager]
    trust_root: bytes
    issuer_key: bytes
    data_path_port: int
    esp_keys: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, version: _Optional[int] = ..., full: _Optional[bool] = ..., tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ..., networks: _Optional[_Iterable[_Union[Network, _Mapping]]] = ..., services: _Optional[_Iterable[_Union[ServiceView, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[NodeView, _Mapping]]] = ..., secrets: _Optional[_Iterable[_Union[SecretAssignment, _Mapping]]] = ..., configs: _Optional[_Iterable[_Union[ConfigAssignment, _Mapping]]] = ..., gossip_keys: _Optional[_Iterable[bytes]] = ..., removed_tasks: _Optional[_Iterable[str]] = ..., removed_networks: _Optional[_Iterable[str]] = ..., removed_services: _Optional[_Iterable[str]] = ..., removed_nodes: _Optional[_Iterable[str]] = ..., removed_secrets: _Optional[_Iterable[str]] = ..., removed_configs: _Optional[_Iterable[str]] = ..., cluster_id: _Optional[str] = ..., heartbeat_period: _Optional[int] = ..., managers: _Optional[_Iterable[_Union[RemoteManager, _Mapping]]] = ..., trust_root: _Optional[bytes] = ..., issuer_key: _Optional[bytes] = ..., data_path_port: _Optional[int] = ..., esp_keys: _Optional[_Iterable[bytes]] = ...) -> None: ...

class TaskStatusUpdate(_message.Message):
    __slots__ = ("task_id", "status")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    status: TaskStatus
    def __init__(self, task_id: _Optional[str] = ..., status: _Optional[_Union[TaskStatus, _Mapping]] = ...) -> None: ...

class SessionRequest(_message.Message):
    __slots__ = ("description", "statuses", "addr", "acked", "advertised")
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    ADVERTISED_FIELD_NUMBER: _ClassVar[int]
    description: NodeDescription
    statuses: _containers.RepeatedCompositeFieldContainer[TaskStatusUpdate]
    addr: str
    acked: int
    advertised: str
    def __init__(self, description: _Optional[_Union[NodeDescription, _Mapping]] = ..., statuses: _Optional[_Iterable[_Union[TaskStatusUpdate, _Mapping]]] = ..., addr: _Optional[str] = ..., acked: _Optional[int] = ..., advertised: _Optional[str] = ...) -> None: ...

class SessionReply(_message.Message):
    __slots__ = ("assignments", "removed")
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    assignments: Assignments
    removed: bool
    def __init__(self, assignments: _Optional[_Union[Assignments, _Mapping]] = ..., removed: _Optional[bool] = ...) -> None: ...

class IssueRequest(_message.Message):
    __slots__ = ("csr", "availability", "description", "addr", "routes", "manager_addr", "routes6")
    CSR_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    MANAGER_ADDR_FIELD_NUMBER: _ClassVar[int]
    ROUTES6_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    availability: str
    description: NodeDescription
    addr: str
    routes: _containers.RepeatedScalarFieldContainer[str]
    manager_addr: str
    routes6: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, csr: _Optional[bytes] = ..., availability: _Optional[str] = ..., description: _Optional[_Union[NodeDescription, _Mapping]] = ..., addr: _Optional[str] = ..., routes: _Optional[_Iterable[str]] = ..., manager_addr: _Optional[str] = ..., routes6: _Optional[_Iterable[str]] = ...) -> None: ...

class IssueReply(_message.Message):
    __slots__ = ("node_id", "certificate", "ca_certificate", "cluster_id", "role", "data_path_port")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CA_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    DATA_PATH_PORT_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    certificate: bytes
    ca_certificate: bytes
    cluster_id: str
    role: str
    data_path_port: int
    def __init__(self, node_id: _Optional[str] = ..., certificate: _Optional[bytes] = ..., ca_certificate: _Optional[bytes] = ..., cluster_id: _Optional[str] = ..., role: _Optional[str] = ..., data_path_port: _Optional[int] = ...) -> None: ...

class LeaveRequest(_message.Message):
    __slots__ = ("resigns",)
    RESIGNS_FIELD_NUMBER: _ClassVar[int]
    resigns: bool
    def __init__(self, resigns: _Optional[bool] = ...) -> None: ...

class LeaveReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ManagerJoinRequest(_message.Message):
    __slots__ = ("peer_addr",)
    PEER_ADDR_FIELD_NUMBER: _ClassVar[int]
    peer_addr: str
    def __init__(self, peer_addr: _Optional[str] = ...) -> None: ...

class ManagerJoinReply(_message.Message):
    __slots__ = ("peers", "store_keys", "lock", "generation")
    class PeersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PEERS_FIELD_NUMBER: _ClassVar[int]
    STORE_KEYS_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    peers: _containers.ScalarMap[str, str]
    store_keys: _containers.RepeatedScalarFieldContainer[bytes]
    lock: bytes
    generation: int
    def __init__(self, peers: _Optional[_Mapping[str, str]] = ..., store_keys: _Optional[_Iterable[bytes]] = ..., lock: _Optional[bytes] = ..., generation: _Optional[int] = ...) -> None: ...

class ManagerStandingRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ManagerStandingReply(_message.Message):
    __slots__ = ("member", "generation")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    member: bool
    generation: int
    def __init__(self, member: _Optional[bool] = ..., generation: _Optional[int] = ...) -> None: ...

class Attachment(_message.Message):
    __slots__ = ("container_id", "network_id", "address", "address6")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ADDRESS6_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    network_id: str
    address: str
    address6: str
    def __init__(self, container_id: _Optional[str] = ..., network_id: _Optional[str] = ..., address: _Optional[str] = ..., address6: _Optional[str] = ...) -> None: ...

class AttachRequest(_message.Message):
    __slots__ = ("attachments",)
    ATTACHMENTS_FIELD_NUMBER: _ClassVar[int]
    attachments: _containers.RepeatedCompositeFieldContainer[Attachment]
    def __init__(self, attachments: _Optional[_Iterable[_Union[Attachment, _Mapping]]] = ...) -> None: ...

class AttachReply(_message.Message):
    __slots__ = ("states",)
    STATES_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedCompositeFieldContainer[AttachmentState]
    def __init__(self, states: _Optional[_Iterable[_Union[AttachmentState, _Mapping]]] = ...) -> None: ...

class AttachmentState(_message.Message):
    __slots__ = ("container_id", "network_id", "made", "trouble")
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    MADE_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    network_id: str
    made: int
    trouble: str
    def __init__(self, container_id: _Optional[str] = ..., network_id: _Optional[str] = ..., made: _Optional[int] = ..., trouble: _Optional[str] = ...) -> None: ...

class FindNetworkRequest(_message.Message):
    __slots__ = ("reference",)
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    reference: str
    def __init__(self, reference: _Optional[str] = ...) -> None: ...

class FindNetworkReply(_message.Message):
    __slots__ = ("network",)
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    network: Network
    def __init__(self, network: _Optional[_Union[Network, _Mapping]] = ...) -> None: ...

class LogOptions(_message.Message):
    __slots__ = ("stdout", "stderr", "follow", "since", "until", "tail", "timestamps", "details")
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    TAIL_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    stdout: bool
    stderr: bool
    follow: bool
    since: str
    until: str
    tail: str
    timestamps: bool
    details: bool
    def __init__(self, stdout: _Optional[bool] = ..., stderr: _Optional[bool] = ..., follow: _Optional[bool] = ..., since: _Optional[str] = ..., until: _Optional[str] = ..., tail: _Optional[str] = ..., timestamps: _Optional[bool] = ..., details: _Optional[bool] = ...) -> None: ...

class LogSubscription(_message.Message):
    __slots__ = ("id", "close", "container_id", "tty", "options")
    ID_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    TTY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    id: str
    close: bool
    container_id: str
    tty: bool
    options: LogOptions
    def __init__(self, id: _Optional[str] = ..., close: _Optional[bool] = ..., container_id: _Optional[str] = ..., tty: _Optional[bool] = ..., options: _Optional[_Union[LogOptions, _Mapping]] = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("stream", "timestamp", "details", "data")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    stream: int
    timestamp: str
    details: str
    data: bytes
    def __init__(self, stream: _Optional[int] = ..., timestamp: _Optional[str] = ..., details: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class LogBatch(_message.Message):
    __slots__ = ("subscription_id", "lines", "last", "error", "gone")
    SUBSCRIPTION_ID_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    subscription_id: str
    lines: _containers.RepeatedCompositeFieldContainer[LogLine]
    last: bool
    error: str
    gone: bool
    def __init__(self, subscription_id: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[LogLine, _Mapping]]] = ..., last: _Optional[bool] = ..., error: _Optional[str] = ..., gone: _Optional[bool] = ...) -> None: ...

class ListenRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PublishReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ImageOffer(_message.Message):
    __slots__ = ("id", "close", "image_id", "tags")
    ID_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    id: str
    close: bool
    image_id: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., close: _Optional[bool] = ..., image_id: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class ImageWord(_message.Message):
    __slots__ = ("offer_id", "wants", "done", "error")
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    WANTS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    offer_id: str
    wants: bool
    done: bool
    error: str
    def __init__(self, offer_id: _Optional[str] = ..., wants: _Optional[bool] = ..., done: _Optional[bool] = ..., error: _Optional[str] = ...) -> None: ...

class ImageChunk(_message.Message):
    __slots__ = ("data", "last")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    def __init__(self, data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReconcilerStatus(_message.Message):
    __slots__ = ("name", "revision", "last_round", "changes", "rounds", "error")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LAST_ROUND_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    name: str
    revision: int
    last_round: float
    changes: int
    rounds: int
    error: str
    def __init__(self, name: _Optional[str] = ..., revision: _Optional[int] = ..., last_round: _Optional[float] = ..., changes: _Optional[int] = ..., rounds: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class PeerStatus(_message.Message):
    __slots__ = ("node_id", "hostname", "addr", "state", "packet_bytes")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PACKET_BYTES_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    hostname: str
    addr: str
    state: str
    packet_bytes: int
    def __init__(self, node_id: _Optional[str] = ..., hostname: _Optional[str] = ..., addr: _Optional[str] = ..., state: _Optional[str] = ..., packet_bytes: _Optional[int] = ...) -> None: ...

class SnapshotStatus(_message.Message):
    __slots__ = ("path", "made")
    PATH_FIELD_NUMBER: _ClassVar[int]
    MADE_FIELD_NUMBER: _ClassVar[int]
    path: str
    made: float
    def __init__(self, path: _Optional[str] = ..., made: _Optional[float] = ...) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("version", "node_id", "hostname", "role", "addr", "cluster_id", "peers", "networks", "tasks", "reconcilers", "engine", "error", "drops", "warnings", "snapshots", "manager", "happened", "data_path_port", "allows_privileged", "mtus")
    class DropsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class MtusEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    RECONCILERS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DROPS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    MANAGER_FIELD_NUMBER: _ClassVar[int]
    HAPPENED_FIELD_NUMBER: _ClassVar[int]
    DATA_PATH_PORT_FIELD_NUMBER: _ClassVar[int]
    ALLOWS_PRIVILEGED_FIELD_NUMBER: _ClassVar[int]
    MTUS_FIELD_NUMBER: _ClassVar[int]
    version: str
    node_id: str
    hostname: str
    role: str
    addr: str
    cluster_id: str
    peers: _containers.RepeatedCompositeFieldContainer[PeerStatus]
    networks: _containers.RepeatedScalarFieldContainer[str]
    tasks: int
    reconcilers: _containers.RepeatedCompositeFieldContainer[ReconcilerStatus]
    engine: str
    error: str
    drops: _containers.ScalarMap[str, int]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    snapshots: _containers.RepeatedCompositeFieldContainer[SnapshotStatus]
    manager: ManagerProcess
    happened: _containers.RepeatedCompositeFieldContainer[Happened]
    data_path_port: int
    allows_privileged: bool
    mtus: _containers.ScalarMap[str, int]
    def __init__(self, version: _Optional[str] = ..., node_id: _Optional[str] = ..., hostname: _Optional[str] = ..., role: _Optional[str] = ..., addr: _Optional[str] = ..., cluster_id: _Optional[str] = ..., peers: _Optional[_Iterable[_Union[PeerStatus, _Mapping]]] = ..., networks: _Optional[_Iterable[str]] = ..., tasks: _Optional[int] = ..., reconcilers: _Optional[_Iterable[_Union[ReconcilerStatus, _Mapping]]] = ..., engine: _Optional[str] = ..., error: _Optional[str] = ..., drops: _Optional[_Mapping[str, int]] = ..., warnings: _Optional[_Iterable[str]] = ..., snapshots: _Optional[_Iterable[_Union[SnapshotStatus, _Mapping]]] = ..., manager: _Optional[_Union[ManagerProcess, _Mapping]] = ..., happened: _Optional[_Iterable[_Union[Happened, _Mapping]]] = ..., data_path_port: _Optional[int] = ..., allows_privileged: _Optional[bool] = ..., mtus: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Happened(_message.Message):
    __slots__ = ("at", "what", "times")
    AT_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    at: float
    what: str
    times: int
    def __init__(self, at: _Optional[float] = ..., what: _Optional[str] = ..., times: _Optional[int] = ...) -> None: ...

class ManagerProcess(_message.Message):
    __slots__ = ("error", "revision", "sessions", "memory_bytes", "etcd")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ETCD_FIELD_NUMBER: _ClassVar[int]
    error: str
    revision: int
    sessions: int
    memory_bytes: int
    etcd: EtcdStatus
    def __init__(self, error: _Optional[str] = ..., revision: _Optional[int] = ..., sessions: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., etcd: _Optional[_Union[EtcdStatus, _Mapping]] = ...) -> None: ...

class EtcdStatus(_message.Message):
    __slots__ = ("part", "voters", "memory_bytes", "database_bytes", "used_bytes", "error")
    PART_FIELD_NUMBER: _ClassVar[int]
    VOTERS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATABASE_BYTES_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    part: str
    voters: int
    memory_bytes: int
    database_bytes: int
    used_bytes: int
    error: str
    def __init__(self, part: _Optional[str] = ..., voters: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., database_bytes: _Optional[int] = ..., used_bytes: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class BackupReply(_message.Message):
    __slots__ = ("cluster_id", "locked")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    LOCKED_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    locked: bool
    def __init__(self, cluster_id: _Optional[str] = ..., locked: _Optional[bool] = ...) -> None: ...

class RotateGossipKeyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RotateGossipKeyReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
