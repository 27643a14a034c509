"""The JWT bearer grant (RFC 7523 §2.1): sign an assertion, exchange it, and sign another to renew."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from go_services_core.auth.token_response import parse_token_response
from go_services_core.errors import BadInput, KeyInvalid, ReauthRequired
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import AuthContext, Flow
from go_services_core.secret import SecretStr

from .assertion import GRANT_TYPE, grant_assertion
from .jwk import Jwk
from .records import JwtBearer
from .settings import JwtBearerSettings
from .typed_fields import SigningFlow


class JwtBearerFlow(SigningFlow):
    """The flow behind ``JwtBearer`` records.

    Fields: ``subject``, for whom the token shall be; ``private_key`` (PEM or JWK) and its ``key_id`` where the
    provider's settings have no key. A typed key is kept in the sealed credential, since each renewal signs with it; the
    key of the settings is not. The subject is the account.
    """

    fields: tuple[str, ...] = ("subject", "private_key", "key_id")
    optional: tuple[str, ...] = ("private_key", "key_id")

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Sign for what was typed and exchange it.

        Raises:
            BadInput: a field is missing or unusable.
            InvalidGrant, TokenEndpointError: the provider refuses the assertion.
        """
        given = self.take(ctx, params)
        if "private_key" not in given and _settings(ctx).private_key is None:
            raise BadInput(
                f"Neither the field private_key nor the setting providers.{ctx.provider_id}.private_key holds a key.",
                plugin="auth-jwt",
                field="private_key",
            )
        if "key_id" in given and "private_key" not in given:
            raise BadInput(
                "The field key_id belongs to a private_key, and none was given.", plugin="auth-jwt", field="key_id"
            )
        try:
            return (yield from _exchange(ctx, given))
        except KeyInvalid as why:
            if "private_key" not in given:
                raise
            raise BadInput(why.message, plugin="auth-jwt", field="private_key") from None

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        """Sign again and exchange it; no refresh token is needed.

        Raises:
            ReauthRequired: the credential has no subject, or no key and the settings neither.
            InvalidGrant, TokenEndpointError: the provider refuses the assertion.
        """
        kept = credential.tokens.extra
        if "subject" not in kept or ("private_key" not in kept and _settings(ctx).private_key is None):
            raise ReauthRequired("The connection has no key or no subject to sign for; enter them again.")
        return (yield from _exchange(ctx, kept))


def _exchange(ctx: AuthContext, kept: Mapping[str, SecretStr]) -> Flow[TokenSet]:
    record, settings = _record(ctx), _settings(ctx)
    if (typed := kept.get("private_key")) is not None:
        key_id = kept.get("key_id")
        key = Jwk.from_text(typed, kid=key_id.reveal() if key_id else None, algorithm=record.algorithm)
    else:
        assert settings.private_key is not None
        place = f"providers.{ctx.provider_id}.private_key"
        key = Jwk.from_text(settings.private_key, kid=settings.key_id, algorithm=record.algorithm, field=place)
    assertion = SecretStr(
        grant_assertion(
            key,
            issuer=settings.client_id,
            subject=kept["subject"].reveal(),
            audience=record.audience or record.token_url,
            now=ctx.now,
            random=ctx.random,
            lifetime=record.lifetime,
            backdate=record.backdate,
        )
    )
    scopes = ctx.requested or record.default_grants
    asked = {"scope": record.scope_separator.join(scopes)} if scopes else {}
    fields: dict[str, str | SecretStr] = {"grant_type": GRANT_TYPE, "assertion": assertion, **asked}
    response: HttpResponse = yield HttpRequest.form(record.token_url, fields)
    account = kept["subject"].reveal()
    return token_from(response, ctx, kept, scopes, assertion, record.default_lifetime, account=account)


def token_from(
    response: HttpResponse,
    ctx: AuthContext,
    kept: Mapping[str, SecretStr],
    scopes: tuple[str, ...],
    assertion: SecretStr,
    default_lifetime: float | None,
    *,
    account: str,
) -> TokenSet:
    """The tokens of an exchange together with what the next one needs.

    An absent scope is the one asked for (RFC 6749 §5.1). A refresh token is not kept: the assertion renews (RFC 7521
    §4.1), and a second long-lived secret would have no use.
    """
    tokens = parse_token_response(
        response, now=ctx.now, default_lifetime=default_lifetime, sent=(assertion, *kept.values())
    )
    return evolve(
        tokens,
        refresh_token=None,
        refresh_expires_at=None,
        granted=(scopes or None) if tokens.granted is None else tokens.granted,
        extra={**tokens.extra, **kept},
        account=account,
    )


def _record(ctx: AuthContext) -> JwtBearer:
    assert isinstance(ctx.auth, JwtBearer)
    return ctx.auth


def _settings(ctx: AuthContext) -> JwtBearerSettings:
    assert isinstance(ctx.settings, JwtBearerSettings)
    return ctx.settings
