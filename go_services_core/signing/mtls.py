"""Client certificates: the request itself stays as it is, TLS says who the client is (RFC 8446 §4.4.2)."""

from __future__ import annotations

from ..auth_specs import Mtls
from ..errors import SigningError
from ..http import ClientCertificate, HttpRequest
from ..protocols import SigningContext, SigningKey


class MtlsSigner:
    """The request, to be sent over connections on which the credential's certificate is presented."""

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        record = key.auth
        if not isinstance(record, Mtls):
            raise SigningError(f"The signer mtls needs an Mtls record, not {type(record).__name__}.")
        extra = key.credential.tokens.extra if key.credential else {}
        if "certificate" not in extra:
            raise SigningError("The credential has no certificate.", field="certificate")
        return request.with_client_certificate(
            ClientCertificate(
                certificate=extra["certificate"].reveal(),
                private_key=key.secret,
                passphrase=extra.get("passphrase"),
                server_ca=record.server_ca,
            )
        )
