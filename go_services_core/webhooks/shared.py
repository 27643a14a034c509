"""Deliveries that show a shared secret: a token, a bearer token (RFC 6750), user and password (RFC 7617)."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Generator, Sequence
from datetime import datetime
from typing import Any

from ..http import InboundRequest
from ..protocols import FlowStep, Rejected, Verdict
from ..secret import SecretStr
from ..webhook_specs import BasicWebhook, BearerWebhook, DeliveryFields, TokenWebhook
from . import reading


class _Shown:
    """Compares what a request shows with every live secret, in constant time."""

    def __init__(self, record: DeliveryFields, given: Callable[[InboundRequest], str | Rejected]) -> None:
        reading.check_fields(record)
        self._record = record
        self._given = given

    def channel(self, request: InboundRequest) -> str | None:
        """The channel that the delivery claims to come on."""
        return reading.channel_of(self._record, request)

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        """The verdict; nothing is parsed before the secret was compared."""
        yield from ()
        shake = reading.asked(self._record, request, secrets)
        if shake is not None:
            return shake
        live = reading.keys_of(self._record, secrets)
        if not live:
            return Rejected(reason="no webhook secret is configured")
        given = self._given(request)
        if isinstance(given, Rejected):
            return given
        if not reading.shown(given, live):
            return Rejected(reason="the secret that the delivery shows is wrong")
        return reading.read(self._record, request, now=now, secrets=secrets)


class TokenVerifier(_Shown):
    """Checks a token in a header or in a parameter of the URL."""

    def __init__(self, record: TokenWebhook) -> None:
        super().__init__(record, self._token)
        if (record.header is None) == (record.param is None):
            raise ValueError("TokenWebhook needs one of header and param")
        self._header, self._param = record.header, record.param

    def _token(self, request: InboundRequest) -> str | Rejected:
        if self._header is not None:
            return request.header(self._header) or Rejected(reason=f"the header {self._header} is missing")
        found = reading.parameters(reading.query_of(request.target)) or ()
        values = [value for name, value in found if name == self._param]
        if len(values) != 1 or not values[0]:
            return Rejected(reason=f"the parameter {self._param} is missing or occurs twice")
        return values[0]


class BearerVerifier(_Shown):
    """Checks ``Authorization: Bearer …``."""

    def __init__(self, record: BearerWebhook) -> None:
        super().__init__(record, lambda request: authorization(request, "bearer"))


class BasicVerifier(_Shown):
    """Checks ``Authorization: Basic …``, which is read as UTF-8."""

    def __init__(self, record: BasicWebhook) -> None:
        super().__init__(record, self._pair)

    def _pair(self, request: InboundRequest) -> str | Rejected:
        given = authorization(request, "basic")
        if isinstance(given, Rejected):
            return given
        try:
            return b64decode(given, validate=True).decode("utf-8")
        except ValueError:
            return Rejected(reason="the header Authorization holds no base64 of text")


def authorization(request: InboundRequest, scheme: str) -> str | Rejected:
    """What stands after ``scheme`` in the one header ``Authorization`` (RFC 9110 §11.4)."""
    values = [value for name, value in request.headers if name.lower() == "authorization"]
    if not values:
        return Rejected(reason="the header Authorization is missing")
    named, _, rest = values[0].strip().partition(" ")
    rest = rest.strip()
    if len(values) != 1 or named.lower() != scheme or not rest or " " in rest:
        return Rejected(reason=f"the header Authorization is not that of the scheme {scheme}")
    return rest
