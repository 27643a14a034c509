"""The validity of a certificate, read as ``cryptography`` reads it."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from contextlib import suppress
from datetime import UTC, datetime

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.certificate import Validity, read_validity

KEY = ed25519.Ed25519PrivateKey.generate()
MOMENTS = st.datetimes(min_value=datetime(1950, 1, 1), max_value=datetime(9999, 12, 31)).map(
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
"""Before 2050 a certificate has them as UTCTime, from then on as GeneralizedTime (RFC 5280 §4.1.2.5)."""


def pem(start: datetime, end: datetime, *, name: str = "acme", serial: int = 1) -> str:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(subject, subject, KEY.public_key(), serial, start, end)
    return made.sign(KEY, None).public_bytes(serialization.Encoding.PEM).decode()


@given(MOMENTS, MOMENTS, st.text("abcdefghij", min_size=1, max_size=64), st.integers(1, 2**158))
def test_validity_is_that_of_the_certificate(one: datetime, two: datetime, name: str, serial: int) -> None:
    start, end = sorted((one, two))
    assert read_validity(pem(start, end, name=name, serial=serial)) == Validity(start, end)


def test_first_certificate_of_a_chain_counts() -> None:
    first, second = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)
    text = pem(first, second)
    assert read_validity("Bag Attributes\n" + text.replace("\n", "\r\n") + pem(second, second)) == Validity(
        first, second
    )


def test_rsa_and_elliptic_certificates_are_read() -> None:
    for kind in trustme.KeyType:
        text = trustme.CA(key_type=kind).issue_cert("a@b.example").cert_chain_pems[0].bytes().decode()
        read = x509.load_pem_x509_certificate(text.encode())
        assert read_validity(text) == Validity(read.not_valid_before_utc, read.not_valid_after_utc)


@pytest.mark.parametrize("text", ["", "hunter2", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_text_without_a_certificate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no PEM certificate") as caught:
        read_validity(text)
    assert "hunter2" not in str(caught.value)


@given(st.data())
def test_damaged_certificate_is_read_or_refused(data: st.DataObject) -> None:
    whole = b64decode(re.sub("-.*?-{5}\n", "", pem(datetime(2026, 1, 1), datetime(2027, 1, 1))))
    at = data.draw(st.integers(0, 120))
    damaged = (
        whole[: data.draw(st.integers(0, 150))]
        if data.draw(st.booleans())
        else (whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :])
    )
    text = f"-----BEGIN CERTIFICATE-----\n{b64encode(damaged).decode()}\n-----END CERTIFICATE-----\n"
    with suppress(ValueError):  # nothing else may be raised
        assert isinstance(read_validity(text), Validity)


def test_certificate_that_is_cut_short_is_refused() -> None:
    whole = b64decode(re.sub("-.*?-{5}\n", "", pem(datetime(2026, 1, 1), datetime(2027, 1, 1))))
    for length in range(1, len(whole)):
        text = f"-----BEGIN CERTIFICATE-----\n{b64encode(whole[:length]).decode()}\n-----END CERTIFICATE-----\n"
        with pytest.raises(ValueError, match="cannot be read"):
            read_validity(text)
