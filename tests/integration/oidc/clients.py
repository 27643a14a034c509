"""Clients that prove who they are with a key, as they are registered at the server."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from go_services_auth_jwt.algorithms import AlgorithmName
from go_services_auth_jwt.jwk import Jwk, generate_ec_key
from go_services_core.secret import SecretStr

REDIRECT: Final = "http://127.0.0.1/callback"


@frozen
class KeyClient:
    """One client: ``private_key_jwt`` with a private key, or ``client_secret_jwt`` with a secret."""

    algorithm: AlgorithmName
    text: SecretStr = field(repr=False)

    @property
    def client_id(self) -> str:
        return f"key-client-{self.algorithm.lower()}"

    @property
    def key(self) -> Jwk:
        kid = None if self.algorithm == "HS256" else f"key-{self.algorithm}"  # a secret has no id there
        return Jwk.from_text(self.text, kid=kid, algorithm=self.algorithm)

    def metadata(self) -> dict[str, Any]:
        """What the server knows of it (RFC 7591 §2)."""
        known: dict[str, Any] = {
            "client_id": self.client_id,
            "application_type": "native",
            "redirect_uris": [REDIRECT],
            "grant_types": ["client_credentials", "authorization_code"],
            "response_types": ["code"],
            "scope": "openid api:read",
            "token_endpoint_auth_signing_alg": self.algorithm,
        }
        if self.algorithm == "HS256":
            secret = self.text.reveal()
            return {**known, "token_endpoint_auth_method": "client_secret_jwt", "client_secret": secret}
        published = {**self.key.public_members(), "kid": self.key.kid, "alg": self.algorithm, "use": "sig"}
        return {**known, "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [published]}}


def _pem(key: Any) -> SecretStr:
    return SecretStr(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


_RSA: Final = rsa.generate_private_key(65537, 2048)

KEY_CLIENTS: Final = (
    KeyClient("RS256", _pem(_RSA)),
    KeyClient("PS256", _pem(_RSA)),
    KeyClient("ES256", generate_ec_key(Random(256).randbytes)),
    KeyClient("EdDSA", _pem(ed25519.Ed25519PrivateKey.generate())),
    KeyClient("HS256", SecretStr("a secret of the application's and the server's, 32 bytes or more")),
)
