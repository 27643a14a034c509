"""Signed tokens in compact form (RFC 7515 §7.1), made and checked after RFC 8725.

What a token says of itself never decides how it is checked: the caller says which algorithms are allowed, and each key
works with the algorithms of its own type only. Keys in a header (``jwk``, ``jku``, ``x5c``, ``x5u``) are not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final, NoReturn

from attrs import field, frozen
from cryptography.exceptions import InvalidSignature

from go_services_core.errors import BadInput, JwtInvalid, JwtKeyUnknown

from .base64url import decode, encode
from .jwk import Jwk, JwkSet
from .strict_json import read_object

MOST_BYTES: Final = 65_536
"""A longer token is refused before it is read."""


@frozen(kw_only=True)
class Jws:
    """A token whose signature was checked. What it says must still be checked."""

    header: Mapping[str, Any]
    payload: bytes = field(repr=False)
    key: Jwk
    """The key that it was signed with."""
    algorithm: str

    def claims(self) -> dict[str, Any]:
        """The payload as a set of claims (RFC 7519 §4).

        Raises:
            JwtInvalid: it is not a JSON object, or a claim occurs twice.
        """
        try:
            return read_object(self.payload)
        except ValueError as why:
            _refuse(f"The token's claims cannot be read: {why}.", "payload")


def sign(payload: bytes, key: Jwk, *, header: Mapping[str, Any] | None = None) -> str:
    """The compact form of ``payload`` signed with ``key``.

    Args:
        payload: any bytes.
        key: a private key or a secret; its algorithm and ``kid`` go into the header.
        header: further members of the protected header, such as ``typ``.

    Raises:
        BadInput: ``header`` has ``alg`` or ``crit``, or what JSON cannot hold.
        KeyInvalid: the key cannot sign.
    """
    protected: dict[str, Any] = {"alg": key.algorithm}
    if key.kid is not None:
        protected["kid"] = key.kid
    for name, value in (header or {}).items():
        if name in ("alg", "crit", "b64"):
            raise BadInput(f"The key decides the header {name}; it cannot be given.", plugin="auth-jwt", field="header")
        protected[name] = value
    signed = f"{encode(_compact(protected, 'header'))}.{encode(payload)}"
    return f"{signed}.{encode(key.sign(signed.encode('ascii')))}"


def sign_claims(claims: Mapping[str, Any], key: Jwk, *, header: Mapping[str, Any] | None = None) -> str:
    """A JWT (RFC 7519 §7.1) with ``typ`` ``JWT`` unless ``header`` says another.

    Raises:
        BadInput, KeyInvalid: as :func:`sign`; a claim that JSON cannot hold is a BadInput too.
    """
    return sign(_compact(claims, "claims"), key, header={"typ": "JWT", **(header or {})})


def verify(
    token: str, keys: Jwk | JwkSet, *, algorithms: Collection[str], typ: Collection[str] = (), limit: int = MOST_BYTES
) -> Jws:
    """The token, after its signature was found right.

    Args:
        token: the compact form, exactly: no white space, no padding.
        keys: the key, or the set in which the token's ``kid`` is looked up. Without ``kid`` the set must have exactly
            one key for the algorithm (OpenID Connect Core §10.1).
        algorithms: what is allowed, e.g. ``("RS256", "ES256")``. ``none`` never is.
        typ: allowed values of the header ``typ`` in lower case and without ``application/`` (RFC 8725 §3.11); when
            given, an absent one is allowed only if ``""`` is among them.
        limit: bytes that the token may have.

    Raises:
        JwtKeyUnknown: no key of the set has the token's ``kid``.
        JwtInvalid: anything else that is wrong with it; ``field`` says what.
    """
    if len(token) > limit:
        _refuse(f"The token is longer than {limit} bytes.", "token")
    parts = token.split(".", 5)
    if len(parts) == 5:
        _refuse("The token is encrypted, not signed.", "token")
    if len(parts) != 3:
        _refuse("The token does not have the three parts of a signed one.", "token")
    try:
        head, payload, signature = (decode(part) for part in parts)
    except ValueError:
        _refuse("A part of the token is not strict base64url.", "token")
    try:
        header = read_object(head)
    except ValueError as why:
        _refuse(f"The token's header cannot be read: {why}.", "header")
    algorithm = _algorithm(header, algorithms)
    if "crit" in header:  # whatever it lists, nothing of it is understood here (RFC 7515 §4.1.11)
        _refuse("The token's header marks an extension as critical that is not known here.", "crit")
    if typ:
        _check_type(header, typ)
    data = f"{parts[0]}.{parts[1]}".encode("ascii")
    for key in _candidates(header, keys, algorithm):
        try:
            key.check(algorithm, data, signature)
        except InvalidSignature:
            continue
        return Jws(header=header, payload=payload, key=key, algorithm=algorithm)
    raise JwtInvalid("The token's signature is wrong.", plugin="auth-jwt", field="signature")


def _algorithm(header: Mapping[str, Any], allowed: Collection[str]) -> str:
    name = header.get("alg")
    if not isinstance(name, str) or name not in allowed or name.lower() == "none":
        known = ", ".join(sorted(allowed))
        _refuse(f"The token's algorithm is not one of those allowed ({known}).", "alg")
    return name


def _check_type(header: Mapping[str, Any], allowed: Collection[str]) -> None:
    found = header.get("typ", "")
    if not isinstance(found, str) or found.lower().removeprefix("application/") not in allowed:
        _refuse("The token is of another type (header typ) than is wanted here.", "typ")


def _candidates(header: Mapping[str, Any], keys: Jwk | JwkSet, algorithm: str) -> tuple[Jwk, ...]:
    kid = header.get("kid")
    if kid is not None and not isinstance(kid, str):
        _refuse("The token's key id is not text.", "kid")
    if isinstance(keys, Jwk):
        named: tuple[Jwk, ...] = (keys,)  # the caller has chosen the key
    elif kid is None:
        named = keys.keys
    else:
        named = tuple(key for key in keys.keys if key.kid == kid)
        if not named:
            raise JwtKeyUnknown("The key set has no key with the token's key id.", plugin="auth-jwt", field="kid")
    fitting = tuple(key for key in named if key.allows(algorithm))
    if not fitting:
        if kid is None and isinstance(keys, JwkSet):
            raise JwtKeyUnknown("The key set has no key for the token's algorithm.", plugin="auth-jwt", field="kid")
        _refuse("The key that the token names is not for its algorithm.", "alg")
    if kid is None and len(fitting) > 1:
        _refuse("The token names no key, and the key set has several for its algorithm.", "kid")
    return fitting


def _compact(members: Mapping[str, Any], field: str) -> bytes:
    try:
        return json.dumps(members, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError):
        raise BadInput(f"The {field} hold what JSON cannot.", plugin="auth-jwt", field=field) from None


def _refuse(message: str, field: str) -> NoReturn:
    raise JwtInvalid(message, plugin="auth-jwt", field=field) from None
