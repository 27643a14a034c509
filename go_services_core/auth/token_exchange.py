"""OAuth 2.0 token exchange: a token of somebody else's becomes one for this provider (RFC 8693)."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from ..auth_specs import AuthSpec, TokenExchange
from ..errors import BadInput, InvalidGrant, ReauthRequired, TokenEndpointError, TokenResponseInvalid
from ..model import Credential, TokenSet
from ..protocols import AuthContext, AuthStart, Flow
from ..secret import SecretStr
from .fields import is_stripped, kept
from .revocation import revoke_tokens
from .token_endpoint import refresh_request, token_request

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
_OPTIONAL = ("subject_token_type",)


class TokenExchangeFlow:
    """The flow behind ``TokenExchange`` records. The subject token is kept as a secret, to be exchanged again."""

    interactive = False
    fields: tuple[str, ...] = ("subject_token",)

    def fields_for(self, auth: AuthSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The token, and its type where that is not the record's."""
        return self.fields, _OPTIONAL

    def renewable(self, auth: AuthSpec, tokens: TokenSet) -> bool:
        """With a refresh token, or with the subject token that was kept."""
        held = tokens.refresh_token is not None or "subject_token" in tokens.extra
        return held and bool(getattr(auth, "refreshable", False))

    def begin(self, ctx: AuthContext) -> Flow[AuthStart]:
        yield from ()
        raise BadInput(
            f"The kind {ctx.auth.kind} of provider {ctx.provider_id} has no consent page.",
            hint="Pass subject_token to Runtime.establish instead.",
            field="auth",
        )

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Exchange ``subject_token``, of the type ``subject_token_type`` if that is given too (RFC 8693 §2.1).

        Raises:
            BadInput: a field is missing, unknown, or cannot be sent.
            InvalidGrant, TokenEndpointError, RateLimited, ProviderUnavailable: as ``parse_token_response``.
        """
        unknown = sorted(set(params) - {*self.fields, *_OPTIONAL})
        if unknown or not params.get("subject_token"):
            wrong = f"{unknown[0]} is not a field of it" if unknown else "subject_token is missing"
            raise BadInput(
                f"A credential of kind {ctx.auth.kind} takes subject_token, and may have subject_token_type: {wrong}.",
                field=unknown[0] if unknown else "subject_token",
            )
        for name, value in params.items():
            if not is_stripped(value):
                raise BadInput(f"The field {name} begins or ends with a space; it was probably pasted so.", field=name)
        typed_kind = params.get("subject_token_type")
        kind = typed_kind.reveal() if typed_kind else _record(ctx).subject_token_type
        return (yield from _exchange(ctx, params["subject_token"], kind, {}))

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        """By the refresh token if there is one, else by exchanging the subject token again.

        A server says of a subject token that is over ``invalid_request`` (RFC 8693 §2.2.2). Of an exchange that was
        taken before it can mean nothing else, so it ends the grant as ``invalid_grant`` does.

        Raises:
            ReauthRequired: there is neither; nothing was sent.
            InvalidGrant: the subject token is over; bring another one.
            TokenEndpointError, RateLimited, ProviderUnavailable: as ``parse_token_response``.
        """
        if credential.tokens.refresh_token is not None:
            return (yield from refresh_request(ctx, credential))
        subject, kind = (credential.tokens.extra.get(name) for name in ("subject_token", "subject_token_type"))
        if subject is None or kind is None:
            raise ReauthRequired("The connection kept no subject token to exchange again; bring another one.")
        try:
            return (yield from _exchange(ctx, subject, kind.reveal(), credential.tokens.extra))
        except TokenEndpointError as refused:
            if refused.error != "invalid_request":
                raise
            raise InvalidGrant(refused.message, error=refused.error) from None

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool]:
        """As ``revoke_tokens``; the subject token is its owner's and is not revoked."""
        return (yield from revoke_tokens(ctx, credential))


def _exchange(ctx: AuthContext, subject: SecretStr, kind: str, held: Mapping[str, SecretStr]) -> Flow[TokenSet]:
    record = _record(ctx)
    grants = ctx.requested or record.default_grants
    fields: dict[str, str | SecretStr] = {
        "grant_type": GRANT_TYPE,
        "subject_token": subject,
        "subject_token_type": kind,
    }
    if record.requested_token_type is not None:
        fields["requested_token_type"] = record.requested_token_type
    if grants:
        fields["scope"] = record.scope_separator.join(grants)
    tokens = yield from token_request(ctx, fields, audience=record.audience, keep=("issued_token_type",), held=held)
    extra = dict(tokens.extra)
    issued = extra.pop("issued_token_type", None)
    if issued is not None and record.requested_token_type not in (None, issued.reveal()):
        raise TokenResponseInvalid(
            "The token endpoint issued a token of another type than the one asked for.", field="issued_token_type"
        )
    held = {}
    if record.refreshable:
        held = {"subject_token": subject, "subject_token_type": kept("subject_token_type", kind)}
    granted = tokens.granted if tokens.granted is not None else (grants or None)  # RFC 8693 §2.2.1: absent is as asked
    return evolve(tokens, granted=granted, extra={**extra, **held})


def _record(ctx: AuthContext) -> TokenExchange:
    assert isinstance(ctx.auth, TokenExchange)
    return ctx.auth
