"""User name and password in the header of a SOAP envelope (WSS Username Token Profile 1.1, OASIS 2006)."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from contextlib import suppress
from datetime import UTC
from typing import Final, Literal

from attrs import evolve, frozen

from go_services_core.errors import BadInput, SigningError
from go_services_core.http import HttpRequest
from go_services_core.protocols import SigningContext, SigningKey

from .elements import escaped

HEADER: Final = b"<soap:Header/>"
"""What is replaced. No parameter can look like it: what parameters hold is escaped."""

_WSS: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss"
_SECURITY: Final = f"{_WSS}-wssecurity-secext-1.0.xsd"
_UTILITY: Final = f"{_WSS}-wssecurity-utility-1.0.xsd"
_PROFILE: Final = f"{_WSS}-username-token-profile-1.0"
_BASE64: Final = f"{_WSS}-soap-message-security-1.0#Base64Binary"


@frozen
class UsernameTokenSigner:
    """Adds a ``wsse:UsernameToken`` with a nonce and the time of signing, both new for each attempt.

    The user name and the password are those of the connection's ``basic`` credential. ``digest`` sends, in place of the
    password, Base64(SHA-1(nonce + created + password)), as the profile prescribes (§3.1).
    """

    password: Literal["text", "digest"]

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        """The request with the token in its envelope.

        Raises:
            SigningError: the credential has no user name, or cannot be written as XML.
            BadInput: the body is not an envelope with a header to fill.
        """
        body = request.body
        if not isinstance(body, bytes) or HEADER not in body:
            raise BadInput("The body is no SOAP envelope with an empty header.", field="body")
        username = key.credential.tokens.extra.get("username") if key.credential else None
        if username is None:
            raise SigningError(
                "A UsernameToken takes the user name and password of a basic connection.", field="username"
            )
        nonce = ctx.random(16)
        created = ctx.now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        secret = key.secret.reveal()
        form, sent = "PasswordText", secret
        if self.password == "digest":
            digest = hashlib.sha1(nonce + created.encode() + secret.encode(), usedforsecurity=False)
            form, sent = "PasswordDigest", b64encode(digest.digest()).decode()
        token = ""
        with suppress(BadInput):  # raised below: a traceback with locals would show the password
            token = (
                f'<soap:Header><wsse:Security xmlns:wsse="{_SECURITY}" xmlns:wsu="{_UTILITY}" soap:mustUnderstand="1">'
                f"<wsse:UsernameToken><wsse:Username>{escaped(username.reveal(), field='username')}</wsse:Username>"
                f'<wsse:Password Type="{_PROFILE}#{form}">{escaped(sent, field="password")}</wsse:Password>'
                f'<wsse:Nonce EncodingType="{_BASE64}">{b64encode(nonce).decode()}</wsse:Nonce>'
                f"<wsu:Created>{created}</wsu:Created></wsse:UsernameToken></wsse:Security></soap:Header>"
            )
        if not token:
            del secret, sent
            raise SigningError("The credential has a character that XML cannot carry.", field="password")
        return evolve(request, body=body.replace(HEADER, token.encode(), 1))
