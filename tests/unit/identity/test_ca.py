from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet_control.identity import ca

NOW = 1_700_000_000.0
CLUSTER = "cluster0000000000000000001"
ROOT, ROOT_KEY = ca.new_root(CLUSTER, NOW)
SECRET = b"s" * 16


def issued(role="worker", node_id="n1", **options):
    _, csr = ca.new_csr()
    return ca.issue(ROOT, ROOT_KEY, csr, node_id, role, CLUSTER, NOW, **options)


@pytest.mark.parametrize("role", ["worker", "manager"])
def test_a_node_certificate_says_who_and_what(role):
    assert ca.peer(issued(role), ROOT, {}) == ca.Peer("node", "n1", role)
    cert = x509.load_pem_x509_certificate(issued(role))
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"swarm-{role}", "n1"]


def test_a_managers_certificate_has_its_address_and_a_workers_has_not():
    assert ca.addresses(issued("manager", addr="192.168.50.11")) == ["192.168.50.11"]
    assert ca.addresses(issued("worker", addr="192.168.50.11")) == []
    assert ca.addresses(issued("manager")) == []


def test_certificates_begin_an_hour_ago_and_end_in_ninety_days():
    cert = x509.load_pem_x509_certificate(issued())
    assert cert.not_valid_before_utc.timestamp() == NOW - 3600
    assert cert.not_valid_after_utc.timestamp() == NOW + 90 * 86400


@given(st.text(min_size=1, max_size=30))
def test_renewal_is_in_the_second_half_and_steady(node_id):
    cert = CERT
    first = ca.renew_at(cert, node_id)
    assert 0.5 <= (first - NOW) / (90 * 86400) <= 0.8
    assert ca.renew_at(cert, node_id) == first


CERT = issued()


def test_nodes_of_one_age_renew_over_a_month_and_not_all_at_once():
    days = {int(ca.renew_at(CERT, f"n{number}") // 86400) for number in range(200)}
    assert len(days) > 20


def test_the_secret_alone_makes_the_anchor():
    leaf, _ = ca.join_leaf(SECRET, NOW)
    anchors: dict[ca.Role, bytes] = {
        "worker": ca.join_anchor(b"w" * 16, NOW),
        "manager": ca.join_anchor(SECRET, NOW + 5000),
    }
    assert ca.peer(leaf, ROOT, anchors) == ca.Peer("join", "", "manager")
    assert ca.peer(leaf, ROOT, {"worker": anchors["worker"]}) is None


def test_a_joiner_that_writes_a_nodes_name_is_still_a_joiner():
    key = ca._join_key(SECRET)
    anchor = x509.load_pem_x509_certificate(ca.join_anchor(SECRET, NOW))
    real = x509.load_pem_x509_certificate(issued("manager"))
    forged = (
        x509.CertificateBuilder()
        .serial_number(7)
        .not_valid_before(real.not_valid_before_utc)
        .not_valid_after(real.not_valid_after_utc)
        .subject_name(real.subject)
        .public_key(real.public_key())
    )
    honest = ca._pem(forged.issuer_name(anchor.subject).sign(key, hashes.SHA256()))
    lying = ca._pem(forged.issuer_name(real.issuer).sign(key, hashes.SHA256()))
    anchors: dict[ca.Role, bytes] = {"worker": ca._pem(anchor)}
    assert ca.peer(honest, ROOT, anchors) == ca.Peer("join", "", "worker")
    assert ca.peer(lying, ROOT, anchors) is None


def test_another_clusters_certificate_is_nobodys():
    other, other_key = ca.new_root("other", NOW)
    _, csr = ca.new_csr()
    assert ca.peer(ca.issue(other, other_key, csr, "n1", "worker", "other", NOW), ROOT, {}) is None
    stray = ca.issue(ROOT, ROOT_KEY, csr, "n1", "worker", "other", NOW)
    assert ca.peer(stray, ROOT, {}) is None


def test_nothing_but_the_key_is_taken_from_a_request():
    key = ca.load_key(ca.new_csr()[0])
    wish = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "m1")])
    request = x509.CertificateSigningRequestBuilder().subject_name(wish)
    csr = request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    cert = ca.issue(ROOT, ROOT_KEY, csr, "n9", "worker", CLUSTER, NOW, timedelta(days=1))
    assert ca.peer(cert, ROOT, {}) == ca.Peer("node", "n9", "worker")


@pytest.mark.parametrize("csr", [b"", b"nonsense", ROOT])
def test_a_bad_request_is_refused(csr):
    with pytest.raises(ControlError, match="not valid"):
        ca.issue(ROOT, ROOT_KEY, csr, "n1", "worker", CLUSTER, NOW)


def test_a_request_that_its_key_did_not_sign_is_refused():
    der = x509.load_pem_x509_csr(ca.new_csr()[1]).public_bytes(Encoding.DER)
    forged = x509.load_der_x509_csr(der[:-1] + bytes([der[-1] ^ 1])).public_bytes(Encoding.PEM)
    with pytest.raises(ControlError, match="not valid"):
        ca.issue(ROOT, ROOT_KEY, forged, "n1", "worker", CLUSTER, NOW)


def test_the_same_request_makes_the_same_node():
    _, csr = ca.new_csr()
    assert ca.node_id_of(csr) == ca.node_id_of(csr)
    assert ca.node_id_of(csr) != ca.node_id_of(ca.new_csr()[1])
    assert len(ca.node_id_of(csr)) == 25
