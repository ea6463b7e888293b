"""A manager in a file and back: whole, damaged, locked, and where it must not go."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import json
import os
import stat
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from meshnet.errors import MeshnetError
from meshnet_control.api import control_pb2 as pb
from meshnet_control.cluster.hosts import Hosts
from meshnet_control.identity import ca
from meshnet_control.identity import identity as identities
from meshnet_control.identity.identity import Certificates, Identity
from meshnet_control.manager import archive, snapshots
from meshnet_control.manager.archive import ArchiveError
from meshnet_control.manager.authority import own_certificate
from meshnet_control.manager.lead import Lead
from meshnet_control.manager.snapshots import Snapshots
from meshnet_control.store.files import GENERATION, SALVAGED, STORE, STORE_KEY
from meshnet_control.store.sqlite import SqliteStore
from meshnet_control.store.store import Put, StoreError

NOW = 1_795_000_000.0
LOCK = b"L" * 32
ROOT = ca.new_root("c1", time.time())


def identity(now: float = 0.0) -> Identity:
    key, csr = ca.new_csr()
    leaf = ca.issue(*ROOT, csr, "m1", "manager", "c1", now or time.time())
    return Identity("m1", "c1", "manager", Certificates(key, leaf, ROOT[0]), ("h1:2377",))


async def manager(path: Path, lock: bytes = b"") -> SqliteStore:
    """A manager's state directory, its store open."""
    path.mkdir()  # noqa: ASYNC240 - a test
    store = SqliteStore.open(path / STORE, path / STORE_KEY)
    cluster = pb.Cluster(id="c1", unlock_key=lock, ca_certificate=ROOT[0], ca_key=ROOT[1])
    await store.commit([Put(cluster), Put(pb.Secret(id="s", spec={"data": b"open sesame"}))])
    identities.save(path, identity())
    return store


async def secrets_in(path: Path, lock: bytes = b"") -> list[bytes]:
    store = SqliteStore.open(path / STORE, path / STORE_KEY, unlock_key=lock)
    found = [secret.spec.data for secret in await store.list(pb.Secret)]
    await store.close()
    return found


@pytest.mark.parametrize("lock", [b"", LOCK])
@pytest.mark.parametrize("running", [True, False])
async def test_what_is_backed_up_is_there_again_on_another_machine(
    tmp_path: Path, lock: bytes, *, running: bool
) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "file"
    store = await manager(here, lock)
    if not running:
        await store.close()
    made = await archive.backup(file, here, store if running else None, NOW)
    await store.close()
    assert made.locked is bool(lock)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"open sesame" not in file.read_bytes()
    assert {path.name for path in here.iterdir()} == {STORE, STORE_KEY, *archive.IDENTITY}
    assert await in_thread(archive.restore, file, there) == made
    assert await secrets_in(there, lock) == [b"open sesame"]
    assert identities.load(there) == identities.load(here)
    assert {stat.S_IMODE(path.stat().st_mode) for path in there.iterdir()} == {0o600}
    assert not [path for path in there.iterdir() if path.name.startswith(".")]


async def in_thread(work, *arguments, **options):
    """As the command does it: where no event loop runs."""
    return await asyncio.to_thread(work, *arguments, **options)


async def backed_up(tmp_path: Path) -> Path:
    store = await manager(tmp_path / "here")
    await archive.backup(tmp_path / "file", tmp_path / "here", store, NOW)
    await store.close()
    return tmp_path / "file"


