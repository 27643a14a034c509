"""OAuth 2.0 client credentials: the application acts for itself, and nobody consents (RFC 6749 §4.4)."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from ..auth_specs import AuthSpec, ClientCredentials
from ..errors import BadInput
from ..model import Credential, TokenSet
from ..protocols import AuthContext, AuthStart, Flow
from ..secret import SecretStr
from .revocation import revoke_tokens
from .token_endpoint import token_request


class ClientCredentialsFlow:
    """The flow behind ``ClientCredentials`` records. The client's own secret renews; a refresh token is not kept."""

    interactive = False
    fields: tuple[str, ...] = ()

    def renewable(self, auth: AuthSpec, tokens: TokenSet) -> bool:
        """Always, unless the record says no: it takes no refresh token."""
        return bool(getattr(auth, "refreshable", False))

    def begin(self, ctx: AuthContext) -> Flow[AuthStart]:
        yield from ()
        raise BadInput(
            f"The kind {ctx.auth.kind} of provider {ctx.provider_id} has no consent page.",
            hint="Use Runtime.establish; it takes no fields.",
            field="auth",
        )

    def complete(self, ctx: AuthContext, params: Mapping[str, SecretStr]) -> Flow[TokenSet]:
        """Ask for a token (RFC 6749 §4.4.2).

        Raises:
            BadInput: ``params`` is not empty.
            InvalidGrant, TokenEndpointError, RateLimited, ProviderUnavailable: as ``parse_token_response``.
        """
        if params:
            name = min(params)
            raise BadInput(f"A credential of kind {ctx.auth.kind} takes no fields; {name} is given.", field=name)
        return (yield from _ask(ctx, {}))

    def refresh(self, ctx: AuthContext, credential: Credential) -> Flow[TokenSet]:
        """Ask again, as at first."""
        return (yield from _ask(ctx, credential.tokens.extra))

    def revoke(self, ctx: AuthContext, credential: Credential) -> Flow[bool]:
        """As ``revoke_tokens``."""
        return (yield from revoke_tokens(ctx, credential))


def _ask(ctx: AuthContext, held: Mapping[str, SecretStr]) -> Flow[TokenSet]:
    record = ctx.auth
    assert isinstance(record, ClientCredentials)
    grants = ctx.requested or record.default_grants
    fields = {"grant_type": "client_credentials"}
    if grants:
        fields["scope"] = record.scope_separator.join(grants)
    tokens = yield from token_request(ctx, fields, audience=record.audience, held=held)
    return evolve(
        tokens,
        refresh_token=None,  # RFC 6749 §4.4.3: there should be none
        refresh_expires_at=None,
        granted=tokens.granted if tokens.granted is not None else (grants or None),  # §5.1: absent is as asked
    )
