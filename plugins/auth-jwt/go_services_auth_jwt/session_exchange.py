"""Exchanging an embedded app's session token for an access token (RFC 8693 with Shopify's names), and renewing it.

https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens/token-exchange and
https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens/offline-access-tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import evolve

from go_services_core.auth.token_response import parse_token_response
from go_services_core.auth.typed import take
from go_services_core.errors import (
    BadInput,
    EmbeddedExchangeFailed,
    EmbeddedSessionInvalid,
    ReauthRequired,
    ReplayDetected,
    TokenEndpointError,
)
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import AuthContext, AuthStart, ClaimOnce, Flow
from go_services_core.secret import SecretStr

from .records import SessionTokenExchange
from .session_token import SessionToken, is_allowed, read_session_token, token_url
from .settings import SessionTokenSettings

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
SHOP: Final = "shop"
"""The extra of a token set that holds the shop's host."""
SPARE: Final = 60.0
"""Seconds that a token id is remembered beyond the token's end: databases have clocks of their own."""


class SessionTokenFlow:
    """The flow behind ``SessionTokenExchange`` records.

    Fields: ``session_token``; and if wanted ``requested_token_type``, ``offline`` (which it is by default) or
    ``online``, and ``expected_shop``, the host that the token has to be of.

    The account is the shop, of an online token ``shop|person``.
    """

    interactive = False
    fields: tuple[str, ...] = ("session_token",)

    def begin(self, ctx: AuthContext) -> Flow[AuthStart]:
        """Refuse: the provider's own page brings the session token."""
        yield from ()
        raise BadInput(
            f"The kind {ctx.auth.kind} of provider {ctx.provider_id} has no consent page.",
            hint="Pass the app's session_token to Runtime.establish instead.",
            plugin="auth-jwt",
            field="auth",
        )

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Check the session token, use it up, and exchange it at the shop that it is of.

        It is used up even if the exchange fails; the app's page brings another one.

        Raises:
            BadInput: a field is missing or unknown, or there is no such type of token; the session token still works.
            EmbeddedSessionInvalid: it is not acceptable; ``field`` names the header or claim.
            ReplayDetected: it was used before.
            EmbeddedExchangeFailed: the shop refused, or answered nonsense.
            RateLimited, ProviderUnavailable: the shop asks to wait, or is failing.
        """
        record, settings = _record(ctx), _settings(ctx)
        given = take(ctx, params, self.fields, ("requested_token_type", "expected_shop"))
        wanted = given["requested_token_type"].reveal() if "requested_token_type" in given else "offline"
        if wanted not in ("offline", "online"):
            raise BadInput(
                "A session token is exchanged for an offline or an online token.",
                plugin="auth-jwt",
                field="requested_token_type",
            )
        token = given["session_token"]
        session = read_session_token(
            token, record, client_id=settings.client_id, client_secret=settings.client_secret, now=ctx.now
        )
        if "expected_shop" in given and given["expected_shop"].reveal().lower() != session.shop:
            raise EmbeddedSessionInvalid(
                "The session token is of another shop than the one expected.", plugin="auth-jwt", field="expected_shop"
            )
        life = session.expires_at + record.leeway - ctx.now.timestamp()
        if not (yield ClaimOnce(f"session_token:{ctx.provider_id}:{session.id}", life + SPARE)):
            raise ReplayDetected("The session token was used before; the app's page has to bring a new one.")
        return (yield from _exchange(ctx, session, token, online=wanted == "online"))

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        """Renew an expiring offline token by its refresh token.

        Raises:
            ReauthRequired: there is no refresh token, or the shop is not one of the record's any more.
            InvalidGrant, TokenEndpointError, RateLimited, ProviderUnavailable: as ``parse_token_response``.
        """
        held, shop = credential.tokens.refresh_token, credential.tokens.extra.get(SHOP)
        if held is None or shop is None:
            raise ReauthRequired("The connection has no refresh token.", hint="Bring a new session token.")
        if not is_allowed(shop.reveal(), _record(ctx)):
            raise ReauthRequired("The connection is of a shop that the provider's record does not allow any more.")
        fields: dict[str, str | SecretStr] = {"grant_type": "refresh_token", "refresh_token": held}
        return (yield from _ask(ctx, shop.reveal(), fields, sent=(held, credential.tokens.access_token)))

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool]:
        """False: the access ends when the shop removes the app."""
        yield from ()
        return False


def _exchange(ctx: AuthContext, session: SessionToken, token: SecretStr, *, online: bool) -> Flow[TokenSet]:
    record = _record(ctx)
    fields: dict[str, str | SecretStr] = {
        "grant_type": GRANT_TYPE,
        "subject_token": token,
        "subject_token_type": record.subject_token_type,
        "requested_token_type": record.online_token_type if online else record.offline_token_type,
    }
    if record.expiring and not online:
        fields["expiring"] = "1"
    try:
        tokens = yield from _ask(ctx, session.shop, fields, sent=(token,))
    except TokenEndpointError as refused:
        raise EmbeddedExchangeFailed(
            f"The shop did not exchange the session token: {refused.message}",
            hint="Is the app installed there? The session token is used up: bring a new one.",
            plugin="auth-jwt",
            metadata={"error": refused.error},
        ) from None
    extra = dict(tokens.extra)
    person = extra.pop("person", None)
    if online and person is not None and person.reveal() != session.subject:
        raise EmbeddedExchangeFailed(
            "The shop gave a token of another person than the session token's.", plugin="auth-jwt", field="sub"
        )
    account = f"{session.shop}|{session.subject}" if online else session.shop
    return evolve(tokens, account=account, extra={**extra, SHOP: SecretStr(session.shop, name=True)})


def _ask(
    ctx: AuthContext, shop: str, fields: Mapping[str, str | SecretStr], *, sent: tuple[SecretStr, ...]
) -> Flow[TokenSet]:
    record, settings = _record(ctx), _settings(ctx)
    client: dict[str, str | SecretStr] = {"client_id": settings.client_id, "client_secret": settings.client_secret}
    response: HttpResponse = yield HttpRequest.form(token_url(shop, record), {**client, **fields})
    return parse_token_response(
        response,
        now=ctx.now,
        default_lifetime=record.default_lifetime,
        refreshing=fields["grant_type"] == "refresh_token",
        sent=(*sent, settings.client_secret),
        paths={"scope": "associated_user_scope|scope", "person": "associated_user.id"},
    )


def _record(ctx: AuthContext) -> SessionTokenExchange:
    assert isinstance(ctx.auth, SessionTokenExchange)
    return ctx.auth


def _settings(ctx: AuthContext) -> SessionTokenSettings:
    assert isinstance(ctx.settings, SessionTokenSettings)
    return ctx.settings