@pytest.mark.parametrize("at", [0.0, 0.02, 0.3, 0.6, 0.9])
async def test_a_damaged_file_is_refused_and_nothing_has_changed(tmp_path: Path, at: float) -> None:
    file = await backed_up(tmp_path)
    body = bytearray(file.read_bytes())
    with tarfile.open(file) as tar:
        size = sum(512 + -(-member.size // 512) * 512 for member in tar)
    place = next(n for n in range(int(size * at), size) if body[n])
    body[place] ^= 0x10
    file.write_bytes(body)
    with pytest.raises(ArchiveError, match=r"is damaged|is not a backup|has format"):
        await in_thread(archive.restore, file, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
async def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    file = await backed_up(tmp_path)
    body = file.read_bytes().rstrip(b"\0")
    file.write_bytes(body[: int(len(body) * share)])
    with pytest.raises(ArchiveError, match=r"is damaged|is not a backup"):
        await in_thread(archive.restore, file, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


def test_what_is_no_backup(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n" * 1000)
    with tarfile.open(tmp_path / "tar", "w") as tar:
        tar.add(tmp_path / "text", "text")
    for name, said in (
        ("text", "is damaged"),
        ("tar", "is not a backup of meshnet"),
        ("nowhere", "cannot read .*No such file"),
    ):
        with pytest.raises(ArchiveError, match=said):
            archive.restore(tmp_path / name, tmp_path / "there")


def forged(tmp_path: Path, file: Path, name: str, data: bytes | tarfile.TarInfo) -> Path:
    """A backup with another member, in the manifest too; a TarInfo has no data."""
    manifest = archive.read_manifest(file)
    digests = {**manifest.digests}
    with tarfile.open(file) as old, tarfile.open(tmp_path / "forged", "w") as new:
        held = {m.name: old.extractfile(m).read() for m in old}  # type: ignore[union-attr]
        if isinstance(data, bytes):
            held[name] = data
            digests[name] = hashlib.sha256(data).hexdigest()
        if name != "manifest.json":
            held["manifest.json"] = json.dumps({**vars(manifest), "digests": digests}).encode()
        for each, body in held.items():
            if each == name and isinstance(data, tarfile.TarInfo):
                new.addfile(data, io.BytesIO(bytes(512)))
            else:
                archive._add(new, each, body, NOW)
    return tmp_path / "forged"


def entry(name: str, kind: bytes, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in fields.items():
        setattr(made, field, value)
    return made


HOLES = {"GNU.sparse.map": "0,512", "GNU.sparse.size": str(1 << 26)}


@pytest.mark.parametrize(
    "member",
    [
        entry(STORE, tarfile.SYMTYPE, linkname="/etc/shadow"),
        entry(STORE, tarfile.LNKTYPE, linkname="state.json"),
        entry(STORE, tarfile.FIFOTYPE),
        entry(STORE, tarfile.DIRTYPE),
        entry(STORE, tarfile.REGTYPE, size=512, pax_headers=HOLES),
        entry("manifest.json", tarfile.SYMTYPE, linkname=STORE),
    ],
    ids=["symlink", "link", "fifo", "folder", "holes", "manifest"],
)
async def test_a_member_that_is_no_plain_file_is_refused(
    tmp_path: Path, member: tarfile.TarInfo
) -> None:
    file = forged(tmp_path, await backed_up(tmp_path), member.name, member)
    with pytest.raises(ArchiveError, match=f"{member.name} is not a plain file"):
        await in_thread(archive.restore, file, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize(
    "said",
    [
        b"[" * 60_000,
        b'{"made": "", "node_id": "m1", "cluster_id": "c1", "digests": 5}',
        b'{"made": "", "node_id": 7, "cluster_id": "c1"}',
        b'{"made": "\\u001b[2J", "node_id": "m1", "cluster_id": "c1"}',
        b'{"made": "", "node_id": "m1", "cluster_id": "c1", "digests": {"../store.db": ""}}',
        b"{}",
        b"5",
    ],
)
async def test_a_manifest_that_cannot_be_is_refused(tmp_path: Path, said: bytes) -> None:
    file = forged(tmp_path, await backed_up(tmp_path), "manifest.json", said)
    with pytest.raises(ArchiveError, match="is damaged: its manifest"):
        await in_thread(archive.restore, file, tmp_path / "there")


@pytest.mark.parametrize("said", [b"{", b'{"managers": []}', b"{}", b"[]"])
async def test_an_identity_that_cannot_be_is_refused(tmp_path: Path, said: bytes) -> None:
    file = forged(tmp_path, await backed_up(tmp_path), "state.json", said)
    with pytest.raises(ArchiveError, match="cannot be used"):
        await in_thread(archive.restore, file, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


async def test_a_member_that_was_exchanged_for_another_clusters(tmp_path: Path) -> None:
    file = await backed_up(tmp_path)
    other = SqliteStore.open(tmp_path / STORE, tmp_path / STORE_KEY)
    await other.commit([Put(pb.Cluster(id="c2"))])
    await other.close()
    manifest = archive.read_manifest(file)
    digests = {**manifest.digests}
    with tarfile.open(file) as old, tarfile.open(tmp_path / "forged", "w") as new:
        held = {m.name: old.extractfile(m).read() for m in old}  # type: ignore[union-attr]
        for name in (STORE, STORE_KEY):
            held[name] = (tmp_path / name).read_bytes()
            digests[name] = archive._digest(tmp_path / name)
        held["manifest.json"] = json.dumps({**vars(manifest), "digests": digests}).encode()
        for name, data in held.items():
            archive._add(new, name, data, NOW)
    with pytest.raises(ArchiveError, match="its store is not of cluster c1"):
        await in_thread(archive.restore, tmp_path / "forged", tmp_path / "there")


async def test_a_node_of_a_cluster_is_replaced_only_when_asked(tmp_path: Path) -> None:
    file = await backed_up(tmp_path)
    there = tmp_path / "there"
    await (await manager(there)).close()
    before = (there / STORE).read_bytes()
    with pytest.raises(ArchiveError, match="docker swarm leave --force gives that up, or meshnet"):
        await in_thread(archive.restore, file, there)
    assert (there / STORE).read_bytes() == before
    await in_thread(archive.restore, file, there, replace=True)
    assert (there / f"{STORE}.orphan").read_bytes() == before
    assert await secrets_in(there) == [b"open sesame"]


async def test_what_a_crash_left_half_done_goes(tmp_path: Path) -> None:
    file, there = await backed_up(tmp_path), tmp_path / "there"
    for name in (".restore.ab", "kept"):
        (there / name).mkdir(parents=True)
        (there / name / STORE_KEY).touch()
    for name in (".copy.ab", ".copy.ab.tar", "..copy.ab.tar.cd", f".{STORE_KEY}.ab"):
        (there / name).touch()
    (there / SALVAGED / "data").mkdir(parents=True)
    (there / snapshots.FOLDER).mkdir()
    for name in (".20261126T021709Z.tar.ab", "20261126T021709Z.tar"):
        (there / snapshots.FOLDER / name).touch()
    await in_thread(archive.restore, file, there)
    kept = {STORE, STORE_KEY, GENERATION, *archive.IDENTITY, "kept", snapshots.FOLDER}
    assert {path.name for path in there.iterdir()} == kept
    assert [path.name for path in (there / snapshots.FOLDER).iterdir()] == ["20261126T021709Z.tar"]


async def test_where_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(MeshnetError, match="not a manager"):
        await archive.backup(tmp_path / "file", tmp_path, None, NOW)
    store = await manager(tmp_path / "here")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArchiveError, match="is there already"):
        await archive.backup(tmp_path / "file", tmp_path / "here", store, NOW)
    with pytest.raises(StoreError, match="is locked"):  # another process has it open
        await archive.backup(tmp_path / "other", tmp_path / "here", None, NOW)
    await store.close()
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "other").exists()


async def test_a_lock_that_changes_while_a_backup_is_made_does_not_shut_it(tmp_path: Path) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "file"
    store = await manager(here)
    keys = await store.copy_to(tmp_path / "copy")
    (cluster,) = await store.list(pb.Cluster)
    cluster.unlock_key = LOCK
    await store.commit([Put(cluster)])
    archive.write(file, here, tmp_path / "copy", NOW, key_name="", keys=keys)
    await store.close()
    assert not archive.read_manifest(file).locked
    await in_thread(archive.restore, file, there)
    assert await secrets_in(there) == [b"open sesame"]


async def test_a_backup_on_a_filesystem_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # as FAT says it

    store, file = await manager(tmp_path / "here"), tmp_path / "file"
    monkeypatch.setattr(os, "link", refused)
    await archive.backup(file, tmp_path / "here", store, NOW)
    await store.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert archive.read_manifest(file).node_id == "m1"
    before = file.read_bytes()
    with pytest.raises(ArchiveError, match="is there already"):
        archive.deliver(file, file)
    with pytest.raises(FileExistsError):  # it came while the backup was written
        archive._take_name(tmp_path / "here" / STORE, file)
    assert file.read_bytes() == before
    assert not list(tmp_path.glob(".*"))  # noqa: ASYNC240 - a test


# ---- snapshots ----


async def round_of(made: Snapshots) -> None:
    """One look of the loop."""
    if made._due():
        await made._make()


async def test_snapshots_come_hourly_when_something_changed_and_five_stay(tmp_path: Path) -> None:
    here, now = tmp_path / "here", [NOW]
    store = await manager(here)
    made = Snapshots(store, here, lambda: now[0])
    for hour in range(8):
        now[0] = NOW + hour * 3600
        await round_of(made)
        await store.commit([Put(pb.Node(id=f"n{hour}"))])
        now[0] += 1800
        await round_of(made)  # too early
    times = [at for _, at in snapshots.listed(here)]
    assert times == [NOW + hour * 3600 for hour in (7, 6, 5, 4, 3)]
    now[0] = NOW + 9 * 3600
    await round_of(made)
    now[0] += 7200
    await round_of(made)  # nothing has changed since
    assert snapshots.listed(here)[0][1] == NOW + 9 * 3600
    later = Snapshots(store, here, lambda: NOW + 9 * 3600 + 60)  # a new process
    assert not later._due()
    await store.close()


async def test_a_snapshot_brings_a_damaged_store_back_on_its_own_host(tmp_path: Path) -> None:
    here = tmp_path / "here"
    store = await manager(here)
    await round_of(Snapshots(store, here, lambda: NOW))
    await store.close()
    (here / STORE).write_bytes(b"damaged")
    (file, _), *_ = snapshots.listed(here)
    assert STORE_KEY not in archive.read_manifest(file).digests
    with pytest.raises(ArchiveError, match="is a snapshot, without the keys of its store"):
        await in_thread(archive.restore, file, tmp_path / "elsewhere")
    await in_thread(archive.restore, file, here, replace=True)
    assert await secrets_in(here) == [b"open sesame"]


async def test_when_the_lock_changes_a_new_one_is_made_and_the_others_go(tmp_path: Path) -> None:
    here, now = tmp_path / "here", [NOW]
    store = await manager(here)
    made = Snapshots(store, here, lambda: now[0])
    await round_of(made)
    (cluster,) = await store.list(pb.Cluster)
    cluster.unlock_key = LOCK
    await store.commit([Put(cluster)])
    now[0] += 10
    await round_of(made)
    assert [at for _, at in snapshots.listed(here)] == [NOW + 10]
    await store.close()
    await in_thread(archive.restore, snapshots.listed(here)[0][0], here, replace=True)
    assert await secrets_in(here, LOCK) == [b"open sesame"]


async def test_a_clock_that_went_back_holds_no_snapshot_up_and_loses_none(tmp_path: Path) -> None:
    here, now = tmp_path / "here", [NOW + 10 * 365 * 86400]
    store = await manager(here)
    made = Snapshots(store, here, lambda: now[0])
    for hour in range(7):
        await store.commit([Put(pb.Node(id=f"n{hour}"))])
        await round_of(made)
        now[0] = now[0] + 3600 if hour else NOW  # somebody set it right after the first
    await round_of(made)  # nothing has changed since
    times = [at for _, at in snapshots.listed(here)]
    assert times == [NOW + 10 * 365 * 86400, *(NOW + hour * 3600 for hour in (5, 4, 3, 2, 1))]
    await store.close()


def test_other_files_are_no_snapshots_and_stay(tmp_path: Path) -> None:
    folder = tmp_path / snapshots.FOLDER
    folder.mkdir()
    for name in ("20261126T021709Z.tar", "mine.tar", ".20261126T021709Z.tar.ab", "20261126T02Z"):
        (folder / name).touch()
    assert [path.name for path, _ in snapshots.listed(tmp_path)] == ["20261126T021709Z.tar"]


# ---- a certificate that ran out meanwhile ----


def test_a_manager_with_an_old_certificate_issues_itself_a_new_one() -> None:
    cluster = pb.Cluster(id="c1", ca_certificate=ROOT[0], ca_key=ROOT[1])
    old, now = identity(), time.time() + 91 * 86400
    assert own_certificate(old, cluster, time.time()) is old
    fresh = own_certificate(old, cluster, now)
    assert ca.in_force(fresh.certs.certificate, now)
    assert not ca.in_force(old.certs.certificate, now)
    back = own_certificate(fresh, cluster, time.time())  # the clock is set right again
    assert ca.in_force(back.certs.certificate, time.time())
    who = ca.peer(fresh.certs.certificate, ROOT[0], {}, "c1")
    assert who == ca.Peer("node", "m1", "manager")
    assert fresh.certs.key != old.certs.key


async def test_a_certificate_is_offered_until_the_node_has_a_good_one_and_never_after(
    tmp_path: Path,
) -> None:
    own, ended = identity(), identity(time.time() - 91 * 86400).certs
    lead = Lead(own, tmp_path, tmp_path, lambda work, _: asyncio.ensure_future(work))
    told = lead.changed
    lead.hear(ended, Hosts())
    assert lead.issued == own.certs
    assert told.is_set()
    lead.hear(own.certs, Hosts())  # it has taken it
    assert lead.issued is None
    renewed = identity().certs
    lead.hear(renewed, Hosts())
    assert lead.issued is None
    lead.hear(ended, Hosts())  # it died before it had saved any
    assert lead.issued == renewed


def test_a_certificate_of_an_earlier_version_is_replaced_by_one_with_the_address() -> None:
    cluster = pb.Cluster(id="c1", ca_certificate=ROOT[0], ca_key=ROOT[1])
    old = replace(identity(), advertise_addr="192.168.50.11:2377")
    fresh = own_certificate(old, cluster, time.time())
    assert ca.addresses(fresh.certs.certificate) == ["192.168.50.11"]
    assert own_certificate(fresh, cluster, time.time()) is fresh
