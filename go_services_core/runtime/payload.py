"""The plaintext inside sealed rows: credentials, what an attempt remembers, inbound requests, results of keyed calls.

A plaintext that is not as it should be is ``CannotOpen``, raised where only masked values are at hand: an error of the
JSON module would carry the plaintext with it.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from attrs import evolve, field, frozen

from ..auth.fields import kept
from ..errors import CannotOpen
from ..http import HttpResponse, InboundRequest
from ..model import Connection, Credential, OperationResult, SealedCredential, TokenSet
from ..secret import SecretBytes, SecretStr
from ..wrapping_keys import SealedRow

CREDENTIAL_FORMAT = "token_set_json"
CREDENTIAL_VERSION = 1
LEGACY_FORMAT: Final = "legacy_token"
"""The Go system's oldest format, which a row without a format has."""
_GO_MEMBERS: Final = frozenset(
    (
        "connection_id", "token_type", "access_token", "refresh_token", "requested_scopes", "granted_scopes",
        "expires_at", "refreshable", "rotates_at", "metadata",
    )
)  # fmt: skip
T = TypeVar("T")


@frozen(kw_only=True)
class _Payload:
    """What a credential's plaintext says; empty where that stands in its row alone."""

    access_token: SecretStr
    refresh_token: SecretStr | None = None
    id_token: SecretStr | None = None
    extra: Mapping[str, SecretStr] = field(factory=dict)
    connection_id: str = ""
    token_type: str = ""
    requested: tuple[str, ...] = ()
    granted: tuple[str, ...] = ()
    expires_at: datetime | None = None
    refreshable: bool = False


def encode_tokens(tokens: TokenSet) -> bytes:
    """The secrets of a token set; what is not secret stands in the row beside it."""
    fields: dict[str, object] = {"access_token": tokens.access_token.reveal()}
    for name in ("refresh_token", "id_token"):
        value: SecretStr | None = getattr(tokens, name)
        if value is not None:
            fields[name] = value.reveal()
    if tokens.extra:
        fields["extra"] = {name: value.reveal() for name, value in tokens.extra.items()}
    return json.dumps(fields, separators=(",", ":")).encode()


def decode_credential(plaintext: SecretBytes, row: SealedCredential, connection: Connection) -> Credential:
    """The credential of a row, by the payload format and version that the row says.

    A row that was adopted from the Go system has one of its formats, another row today's. Where a payload leaves out
    token type, scopes or expiry, its row has them; it can be refreshed if either says so.

    Raises:
        CannotOpen: the format or version is not known, or the payload is not in it or of another connection.
    """
    said = _payload(plaintext, row, row.connection_id)
    granted = said.granted or row.granted
    tokens = TokenSet(
        access_token=said.access_token,
        token_type=said.token_type or row.token_type,
        refresh_token=said.refresh_token,
        expires_at=said.expires_at or row.expires_at,
        refresh_expires_at=row.refresh_expires_at,
        granted=granted,
        id_token=said.id_token,
        extra=said.extra,
    )
    return Credential(
        connection_id=connection.id,
        version=row.version,
        auth_kind=connection.auth_kind,
        tokens=tokens,
        requested=said.requested or row.requested,
        granted=granted,
        refreshable=said.refreshable or row.refreshable,
    )


def is_current(row: SealedRow) -> bool:
    """Whether a value is in today's envelope and, for a credential, in today's payload format."""
    if not row.sealed.key.backend:
        return False
    return row.kind != "credential" or _format_of(row) == (CREDENTIAL_FORMAT, CREDENTIAL_VERSION)


def to_current(plaintext: SecretBytes, row: SealedRow) -> bytes:
    """A credential's plaintext in today's payload format; what is not secret of it stands in its row already.

    Raises:
        CannotOpen: as ``decode_credential``.
    """
    said = _payload(plaintext, row, row.record_id)
    return encode_tokens(
        TokenSet(
            access_token=said.access_token,
            refresh_token=said.refresh_token,
            id_token=said.id_token,
            extra=said.extra,
        )
    )


