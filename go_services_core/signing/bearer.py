"""Bearer tokens (RFC 6750 §2.1), also those that are bound to the client's certificate (RFC 8705 §3)."""

from __future__ import annotations

from ..auth.client_tls import identity_of
from ..errors import SigningError
from ..http import HttpRequest
from ..protocols import SigningContext, SigningKey


class BearerSigner:
    """``Authorization: Bearer <token>``, or with the scheme that the record has in place of ``Bearer``; the certificate
    that the token is bound to is presented with it."""

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        if not key.secret:
            raise SigningError("The credential has no token.", field="token")
        auth = key.auth
        signed = request.with_header("Authorization", f"{getattr(auth, 'scheme', 'Bearer')} {key.secret.reveal()}")
        if getattr(auth, "certificate_bound_tokens", False) and key.credential is not None:
            return signed.with_client_certificate(identity_of(key.credential.tokens))
        return signed
