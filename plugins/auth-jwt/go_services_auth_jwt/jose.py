"""What the core's flows use of this plugin: assertions, proofs and ID tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

from go_services_core.errors import BadInput
from go_services_core.secret import SecretStr

from . import dpop
from .algorithms import AlgorithmName
from .assertion import client_assertion
from .id_token import verify_id_token
from .jwk import Jwk, JwkSet
from .message_signatures import make


class JwtJose:
    """The ``Jose`` of this plugin."""

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
        if algorithm is not None and algorithm not in get_args(AlgorithmName):
            raise BadInput(f"There is no signature algorithm {algorithm!r}.", plugin="auth-jwt", field="algorithm")
        signing = Jwk.from_text(key, kid=key_id, algorithm=algorithm, field="the client's key")  # type: ignore[arg-type]
        return client_assertion(signing, client_id=client_id, audience=audience, now=now, random=random)

    def new_proof_key(self, random: Callable[[int], bytes]) -> SecretStr:
        return dpop.generate_key(random)

    def thumbprint(self, key: SecretStr) -> str:
        return dpop.thumbprint(key)

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
        return dpop.proof(key, method, url, now=now, random=random, nonce=nonce, access_token=access_token)

    def message_signature(self, key: SecretStr, algorithm: str, data: bytes) -> bytes:
        return make(key, algorithm, data)

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
        return verify_id_token(
            token,
            JwkSet.from_dict(jwks),
            issuer=issuer,
            client_id=client_id,
            now=now,
            nonce=nonce,
            access_token=access_token,
            code=code,
            algorithms=algorithms,
        ).claims
