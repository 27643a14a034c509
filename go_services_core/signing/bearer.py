"""Bearer tokens (RFC 6750 §2.1)."""

from __future__ import annotations

from ..http import HttpRequest
from ..protocols import SigningContext, SigningKey


class BearerSigner:
    """``Authorization: Bearer <token>``."""

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        return request.with_header("Authorization", "Bearer " + key.secret.reveal())
