import stat
from dataclasses import replace

import pytest

from meshnet_control.identity import ca, identity

ROOT, ROOT_KEY = ca.new_root("c", 1_700_000_000)
KEY, CSR = ca.new_csr()
LEAF = ca.issue(ROOT, ROOT_KEY, CSR, "n1", "worker", "c", 1_700_000_000)
IDENTITY = identity.Identity(
    node_id="n1",
    cluster_id="c",
    role="worker",
    certs=identity.Certificates(KEY, LEAF, ROOT),
    managers=("192.168.33.10:2377", "192.168.33.11:2377"),
    advertise_addr="192.168.33.12:2377",
    data_path_port=4789,
    gossip_key=b"betrayed" * 4,
)


def test_what_is_saved_is_loaded(tmp_path):
    assert identity.load(tmp_path) is None
    identity.save(tmp_path / "state", IDENTITY)
    assert identity.load(tmp_path / "state") == IDENTITY
    newer = replace(IDENTITY, role="manager", managers=())
    identity.save(tmp_path / "state", newer)
    assert identity.load(tmp_path / "state") == newer


def test_a_manager_finds_its_own_one_whatever_it_advertises():
    worker = replace(IDENTITY, advertise_addr="203.0.113.7:2378", listen_addr="0.0.0.0:12345")
    manager = replace(worker, role="manager")
    assert worker.way_to("203.0.113.7:2378") == "203.0.113.7:2378"
    assert manager.way_to("203.0.113.7:2378") == "127.0.0.1:12345"
    assert manager.way_to("192.168.33.10:2377") == "192.168.33.10:2377"
    bound = replace(manager, listen_addr="192.168.33.12:2377")
    assert bound.way_to("203.0.113.7:2378") == "192.168.33.12:2377"


def test_files_are_for_root_alone(tmp_path):
    identity.save(tmp_path, IDENTITY)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    names = ("ca.crt", "gossip.key", "node.pem", "state.json")
    assert modes == dict.fromkeys(names, 0o600)
    betrayed = [path.name for path in tmp_path.iterdir() if b"betrayed" in path.read_bytes()]
    assert betrayed == ["gossip.key"]


def test_a_state_of_before_has_no_key_for_gossip(tmp_path):
    identity.save(tmp_path, IDENTITY)
    (tmp_path / "gossip.key").unlink()
    assert identity.load(tmp_path) == replace(IDENTITY, gossip_key=b"")


@pytest.mark.parametrize("found", [b"", b"betrayed", b"betrayed" * 5])
def test_a_damaged_key_for_gossip_is_none(tmp_path, found):
    identity.save(tmp_path, IDENTITY)
    (tmp_path / "gossip.key").write_bytes(found)
    assert identity.load(tmp_path) == replace(IDENTITY, gossip_key=b"")


def test_nothing_is_left_after_leaving(tmp_path):
    identity.save(tmp_path, IDENTITY)
    (tmp_path / "store.db").touch()
    identity.wipe(tmp_path)
    identity.wipe(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]
    assert identity.load(tmp_path) is None


def test_the_key_is_not_printed():
    assert "PRIVATE" not in repr(IDENTITY)
    assert "betrayed" not in repr(IDENTITY)
