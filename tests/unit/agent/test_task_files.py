"""Secrets and configs as a container has them: as stored, or with their templates replaced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet_control.agent.container import Place
from meshnet_control.agent.task_files import Assigned, contents
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.templates import Where, payload

PLACE = Place("n1", "h1")
WHERE = Where("web.2.t1", "n1", "h1", "x86_64", "linux")


def task() -> pb.Task:
    made = pb.Task(id="t1", service_id="s1", service_name="web", slot=2, node_id="n1")
    container = made.spec.container_spec
    container.env.extend(["A=1=2", "B"])
    container.secrets.add(secret_id="i").file.name = "password"  # noqa: S106 - an object's ID
    container.configs.add(config_id="j", config_name="page").file.name = "/page"
    return made


def files(config: Assigned, secret: bytes = b"hush\n") -> dict[str, bytes]:
    given_ = {("config", "j"): config, ("secret", "i"): pb.SecretAssignment(id="i", data=secret)}
    found = contents(task(), PLACE, lambda kind, of: given_.get((kind, of)))
    return {file.target.name: file.data for file in found}


def templated(text: str) -> pb.ConfigAssignment:
    return pb.ConfigAssignment(id="j", data=text.encode(), templated=True)


def test_a_template_is_told_of_the_task_its_node_its_environment_and_its_files() -> None:
    said = files(
        templated(
            '{{.Service.Name}} {{.Node.Hostname}} {{ env "A" }}{{env "B"}}{{env "C"}} '
            '{{- secret "password" -}} .'
        )
    )
    assert said == {"password": b"hush\n", "/page": b"web h1 1=2hush\n."}


def test_another_file_is_put_in_as_it_is_stored() -> None:
    text = 'x{{config "/page"}}'
    assert files(templated(text))["/page"] == b"x" + text.encode()


def test_without_a_template_driver_it_is_as_it_was() -> None:
    text = '{{.Service.Name}} {{ env "A" }}'
    assert files(pb.ConfigAssignment(id="j", data=text.encode()))["/page"] == text.encode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{{secret "nosuch"}}', "secret target nosuch not found"),
        ('{{config "page"}}', "config target page not found"),
        ("{{.Nothing}}", "can't evaluate field Nothing"),
    ],
)
def test_what_a_task_does_not_have_is_said_in_swarms_words(text: str, says: str) -> None:
    with pytest.raises(ControlError, match=says) as refused:
        files(templated(text))
    assert str(refused.value).startswith("failed to expand templated config j: ")


def test_what_is_not_on_the_node_is_said() -> None:
    with pytest.raises(ControlError, match=r"secret password \(i\) not found on this node"):
        contents(task(), PLACE, lambda *_: None)


def test_a_dash_takes_no_space_away_of_what_is_put_in() -> None:
    text = '{{secret "password"}}  {{- env "A"}}'
    assert files(templated(text))["/page"] == b"hush\n1=2"


@given(st.binary(max_size=80).filter(lambda data: b"{" not in data), st.binary(max_size=20))
def test_bytes_that_are_no_text_stay_as_they_are(data: bytes, secret: bytes) -> None:
    raw = data + b'{{secret "s"}}' + data
    assert payload(raw, task(), WHERE, {("secret", "s"): secret}) == data + secret + data
