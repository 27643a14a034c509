"""Whose account a credential belongs to, read from the provider's own answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import ProfileNotFound, ResponseInvalid
from ..http import HttpResponse
from ..model import UserProfile
from ..specs import Identity

_CLAIMS: Final = {
    "email": "email",
    "name": "name",
    "given_name": "given_name",
    "family_name": "family_name",
    "picture_url": "picture",
    "locale": "locale",
}
"""Fields of a profile and the claims that hold them (OpenID Connect Core §5.1)."""
_VERIFIED: Final[Mapping[Any, bool]] = {True: True, False: False, "true": True, "false": False}


def read_profile(
    identity: Identity, response: HttpResponse, provider_id: str
) -> tuple[UserProfile, tuple[str, ...] | None]:
    """The profile and, where a header lists them, the token's grants.

    A name that is not told is the given and the family name.

    Raises:
        ProfileNotFound: the answer is not JSON or has no id at ``identity.account``.
    """
    try:
        data = response.json()
    except ResponseInvalid as error:
        raise ProfileNotFound(f"The provider's profile cannot be read: {error}", field="identity.url") from None
    subject = _text(data, identity.account)
    if subject is None:
        raise ProfileNotFound(f"The provider's profile has no {identity.account!r}.", field="identity.account")
    told = {name: _text(data, identity.fields.get(name, claim)) for name, claim in _CLAIMS.items()}
    parts = [part for part in (told["given_name"], told["family_name"]) if part]
    verified = _first(data, identity.fields.get("email_verified", "email_verified"))
    profile = UserProfile(
        provider_id=provider_id,
        issuer=identity.issuer,
        subject=subject,
        email_verified=_VERIFIED.get(verified) if isinstance(verified, (bool, str)) else None,
        raw=data,
        **{**told, "name": told["name"] or " ".join(parts) or None},
    )
    return profile, _grants(identity, response)


def other_spellings(account: str, issuer: str | None) -> tuple[str, ...]:
    """How an account of ``issuer`` may be stored as well: with the issuer before the subject, or without it."""
    if issuer is None:
        return ()
    alone = account.removeprefix(f"{issuer}|")
    return (f"{issuer}|{account}",) if alone == account else (alone,)


def pick(data: Any, path: str) -> Any:
    """The value at a dotted path of mappings, or None."""
    for name in path.split("."):
        if not isinstance(data, Mapping):
            return None
        data = data.get(name)
    return data


def _first(data: Any, paths: str) -> Any:
    """The value at the first of several paths that leads to one."""
    found = (pick(data, path.strip()) for path in paths.split("|"))
    return next((value for value in found if value is not None), None)


def _text(data: Any, paths: str) -> str | None:
    """The text or integer at the first of several paths that leads to one."""
    for path in paths.split("|"):
        found = pick(data, path.strip())
        if isinstance(found, (str, int)) and not isinstance(found, bool) and str(found).strip():
            return str(found)
    return None


def _grants(identity: Identity, response: HttpResponse) -> tuple[str, ...] | None:
    if identity.grants_header is None:
        return None
    value = response.header(identity.grants_header)
    if value is None:
        return None
    return tuple(item.strip() for item in value.split(",") if item.strip())
