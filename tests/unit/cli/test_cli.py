"""What the meshnet command says, and with which exit status."""

from __future__ import annotations

import io
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from rich.console import Console

from meshnet_control.api import control_pb2, control_pb2_grpc
from meshnet_control.cli import main
from meshnet_control.cli.host import status_tables
from meshnet_control.dashboard.token import DASHBOARD
from meshnet_control.host import processes, starting, stopping
from meshnet_control.served.address import METRICS
from meshnet_control.store.store import NO_LEADER


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["meshnet", *arguments])
    with pytest.raises(SystemExit) as end:
        main.main()
    return int(end.value.code or 0)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """
    Name: host; Scope: function; Depends: tmp_path.

    A host with directories of its own and without an engine; root as far as Python can tell.
    """
    monkeypatch.setenv("MESHNET_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("MESHNET_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("MESHNET_ENGINE", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ("up",),
        ("down",),
        ("restart",),
        ("status",),
        ("lab", "up"),
        ("lab", "down"),
        ("lab", "exec", "h1", "id"),
    ],
)
def test_an_ordinary_user_is_told_to_be_root(monkeypatch, capsys, command):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(monkeypatch, *command) == 1
    said = capsys.readouterr().err
    assert said.startswith("meshnet: must be run as root")
    assert said.count("\n") == 1


def test_up_without_an_engine_speaks_dockers_words(monkeypatch, capsys, host):
    assert run(monkeypatch, "up") == 1
    assert capsys.readouterr().err == (
        f"meshnet: Cannot connect to the Docker daemon at unix://{host}/docker.sock."
        " Is the docker daemon running?\n"
    )
    assert not (host / "run").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("9700", "metrics: http://127.0.0.1:9700/metrics\n"),
        (
            "192.0.2.1:9700",
            "metrics: http://192.0.2.1:9700/metrics\n"
            "this host does not have 192.0.2.1 now: they are served once it has\n",
        ),
        ("off", ""),
    ],
)
def test_where_metrics_are_to_be_served_is_said_and_kept(monkeypatch, capsys, host, asked, said):
    assert run(monkeypatch, "up", "--no-context", "--metrics", asked) == 1  # there is no engine
    assert capsys.readouterr().err.partition("meshnet: Cannot connect")[0] == said
    assert bool(said) == (host / "state" / METRICS.file).exists()


def test_metrics_at_no_address_are_refused(monkeypatch, capsys, host):
    assert run(monkeypatch, "up", "--metrics", "everywhere") == 1
    assert capsys.readouterr().err == (
        "meshnet: 'everywhere' is no place to serve metrics at: give a port, or an IP address of "
        "this host and a port, such as 9700 or 192.0.2.1:9700\n"
    )
    assert not (host / "state").exists()


def test_status_without_meshnetd_says_so(monkeypatch, capsys, host):
    assert run(monkeypatch, "status") == 1
    assert capsys.readouterr().err == (
        f"meshnet: no meshnetd answers on {host}/run/admin.sock (meshnet up starts it)\n"
    )


def test_env_prints_what_a_shell_evaluates(monkeypatch, capsys, host):
    monkeypatch.setattr("sys.argv", ["meshnet", "env"])
    main.main()
    assert capsys.readouterr().out == f"export DOCKER_HOST=unix://{host}/run/docker.sock\n"


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        (("service", "ls"), ["docker", "service", "ls"]),
        (("node", "--help"), ["docker", "node", "--help"]),
        (("docker", "--version"), ["docker", "--version"]),
        (("docker", "run", "-it", "x", "--", "y"), ["docker", "run", "-it", "x", "--", "y"]),
    ],
)
def test_dockers_commands_are_passed_through(monkeypatch, host, typed, wanted):
    seen: dict[str, object] = {}

    def execvpe(program, argv, environ):
        seen.update(program=program, argv=argv, host=environ["DOCKER_HOST"])

    monkeypatch.setattr(os, "execvpe", execvpe)
    monkeypatch.setattr("sys.argv", ["meshnet", *typed])
    main.main()
    assert seen == {"program": "docker", "argv": wanted, "host": f"unix://{host}/run/docker.sock"}


def test_a_process_id_that_is_something_else_by_now_counts_for_nothing(host):
    processes.run_dir().mkdir()
    (processes.run_dir() / "meshnetd.pid").write_text(f"{os.getpid()}\n")
    with socket.socket(socket.AF_UNIX) as served:
        served.bind(str(processes.run_dir() / "docker.sock"))
        served.listen()
        assert not processes.serving()