def _payload(plaintext: SecretBytes, row: SealedCredential | SealedRow, connection_id: str) -> _Payload:
    format, version = _format_of(row)
    decoders = _DECODERS if row.sealed.key.backend else _GO_DECODERS
    decoder = decoders.get((format, version))
    if decoder is None:
        raise CannotOpen(
            f"The credential of connection {connection_id} has the payload format {format!r} version {version}, which "
            f"{'this release' if row.sealed.key.backend else 'go-services 0.7'} does not write."
        )
    said = _read(decoder, plaintext)
    if said is None:
        raise CannotOpen(
            f"The credential of connection {connection_id} opens, but is not in its payload format {format!r} version "
            f"{version}."
        )
    if said.connection_id not in ("", connection_id):
        raise CannotOpen(
            f"The credential of connection {connection_id} opens, but names another connection: it was moved here."
        )
    return said


def _format_of(row: SealedCredential | SealedRow) -> tuple[str, int]:
    return row.payload_format.strip().lower() or LEGACY_FORMAT, max(1, row.payload_version)


def _token_set_json(plaintext: SecretBytes) -> _Payload:
    fields = json.loads(plaintext.reveal())
    return _Payload(
        access_token=SecretStr(fields["access_token"]),
        refresh_token=SecretStr(fields["refresh_token"]) if "refresh_token" in fields else None,
        id_token=SecretStr(fields["id_token"]) if "id_token" in fields else None,
        extra={name: kept(name, value) for name, value in fields.get("extra", {}).items()},
    )


def _active_credential_json(plaintext: SecretBytes) -> _Payload:
    """The Go system's format. A credential without an access token, such as an AWS key, has what it has in metadata.

    Of metadata, ``id_token`` is that; other text is kept as it is and any other value as its JSON text. Nothing here
    goes by ``rotates_at``, and the row keeps it.
    """
    fields = json.loads(plaintext.reveal().decode())
    if not isinstance(fields, dict) or not fields.keys() <= _GO_MEMBERS:
        raise TypeError("members")
    metadata = dict(_value(fields, "metadata", dict, {}))
    id_token = metadata.pop("id_token") if isinstance(metadata.get("id_token"), str) else ""
    _time(_value(fields, "rotates_at", str, ""))
    refresh_token = _value(fields, "refresh_token", str, "").strip()
    return _Payload(
        access_token=SecretStr(_value(fields, "access_token", str, "").strip()),
        refresh_token=SecretStr(refresh_token) if refresh_token else None,
        id_token=SecretStr(id_token) if id_token else None,
        extra={
            name: kept(name, value if isinstance(value, str) else _json_text(value)) for name, value in metadata.items()
        },
        connection_id=_value(fields, "connection_id", str, "").strip(),
        token_type=_value(fields, "token_type", str, "").strip(),
        requested=_texts(fields, "requested_scopes"),
        granted=_texts(fields, "granted_scopes"),
        expires_at=_time(_value(fields, "expires_at", str, "")),
        refreshable=_value(fields, "refreshable", bool, False),
    )


def _legacy_token(plaintext: SecretBytes) -> _Payload:
    token = plaintext.reveal().decode().strip()
    if not token:
        raise ValueError("empty")
    return _Payload(access_token=SecretStr(token))


_Decoders = Mapping[tuple[str, int], Callable[[SecretBytes], _Payload]]
_DECODERS: Final[_Decoders] = {(CREDENTIAL_FORMAT, CREDENTIAL_VERSION): _token_set_json}
_GO_DECODERS: Final[_Decoders] = {
    ("active_credential_json", 1): _active_credential_json,
    (LEGACY_FORMAT, 1): _legacy_token,
}


def _value(fields: Mapping[str, Any], name: str, kind: type[T], default: T) -> T:
    value = fields.get(name, default)
    if not isinstance(value, kind):
        raise TypeError(name)
    return value


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values: list[Any] = _value(fields, name, list, [])
    if not all(isinstance(value, str) for value in values):
        raise TypeError(name)
    return tuple(values)


def _time(text: str) -> datetime | None:
    """A time as RFC 3339 has it, in UTC and down to microseconds."""
    if not text:
        return None
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("offset")
    return time.astimezone(UTC)


def _json_text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _read(decode: Callable[[SecretBytes], T], plaintext: SecretBytes) -> T | None:
    """What ``plaintext`` says, or None where it cannot be read; the error, which holds parts of it, ends here."""
    try:
        return decode(plaintext)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None


