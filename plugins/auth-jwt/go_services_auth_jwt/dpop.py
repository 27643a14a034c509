"""DPoP (RFC 9449): each request carries a proof that its sender holds the key that the token is bound to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from go_services_core.auth.dpop import KEY
from go_services_core.auth_specs import AuthSpec
from go_services_core.errors import KeyInvalid, SigningError
from go_services_core.http import HttpRequest
from go_services_core.protocols import SigningContext, SigningKey
from go_services_core.secret import SecretStr

from .base64url import encode
from .jwk import Jwk, generate_ec_key
from .jws import sign_claims


def generate_key(random: Callable[[int], bytes]) -> SecretStr:
    """A new EC P-256 key as PEM, for one connection; keep it in ``TokenSet.extra["dpop_key"]``."""
    return generate_ec_key(random)


def thumbprint(key: SecretStr) -> str:
    """``jkt`` of the key (RFC 9449 §6.1): what the token is bound to, and the parameter ``dpop_jkt`` (§10).

    Raises:
        KeyInvalid: it is no private key.
    """
    return _load(key).thumbprint()


def proof(
    key: SecretStr,
    method: str,
    url: str,
    *,
    now: datetime,
    random: Callable[[int], bytes],
    nonce: str | None = None,
    access_token: SecretStr | None = None,
) -> str:
    """The value of the header ``DPoP`` for one request (RFC 9449 §4.2).

    Args:
        key: the private key.
        method: as it is sent; becomes ``htm``.
        url: where it is sent; ``htu`` is it without query and fragment.
        now: becomes ``iat``.
        random: source of ``jti``.
        nonce: what the server asked for, if anything.
        access_token: of a request to a resource; its hash becomes ``ath``. None at the token endpoint.

    Raises:
        SigningError: the URL is not an absolute http(s) one without a user.
        KeyInvalid: it is no private key with an asymmetric algorithm.
    """
    jwk = _load(key)
    claims: dict[str, Any] = {
        "jti": encode(random(16)),
        "htm": method,
        "htu": _target(url),
        "iat": int(now.timestamp()),
    }
    if access_token is not None:
        claims["ath"] = encode(hashlib.sha256(access_token.reveal().encode("utf-8", "surrogatepass")).digest())
    if nonce is not None:
        claims["nonce"] = nonce
    return sign_claims(claims, jwk, header={"typ": "dpop+jwt", "jwk": jwk.public_members()})


class DpopSigner:
    """``Authorization: DPoP <token>`` and ``DPoP: <proof>`` (RFC 9449 §7.1), with the server's nonce if any."""

    def is_dated(self, auth: AuthSpec) -> bool:
        """True: a proof has ``iat``."""
        return True

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        held = key.credential.tokens.extra.get(KEY) if key.credential is not None else None
        if held is None:
            raise SigningError("The credential has no DPoP key.", plugin="auth-jwt", field=KEY)
        try:
            made = proof(
                held,
                request.method,
                request.url,
                now=ctx.now,
                random=ctx.random,
                nonce=ctx.nonce,
                access_token=key.secret,
            )
        except KeyInvalid as why:
            raise SigningError(why.message, plugin="auth-jwt", field=KEY) from None
        signed = request.with_header("Authorization", "DPoP " + key.secret.reveal())
        return signed.with_header("DPoP", made)


def _load(key: SecretStr) -> Jwk:
    return Jwk.from_text(key, field=KEY)


def _target(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme.lower() not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise SigningError("A proof is for an absolute URL without a user in it.", plugin="auth-jwt", field="url")
    return url.partition("#")[0].partition("?")[0]
