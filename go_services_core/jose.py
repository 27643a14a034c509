"""What a plugin does that signs and verifies for flows and signers: JSON Web Tokens, proofs, and messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from .secret import SecretStr


class Jose(Protocol):
    """Signed JSON Web Tokens for the flows of OAuth and OpenID Connect, which need asymmetric keys (RFC 7515 to 7519).

    Keys are PEM or JWK text.
    """

    def client_assertion(
        self,
        key: SecretStr,
        *,
        client_id: str,
        audience: str,
        now: datetime,
        random: Callable[[int], bytes],
        key_id: str | None = None,
        algorithm: str | None = None,
    ) -> str:
        """The client's proof of who it is (RFC 7523 §2.2); ``algorithm`` None goes by the key.

        With ``HS256`` the key is the client's secret itself (``client_secret_jwt``, OpenID Connect Core §9).

        Raises:
            KeyInvalid: the key cannot sign.
        """
        ...

    def new_proof_key(self, random: Callable[[int], bytes]) -> SecretStr:
        """A new private key that tokens are bound to (RFC 9449)."""
        ...

    def thumbprint(self, key: SecretStr) -> str:
        """``jkt`` of the key (RFC 9449 §6.1); raises KeyInvalid."""
        ...

    def proof(
        self,
        key: SecretStr,
        method: str,
        url: str,
        *,
        now: datetime,
        random: Callable[[int], bytes],
        nonce: str | None = None,
        access_token: SecretStr | None = None,
    ) -> str:
        """The value of the header ``DPoP`` (RFC 9449 §4.2).

        Raises:
            SigningError: the URL cannot be proven for.
            KeyInvalid: the key cannot sign.
        """
        ...

    def message_signature(self, key: SecretStr, algorithm: str, data: bytes) -> bytes:
        """The signature over ``data`` by an asymmetric algorithm of HTTP Message Signatures (RFC 9421 §3.3).

        Raises:
            KeyInvalid: the key cannot sign, or not by that algorithm; ``field`` is ``private_key``.
        """
        ...

    def id_token(
        self,
        token: SecretStr,
        jwks: Mapping[str, Any],
        *,
        issuer: str,
        client_id: str,
        now: datetime,
        nonce: str | None = None,
        access_token: SecretStr | None = None,
        code: SecretStr | None = None,
        algorithms: Sequence[str] = ("RS256",),
    ) -> Mapping[str, Any]:
        """The claims of an ID token that passed every check (OpenID Connect Core §3.1.3.7).

        Raises:
            JwtKeyUnknown: ``jwks`` lacks the key that it was signed with.
            JwtInvalid: it breaks a rule; ``field`` names the header or claim.
        """
        ...
