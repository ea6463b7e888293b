import stat
from dataclasses import replace

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
)


def test_what_is_saved_is_loaded(tmp_path):
    assert identity.load(tmp_path) is None
    identity.save(tmp_path / "state", IDENTITY)
    assert identity.load(tmp_path / "state") == IDENTITY
    newer = replace(IDENTITY, role="manager", managers=())
    identity.save(tmp_path / "state", newer)
    assert identity.load(tmp_path / "state") == newer


def test_files_are_for_root_alone(tmp_path):
    identity.save(tmp_path, IDENTITY)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("ca.crt", "node.pem", "state.json"), 0o600)


def test_nothing_is_left_after_leaving(tmp_path):
    identity.save(tmp_path, IDENTITY)
    (tmp_path / "store.db").touch()
    identity.wipe(tmp_path)
    identity.wipe(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]
    assert identity.load(tmp_path) is None


def test_the_key_is_not_printed():
    assert "PRIVATE" not in repr(IDENTITY)
