"""Engine JSON <-> protobuf: recorded objects and any message come back whole; refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.convert import engine_json
from meshnet_control.convert.engine_json import from_engine, to_engine
from meshnet_control.convert.scalars import RefusedError, scalar_of

RECORDED = json.loads((Path(__file__).parent.parent / "data" / "engine_objects.json").read_text())
LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
"""A NUL is refused: no text of the kernel or of C has one."""


def said(value: Any, *, request: bool) -> Any:
    """Without what says nothing: nulls, empty maps and lists; in a request, zeros too."""
    if isinstance(value, dict):
        kept = {k: said(v, request=request) for k, v in value.items()}
        nothing: tuple[Any, ...] = (None, {}, []) if not request else (None, {}, [], "", False, 0)
        # an empty message of a mode is what the mode is
        return {k: v for k, v in kept.items() if v not in nothing or k in {"Global", "Init"}}
    if isinstance(value, list):
        return [said(v, request=request) for v in value]
    return value


@pytest.mark.parametrize("row", range(len(RECORDED)))
def test_recorded_objects_come_back_whole(row: int):
    kind, recorded = RECORDED[row]["type"], RECORDED[row]["json"]
    back = to_engine(from_engine(getattr(pb, kind), recorded))
    request = kind.endswith(("Request", "Spec"))
    assert said(back, request=request) == said(recorded, request=request)
    if not request:  # what is there and not null has the very same value
        for name, value in recorded.items():
            if value and name in back and not isinstance(value, dict | list):
                assert (name, back[name]) == (name, value)


def messages(descriptor: Any, depth: int = 4) -> st.SearchStrategy[Message]:
    cls = GetMessageClass(descriptor)
    ours: Any = (pb.hidden, pb.instead)  # protoc's stub has the general type
    fields = [
        f for f in descriptor.fields if not any(f.GetOptions().Extensions[each] for each in ours)
    ]
    if depth == 0:
        return st.just(cls())
    parts = {f.name: values(f, depth) for f in fields}
    return st.fixed_dictionaries({}, optional=parts).map(lambda chosen: cls(**chosen))


def values(item: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if item.message_type is not None and item.message_type.GetOptions().map_entry:
        entry = item.message_type.fields_by_name["value"]
        return st.dictionaries(TEXTS, single(entry, depth), max_size=2)
    one = single(item, depth)
    return st.lists(one, max_size=2) if item.is_repeated else one


def single(item: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if item.message_type is not None:
        if item.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
            seconds = st.integers(-62135596799, 253402300799)
            return st.builds(Timestamp, seconds=seconds, nanos=st.integers(0, 999_999_999))
        return messages(item.message_type, depth - 1)
    if item.cpp_type in LIMITS:
        return st.integers(*LIMITS[item.cpp_type])
    if item.enum_type is not None:
        return st.sampled_from([v.number for v in item.enum_type.values])
    if item.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=8)
    return {
        FieldDescriptor.CPPTYPE_STRING: TEXTS,
        FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
        FieldDescriptor.CPPTYPE_DOUBLE: st.floats(0, 1e300).map(abs),
    }[item.cpp_type]


@pytest.mark.parametrize("kind", [pb.Service, pb.Node, pb.Cluster, pb.Secret, pb.NetworkResource])
def test_any_message_comes_back(kind: type[Message]):
    @settings(max_examples=40, deadline=None)
    @given(messages(kind.DESCRIPTOR))
    def law(message: Message):
        text = json.dumps(to_engine(message), allow_nan=False)
        assert from_engine(kind, json.loads(text)) == message

    law()


def test_a_field_is_shown_in_place_of_another_when_it_is_set():
    shown = {"Version": {"Index": 41}}
    assert to_engine(pb.Network(version=pb.Version(index=43, asked=41))) == shown
    assert to_engine(pb.Network(version=pb.Version(index=41))) == shown
    assert from_engine(pb.Network, shown) == pb.Network(version=pb.Version(index=41))


def test_hidden_fields_stay_ours():
    task = pb.Task(id="t", name="web.1.t", service_name="web")
    assert set(to_engine(task)) == {"ID", "Labels", "DesiredState"}
    with pytest.raises(ControlError, match="ServiceName is not supported"):
        from_engine(pb.Task, {"ServiceName": "web"})


def test_presence_is_kept():
    spec: dict[str, Any] = {
        "Mode": {"Replicated": {"Replicas": 0}},
        "TaskTemplate": {"ContainerSpec": {"Init": False}},
    }
    back = to_engine(from_engine(pb.ServiceSpec, spec))
    assert back["Mode"] == {"Replicated": {"Replicas": 0}}
    assert back["TaskTemplate"]["ContainerSpec"] == {"Init": False}
    assert to_engine(from_engine(pb.ServiceMode, {"Global": {}})) == {"Global": {}}


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("2026-11-21T00:52:23.09938319Z", "2026-11-21T00:52:23.09938319Z"),
        ("2026-11-21T00:52:23.000000001Z", "2026-11-21T00:52:23.000000001Z"),
        ("2026-11-21T02:52:23.5+02:00", "2026-11-21T00:52:23.5Z"),
        ("1969-12-31T23:59:59.25Z", "1969-12-31T23:59:59.25Z"),
        ("2026-11-21T00:52:23Z", "2026-11-21T00:52:23Z"),
        ("0001-01-01T00:00:00Z", None),
    ],
)
def test_times(text: str, back: str | None):
    assert to_engine(from_engine(pb.Node, {"CreatedAt": text})).get("CreatedAt") == back


def test_names_in_any_case_and_null():
    asked = {"name": "web", "LABELS": None, "taskTemplate": {"FORCEUPDATE": 3, "Networks": None}}
    assert from_engine(pb.ServiceSpec, asked) == pb.ServiceSpec(
        name="web", task_template=pb.TaskSpec(force_update=3)
    )


def test_null_elements_are_zero_values():
    asked = {"Env": ["a=b", None], "Labels": {"x": None}, "Mounts": [None]}
    read = from_engine(pb.ContainerSpec, asked)
    assert list(read.env) == ["a=b", ""]
    assert dict(read.labels) == {"x": ""}
    assert len(read.mounts) == 1


@pytest.mark.parametrize("empty", [None, "", 0, False, [], {}, {"a": [{}, None]}])
def test_an_unknown_field_that_says_nothing_is_dropped(empty: Any):
    assert from_engine(pb.ServiceSpec, {"Novelty": empty}) == pb.ServiceSpec()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"TaskTemplate": {"Novelty": 1}}, "TaskTemplate.Novelty is not supported"),
        ([], "json: cannot unmarshal array into Go value of type swarm.ServiceSpec"),
        (None, "json: cannot unmarshal null into Go value of type swarm.ServiceSpec"),
        (
            {"Name": 3},
            "json: cannot unmarshal number into Go struct field ServiceSpec.Name of type string",
        ),
        (
            {"tasktemplate": {"ContainerSpec": {"Env": "a"}}},
            (
                "json: cannot unmarshal string into Go struct field "
                "ContainerSpec.TaskTemplate.ContainerSpec.Env of type []string"
            ),
        ),
        (
            {"TaskTemplate": {"ContainerSpec": "a"}},
            (
                "json: cannot unmarshal string into Go struct field "
                "TaskSpec.TaskTemplate.ContainerSpec of type swarm.ContainerSpec"
            ),
        ),
        (
            {"EndpointSpec": {"Ports": [{"TargetPort": -1}]}},
            (
                "json: cannot unmarshal number -1 into Go struct field "
                "PortConfig.EndpointSpec.Ports.TargetPort of type uint32"
            ),
        ),
        (
            {"Mode": {"Replicated": {"Replicas": True}}},
            (
                "json: cannot unmarshal bool into Go struct field "
                "ReplicatedService.Mode.Replicated.Replicas of type uint64"
            ),
        ),
        (
            {"Labels": ["a"]},
            (
                "json: cannot unmarshal array into Go struct field "
                "ServiceSpec.Labels of type map[string]string"
            ),
        ),
    ],
)
def test_refusals(body: Any, why: str):
    with pytest.raises(ControlError) as refused:
        from_engine(pb.ServiceSpec, body)
    assert str(refused.value).startswith(why)
    assert refused.value.status == 400


@pytest.mark.parametrize(("kind", "bounds"), LIMITS.items())
def test_a_number_beyond_its_type_is_refused_and_the_last_within_is_not(kind, bounds):
    field = next(
        field
        for message in pb.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
        if field.cpp_type == kind
    )
    read = scalar_of(field).read
    for bound, step in zip(bounds, (-1, 1), strict=True):
        assert read(bound) == bound
        with pytest.raises(RefusedError, match=f"number {bound + step} into Go value of type"):
            read(bound + step)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        *(("%", 0), ("YWJj%", 4), ("YWJjZ", 4), ("YW=", 3), ("YW=j", 2), ("YWI=x", 4)),
        *(("Y===", 1), ("YWJj====", 4), ("YW\nJj\r\n!", 7), ("YW\n=j", 3), ("YWJ\u00fc", 3)),
    ],
)
def test_data_that_is_no_base64_is_refused_in_gos_words(text: str, at: int):
    with pytest.raises(ControlError) as refused:
        from_engine(pb.SecretSpec, {"Data": text})
    assert str(refused.value) == f"illegal base64 data at input byte {at}"


def test_a_member_in_small_letters_is_a_clients_own_and_said_once(caplog):
    engine_json._left_out.cache_clear()  # of what other tests sent
    body = {"version": 7, "Name": "a", "TaskTemplate": {"ContainerSpec": {"mine": [1]}}}
    with caplog.at_level("INFO"):
        for _ in range(2):
            assert from_engine(pb.ServiceSpec, body).name == "a"
    said = [record.getMessage() for record in caplog.records]
    assert [text.partition(" is no field")[0] for text in said] == [
        "member 'version' of a ServiceSpec",
        "member 'mine' of a ContainerSpec",
    ]


def test_a_time_that_is_none():
    for text in ("yesterday", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+01:00"):
        with pytest.raises(ControlError, match="CreatedAt is not a time"):
            from_engine(pb.Node, {"CreatedAt": text})


def test_half_a_surrogate_pair_is_replaced():
    assert from_engine(pb.ServiceSpec, {"Name": "a\ud800b"}).name == "a\ufffdb"
