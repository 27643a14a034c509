"""Session tokens of apps that are embedded in their provider's pages, as Shopify signs them. No I/O, no clock.

https://shopify.dev/docs/apps/build/authentication-authorization/session-tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NoReturn

from attrs import field, frozen

from go_services_core.errors import EmbeddedSessionInvalid, JwtInvalid
from go_services_core.hosts import host_of, is_on_hosts
from go_services_core.secret import SecretStr

from .jwk import Jwk
from .jws import verify
from .records import SessionTokenExchange

LONGEST: Final = 900.0
"""Seconds from now to the end of a session token, at most; Shopify's live for a minute."""
_LATEST: Final = 253_402_300_799
_HOST: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*(:[0-9]{1,5})?")
_ID: Final = re.compile(r"[!-~]{1,255}")


@frozen(kw_only=True)
class SessionToken:
    """A session token that passed every check."""

    shop: str
    """Host of the shop, in lower case."""
    subject: str
    """The person who is signed in."""
    id: str = field(repr=False)
    """``jti``, unique for each token."""
    expires_at: float
    """Seconds since 1970."""


def read_session_token(
    token: SecretStr, record: SessionTokenExchange, *, client_id: str, client_secret: SecretStr, now: datetime
) -> SessionToken:
    """What a session token says, if it may be believed.

    It is signed with the client's secret (HS256), meant for ``client_id``, valid now, and of one shop whose host the
    record allows: ``dest`` is that shop and ``iss`` its admin.

    Raises:
        EmbeddedSessionInvalid: it breaks a rule; ``field`` names the header or claim.
        KeyInvalid: the client's secret is too short to sign with.
    """
    key = Jwk.from_secret(client_secret)
    try:
        claims = verify(token.reveal(), key, algorithms=("HS256",), typ=("", "jwt")).claims()
    except JwtInvalid as why:
        raise EmbeddedSessionInvalid(why.message, plugin="auth-jwt", field=why.field) from None
    shop = _shop(claims, record)
    audience = claims.get("aud")
    if client_id not in (audience if isinstance(audience, list) else [audience]):
        _refuse("The session token is meant for another app.", "aud")
    moment, leeway = now.timestamp(), record.leeway
    expires, begins, issued = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if moment >= expires + leeway:
        _refuse("The session token is over its time; the app's page has to bring a new one.", "exp")
    if begins > moment + leeway:
        _refuse("The session token is not valid yet; are the clocks right?", "nbf")
    if issued > moment + leeway:
        _refuse("The session token was issued in the future; are the clocks right?", "iat")
    if expires > moment + LONGEST:
        _refuse(f"The session token lives for more than {LONGEST:.0f} seconds.", "exp")
    subject, id, _ = (_text(claims, name) for name in ("sub", "jti", "sid"))
    return SessionToken(shop=shop, subject=subject, id=id, expires_at=expires)


def is_allowed(shop: str, record: SessionTokenExchange) -> bool:
    """Whether a host is one of the record's shops."""
    scheme, _, pattern = record.shop_url.partition("://")
    fits = is_on_hosts(f"{scheme}://{shop}", (pattern.lower(),), plain_http=scheme == "http")
    return fits and _HOST.fullmatch(shop) is not None


def token_url(shop: str, record: SessionTokenExchange) -> str:
    """The token endpoint of a shop."""
    return f"{record.shop_url.partition('://')[0]}://{shop}{record.token_path}"


def _shop(claims: Mapping[str, Any], record: SessionTokenExchange) -> str:
    scheme = record.shop_url.partition("://")[0]
    where = {name: value if isinstance(value := claims.get(name), str) else "" for name in ("dest", "iss")}
    try:
        shop = host_of(where["dest"])
    except ValueError:
        shop = ""
    if where["dest"] not in (f"{scheme}://{shop}", f"{scheme}://{shop}/") or not is_allowed(shop, record):
        _refuse("The session token is of no shop that the provider's record allows.", "dest")
    if where["iss"].removesuffix("/") != f"{scheme}://{shop}{record.issuer_path}":
        _refuse("The session token was issued by another shop than the one it is for.", "iss")
    return shop


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LATEST:
        _refuse(f"The session token has no {name}, or it is not a time.", name)
    return value


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        _refuse(f"The session token has no usable {name}.", name)
    return value


def _refuse(message: str, field: str) -> NoReturn:
    raise EmbeddedSessionInvalid(message, plugin="auth-jwt", field=field)