def carry_over(new: TokenSet, old: TokenSet) -> TokenSet:
    """``new`` with what its answer left out because it is unchanged (RFC 6749 §5.1 and §6)."""
    return evolve(
        new,
        refresh_token=new.refresh_token or old.refresh_token,
        refresh_expires_at=new.refresh_expires_at or (None if new.refresh_token else old.refresh_expires_at),
        granted=old.granted if new.granted is None else new.granted,
        id_token=new.id_token or old.id_token,
        extra={**old.extra, **new.extra},
    )


def encode_memory(memory: Mapping[str, SecretStr]) -> bytes:
    """What a flow asked to be remembered between begin and complete."""
    return json.dumps({name: value.reveal() for name, value in memory.items()}, separators=(",", ":")).encode()


def decode_memory(plaintext: SecretBytes) -> dict[str, SecretStr]:
    """The inverse of ``encode_memory``.

    Raises:
        CannotOpen: it is not in that form.
    """
    memory = _read(_memory, plaintext)
    if memory is None:
        raise CannotOpen("What an attempt remembers opens, but is not in its form.")
    return memory


def _memory(plaintext: SecretBytes) -> dict[str, SecretStr]:
    return {name: SecretStr(value) for name, value in json.loads(plaintext.reveal()).items()}


_KEPT_HEADERS: Final = frozenset(
    ("content-type", "location", "content-location", "etag", "last-modified", "link", "content-range")
)


def encode_result(result: OperationResult) -> bytes | None:
    """What is kept of a keyed call's result; None where its data has no JSON form.

    Of the headers, those that describe the answer; what was said of limits or cookies is over by the next call.
    """
    fields: dict[str, Any] = {
        "status": result.status,
        "headers": [pair for pair in result.headers if pair[0].lower() in _KEPT_HEADERS],
        "attempts": result.attempts,
        "request_id": result.request_id,
    }
    if isinstance(result.data, bytes):
        fields["bytes"] = b64encode(result.data).decode()
    else:
        fields["data"] = result.data
    try:
        return json.dumps(fields, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        return None


def decode_result(plaintext: SecretBytes) -> OperationResult:
    """The inverse of ``encode_result``.

    Raises:
        CannotOpen: it is not in that form.
    """
    result = _read(_result, plaintext)
    if result is None:
        raise CannotOpen("The result of a keyed call opens, but is not in its form.")
    return result


def _result(plaintext: SecretBytes) -> OperationResult:
    fields = json.loads(plaintext.reveal())
    return OperationResult(
        status=fields["status"],
        data=b64decode(fields["bytes"]) if "bytes" in fields else fields["data"],
        headers=tuple((name, value) for name, value in fields["headers"]),
        attempts=fields["attempts"],
        request_id=fields["request_id"],
    )


def encode_answer(response: HttpResponse) -> bytes:
    """Status, headers and body of a handler's answer: a line of JSON, then the body as it was."""
    head = {"status": response.status, "headers": response.headers}
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + response.body


def decode_answer(plaintext: SecretBytes) -> HttpResponse:
    """The inverse of ``encode_answer``.

    Raises:
        CannotOpen: it is not in that form.
    """
    response = _read(_answer, plaintext)
    if response is None:
        raise CannotOpen("The recorded answer of a request opens, but is not in its form.")
    return response


def _answer(plaintext: SecretBytes) -> HttpResponse:
    head, _, body = plaintext.reveal().partition(b"\n")
    fields = json.loads(head)
    return HttpResponse(fields["status"], tuple((name, value) for name, value in fields["headers"]), body)


_head_text: Final = json.JSONEncoder(separators=(",", ":")).encode
"""``json.dumps`` with separators makes an encoder for each text, which takes as long as a delivery's."""


def encode_request(request: InboundRequest) -> bytes:
    """Request line, headers and body of a delivery as one blob: a line of JSON, then the body as it was."""
    head = {"method": request.method, "target": request.target, "headers": request.headers}
    return b"%b\n%b" % (_head_text(head).encode(), request.body)


def decode_request(plaintext: SecretBytes) -> InboundRequest:
    """The inverse of ``encode_request``.

    Raises:
        CannotOpen: it is not in that form.
    """
    request = _read(_request, plaintext)
    if request is None:
        raise CannotOpen("A delivery opens, but is not in its form.")
    return request


def _request(plaintext: SecretBytes) -> InboundRequest:
    head, _, body = plaintext.reveal().partition(b"\n")
    fields = json.loads(head)
    headers = tuple((name, value) for name, value in fields["headers"])
    return InboundRequest(fields["method"], fields["target"], headers, body)
