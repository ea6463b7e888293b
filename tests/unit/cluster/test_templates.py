"""A template is expanded or refused in Swarm's words: at the door as on the node."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.templates import MOST_PUT_IN, Where, expanded
from meshnet_control.controlapi.specs import service_checks

WHERE = Where("web.2.t1", "n1", "h1", "x86_64", "linux")
PIECES = st.sampled_from(
    ["{{", "}}", "{{.Task.Slot}}", "{{.Foo", "{{range}}", ".Service.Name", "index", "/", "a", " ",
     "\n", "-", "{{end}}", "{{-", "=",
     '{{index .Service.Labels "x"}}', "{{index .Foo.Labels \"x\"}}"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=6).map("".join)


def task(**container: Any) -> pb.Task:
    made = pb.Task(id="t1", service_id="s1", service_name="web", slot=2)
    made.service_labels["x"] = "y"
    made.spec.container_spec.CopyFrom(pb.ContainerSpec(**container))
    return made


def service(text: str) -> pb.ServiceSpec:
    spec = pb.ServiceSpec(name="web")
    container = spec.task_template.container_spec
    container.image, container.hostname = "nginx", text
    container.env.append(f"A={text}")
    container.mounts.add(type="volume", source=text, target=f"/{text}")
    return spec


def test_fields_and_labels_are_put_in_where_swarm_does():
    spec = expanded(
        task(
            env=[
                "A={{.Task.Name}}",
                'B={{index .Service.Labels "x"}}',
                "{{.Foo}}",
                "C={{ .Node.ID }}",
            ],
            hostname="{{.Service.Name}}-{{.Task.Slot}}",
            mounts=[pb.Mount(source="v{{.Task.Slot}}", target="/{{.Node.Hostname}}")],
        ),
        WHERE,
    )
    assert list(spec.env) == ["A=web.2.t1", "B=y", "{{.Foo}}", "C=n1"]
    assert spec.hostname == "web-2"
    assert (spec.mounts[0].source, spec.mounts[0].target) == ("v2", "/h1")


def test_a_dash_takes_the_space_beside_a_template_away_as_in_go():
    spec = expanded(task(env=["A=a \n {{- .Task.Slot -}} \t b {{ .Task.Slot }} c"]), WHERE)
    assert list(spec.env) == ["A=a2b 2 c"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{range}}", "template: expansion:1: missing value for range"),
        ("{{.Foo", "template: expansion:1: unclosed action"),
        ("a\n{{.Foo", "template: expansion:2: unclosed action"),
        ("{{}}", "template: expansion:1: missing value for command"),
        ("{{end}}", "template: expansion:1: unexpected {{end}}"),
        ("{{.Foo}}", 'executing "expansion" at <.Foo>: can\'t evaluate field Foo'),
        ("{{foo 1}}", 'template: expansion:1: function "foo" not defined'),
        ("{{if .Task.Slot}}a{{end}}", "is not supported by this version of meshnet"),
    ],
)
def test_what_cannot_be_expanded_is_refused_at_the_door(text: str, says: str):
    with pytest.raises(ControlError) as refused:
        service_checks.check(service(text))
    assert refused.value.status == 400
    assert "InvalidArgument desc = expanding env failed: expanding env " in refused.value.message
    assert says in refused.value.message
    spec = service("a")
    spec.task_template.container_spec.hostname = text
    with pytest.raises(ControlError) as refused:
        service_checks.check(spec)
    assert "desc = expanding hostname failed: template: expansion:" in refused.value.message


@given(TEXTS)
@example("{{.Task.Slot}}")
def test_what_the_door_lets_in_no_node_refuses(text: str):
    spec = service(text)
    try:
        service_checks.check(spec)
    except ControlError:
        return
    made = pb.Task(id="t1", service_id="s1", service_name="web", slot=2)
    made.spec.CopyFrom(spec.task_template)
    on_node = expanded(made, WHERE)
    assert on_node.mounts[0].target.startswith("/")
    assert "{{" not in on_node.hostname


def test_a_target_that_is_no_path_once_expanded_is_refused():
    spec = service("a")
    spec.task_template.container_spec.mounts[0].target = "{{.Task.Slot}}"
    with pytest.raises(ControlError, match="must be an absolute path: 1"):
        service_checks.check(spec)


def test_what_templates_put_in_is_bounded_over_all_of_a_container():
    label = '{{index .Service.Labels "long"}}'
    asked = task(env=[f"A={label}", f"B={label}"])
    asked.service_labels["long"] = "x" * (MOST_PUT_IN // 2)
    assert len(expanded(asked, WHERE).env[1]) == len("B=") + MOST_PUT_IN // 2
    asked.spec.container_spec.hostname = "{{.Task.Slot}}"
    with pytest.raises(ControlError, match=f"must not be longer than {MOST_PUT_IN} characters"):
        expanded(asked, WHERE)
