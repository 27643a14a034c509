"""Pushes with an OpenID Connect token of the sender's service account: Google Pub/Sub."""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any

from go_services_core.errors import JwtInvalid, JwtKeyUnknown, KeyInvalid
from go_services_core.http import InboundRequest
from go_services_core.protocols import FlowStep, Jwks, Rejected, Verdict
from go_services_core.secret import SecretStr
from go_services_core.webhook_specs import OidcWebhook
from go_services_core.webhooks import reading
from go_services_core.webhooks.shared import authorization

from .id_token import ASYMMETRIC
from .jwk import JwkSet
from .jws import verify


class OidcVerifier:
    """Checks the bearer token as an :class:`OidcWebhook` record says.

    What keeps the key set from being read is raised out of the flow: the sender shall try again.
    """

    def __init__(self, record: OidcWebhook) -> None:
        reading.check_fields(record)
        if not record.audience or not record.email or not record.issuers:
            raise ValueError("OidcWebhook needs audience, email and issuers: without them anybody's token would do")
        if not record.algorithms or not set(record.algorithms) <= set(ASYMMETRIC):
            raise ValueError(f"OidcWebhook.algorithms may be {', '.join(ASYMMETRIC)}")
        if not 0 <= record.leeway <= 600:
            raise ValueError("OidcWebhook.leeway must be between 0 and 600 seconds")
        self._record = record

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        """Check signature, issuer, audience, times and account, then read the body."""
        record = self._record
        token = authorization(request, "bearer")
        if isinstance(token, Rejected):
            return token
        given = SecretStr(token)
        del token
        try:
            claims = _claims(given, (yield Jwks(record.jwks_url)), record)
        except JwtKeyUnknown:
            document = yield Jwks(record.jwks_url, again=True)
            try:
                claims = _claims(given, document, record)
            except (JwtInvalid, KeyInvalid) as why:
                return _rejected(why)
        except (JwtInvalid, KeyInvalid) as why:
            return _rejected(why)
        fault = self._fault(claims, now)
        if fault is not None:
            return Rejected(reason=fault)
        if record.data_field is None:
            return reading.read(record, request, now=now)
        envelope = reading.read_json(request.body)
        try:
            data = b64decode(reading.find(envelope, record.data_field, integers=False), validate=True)
        except ValueError:
            return Rejected(reason=f"{record.data_field} of the body is not base64")
        return reading.read(record, request, now=now, body=data, extra={"data": reading.read_json(data)})

    def _fault(self, claims: Mapping[str, Any], now: datetime) -> str | None:
        """What is wrong with the claims of a token whose signature is right."""
        record, moment = self._record, now.timestamp()
        if claims.get("iss") not in record.issuers:
            return "the token comes from another issuer"
        if claims.get("aud") != record.audience:
            return "the token is for another audience"
        expires, issued = _time(claims, "exp"), _time(claims, "iat")
        if expires is None or issued is None:
            return "the token does not say when it was issued and when it ends"
        if moment >= expires + record.leeway:
            return "the token is over its time"
        if issued > moment + record.leeway:
            return "the token was issued in the future"
        if claims.get("email") != record.email or claims.get("email_verified") is not True:
            return "the token belongs to another account"
        return None


def _claims(token: SecretStr, document: Any, record: OidcWebhook) -> Mapping[str, Any]:
    """The claims of the token, after its signature was checked."""
    return verify(token.reveal(), JwkSet.from_dict(document), algorithms=record.algorithms, typ=("", "jwt")).claims()


def _rejected(why: JwtInvalid | KeyInvalid) -> Rejected:
    return Rejected(reason=f"the token does not hold: {why.message[:1].lower()}{why.message[1:].rstrip('.')}")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value) if 0 <= value < 253_402_300_800 else None
