"""Asking the provider what it knows of a token (RFC 7662)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen

from ..errors import CapabilityUnsupported, TokenEndpointError
from ..protocols import AuthContext, Flow
from ..secret import SecretStr
from .token_endpoint import ask, client_record
from .token_response import read_answer

_LATEST = 253_402_300_799
"""The last second that a datetime can hold."""


@frozen(kw_only=True)
class Introspection:
    """What the server says of a token. Of one that is not active it says nothing else (RFC 7662 §2.2)."""

    active: bool
    grants: tuple[str, ...] | None = None
    client_id: str | None = None
    subject: str | None = None
    issuer: str | None = None
    audience: tuple[str, ...] = ()
    token_type: str | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    claims: Mapping[str, Any] = field(factory=dict, repr=False)
    """Everything that was said."""


def introspect(ctx: AuthContext, token: SecretStr, *, hint: str = "access_token") -> Flow[Introspection]:
    """Whether ``token`` is good, and what it is good for. ``hint`` is its kind, ``access_token`` or ``refresh_token``.

    Raises:
        CapabilityUnsupported: the record has no introspection endpoint; nothing was sent.
        TokenEndpointError: the endpoint refused the client, or its answer does not say whether the token is active.
        RateLimited, ProviderUnavailable: it asks to wait, or is failing.
    """
    record = client_record(ctx)
    if record.introspection_url is None:
        raise CapabilityUnsupported(
            f"The provider {ctx.provider_id} has no introspection endpoint.", field="auth.introspection_url"
        )
    fields: dict[str, str | SecretStr] = {"token": token, "token_type_hint": hint}
    answer = yield from ask(ctx, record.introspection_url, fields)
    said = read_answer(answer.response, now=ctx.now, endpoint="introspection endpoint", sent=(token, *answer.sent))
    active = said.get("active")
    if not isinstance(active, bool):
        raise TokenEndpointError("The introspection endpoint does not say whether the token is active.")
    if not active:
        return Introspection(active=False)
    scope = _text(said, "scope")
    audience = said.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    return Introspection(
        active=True,
        grants=None if scope is None else tuple(scope.split()),
        client_id=_text(said, "client_id"),
        subject=_text(said, "sub"),
        issuer=_text(said, "iss"),
        audience=tuple(name for name in audiences if isinstance(name, str) and name),
        token_type=_text(said, "token_type"),
        issued_at=_moment(said, "iat"),
        expires_at=_moment(said, "exp"),
        claims=said,
    )


def _text(said: Mapping[str, Any], name: str) -> str | None:
    value = said.get(name)
    return value if isinstance(value, str) else None


def _moment(said: Mapping[str, Any], name: str) -> datetime | None:
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LATEST:
        return None
    return datetime.fromtimestamp(value, UTC)