def test_status_is_readable():
    reply = control_pb2.StatusReply(
        version="0.1.0",
        node_id="n1",
        hostname="h1",
        role="manager",
        addr="192.168.50.11",
        networks=["ingress", "discovery"],
        tasks=4,
        peers=[
            control_pb2.PeerStatus(hostname="h2", addr="192.168.50.12", state="alive"),
            control_pb2.PeerStatus(hostname="h3", addr="192.168.50.13", state="dead"),
        ],
        reconcilers=[
            control_pb2.ReconcilerStatus(name="overlay", revision=7, last_round=90.0, rounds=3),
            control_pb2.ReconcilerStatus(name="lb", error="Operation not permitted"),
        ],
        drops={"gossip: datagram too short": 3},
        happened=[control_pb2.Happened(at=95.0, what="h2 is back", times=2)],
    )
    text = io.StringIO()
    console = Console(file=text, width=200)
    ends = {"meshnetd": "killed by SIGSEGV 12 s ago, 1 in all"}
    counted = {"queries": 7, "forwarded": 2, "dropped": {"too many forwarded": 1}}
    for table in status_tables(reply, 100.0, ends, counted):
        console.print(table)
    shown = text.getvalue()
    rows = [line.split() for line in shown.splitlines()]
    assert ["peers", "alive", "1", "of", "2"] in rows
    assert ["networks", "ingress,", "discovery"] in rows
    assert "last end of meshnetd  killed by SIGSEGV 12 s ago, 1 in all" in shown
    assert "7 asked, 2 forwarded, 1 too many forwarded" in shown
    assert ["overlay", "7", "10", "s", "ago", "0", "3"] in rows
    assert ["lb", "0", "never", "0", "0", "Operation", "not", "permitted"] in rows
    assert ["gossip:", "datagram", "too", "short", "3"] in rows
    assert ["h2", "is", "back", "5", "s", "ago", "2"] in rows


@pytest.mark.parametrize(
    ("etcd", "shown"),
    [
        (
            {"part": "follower", "voters": 3, "database_bytes": 20_000_000, "used_bytes": 900_000},
            "follower of 3, 41 MB, database 20.0 MB, 0.9 MB of it used",
        ),
        ({}, "knows no leader, 41 MB, database 0.0 MB, 0.0 MB of it used"),
        ({"error": NO_LEADER}, f"{NO_LEADER} (41 MB)"),
        (None, ""),
    ],
)
def test_status_of_a_manager_says_what_its_etcd_is_and_takes(etcd, shown):
    reply = control_pb2.StatusReply(role="manager")
    reply.manager.sessions, reply.manager.revision = 1, 42
    if etcd is not None:
        reply.manager.etcd.CopyFrom(control_pb2.EtcdStatus(memory_bytes=41_000_000, **etcd))
    text = io.StringIO()
    console = Console(file=text, width=300)
    for table in status_tables(reply, 100.0, {}, {}):
        console.print(table)
    rows = [line.strip() for line in text.getvalue().splitlines()]
    assert any(row.startswith("manager") and "1 node connected, revision 42" in row for row in rows)
    found = [row.removeprefix("etcd").strip() for row in rows if row.startswith("etcd")]
    assert found == ([shown] if shown else [])


@pytest.fixture
def docker(host, monkeypatch):
    """
    Name: docker; Scope: function; Depends: host.

    A docker CLI that has contexts, as files; and a host on which nothing runs.
    """
    (host / "bin").mkdir()
    (host / "contexts").mkdir()
    program = host / "bin" / "docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("CONTEXTS", str(host / "contexts"))
    monkeypatch.setenv("PATH", f"{host / 'bin'}:/usr/bin:/bin")
    return host / "contexts" / "meshnet"


DOCKER = """#!/bin/sh
at=$CONTEXTS/$3
case "$1 $2" in
  "context inspect") cat "$at" ;;
  "context create") [ ! -e "$at" ] && echo "${5#host=}" > "$at" ;;
  "context update") [ -e "$at" ] && echo "${5#host=}" > "$at" ;;
  "context rm") rm "$CONTEXTS/$4" ;;
esac
"""


def test_the_context_is_there_even_if_meshnetd_does_not_start(monkeypatch, host, docker):
    monkeypatch.setattr(processes, "need_engine", lambda: None)
    monkeypatch.setattr(starting, "command", lambda _: ["/bin/false"])
    assert run(monkeypatch, "up") == 1
    assert docker.read_text() == f"unix://{host}/run/docker.sock\n"


def test_a_context_that_leads_elsewhere_is_set_right_by_up_and_left_alone_by_down(
    monkeypatch, host, docker
):
    docker.write_text("unix:///somewhere/else\n")
    monkeypatch.setattr(processes, "stop", list)
    monkeypatch.setattr("sys.argv", ["meshnet", "down"])
    main.main()
    assert docker.exists()
    monkeypatch.setattr(processes, "serving", lambda: True)
    monkeypatch.setattr("sys.argv", ["meshnet", "up"])
    main.main()
    assert docker.read_text() == f"unix://{host}/run/docker.sock\n"


