"""The key derivation against RFC 5869 and against another implementation."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.secret import SecretBytes
from go_services_envelope.keys import COMMIT, ENCRYPT, derive


def test_vector_without_salt_and_info() -> None:
    """RFC 5869 A.3: the first block of its output."""
    (made,) = derive(SecretBytes(b"\x0b" * 22), b"")
    assert made.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


@given(st.binary(min_size=1, max_size=80), st.lists(st.binary(max_size=31), max_size=3))
def test_every_label_gives_what_hkdf_gives(key: bytes, labels: list[bytes]) -> None:
    assert derive(SecretBytes(key), *labels) == [HKDF(SHA256(), 32, None, label).derive(key) for label in labels]


def test_labels_fit_into_the_derivation() -> None:
    assert max(len(ENCRYPT), len(COMMIT)) <= 31
    assert ENCRYPT != COMMIT
