"""Calls of an embedded app: the token in the provider's own header, and to no other shop than the token's."""

from __future__ import annotations

from go_services_core.errors import SigningError
from go_services_core.hosts import host_of
from go_services_core.http import HttpRequest
from go_services_core.protocols import SigningContext, SigningKey

from .records import SessionTokenExchange
from .session_exchange import SHOP


class ShopTokenSigner:
    """The access token in the header that the ``SessionTokenExchange`` record names."""

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        record = key.auth
        if not isinstance(record, SessionTokenExchange):
            raise SigningError(
                f"The signer shop_token needs a SessionTokenExchange record, not {type(record).__name__}.",
                plugin="auth-jwt",
            )
        shop = key.credential.tokens.extra.get(SHOP) if key.credential is not None else None
        if shop is None:
            raise SigningError("The credential does not say whose shop it is for.", plugin="auth-jwt", field=SHOP)
        if host_of(request.url) != shop.reveal():
            raise SigningError(
                "The connection is of one shop, and the request goes to another host.",
                hint="Make a provider instance for each shop whose API is called; see the how-to on embedded apps.",
                plugin="auth-jwt",
            )
        return request.with_header(record.header, key.secret.reveal())
