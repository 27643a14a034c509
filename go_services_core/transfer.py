"""What comes from another system or database, and how its import ended."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeVar

from attrs import field, frozen

from .errors import BadInput
from .model import Connection, Scope, TokenSet
from .secret import SecretStr

T = TypeVar("T")
ImportOutcome = Literal["new", "renewed", "unchanged", "skipped"]

_SECRETS: Final = ("access_token", "refresh_token", "id_token")
_TIMES: Final = ("expires_at", "refresh_expires_at")
_GRANTS: Final = ("granted", "requested")
_TEXTS: Final = ("provider", "scope", "auth", "account", "token_type")
_MEMBERS: Final = frozenset((*_SECRETS, *_TIMES, *_GRANTS, *_TEXTS, "extra"))
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|^\s|\s$")


@frozen(kw_only=True)
class TokenImport(TokenSet):
    """Tokens that another system kept, with what it knows of them.

    ``granted=None`` means that nobody knows: then the provider's answer tells, if it does, else ``requested``.

    Raises:
        BadInput: a token is empty, a time has no offset, or a field is of another type.
    """

    requested: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        for name in _SECRETS:
            secret = getattr(self, name)
            if not (secret is None and name != "access_token") and not isinstance(secret, SecretStr):
                raise BadInput(f"The secret {name} is a SecretStr.", field=name)
            if secret is not None and not secret and not (name == "access_token" and self.extra):
                raise BadInput(f"The secret {name} is empty.", field=name)
        if not all(isinstance(value, SecretStr) for value in self.extra.values()):
            raise BadInput("What stands in extra is SecretStr.", field="extra")
        for name in _TIMES:
            time = getattr(self, name)
            if time is not None and (not isinstance(time, datetime) or time.tzinfo is None):
                raise BadInput(f"The time {name} needs an offset from UTC.", field=name)
        for name in _GRANTS:
            grants = getattr(self, name)
            whole = isinstance(grants, tuple) and all(isinstance(grant, str) and grant for grant in grants)
            if not whole and not (grants is None and name == "granted"):
                raise BadInput(f"The {name} grants are a tuple of names.", field=name)


@frozen(kw_only=True)
class ImportLine:
    """One line of a file for ``go-services connections import``."""

    provider: str
    scope: Scope
    auth: str | None
    account: str | None
    tokens: TokenImport


@frozen(kw_only=True)
class Imported:
    """How the import of one connection ended: ``new``, ``renewed`` (its account was connected: a new version),
    ``unchanged`` (these tokens are stored, or were before they were renewed here), or ``skipped``; ``detail`` says why.
    """

    outcome: ImportOutcome
    provider_id: str
    scope: Scope
    account: str
    connection: Connection | None = None
    """None in a dry run of a new one, and for one that was skipped."""
    detail: str = ""


@frozen(kw_only=True)
class Exported:
    """An export bundle and what is in it."""

    bundle: bytes = field(repr=False)
    """Encrypted as a whole; docs/reference/export-bundle.md has the format."""
    connections: int
    without_secrets: tuple[str, ...] = ()
    """Ids of connections that are in it without their credential: not active, or not readable now."""


def read_line(text: SecretStr) -> ImportLine:
    """A line of the import file: one JSON object; docs/how-to/move-connections.md has its members.

    Raises:
        BadInput: it is not such an object; ``field`` names the member. No value is repeated.
    """
    return read_object(text, _line)


def read_object(text: SecretStr, read: Callable[[Mapping[str, Any]], T]) -> T:
    """What ``read`` makes of a JSON object. No frame that an error is raised in has the object among its locals.

    Raises:
        BadInput: it is not a JSON object, or ``read`` refuses it.
    """
    found = _tried(text, read)
    if isinstance(found, BadInput):
        raise found
    return found


def _tried(text: SecretStr, read: Callable[[Mapping[str, Any]], T]) -> T | BadInput:
    try:
        fields = json.loads(text.reveal())
        json.dumps(fields, ensure_ascii=False).encode()  # or what is no UTF-8 goes on as a lone surrogate
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return BadInput("This is not a JSON object in UTF-8.")
    try:
        return read(fields)
    except BadInput as refused:
        return refused.with_traceback(None)


def _line(fields: Mapping[str, Any]) -> ImportLine:
    unknown = sorted(fields.keys() - _MEMBERS)
    if unknown:
        known = ", ".join(sorted(_MEMBERS))
        raise BadInput("There is a member that no import has.", hint=f"Members: {known}.", field=unknown[0])
    for name in (*_TEXTS, *_SECRETS):
        if fields.get(name) is not None and not isinstance(fields[name], str):
            raise BadInput(f"The member {name} is text.", field=name)
    for name in ("provider", "scope", "access_token"):
        if not fields.get(name):
            raise BadInput(f"The member {name} is missing.", field=name)
    return ImportLine(
        provider=fields["provider"],
        scope=Scope.parse(fields["scope"]),
        auth=fields.get("auth"),
        account=fields.get("account"),
        tokens=tokens_of(fields),
    )


def tokens_of(fields: Mapping[str, Any]) -> TokenImport:
    """The tokens in an object of JSON.

    Raises:
        BadInput: a member is of another type; ``field`` names it.
    """
    extra = fields.get("extra") or {}
    if not isinstance(extra, Mapping) or not all(isinstance(value, str) for value in extra.values()):
        raise BadInput("The member extra is an object of texts.", field="extra")
    given: dict[str, Any] = {"token_type": fields.get("token_type") or "bearer"}
    for name in _SECRETS:
        value = fields.get(name)
        given[name] = None if value is None else SecretStr(value)
    for name in _TIMES:
        given[name] = time_of(name, fields.get(name))
    for name in _GRANTS:
        value = fields.get(name)
        if value is not None and not isinstance(value, list):
            raise BadInput(f"The member {name} is a list of texts.", field=name)
        given[name] = (None if name == "granted" else ()) if value is None else tuple(value)
    return TokenImport(**given, extra={name: SecretStr(value) for name, value in extra.items()})


def mangled(tokens: TokenSet) -> str | None:
    """Which token has a space around it or a control character in it, and was damaged on its way; None where none."""
    held = [(name, getattr(tokens, name)) for name in _SECRETS]
    return next((name for name, value in held if value is not None and _UNSAFE.search(value.reveal())), None)


def time_of(name: str, value: Any) -> datetime | None:
    """A time in RFC 3339, or in seconds since 1970."""
    try:
        if value is None:
            return None
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            if time.tzinfo is not None:
                return time.astimezone(UTC)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise BadInput(f"The member {name} is a time with its offset (RFC 3339), or seconds since 1970.", field=name)
