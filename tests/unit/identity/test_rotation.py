"""From one root to another: what is asked for, what is trusted meanwhile, when it is over."""

from __future__ import annotations

import random
import time

import pytest
import roots

from meshnet_control.api import control_pb2 as pb
from meshnet_control.identity import ca, rotation, tokens

NOW = time.time()
CLUSTER = "cluster0000000000000000001"
ROOT = ca.new_root(CLUSTER, NOW)


def cluster() -> pb.Cluster:
    found = pb.Cluster(id=CLUSTER, ca_certificate=ROOT[0], ca_key=ROOT[1])
    for role in ("worker", "manager"):
        setattr(found.join_tokens, role, tokens.join_token(ROOT[0], role.encode().ljust(16)))
    return found


def leaf(found: pb.Cluster) -> bytes:
    """A certificate as the cluster issues it now."""
    root, key, crossed = rotation.signer(found)
    return ca.issue(root, key, ca.new_csr()[1], "n1", "worker", CLUSTER, NOW) + crossed


def node(certificate: bytes, trusts: bytes) -> pb.Node:
    info = ca.tls_info_of(certificate, trusts)
    return pb.Node(id="n1", description=pb.NodeDescription(tls_info=info))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"is_ca": False}, "not that of a CA"),
        ({"is_ca": None}, "not that of a CA"),
        ({"days": 364}, "CA certificate expires too soon"),
        ({"kind": "short RSA"}, "has a key that cannot be used: P-256, P-384, or RSA of at least"),
        ({"kind": "P-521"}, "has a key that cannot be used"),
        ({"kind": "Ed25519"}, "has a key that cannot be used"),
        ({"signer": ca.load_key(ROOT[1])}, "is not a root: another CA signed it"),
    ],
)
def test_what_cannot_be_a_root(options, said):
    certificate, key = roots.made(**options)
    with pytest.raises(rotation.RootError, match=said):
        rotation.brought(certificate.decode(), key.decode(), NOW)


def test_what_is_no_pair():
    (one, key), (other, _) = roots.made(), roots.made("RSA")
    for certificate, given, said in (
        ("", key, "the signing CA cert must also be provided"),
        ("x", key, "could not parse the desired CA certificate"),
        ((one + other).decode(), key, "cannot contain multiple certificates"),
        (one.decode(), b"x", "could not parse the desired CA key"),
        (other.decode(), key, "does not belong to the desired CA certificate"),
    ):
        with pytest.raises(rotation.RootError, match=said):
            rotation.brought(certificate, given.decode(), NOW)


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
def test_who_trusts_the_root_before_trusts_what_the_new_one_signs(kind):
    found = cluster()
    before = leaf(found)
    certificate, key = roots.made(kind)
    given = rotation.brought(certificate.decode(), key.decode(), NOW)
    rotation.begin(found, *given)
    assert found.root_rotation_in_progress
    assert found.tls_info == ca.tls_info(ROOT[0], given[0])
    after = leaf(found)
    for certificate in (before, after):
        for trusted in (ROOT[0], rotation.trusted(found)):
            assert ca.peer(certificate, trusted, {}, CLUSTER) == ca.Peer("node", "n1", "worker")
    assert ca.peer(after, given[0], {}, CLUSTER) is not None
    assert ca.peer(before, given[0], {}, CLUSTER) is None
    assert ca.tls_info_of(after, ROOT[0]) == found.tls_info


def test_it_is_over_when_every_node_has_a_certificate_of_it():
    found = cluster()
    old = node(leaf(found), ROOT[0])
    rotation.begin(found, *ca.new_root(CLUSTER, NOW))
    new = node(leaf(found), ROOT[0])
    assert not rotation.finished(found, [new, old])
    assert not rotation.finished(found, [new, pb.Node(id="says nothing")])
    assert rotation.finished(found, [new])
    wanted = found.root_rotation.ca_certificate
    rotation.finish(found, random.Random(1))
    assert (found.ca_certificate, rotation.trusted(found)) == (wanted, wanted)
    assert not found.root_rotation_in_progress
    assert tokens.parse(found.join_tokens.worker).digest == tokens.digest_of(wanted)
    assert ca.peer(leaf(found), ROOT[0], {}, CLUSTER) is not None  # who has not been told yet


def test_an_abandoned_root_is_trusted_until_the_end():
    found = cluster()
    rotation.begin(found, *ca.new_root(CLUSTER, NOW))
    between = leaf(found)
    rotation.begin(found, *ca.new_root(CLUSTER, NOW))
    assert ca.peer(between.split(b"-----END")[0] + b"-----END CERTIFICATE-----\n",
                   rotation.trusted(found), {}, CLUSTER) is not None  # fmt: skip
    assert not rotation.finished(found, [node(between, ROOT[0])])
    rotation.begin(found, *ROOT)
    assert len(found.root_rotation.abandoned) == 2
    assert rotation.finished(found, [node(leaf(cluster()), ROOT[0])])
    tokens_before = found.join_tokens.worker
    rotation.finish(found, random.Random(1))
    assert (found.ca_certificate, found.join_tokens.worker) == (ROOT[0], tokens_before)
    assert rotation.trusted(found) == ROOT[0]


def test_roots_that_are_abandoned_are_kept_once_and_not_without_bound():
    found = cluster()
    pairs = [ca.new_root(CLUSTER, NOW) for _ in range(rotation.MOST_ABANDONED + 1)]
    for pair in (*pairs[:2], *pairs[:2], ROOT, pairs[0], ROOT, pairs[1]):
        rotation.begin(found, *pair)
    assert list(found.root_rotation.abandoned) == [pairs[0][0]]
    for pair in pairs[2:]:
        rotation.begin(found, *pair)
    assert len(found.root_rotation.abandoned) == rotation.MOST_ABANDONED
    before = pb.Cluster.FromString(found.SerializeToString())
    with pytest.raises(rotation.RootError, match="was rotated 9 times while nodes still have"):
        rotation.begin(found, *ca.new_root(CLUSTER, NOW))
    assert found == before
    rotation.begin(found, *pairs[3])  # one of them again
    rotation.begin(found, *ROOT)  # back
    assert set(found.root_rotation.abandoned) == {pem for pem, _ in pairs}
    with pytest.raises(rotation.RootError):
        rotation.begin(found, *ca.new_root(CLUSTER, NOW))


def test_the_present_root_again_is_no_rotation():
    found = cluster()
    rotation.begin(found, *ROOT)
    assert not found.HasField("root_rotation")


def test_a_certificate_of_a_node_crosses_nothing():
    """A node's own certificate signs no other one, whatever it is put behind."""
    key, csr = ca.new_csr()
    own = ca.issue(*ROOT, csr, "n1", "worker", CLUSTER, NOW)
    forged = ca.issue(own, key, ca.new_csr()[1], "m1", "manager", CLUSTER, NOW)
    assert ca.peer(forged + own, ROOT[0], {}, CLUSTER) is None


def test_names_that_cannot_be_told_apart_are_refused():
    found = cluster()
    first, second = roots.made("P-256", "one name"), roots.made("P-256", "one name")
    rotation.begin(found, *first)
    with pytest.raises(rotation.RootError, match="make it with another subject"):
        rotation.begin(found, *second)


def test_a_root_that_may_sign_no_other_is_said():
    found = cluster()
    rotation.begin(found, *roots.made("P-256", path_length=0))
    rotation.finish(found, random.Random(1))
    with pytest.raises(rotation.RootError, match="may not sign another one"):
        rotation.begin(found, *ca.new_root(CLUSTER, NOW))
