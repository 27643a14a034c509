"""Deliveries whose sender is known by the certificate that it presented in TLS (RFC 5280)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from go_services_core.http import InboundRequest
from go_services_core.protocols import FlowStep, Rejected, Verdict
from go_services_core.secret import SecretStr
from go_services_core.webhook_specs import MtlsWebhook
from go_services_core.webhooks import reading

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MOST: Final = 65_536
"""Bytes of a certificate; a longer one is not read."""


class MtlsVerifier:
    """Compares the sender's certificate with a :class:`MtlsWebhook` record.

    That an authority which is trusted for clients issued it is the TLS server's to check; nothing here does.
    """

    def __init__(self, record: MtlsWebhook) -> None:
        reading.check_fields(record)
        self._fingerprints = {text.replace(":", "").lower() for text in record.fingerprints}
        self._dns_names = {name.lower() for name in record.dns_names}
        if not all(map(_SHA256.fullmatch, self._fingerprints)):
            raise ValueError("MtlsWebhook.fingerprints are SHA-256 in hex, 64 digits each")
        if not (record.subjects or record.dns_names or record.uris or self._fingerprints):
            raise ValueError("MtlsWebhook needs subjects, dns_names, uris or fingerprints: any certificate would do")
        self._record = record

    def channel(self, request: InboundRequest) -> str | None:
        """The channel that the delivery claims to come on."""
        return reading.channel_of(self._record, request)

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        """The verdict on who sent it; the body is protected by the connection."""
        yield from ()
        der = request.peer_certificate
        if not der:
            return Rejected(reason="the sender presented no certificate")
        if self._fingerprints and hashlib.sha256(der).hexdigest() not in self._fingerprints:
            return Rejected(reason="the sender's certificate has another fingerprint")
        try:
            fault = self._fault(der, now)
        except Exception:  # whatever a stranger's certificate makes the parser raise
            fault = "the sender's certificate cannot be read"
        return Rejected(reason=fault) if fault else reading.read(self._record, request, now=now, secrets=secrets)

    def _fault(self, der: bytes, now: datetime) -> str | None:
        record = self._record
        if len(der) > _MOST:
            return "the sender's certificate is too large"
        certificate = x509.load_der_x509_certificate(der)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return "the sender's certificate is not valid now"
        if not (record.subjects or self._dns_names or record.uris):
            return None
        subjects = [one.value for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            names = x509.SubjectAlternativeName([])
        dns = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
        uris = set(names.get_values_for_type(x509.UniformResourceIdentifier))
        if (len(subjects) == 1 and subjects[0] in record.subjects) or dns & self._dns_names or uris & set(record.uris):
            return None
        return "the sender's certificate is somebody else's"
