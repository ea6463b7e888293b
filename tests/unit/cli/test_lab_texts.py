"""What ``meshnet lab`` reads as a lab file or a lesson, and what it writes, or why it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshnet_control.cli.lab_files import LONGEST_BYTES, text_of
from meshnet_control.lab.errors import LabError, writing


def test_a_file_of_any_usual_length_is_read(tmp_path):
    file = tmp_path / "lab.yaml"
    file.write_text("#" * LONGEST_BYTES)
    assert len(text_of(file)) == LONGEST_BYTES


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"#" * (LONGEST_BYTES + 1), "has more than 1 MiB"), (b"hosts: {h\xe4: }", "codec")],
)
def test_what_is_no_such_file_is_refused(tmp_path, content, said):
    file = tmp_path / "lab.yaml"
    file.write_bytes(content)
    with pytest.raises(LabError, match=said):
        text_of(file)


def test_a_file_without_an_end_is_read_no_further_than_that():
    with pytest.raises(LabError, match="has more than"):
        text_of(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("name", "said"),
    [("none/lab.html", r"cannot write .*/none/lab.html: there is no directory .*/none"),
     (".", "cannot write .*: Is a directory")],
)  # fmt: skip
def test_why_nothing_can_be_written_is_one_sentence(tmp_path, name, said):
    file = tmp_path / name
    with pytest.raises(LabError, match=said), writing(file):
        file.write_text("")
