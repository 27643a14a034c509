"""Deliveries whose sender a certificate in TLS names."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from go_services_auth_jwt.webhook_mtls import MtlsVerifier
from go_services_core.http import InboundRequest
from go_services_core.protocols import Rejected, Verified
from go_services_core.testing.checks.webhook import WebhookSubject
from go_services_core.testing.pytest_kit import WebhookKit
from go_services_core.webhook_specs import MtlsWebhook

from .keys import NOW, material
from .webhook_verdicts import driven, reason


def client_certificate(
    name: str = "hooks.partner.example", *, dns: Sequence[str] = (), uris: Sequence[str] = (), days: int = 30
) -> bytes:
    key, subject = material("ES256"), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=days))
    names = [*map(x509.DNSName, dns), *map(x509.UniformResourceIdentifier, uris)]
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


PARTNER = client_certificate(dns=["hooks.partner.example"], uris=["spiffe://partner.example/hooks"])


def over_tls(der: bytes | None) -> InboundRequest:
    return InboundRequest("POST", "/hooks", (("X-Id", "1"),), b"{}", der)


class TestMtls(WebhookKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[WebhookSubject]:
        yield WebhookSubject(
            verifier=MtlsVerifier,
            record=MtlsWebhook(dns_names="hooks.partner.example", id_header="X-Id"),
            send=lambda body, at, secret: InboundRequest("POST", "/hooks", (("X-Id", "1"),), body, PARTNER),
            covers_body=False,
            timed=False,
            keyed=False,
            needs=("X-Id",),
        )


@pytest.mark.parametrize(
    "record",
    [
        MtlsWebhook(id_header="X-Id", subjects="hooks.partner.example"),
        MtlsWebhook(id_header="X-Id", dns_names=("other.example", "HOOKS.partner.example")),
        MtlsWebhook(id_header="X-Id", uris="spiffe://partner.example/hooks"),
        MtlsWebhook(id_header="X-Id", fingerprints=hashlib.sha256(PARTNER).hexdigest().upper()),
        MtlsWebhook(
            id_header="X-Id", fingerprints=hashlib.sha256(PARTNER).digest().hex(":"), subjects="hooks.partner.example"
        ),
    ],
)
def test_the_senders_identity_is_any_that_the_record_names(record: MtlsWebhook) -> None:
    assert isinstance(driven(MtlsVerifier(record), over_tls(PARTNER)), Verified)
    other = client_certificate("other.partner.example", dns=["x.partner.example"])
    for der in (None, b"", b"\x30\x00", other, PARTNER[:-1], PARTNER + b"\0"):
        assert isinstance(driven(MtlsVerifier(record), over_tls(der)), Rejected)


def test_the_channel_that_is_claimed_is_read_from_its_header() -> None:
    check = MtlsVerifier(MtlsWebhook(dns_names="hooks.partner.example", id_header="X-Id", channel_header="X-Channel"))
    assert check.channel(over_tls(PARTNER)) is None
    assert check.channel(evolve(over_tls(PARTNER), headers=(("X-Channel", "c1"),))) == "c1"


def test_name_and_fingerprint_must_both_fit() -> None:
    record = MtlsWebhook(id_header="X-Id", subjects="other", fingerprints=hashlib.sha256(PARTNER).hexdigest())
    assert "somebody else" in reason(driven(MtlsVerifier(record), over_tls(PARTNER)))


def test_a_certificate_outside_its_time_is_rejected() -> None:
    verifier = MtlsVerifier(MtlsWebhook(id_header="X-Id", subjects="hooks.partner.example"))
    for moment in (NOW + timedelta(days=31), NOW - timedelta(days=2)):
        assert "not valid now" in reason(driven(verifier, over_tls(PARTNER), now=moment))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_certificate_makes_the_scheme_raise(der: bytes) -> None:
    verifier = MtlsVerifier(MtlsWebhook(id_header="X-Id", subjects="hooks.partner.example"))
    for presented in (der, PARTNER[:40] + der, PARTNER[: len(PARTNER) // 2] + der + PARTNER[len(PARTNER) // 2 :]):
        if presented != PARTNER:
            assert isinstance(driven(verifier, over_tls(presented)), Rejected)


@pytest.mark.parametrize("change", [{}, {"fingerprints": "ab"}, {"fingerprints": "zz" * 32}])
def test_an_mtls_record_that_names_nobody_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="MtlsWebhook"):
        MtlsVerifier(MtlsWebhook(id_header="X-Id", **change))
