"""ID tokens (OpenID Connect Core §2), checked by the rules of §3.1.3.7, §3.1.3.8 and §3.3.2.11. No I/O, no clock."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from attrs import field, frozen

from go_services_core.errors import BadInput, JwtInvalid
from go_services_core.secret import SecretStr

from .algorithms import ALGORITHMS
from .base64url import encode
from .jwk import JwkSet
from .jws import verify

ASYMMETRIC: Final = tuple(name for name, algorithm in ALGORITHMS.items() if algorithm.key_type != "oct")
_LATEST: Final = 253_402_300_799
"""The last second that a datetime can hold."""


@frozen(kw_only=True)
class IdToken:
    """An ID token that passed every check."""

    issuer: str
    subject: str
    """Unique and unchanging at the issuer; together they name the account, an e-mail address does not (§5.7)."""
    audience: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    claims: Mapping[str, Any] = field(repr=False)
    """Everything that the token says."""


def verify_id_token(
    id_token: SecretStr,
    jwks: JwkSet,
    *,
    issuer: str,
    client_id: str,
    now: datetime,
    nonce: str | None = None,
    leeway: float = 60.0,
    algorithms: Collection[str] = ("RS256",),
    access_token: SecretStr | None = None,
    code: SecretStr | None = None,
    trusted_audiences: Collection[str] = (),
) -> IdToken:
    """The token's content, if it may be believed.

    Args:
        id_token: as it was received.
        jwks: the issuer's published keys.
        issuer: exactly as in the issuer's metadata (§3.1.3.7 rule 2).
        client_id: ours (rules 3 to 5).
        now: time of the check.
        nonce: what the authorization request carried (rule 11); None when it carried none, as at a renewal.
        leeway: seconds that the clocks may be apart.
        algorithms: allowed signatures (rule 7): what the client is registered for, RS256 unless it says otherwise.
        access_token: checked against ``at_hash`` where the token has one (§3.1.3.8).
        code: checked against ``c_hash`` where the token has one (§3.3.2.11).
        trusted_audiences: further audiences that may stand in ``aud``.

    Raises:
        JwtKeyUnknown: the keys lack the one it was signed with: fetch them again, once.
        JwtInvalid: it breaks a rule; ``field`` names the header or claim.
        BadInput: an algorithm in ``algorithms`` is unknown or symmetric.
    """
    unknown = sorted(set(algorithms) - set(ASYMMETRIC))
    if unknown:
        raise BadInput(
            f"An ID token cannot be checked with {', '.join(unknown)}; there are {', '.join(ASYMMETRIC)}.",
            plugin="auth-jwt",
            field="algorithms",
        )
    jws = verify(id_token.reveal(), jwks, algorithms=algorithms, typ=("", "jwt"))
    claims = jws.claims()
    if claims.get("iss") != issuer:
        _refuse("The ID token comes from another issuer.", "iss")
    audience = _audience(claims, client_id, trusted_audiences)
    moment = now.timestamp()
    expires = _time(claims, "exp")
    issued = _time(claims, "iat")
    if expires is None or issued is None:
        missing = "exp" if expires is None else "iat"
        _refuse(f"The ID token has no {missing}.", missing)
    if moment >= expires + leeway:
        _refuse("The ID token is over its time.", "exp")
    if issued > moment + leeway:
        _refuse("The ID token was issued in the future; are the clocks right?", "iat")
    not_before = _time(claims, "nbf")
    if not_before is not None and not_before > moment + leeway:
        _refuse("The ID token is not valid yet.", "nbf")
    _check_nonce(claims, nonce)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject.strip() or len(subject) > 255 or not subject.isascii():
        _refuse("The ID token does not say whose it is.", "sub")
    digest = ALGORITHMS[jws.algorithm].digest
    _check_hash(claims, "at_hash", "access token", access_token, digest)
    _check_hash(claims, "c_hash", "code", code, digest)
    return IdToken(
        issuer=issuer,
        subject=subject,
        audience=audience,
        issued_at=datetime.fromtimestamp(issued, UTC),
        expires_at=datetime.fromtimestamp(expires, UTC),
        claims=claims,
    )


def _audience(claims: Mapping[str, Any], client_id: str, trusted: Collection[str]) -> tuple[str, ...]:
    """Rules 3 to 5 of §3.1.3.7."""
    found = claims.get("aud")
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        _refuse("The ID token has no readable audience.", "aud")
    if client_id not in listed:
        _refuse("The ID token was issued to another client.", "aud")
    if not set(listed) <= {client_id, *trusted}:
        _refuse("The ID token is also meant for an audience that is not trusted.", "aud")
    party = claims.get("azp")
    if party is None and len(listed) > 1:
        _refuse("The ID token has several audiences and does not say who asked for it.", "azp")
    if party is not None and party != client_id:
        _refuse("Another client asked for the ID token.", "azp")
    return tuple(listed)


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LATEST:
        _refuse(f"The ID token's {name} is not a time.", name)
    return value


def _check_nonce(claims: Mapping[str, Any], nonce: str | None) -> None:
    if nonce is None:
        return
    found = claims.get("nonce")
    if found is None:
        _refuse("The ID token lacks the nonce of the request.", "nonce")
    if not isinstance(found, str) or not _same(found, nonce):
        _refuse("The ID token belongs to another request: its nonce is not the one that was sent.", "nonce")


def _check_hash(claims: Mapping[str, Any], name: str, what: str, value: SecretStr | None, digest: str) -> None:
    """The left half of the hash, base64url (§3.1.3.6)."""
    found = claims.get(name)
    if value is None or found is None:
        return
    hashed = hashlib.new(digest, value.reveal().encode("utf-8", "surrogatepass")).digest()
    if not isinstance(found, str) or not _same(found, encode(hashed[: len(hashed) // 2])):
        _refuse(f"The ID token does not belong to the {what} that came with it.", name)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _refuse(message: str, field: str) -> NoReturn:
    raise JwtInvalid(message, plugin="auth-jwt", field=field)
