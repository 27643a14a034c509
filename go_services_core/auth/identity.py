"""Whose account a credential belongs to, read from the provider's own answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ProfileNotFound, ResponseInvalid
from ..http import HttpResponse
from ..specs import Identity


def read_account(identity: Identity, response: HttpResponse) -> tuple[str, tuple[str, ...] | None]:
    """The account's id and, where a header lists them, the token's grants.

    Raises:
        ProfileNotFound: the answer is not JSON or has no id at ``identity.account``.
    """
    try:
        data = response.json()
    except ResponseInvalid as error:
        raise ProfileNotFound(f"The provider's profile cannot be read: {error}", field="identity.url") from None
    for path in identity.account.split("|"):
        found = pick(data, path.strip())
        if isinstance(found, (str, int)) and not isinstance(found, bool) and str(found).strip():
            return str(found), _grants(identity, response)
    raise ProfileNotFound(f"The provider's profile has no {identity.account!r}.", field="identity.account")


def pick(data: Any, path: str) -> Any:
    """The value at a dotted path of mappings, or None."""
    for name in path.split("."):
        if not isinstance(data, Mapping):
            return None
        data = data.get(name)
    return data


def _grants(identity: Identity, response: HttpResponse) -> tuple[str, ...] | None:
    if identity.grants_header is None:
        return None
    value = response.header(identity.grants_header)
    if value is None:
        return None
    return tuple(item.strip() for item in value.split(",") if item.strip())