def test_down_removes_the_context_even_if_something_cannot_be_removed(monkeypatch, host, docker):
    docker.write_text(f"unix://{host}/run/docker.sock\n")
    processes.run_dir().mkdir()
    (processes.run_dir() / "admin.sock").touch()
    monkeypatch.setattr(stopping, "command", lambda _: ["/bin/false"])
    assert run(monkeypatch, "down") == 1
    assert not docker.exists()
    assert not processes.run_dir().exists()


class _Confined(control_pb2_grpc.AdminServicer):
    """Backs up, as under systemd: only the state directory can be written."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def Backup(self, request, context):  # noqa: N802 - the service's name
        """A file of one word."""
        path = Path(request.path)
        if path.parent != self._state_dir:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "Read-only file system")
        path.write_text("backup")
        path.chmod(0o600)
        return control_pb2.BackupReply(cluster_id="c1")


@pytest.fixture
def confined(host):
    """
    Name: confined; Scope: function; Depends: host.

    A meshnetd whose manager may write to its state directory alone; the host's directory.
    """
    (host / "run").mkdir()
    (host / "state").mkdir()
    server = grpc.server(ThreadPoolExecutor(1))
    control_pb2_grpc.add_AdminServicer_to_server(
        _Confined(host / "state"),
        server,  # type: ignore[arg-type] # the stubs know asyncio's alone
    )
    server.add_insecure_port(f"unix://{host}/run/admin.sock")
    server.start()
    yield host
    server.stop(None).wait()


def test_a_backup_lands_where_the_manager_itself_may_not_write(monkeypatch, capsys, confined):
    file = confined / "home" / "manager.tar"
    file.parent.mkdir()
    monkeypatch.chdir(file.parent)
    monkeypatch.setattr("sys.argv", ["meshnet", "backup", "manager.tar"])
    main.main()
    assert capsys.readouterr().out == f"cluster c1 is backed up in {file}\n"
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("backup", 0o600)
    assert list(file.parent.iterdir()) == [file]
    assert list((confined / "state").iterdir()) == []


def test_a_backup_that_cannot_have_its_name_leaves_nothing(monkeypatch, capsys, confined):
    taken = confined / "manager.tar"
    taken.write_text("mine")
    assert run(monkeypatch, "backup", str(taken)) == 1
    assert "is there already: name another file" in capsys.readouterr().err
    assert run(monkeypatch, "backup", str(confined / "nowhere" / "manager.tar")) == 1
    assert f"there is no directory {confined / 'nowhere'}\n" in capsys.readouterr().err
    assert taken.read_text() == "mine"
    assert list((confined / "state").iterdir()) == []


@pytest.mark.parametrize("name", ["meshnetd", "meshnet-manager", "meshnet-supervisor"])
def test_nothing_is_restored_under_what_runs_though_it_does_not_serve(
    monkeypatch, capsys, host, name
):
    (host / "run").mkdir()
    with subprocess.Popen([name, "60"], executable="/usr/bin/sleep") as starting:
        (host / "run" / f"{name}.pid").write_text(f"{starting.pid}\n")
        assert run(monkeypatch, "restore", str(host / "file")) == 1
        starting.kill()
    assert "meshnet runs on this host: meshnet down, then restore" in capsys.readouterr().err
    assert run(monkeypatch, "restore", str(host / "file")) == 1
    assert "No such file or directory" in capsys.readouterr().err


def typed(*words: str) -> None:
    main.meshnet.main(words, standalone_mode=False)


def test_the_dashboard_is_for_this_host_until_another_address_is_asked_for(capsys, host):
    typed("dashboard")
    assert capsys.readouterr().out.startswith("dashboard: http://127.0.0.1:9000/?token=")
    assert DASHBOARD.kept(host / "state") == "127.0.0.1:9000"
    typed("dashboard", "127.0.0.2:9001")
    typed("dashboard")
    shown = capsys.readouterr().out
    one, two = shown.splitlines()
    assert one == two
    assert one.startswith("dashboard: http://127.0.0.2:9001/?token=")
    typed("dashboard", "off")
    assert capsys.readouterr().out == "dashboard: off\n"
    assert DASHBOARD.kept(host / "state") == ""


def test_strangers_get_a_token_that_stays_until_another_one_is_wanted(capsys, host):
    seen = []
    for words in (["0.0.0.0:9000"], [], ["--new-token"]):
        typed("dashboard", *words)
        seen.append(capsys.readouterr().out)
    assert seen[0].startswith("dashboard: http://0.0.0.0:9000/?token=")
    assert seen[0] == seen[1] != seen[2]


def test_up_keeps_where_the_dashboard_is(monkeypatch, capsys, host):
    assert run(monkeypatch, "up", "--no-context", "--dashboard", "9005") == 1  # there is no engine
    assert capsys.readouterr().err.startswith("dashboard: http://127.0.0.1:9005/?token=")
    assert DASHBOARD.kept(host / "state") == "127.0.0.1:9005"
    assert run(monkeypatch, "up", "--dashboard", "everywhere") == 1
    assert "is no place to serve the dashboard at" in capsys.readouterr().err
