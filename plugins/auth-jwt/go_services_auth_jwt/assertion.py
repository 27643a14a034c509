"""Assertions that a client signs (RFC 7523): about itself, or about whom it wants a token for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

from go_services_core.errors import BadInput

from .base64url import encode
from .jwk import Jwk, certificate_thumbprint
from .jws import sign_claims

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
"""``grant_type`` (RFC 7523 §2.1)."""
LONGEST: Final = 3600.0
"""Seconds that an assertion may live; Google takes no longer one."""


def client_assertion(
    key: Jwk,
    *,
    client_id: str,
    audience: str,
    now: datetime,
    random: Callable[[int], bytes],
    lifetime: float = 60.0,
    backdate: float = 10.0,
    certificate: str | None = None,
) -> str:
    """The client's proof of who it is: ``private_key_jwt``, or ``client_secret_jwt`` with a key from a secret.

    RFC 7523 §3 and OpenID Connect Core §9: ``iss`` and ``sub`` are the client id, ``jti`` is random.

    Args:
        key: the client's private key; its ``kid`` goes into the header.
        client_id: as registered.
        audience: the issuer or the token endpoint, as the server wants it.
        now: time of signing.
        random: source of the ``jti``.
        lifetime: seconds from ``now`` to ``exp``.
        backdate: seconds that ``iat`` lies before ``now``, for a server whose clock is behind.
        certificate: PEM certificate of the key; puts ``x5t#S256`` into the header (RFC 7515 §4.1.8).

    Raises:
        BadInput: a blank id or audience, or a lifetime that is not within (0, 3600] seconds.
        KeyInvalid: the key cannot sign, or the certificate is another key's.
    """
    claims = _claims(client_id, client_id, audience, now, lifetime, backdate)
    header: dict[str, Any] = {}
    if certificate is not None:
        header["x5t#S256"] = certificate_thumbprint(certificate, key)
    return sign_claims({**claims, "jti": encode(random(16))}, key, header=header)


def grant_assertion(
    key: Jwk,
    *,
    issuer: str,
    subject: str | None,
    audience: str,
    now: datetime,
    random: Callable[[int], bytes],
    lifetime: float = 300.0,
    backdate: float = 10.0,
    scopes: Iterable[str] = (),
) -> str:
    """The assertion of a JWT bearer grant (RFC 7523 §2.1 and §3).

    Args:
        key: the issuer's private key.
        issuer: ``iss``: client id, or e-mail of a service account.
        subject: ``sub``: for whom the token shall be. None leaves it out, as Google wants it unless the service account
            acts for a person; RFC 7523 §3 itself requires it.
        audience: ``aud``.
        now: time of signing.
        random: source of the ``jti``.
        lifetime: seconds from ``now`` to ``exp``.
        backdate: seconds that ``iat`` lies before ``now``.
        scopes: put as the claim ``scope``, separated by spaces, where the server reads them there.

    Raises:
        BadInput: a blank value, or a lifetime that is not within (0, 3600] seconds.
        KeyInvalid: the key cannot sign.
    """
    claims = _claims(issuer, subject, audience, now, lifetime, backdate)
    scope = " ".join(scopes)
    if scope:
        claims["scope"] = scope
    return sign_claims({**claims, "jti": encode(random(16))}, key)


def _claims(
    issuer: str, subject: str | None, audience: str, now: datetime, lifetime: float, backdate: float
) -> dict[str, Any]:
    if not 0 < lifetime + backdate <= LONGEST or lifetime <= 0 or backdate < 0:
        raise BadInput(
            f"An assertion lives for more than 0 and, from iat to exp, at most {LONGEST:.0f} seconds.",
            plugin="auth-jwt",
            field="lifetime",
        )
    claims: dict[str, Any] = {"iss": issuer}
    if subject is not None:
        claims["sub"] = subject
    claims["aud"] = audience
    for name, value in claims.items():
        if not value.strip():
            raise BadInput(f"The assertion's {name} is blank.", plugin="auth-jwt", field=name)
    moment = now.timestamp()
    return {**claims, "iat": int(moment - backdate), "exp": int(moment + lifetime)}
