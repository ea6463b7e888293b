from meshnet_control.api import control_pb2 as _control_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StoredObject(_message.Message):
    __slots__ = ("cluster", "node", "service", "task", "network", "secret", "config")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    cluster: _control_pb2.Cluster
    node: _control_pb2.Node
    service: _control_pb2.Service
    task: _control_pb2.Task
    network: _control_pb2.Network
    secret: _control_pb2.Secret
    config: _control_pb2.Config
    def __init__(self, cluster: _Optional[_Union[_control_pb2.Cluster, _Mapping]] = ..., node: _Optional[_Union[_control_pb2.Node, _Mapping]] = ..., service: _Optional[_Union[_control_pb2.Service, _Mapping]] = ..., task: _Optional[_Union[_control_pb2.Task, _Mapping]] = ..., network: _Optional[_Union[_control_pb2.Network, _Mapping]] = ..., secret: _Optional[_Union[_control_pb2.Secret, _Mapping]] = ..., config: _Optional[_Union[_control_pb2.Config, _Mapping]] = ...) -> None: ...

class ObjectKey(_message.Message):
    __slots__ = ("kind", "id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    kind: str
    id: str
    def __init__(self, kind: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class ObjectWrite(_message.Message):
    __slots__ = ("put", "delete")
    PUT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    put: StoredObject
    delete: ObjectKey
    def __init__(self, put: _Optional[_Union[StoredObject, _Mapping]] = ..., delete: _Optional[_Union[ObjectKey, _Mapping]] = ...) -> None: ...

class Expectation(_message.Message):
    __slots__ = ("key", "version")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    key: ObjectKey
    version: int
    def __init__(self, key: _Optional[_Union[ObjectKey, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class ObjectChange(_message.Message):
    __slots__ = ("key", "object", "revision")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    key: ObjectKey
    object: StoredObject
    revision: int
    def __init__(self, key: _Optional[_Union[ObjectKey, _Mapping]] = ..., object: _Optional[_Union[StoredObject, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("kind", "text", "revision", "uncertain")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    UNCERTAIN_FIELD_NUMBER: _ClassVar[int]
    kind: str
    text: str
    revision: int
    uncertain: bool
    def __init__(self, kind: _Optional[str] = ..., text: _Optional[str] = ..., revision: _Optional[int] = ..., uncertain: _Optional[bool] = ...) -> None: ...

class StoreState(_message.Message):
    __slots__ = ("revision", "trouble")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    revision: int
    trouble: str
    def __init__(self, revision: _Optional[int] = ..., trouble: _Optional[str] = ...) -> None: ...

class GetReply(_message.Message):
    __slots__ = ("object", "state", "fault")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    object: StoredObject
    state: StoreState
    fault: Fault
    def __init__(self, object: _Optional[_Union[StoredObject, _Mapping]] = ..., state: _Optional[_Union[StoreState, _Mapping]] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("kind", "meant", "services", "nodes", "brief", "networks")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MEANT_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    BRIEF_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    meant: str
    services: _containers.RepeatedScalarFieldContainer[str]
    nodes: _containers.RepeatedScalarFieldContainer[str]
    brief: bool
    networks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kind: _Optional[str] = ..., meant: _Optional[str] = ..., services: _Optional[_Iterable[str]] = ..., nodes: _Optional[_Iterable[str]] = ..., brief: _Optional[bool] = ..., networks: _Optional[_Iterable[str]] = ...) -> None: ...

class ListReply(_message.Message):
    __slots__ = ("objects", "state", "fault")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.RepeatedCompositeFieldContainer[StoredObject]
    state: StoreState
    fault: Fault
    def __init__(self, objects: _Optional[_Iterable[_Union[StoredObject, _Mapping]]] = ..., state: _Optional[_Union[StoreState, _Mapping]] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("writes", "expect")
    WRITES_FIELD_NUMBER: _ClassVar[int]
    EXPECT_FIELD_NUMBER: _ClassVar[int]
    writes: _containers.RepeatedCompositeFieldContainer[ObjectWrite]
    expect: _containers.RepeatedCompositeFieldContainer[Expectation]
    def __init__(self, writes: _Optional[_Iterable[_Union[ObjectWrite, _Mapping]]] = ..., expect: _Optional[_Iterable[_Union[Expectation, _Mapping]]] = ...) -> None: ...

class CommitReply(_message.Message):
    __slots__ = ("revision", "state", "fault")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    revision: int
    state: StoreState
    fault: Fault
    def __init__(self, revision: _Optional[int] = ..., state: _Optional[_Union[StoreState, _Mapping]] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("from_revision",)
    FROM_REVISION_FIELD_NUMBER: _ClassVar[int]
    from_revision: int
    def __init__(self, from_revision: _Optional[int] = ...) -> None: ...

class WatchReply(_message.Message):
    __slots__ = ("changes", "fault", "closed")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[ObjectChange]
    fault: Fault
    closed: bool
    def __init__(self, changes: _Optional[_Iterable[_Union[ObjectChange, _Mapping]]] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ..., closed: _Optional[bool] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LogRequest(_message.Message):
    __slots__ = ("service", "task", "options", "tty")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TTY_FIELD_NUMBER: _ClassVar[int]
    service: str
    task: str
    options: _control_pb2.LogOptions
    tty: bool
    def __init__(self, service: _Optional[str] = ..., task: _Optional[str] = ..., options: _Optional[_Union[_control_pb2.LogOptions, _Mapping]] = ..., tty: _Optional[bool] = ...) -> None: ...

class LogChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class ImagePush(_message.Message):
    __slots__ = ("node_id", "image_id", "tags", "data", "last")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    image_id: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    data: bytes
    last: bool
    def __init__(self, node_id: _Optional[str] = ..., image_id: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class ImagePushed(_message.Message):
    __slots__ = ("wants", "done", "error")
    WANTS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    wants: bool
    done: bool
    error: str
    def __init__(self, wants: _Optional[bool] = ..., done: _Optional[bool] = ..., error: _Optional[str] = ...) -> None: ...

class NodeIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeNews(_message.Message):
    __slots__ = ("key", "certificate", "root", "gone", "there", "unreached")
    class UnreachedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: NodeIds
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[NodeIds, _Mapping]] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    THERE_FIELD_NUMBER: _ClassVar[int]
    UNREACHED_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    certificate: bytes
    root: bytes
    gone: _containers.RepeatedScalarFieldContainer[str]
    there: _containers.RepeatedScalarFieldContainer[str]
    unreached: _containers.MessageMap[str, NodeIds]
    def __init__(self, key: _Optional[bytes] = ..., certificate: _Optional[bytes] = ..., root: _Optional[bytes] = ..., gone: _Optional[_Iterable[str]] = ..., there: _Optional[_Iterable[str]] = ..., unreached: _Optional[_Mapping[str, NodeIds]] = ...) -> None: ...

class ManagerState(_message.Message):
    __slots__ = ("error", "locked", "key", "certificate", "root")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LOCKED_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    error: str
    locked: bool
    key: bytes
    certificate: bytes
    root: bytes
    def __init__(self, error: _Optional[str] = ..., locked: _Optional[bool] = ..., key: _Optional[bytes] = ..., certificate: _Optional[bytes] = ..., root: _Optional[bytes] = ...) -> None: ...

class UnlockRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    def __init__(self, key: _Optional[bytes] = ...) -> None: ...

class ForceNewClusterRequest(_message.Message):
    __slots__ = ("advertise_addr", "listen_addr")
    ADVERTISE_ADDR_FIELD_NUMBER: _ClassVar[int]
    LISTEN_ADDR_FIELD_NUMBER: _ClassVar[int]
    advertise_addr: str
    listen_addr: str
    def __init__(self, advertise_addr: _Optional[str] = ..., listen_addr: _Optional[str] = ...) -> None: ...

class ManagerStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ManagerStatusReply(_message.Message):
    __slots__ = ("process", "drops", "snapshots", "leads", "metrics")
    class DropsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    DROPS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    LEADS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    process: _control_pb2.ManagerProcess
    drops: _containers.ScalarMap[str, int]
    snapshots: _containers.RepeatedCompositeFieldContainer[_control_pb2.SnapshotStatus]
    leads: bool
    metrics: bytes
    def __init__(self, process: _Optional[_Union[_control_pb2.ManagerProcess, _Mapping]] = ..., drops: _Optional[_Mapping[str, int]] = ..., snapshots: _Optional[_Iterable[_Union[_control_pb2.SnapshotStatus, _Mapping]]] = ..., leads: _Optional[bool] = ..., metrics: _Optional[bytes] = ...) -> None: ...

class ManagerBackupReply(_message.Message):
    __slots__ = ("done", "error")
    DONE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    done: _control_pb2.BackupReply
    error: str
    def __init__(self, done: _Optional[_Union[_control_pb2.BackupReply, _Mapping]] = ..., error: _Optional[str] = ...) -> None: ...
