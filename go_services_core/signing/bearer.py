"""Bearer tokens (RFC 6750 §2.1), also those that are bound to the client's certificate (RFC 8705 §3)."""

from __future__ import annotations

from ..auth.client_tls import identity_of
from ..http import HttpRequest
from ..protocols import SigningContext, SigningKey


class BearerSigner:
    """``Authorization: Bearer <token>``; the certificate that the token is bound to is presented with it."""

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        signed = request.with_header("Authorization", "Bearer " + key.secret.reveal())
        if key.credential is not None and getattr(key.auth, "certificate_bound_tokens", False):
            return signed.with_client_certificate(identity_of(key.credential.tokens))
        return signed
