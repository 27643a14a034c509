"""HTTP Message Signatures by asymmetric keys (RFC 9421 §3.3), each the twin of an algorithm of JOSE (§3.3.7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from go_services_core.auth_specs import AuthSpec, HttpSignature
from go_services_core.errors import KeyInvalid, SigningError
from go_services_core.http import HttpRequest
from go_services_core.protocols import SigningContext, SigningKey
from go_services_core.secret import SecretStr
from go_services_core.signing.message_signatures import is_dated, signed

from .algorithms import AlgorithmName
from .jwk import Jwk

FIELD: Final = "private_key"
_TWINS: Final[Mapping[str, AlgorithmName]] = {
    "ed25519": "Ed25519",
    "ecdsa-p256-sha256": "ES256",
    "ecdsa-p384-sha384": "ES384",
    "rsa-pss-sha512": "PS512",
    "rsa-v1_5-sha256": "RS256",
}


class HttpSignatureKeySigner:
    """Signs with the connection's private key. The bytes are the same each time but for ``rsa-pss-sha512``, which salts
    each signature."""

    def is_dated(self, auth: AuthSpec) -> bool:
        """Whether the signature carries its time."""
        return is_dated(auth)

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        """The signed copy of ``request``; raises as :func:`go_services_core.signing.message_signatures.signed`."""
        return signed(request, key, ctx, _sign)


def make(key: SecretStr, algorithm: str, data: bytes) -> bytes:
    """The signature over ``data``; EC signatures are R and S one after the other (RFC 9421 §3.3.4).

    Raises:
        KeyInvalid: it is no private key for that algorithm, or there is no such algorithm.
    """
    twin = _TWINS.get(algorithm)
    if twin is None:
        raise KeyInvalid(f"No private key signs by {algorithm}.", plugin="auth-jwt", field="algorithm")
    return Jwk.from_text(key, algorithm=twin, field=FIELD).sign(data)


def _sign(record: HttpSignature, secret: SecretStr, base: bytes) -> bytes:
    try:
        return make(secret, record.algorithm, base)
    except KeyInvalid as why:
        raise SigningError(why.message, plugin="auth-jwt", field=why.field) from None
