"""Service accounts: a key signs a JWT, which is exchanged for a token (RFC 7523 as Google uses it) or is the token.

https://developers.google.com/identity/protocols/oauth2/service-account; for the JWT as the token itself
https://google.aip.dev/auth/4111.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from go_services_core.errors import BadInput, ConfigError, KeyInvalid, ReauthRequired
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import AuthContext, Flow
from go_services_core.secret import SecretStr

from .assertion import GRANT_TYPE, grant_assertion
from .jwk import Jwk
from .jwt_bearer import token_from
from .key_file import FIELD, read_key_file
from .records import ServiceAccountJwt
from .typed_fields import SigningFlow


class ServiceAccountFlow(SigningFlow):
    """The flow behind ``ServiceAccountJwt`` records.

    Fields: ``service_account_json``, a Google key file; or ``issuer`` and ``private_key`` (PEM, JWK, or the shared
    secret for HS256) with a ``key_id``. ``subject`` is the person whom the account acts for (domain-wide delegation).
    The key is kept in the sealed credential, since each renewal signs with it; the rest of the file is not.

    The account is the issuer, a Google account's e-mail; ``issuer|subject`` where it acts for a person. Another key of
    one service account is the same account.
    """

    fields: tuple[str, ...] = ("service_account_json", "issuer", "private_key", "key_id", "subject")
    optional: tuple[str, ...] = fields

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Sign with the key that was typed, and exchange the assertion where the record has a token URL.

        Raises:
            BadInput: a field is missing or unusable, or the key file is another provider's.
            ConfigError: the record has neither token URL nor audience, or no scopes to exchange for.
            InvalidGrant, TokenEndpointError: the provider refuses the assertion.
        """
        given = self.take(ctx, params)
        kept = _kept(_record(ctx), given)
        try:
            return (yield from _issue(ctx, kept))
        except KeyInvalid as why:
            place = FIELD if FIELD in given else "private_key"
            raise BadInput(why.message, plugin="auth-jwt", field=place) from None

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        """Sign again, and exchange again; no refresh token is needed.

        Raises:
            ReauthRequired: the credential has no key or no issuer.
            InvalidGrant, TokenEndpointError: the provider refuses the assertion.
        """
        kept = credential.tokens.extra
        if "private_key" not in kept or "issuer" not in kept:
            raise ReauthRequired("The connection has no service account key to sign with; enter it again.")
        return (yield from _issue(ctx, kept))


def _kept(record: ServiceAccountJwt, given: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """Issuer, key, key id and subject out of what was typed."""
    if FIELD not in given:
        for name in ("issuer", "private_key"):
            if name not in given:
                raise BadInput(
                    f"A service account is given by {FIELD}, or by issuer and private_key; {name} is missing.",
                    plugin="auth-jwt",
                    field=name,
                )
        return given
    for name in ("issuer", "private_key", "key_id"):
        if name in given:
            raise BadInput(f"The key file holds the {name} already; give one of them.", plugin="auth-jwt", field=name)
    read = read_key_file(given[FIELD])
    known = (record.token_url, *record.token_url_aliases)
    if record.token_url is not None and read.token_uri is not None and read.token_uri not in known:
        raise BadInput(
            f"The key file names another token endpoint than {record.token_url}: it is not of this provider.",
            plugin="auth-jwt",
            field=FIELD,
        )
    kept = {"issuer": SecretStr(read.client_email, name=True), "private_key": read.private_key}
    if read.private_key_id is not None:
        kept["key_id"] = SecretStr(read.private_key_id, name=True)
    if "subject" in given:
        kept["subject"] = given["subject"]
    return kept


def _issue(ctx: AuthContext, kept: Mapping[str, SecretStr]) -> Flow[TokenSet]:
    record = _record(ctx)
    audience = record.audience or record.token_url
    scopes = ctx.requested or record.default_grants
    if audience is None or (record.token_url is not None and not scopes):
        lacking = "neither a token_url nor an audience" if audience is None else "no scopes to ask for"
        raise ConfigError(
            f"The service_account_jwt record of provider {ctx.provider_id} has {lacking}.",
            hint="Set auth.audience." if audience is None else "Set auth.default_grants or the provider's grants.",
            plugin="auth-jwt",
            field=f"providers.{ctx.provider_id}",
        )
    key_id, subject = kept.get("key_id"), kept.get("subject")
    key = Jwk.from_text(
        kept["private_key"], kid=key_id.reveal() if key_id is not None else None, algorithm=record.algorithm
    )
    issuer = kept["issuer"].reveal()
    sub = subject.reveal() if subject is not None else None
    account = issuer if sub is None else f"{issuer}|{sub}"
    if record.token_url is None:
        sub = sub or issuer  # a token is about somebody; an assertion for an exchange need not be
    signed = SecretStr(
        grant_assertion(
            key,
            issuer=issuer,
            subject=sub,
            audience=audience,
            now=ctx.now,
            random=ctx.random,
            lifetime=record.lifetime,
            backdate=record.backdate,
            scopes=scopes,
        )
    )
    if record.token_url is None:
        ends = ctx.now + timedelta(seconds=record.lifetime)
        return TokenSet(access_token=signed, expires_at=ends, extra=dict(kept), account=account)
    fields: dict[str, str | SecretStr] = {"grant_type": GRANT_TYPE, "assertion": signed}
    response: HttpResponse = yield HttpRequest.form(record.token_url, fields)
    return token_from(response, ctx, kept, scopes, signed, record.default_lifetime, account=account)


def _record(ctx: AuthContext) -> ServiceAccountJwt:
    assert isinstance(ctx.auth, ServiceAccountJwt)
    return ctx.auth
