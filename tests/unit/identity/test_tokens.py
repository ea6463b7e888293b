import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from meshnet.errors import ControlError
from meshnet_control.identity import ca, tokens

ROOT, _ = ca.new_root("cluster", 1_700_000_000)


@given(st.binary(min_size=16, max_size=16))
def test_what_is_made_is_read_back(secret):
    text = tokens.join_token(ROOT, secret)
    der = x509.load_pem_x509_certificate(ROOT).public_bytes(Encoding.DER)
    assert tokens.parse(text) == tokens.Token(hashlib.sha256(der).digest(), secret)
    assert [len(part) for part in text.split("-")] == [6, 1, 50, 25]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SWMTKN-1-5sdafa23f430agf4290fj4wa",
        "SWMTKN-1-" + "0" * 50,
        "SWMTKN-2-" + "0" * 50 + "-" + "0" * 25,
        "SWMTKN-1-" + "0" * 49 + "-" + "0" * 25,
        "SWMTKN-1-" + "A" * 50 + "-" + "0" * 25,
        "SWMTKN-1-" + "z" * 50 + "-" + "0" * 25,
        "SWMTKN-1-" + "0" * 50 + "-" + "z" * 25,
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ControlError, match=r"^invalid join token$") as refused:
        tokens.parse(text)
    assert refused.value.status == 500, "as the engine has it"


def test_a_secret_has_sixteen_bytes():
    with pytest.raises(ValueError, match="16 bytes"):
        tokens.new_secret(b"short")


def test_the_secret_is_not_printed():
    assert "secret" not in repr(tokens.parse(tokens.join_token(ROOT, b"secretsecretsecr")))
