"""User name and password (RFC 7617)."""

from __future__ import annotations

import re
from base64 import b64encode

from ..errors import SigningError
from ..http import HttpRequest
from ..protocols import SigningContext, SigningKey

_FORBIDDEN = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class BasicSigner:
    """``Authorization: Basic`` over UTF-8 ``username:password``; neither may hold a control character, and the user
    name no colon (RFC 7617 §2)."""

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        username = key.credential.tokens.extra.get("username") if key.credential else None
        if username is None:
            raise SigningError("The credential has no user name.", field="username")
        if ":" in username.reveal():
            raise SigningError("A user name for basic authentication cannot hold a colon.", field="username")
        for field, typed in (("username", username), ("password", key.secret)):
            if _FORBIDDEN.search(typed.reveal()):
                raise SigningError(
                    f"The {field} holds a character that basic authentication cannot carry.", field=field
                )
        pair = f"{username.reveal()}:{key.secret.reveal()}".encode()
        return request.with_header("Authorization", f"Basic {b64encode(pair).decode()}")
