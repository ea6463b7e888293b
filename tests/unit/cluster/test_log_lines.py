"""The engine's frames, the details the CLI reads, and the order of merged logs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import WireError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.log_lines import (
    FRAME_BYTES,
    Frames,
    Merge,
    context,
    frame,
    parse,
    render,
)
from meshnet_control.node.log_source import query

TASK = pb.Task(id="t1", node_id="n1", service_id="s1")
LEAD = "com.docker.swarm.node.id=n1,com.docker.swarm.service.id=s1,com.docker.swarm.task.id=t1"
STAMP = "2026-11-21T08:32:01.268510918Z"
FRAMES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8)


@given(FRAMES, st.lists(st.integers(1, 20)))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(sent, cuts):
    data = b"".join(frame(stream, payload) for stream, payload in sent)
    frames, found, at = Frames(), [], 0
    for length in cuts:
        found += frames.feed(data[at : at + length])
        at += length
    assert found + frames.feed(data[at:]) == sent


def test_a_frame_as_docker_documents_it():
    assert frame(2, b"hi\n") == b"\x02\x00\x00\x00\x00\x00\x00\x03hi\n"


def test_bytes_that_are_no_frames_are_refused_instead_of_awaited():
    with pytest.raises(WireError, match=f"a log frame of {FRAME_BYTES + 1} bytes"):
        Frames().feed(frame(1, b"x" * (FRAME_BYTES + 1)))


@pytest.mark.parametrize(
    ("timestamps", "details", "shown"),
    [
        (False, False, "a  b\n"),
        (True, False, f"{STAMP} a  b\n"),
        (False, True, f"{LEAD} a  b\n"),
        (True, True, f"{STAMP} {LEAD} a  b\n"),
    ],
)
def test_a_line_shows_what_was_asked_for(timestamps, details, shown):
    line = parse(1, f"{STAMP}  a  b\n".encode())
    assert render(line, context(TASK), timestamps=timestamps, details=details).decode() == shown


def test_the_log_drivers_own_attributes_are_sorted_among_the_ids():
    line = parse(2, f"{STAMP} a=1,z=%2C x\n".encode())
    assert render(line, context(TASK), timestamps=False, details=True) == (
        f"a=1,{LEAD},z=%2C x\n".encode()
    )


@given(st.binary().filter(lambda text: b"\xff" not in text))
def test_any_text_survives_with_its_own_spaces_and_bytes(text):
    line = parse(1, STAMP.encode() + b"  " + text)
    assert render(line, LEAD, timestamps=False, details=False) == text


LOGS = st.dictionaries(st.integers(0, 3), st.lists(st.integers(0, 9).map(str)), min_size=1)


def lines(key, stamps):
    return [
        pb.LogLine(timestamp=stamp, data=f"{key}.{place}".encode())
        for place, stamp in enumerate(stamps)
    ]


def merged(logs, cuts):
    """Everything a Merge says when each wanted log is given a few lines, then its end."""
    merge = Merge(logs)
    said: list[tuple[int, pb.LogLine]] = []
    rest = {key: lines(key, stamps) for key, stamps in logs.items()}
    while merge.wants:
        for key in merge.wants:
            count = cuts.pop() if cuts else 2
            if rest[key]:
                merge.add(key, rest[key][:count])
                rest[key] = rest[key][count:]
            else:
                merge.end(key)
        said += merge.ready()
    return said


@given(LOGS, st.lists(st.integers(1, 5)))
def test_a_merge_keeps_every_line_and_the_order_of_each_log(logs, cuts):
    said = merged(logs, cuts)
    for key, stamps in logs.items():
        assert [line for of, line in said if of == key] == lines(key, stamps)


@given(LOGS, st.lists(st.integers(1, 5)))
def test_logs_in_order_of_time_merge_in_order_of_time_however_they_arrive(logs, cuts):
    logs = {key: sorted(stamps) for key, stamps in logs.items()}
    said = [line.timestamp for _, line in merged(logs, cuts)]
    assert said == sorted(said)


def test_a_line_waits_for_the_logs_that_have_said_nothing_yet():
    merge = Merge(["a", "b"])
    merge.add("a", lines("a", ["1", "5"]))
    assert not list(merge.ready())
    assert merge.wants == {"b"}
    merge.add("b", lines("b", ["3"]))
    assert [line.timestamp for _, line in merge.ready()] == ["1", "3"]
    merge.end("b")
    assert [line.timestamp for _, line in merge.ready()] == ["5"]


def test_the_engine_is_asked_for_times_and_details_unless_there_is_a_terminal():
    options = pb.LogOptions(stdout=True, tail="5", since="17")
    asked = {"stdout": "1", "tail": "5", "since": "17"}
    assert query(options, tty=True) == asked
    assert query(options, tty=False) == asked | {"timestamps": "1", "details": "1"}
