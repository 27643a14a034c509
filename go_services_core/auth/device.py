"""OAuth 2.0 device authorization: the person consents on another device while the application asks again (RFC 8628)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ..auth_specs import DeviceCode
from ..errors import AuthorizationPending, CallbackRefused, StateExpired, TokenEndpointError, TokenResponseInvalid
from ..model import Credential, TokenSet
from ..protocols import AuthContext, AuthStart, Flow
from ..secret import SecretStr
from .dpop import KEY, proof_key
from .id_token import prepare, refresh_verified, require_jose, verified
from .revocation import revoke_tokens
from .token_endpoint import ask, token_request
from .token_response import read_answer

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL = 5.0
"""Seconds between two questions where the server does not say, and what ``slow_down`` adds (RFC 8628 §3.2, §3.5)."""
LONGEST_INTERVAL = 300.0
LONGEST_LIFE = 86400.0


class DeviceCodeFlow:
    """The flow behind ``DeviceCode`` records. ``complete`` asks once, and the caller drives the repetition."""

    interactive = True
    polls = True
    """There is no callback: ``complete`` is called again until it gives tokens or an error that is not retryable."""
    fields: tuple[str, ...] = ()

    def begin(self, ctx: AuthContext) -> Flow[AuthStart]:
        """The address and the code to show to the person (RFC 8628 §3.1 and §3.2).

        Raises:
            TokenEndpointError: the endpoint refused, or its answer lacks what the person needs.
            RateLimited, ProviderUnavailable: it asks to wait, or is failing.
            ConfigError: an ID token will have to be verified, and no plugin can.
        """
        record = _record(ctx)
        require_jose(ctx)
        fields = {"scope": record.scope_separator.join(ctx.requested)} if ctx.requested else {}
        resources = [("resource", where) for where in record.resource]
        key = proof_key(ctx, {})
        answer = yield from ask(ctx, record.device_authorization_url, fields, repeated=resources)
        said = read_answer(answer.response, now=ctx.now, endpoint="device authorization endpoint", sent=answer.sent)
        code, user_code = _text(said, "device_code"), _text(said, "user_code")
        address = said.get("verification_uri", said.get("verification_url"))  # Google's name of before the RFC
        plain_http = record.device_authorization_url.startswith("http://")
        address = _page(address, plain_http)
        complete = said.get("verification_uri_complete")
        life = _seconds(said.get("expires_in"), LONGEST_LIFE)
        if life is None:
            raise _invalid("expires_in")
        interval = _seconds(said.get("interval"), LONGEST_INTERVAL) or INTERVAL
        return AuthStart(
            url=_page(complete, plain_http) if complete else address,
            user_code=user_code,
            verification_uri=address,
            memory={
                "device_code": SecretStr(code),
                "expires_at": SecretStr((ctx.now + timedelta(seconds=life)).isoformat()),
                "interval": SecretStr(f"{interval:g}"),
                **({KEY: key} if key is not None else {}),
            },
            interval=interval,
            expires_at=ctx.now + timedelta(seconds=life),
        )

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Ask once whether the person has consented (RFC 8628 §3.4). ``params`` are not read.

        ``ctx.memory`` is that of ``begin``, with ``interval`` replaced by what the last ``AuthorizationPending`` said.

        Raises:
            AuthorizationPending: not yet; ask again after ``retry_after`` seconds.
            CallbackRefused: the person refused.
            StateExpired: the code is over its time; begin again.
            TokenEndpointError, RateLimited, ProviderUnavailable: as ``parse_token_response``.
            JwtInvalid, MetadataInvalid: the ID token does not verify, or the issuer's keys cannot be read.
        """
        if ctx.now >= datetime.fromisoformat(ctx.memory["expires_at"].reveal()):
            raise StateExpired("The device code is over its time; start again.")
        code = ctx.memory["device_code"]
        yield from prepare(ctx)
        try:
            fields: dict[str, str | SecretStr] = {"grant_type": GRANT_TYPE, "device_code": code}
            tokens = yield from token_request(ctx, fields, held=ctx.memory)
        except TokenEndpointError as refused:
            self._answer(refused, float(ctx.memory["interval"].reveal()))
        return (yield from verified(ctx, tokens))

    def _answer(self, refused: TokenEndpointError, interval: float) -> NoReturn:
        if refused.error == "authorization_pending":
            raise AuthorizationPending(retry_after=interval) from None
        if refused.error == "slow_down":
            raise AuthorizationPending(retry_after=min(interval + INTERVAL, LONGEST_INTERVAL)) from None
        if refused.error == "access_denied":
            raise CallbackRefused(
                "The person refused the consent on the other device.", metadata={"error": "access_denied"}
            ) from None
        if refused.error == "expired_token":
            raise StateExpired("The device code is over its time; start again.") from None
        raise refused

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        """As ``id_token.refresh_verified``."""
        return (yield from refresh_verified(ctx, credential))

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool]:
        """As ``revoke_tokens``."""
        return (yield from revoke_tokens(ctx, credential))


def _record(ctx: AuthContext) -> DeviceCode:
    assert isinstance(ctx.auth, DeviceCode)
    return ctx.auth


def _invalid(name: str) -> TokenResponseInvalid:
    return TokenResponseInvalid(f"The device authorization endpoint's answer has no usable {name}.", field=name)


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise _invalid(name)
    return value


def _page(value: Any, plain_http: bool) -> str:
    """An address that may be shown and opened; ``http`` only where the endpoint itself is."""
    try:
        parts = urlsplit(value) if isinstance(value, str) and value.isprintable() and " " not in value else None
    except ValueError:
        parts = None
    if parts is None or not parts.hostname or parts.scheme not in (("https", "http") if plain_http else ("https",)):
        raise _invalid("verification_uri")
    return str(value)


def _seconds(value: Any, most: float) -> float | None:
    """A number of seconds greater than zero, also as text, and at most ``most``; None where there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return min(read, most) if read > 0 else None
