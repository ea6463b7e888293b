"""Stack files: YAML, several over each other, and what they say of other files."""

from __future__ import annotations

import pytest

from meshnet_control.stack.names import DATA
from meshnet_control.stack.reading import read
from meshnet_control.stack.values import StackError


@pytest.fixture
def files(tmp_path):
    """Name: files. Scope: function. Writes files by name, and reads the first ones as a stack."""

    def written(*names: str, environ=None, **texts: str):
        for name, text in texts.items():
            (tmp_path / name.replace("__", "/").replace("_", ".")).write_text(text)
        chosen = [str(tmp_path / name) for name in names or ("a.yaml",)]
        return read(chosen, environ or {})

    return written


def test_yaml_is_read_as_docker_reads_it(files):
    tree, _ = files(
        a_yaml="services: {w: {ports: [22:22], on: no, mode: 0444, size: 1e3, o: 0o17}}"
    )
    service = tree["services"]["w"]
    assert service == {"ports": ["22:22"], "on": "no", "mode": 0o444, "size": 1000.0, "o": 0o17}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "a.yaml: line"),
        ("a: 1\na: 2", 'duplicate key "a"'),
        ("- 1", "the top level must be a mapping"),
        ("a: &x [*x]", "nested without end"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_what_is_no_stack_file_is_refused_in_one_sentence(files, text, says):
    with pytest.raises(StackError) as refused:
        files(a_yaml=text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_later_files_win_and_lists_grow(files):
    one = "services: {w: {image: a, environment: [A=1, B=2], ports: [1:1], volumes: [x:/d, /e]}}"
    two = "services: {w: {image: b, environment: {B: 3}, ports: [2:2, 1:1], volumes: [y:/d]}}"
    tree, _ = files("a.yaml", "b.yaml", a_yaml=one, b_yaml=two)
    assert tree["services"]["w"] == {
        "image": "b",
        "environment": {"A": "1", "B": "3"},
        "ports": ["1:1", "2:2"],
        "volumes": ["y:/d", "/e"],
    }


def test_reset_takes_away_and_override_replaces(files):
    one = "services: {w: {image: a, ports: [1:1], command: x, labels: {a: b}, dns: [d]}}"
    two = "services: {w: {ports: !override [2:2], command: !reset null, labels: {a: !reset null}}}"
    tree, _ = files("a.yaml", "b.yaml", a_yaml=one, b_yaml=two)
    assert tree["services"]["w"] == {"image": "a", "ports": ["2:2"], "labels": {}, "dns": ["d"]}


def test_environment_is_of_files_and_variables_and_the_services_own_wins(files):
    text = """
services:
  w:
    env_file: [e.env, {path: not.there, required: false}]
    environment: [OWN=1, HERE, NOWHERE]
"""
    tree, _ = files(a_yaml=text, e_env="OWN=0\nQ='a b' # said\nexport R=2\n", environ={"HERE": "h"})
    service = tree["services"]["w"]
    wanted = {"OWN": "1", "Q": "a b", "R": "2", "HERE": "h", "NOWHERE": None}
    assert service == {"environment": wanted}


def test_the_environment_beats_the_file_beside(files, tmp_path):
    (tmp_path / ".env").write_text("A=file\nB=file\n")
    tree, missed = files(a_yaml="name: $A-$B-$C", environ={"A": "shell"})
    assert tree["name"] == "shell-file-"
    assert missed == ["C"]


def test_secrets_are_of_files_of_variables_or_said_here(files):
    text = """
secrets: {f: {file: ./d.txt}, e: {environment: E}, x: {external: true}}
configs: {c: {content: "v=$E"}}
"""
    tree, _ = files(a_yaml=text, d_txt="data", environ={"E": "env"})
    said = {name: entry.get(DATA) for name, entry in tree["secrets"].items()}
    assert said == {"f": b"data", "e": b"env", "x": None}
    assert tree["configs"]["c"][DATA] == b"v=env"


def test_a_service_extends_another_here_or_in_a_file(files, tmp_path):
    (tmp_path / "sub").mkdir()
    text = """
services:
  base: {image: a, environment: {A: 1}, depends_on: [other]}
  w: {extends: base, environment: {B: 2}}
  v: {extends: {service: far, file: sub/b.yaml}}
"""
    far = "services: {far: {image: f, env_file: e.env}}"
    tree, _ = files("a.yaml", a_yaml=text, sub__b_yaml=far, sub__e_env="E=1")
    assert tree["services"]["w"] == {"image": "a", "environment": {"A": "1", "B": "2"}}
    assert tree["services"]["v"] == {"image": "f", "environment": {"E": "1"}}


def test_a_file_includes_others_with_paths_of_their_own(files, tmp_path):
    (tmp_path / "sub").mkdir()
    text = "include: [sub/b.yaml]\nservices: {w: {image: a}}"
    inner = "services: {i: {image: $X}}\nconfigs: {c: {file: ./d.txt}}"
    (tmp_path / "sub" / ".env").write_text("X=x")
    tree, _ = files(a_yaml=text, sub__b_yaml=inner, sub__d_txt="data")
    assert tree["services"] == {"i": {"image": "x"}, "w": {"image": "a"}}
    assert tree["configs"]["c"][DATA] == b"data"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("include: [a.yaml]", "a.yaml: what is included and extended goes beyond 256 files, 16 "),
        ("services: {a: {extends: b}, b: {extends: a}}", "services.a.extends: .* or 32 MiB in all"),
        ("services: {a: {extends: b}}", "services.a.extends: there is no service b"),
        ("services: {a: {env_file: no.env}}", "no.env: No such file"),
        ("secrets: {s: {file: ./no}}", "secrets.s: "),
        ("secrets: {s: {environment: NO}}", "environment variable NO is not set"),
        ("secrets: {s: {}}", "secrets.s: give one of file, environment and content"),
        ("include: [no.yaml]", "no.yaml: No such file"),
        ("services: {a: {env_file: [null]}}", "the path of a file must be a text"),
        ("services: {a: {volumes: ['~nobody-here/x:/y']}}", "~nobody-here/x: "),
        ("secrets: {s: {content: [1]}}", "secrets.s.content must be a text"),
        ('configs: {c: {file: "a\\0b"}}', "embedded null byte"),
    ],
)
def test_what_cannot_be_read_is_named(files, text, says):
    with pytest.raises(StackError, match=says):
        files(a_yaml=text)


@pytest.mark.parametrize(
    "text",
    [
        "secrets: {s: {file: /dev/zero}}",
        "services: {a: {env_file: /dev/zero}}",
        "include: /dev/zero",
    ],
)
def test_a_file_without_an_end_is_not_read_to_it(files, text):
    with pytest.raises(StackError, match="/dev/zero: it is larger than 4 MiB"):
        files(a_yaml=text)


BEYOND = "what is included and extended goes beyond 256 files, 16 levels or 32 MiB in all"


def test_files_that_include_many_each_are_bounded_in_number(files, tmp_path):
    """Ten that each include all ten: without a bound, 10^16 files at sixteen levels."""
    names = [f"f{number}.yaml" for number in range(10)]
    for name in names:
        (tmp_path / name).write_text(f"include: [{', '.join(names)}]")
    with pytest.raises(StackError, match=BEYOND):
        files("f0.yaml")
    wide = [f"w{number}.yaml" for number in range(256)]
    for name in wide:
        (tmp_path / name).write_text("services: {}")
    with pytest.raises(StackError, match=f"w255.yaml: {BEYOND}"):
        files(a_yaml=f"include: [{', '.join(wide)}]")
    assert files(a_yaml=f"include: [{', '.join(wide[1:])}]")[0] == {"services": {}}


def test_levels_are_bounded(files, tmp_path):
    for number in range(18):
        (tmp_path / f"f{number}.yaml").write_text(f"include: [f{number + 1}.yaml]")
    (tmp_path / "f18.yaml").write_text("services: {}")
    assert files("f2.yaml")[0] == {"services": {}}
    with pytest.raises(StackError, match=f"f17.yaml: {BEYOND}"):
        files("f1.yaml")


@pytest.mark.parametrize("where", ["", "file: b.yaml, "])
def test_copies_of_what_is_extended_are_bounded_in_size(files, where):
    base = f"{{image: a, labels: {{l: {'x' * 2**17}}}}}"
    many = ", ".join(f"s{n}: {{extends: {{{where}service: base}}}}" for n in range(300))
    with pytest.raises(StackError, match=BEYOND):
        files(
            "a.yaml",
            a_yaml=f"services: {{base: {base}, {many}}}",
            b_yaml=f"services: {{base: {base}}}",
        )


def test_files_are_bounded_in_size_together(files, tmp_path):
    for number in range(3):  # of 12 MiB each, by aliases
        text = f"x-text: [&a {'x' * 12_000}, {', '.join(['*a'] * 1000)}]"
        (tmp_path / f"f{number}.yaml").write_text(text)
    with pytest.raises(StackError, match=f"f2.yaml: {BEYOND}"):
        files("f0.yaml", "f1.yaml", "f2.yaml")
    (tmp_path / "e.env").write_text(f"E={'x' * 2**20}")
    many = ", ".join(f"s{n}: {{image: a, env_file: e.env}}" for n in range(40))
    with pytest.raises(StackError, match=f"services.s31.env_file: {BEYOND}"):
        files(a_yaml=f"services: {{{many}}}")


def test_a_file_that_many_services_extend_is_read_once(files):
    many = ", ".join(f"s{n}: {{extends: {{file: b.yaml, service: base}}}}" for n in range(300))
    tree, _ = files("a.yaml", a_yaml=f"services: {{{many}}}", b_yaml="services: {base: {image: a}}")
    assert tree["services"]["s299"] == {"image": "a"}
