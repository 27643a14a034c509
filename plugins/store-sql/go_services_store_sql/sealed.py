"""Every sealed value of the database: counted by wrapping key, listed by row, replaced if it is still the same.

An adopted webhook body is in clear and has no key, so that it is no sealed value; an adopted credential is one of a key
without a backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal

from attrs import frozen

from go_services_core.model import Event, KeyRef, Page, Scope, Sealed, SecretState
from go_services_core.wrapping_keys import KeyUse, Resealed, SealedKind, SealedRow

from . import connections
from .dialect import Json
from .events import enqueue
from .statement import Row, Statement, Steps

PAGE_BYTES: Final = 8 * 2**20
"""Ciphertext that one page has at most, unless its only value has more."""


@frozen(kw_only=True)
class Place:
    """Where the values of one kind are.

    Args:
        row: provider, scope type and id, the record's id and version, connection, payload format and version.
        lock: what a change takes first, so that it never waits for one that waits for it: PostgreSQL.
        has_format: whether the format of what was sealed stands beside it.
    """

    table: str
    payload: str
    key: str = "id"
    row: str
    join: str = ""
    is_value: str = "length(r.@payload) > 0"
    lock: str = "SELECT 1 FROM @table WHERE @key IN (@ids) ORDER BY @key FOR NO KEY UPDATE"
    has_format: bool = False


_JOIN = "JOIN service_connections AS c ON c.id = r.connection_id"
PLACES: Final[Mapping[SealedKind, Place]] = {
    "credential": Place(
        table="service_credentials",
        payload="encrypted_payload",
        row="""c.provider_id, c.scope_type, c.scope_id, r.connection_id, r.version, r.connection_id,
          r.payload_format, r.payload_version""",
        join=_JOIN,
        # As everything that changes credentials: see connections.LOCK.
        lock="""SELECT 1 FROM service_connections WHERE id IN (
          SELECT connection_id FROM service_credentials WHERE id IN (@ids)) ORDER BY id FOR NO KEY UPDATE""",
        has_format=True,
    ),
    "attempt": Place(
        table="service_oauth_attempts",
        payload="payload",
        row="r.provider_id, r.scope_type, r.scope_id, r.id, 1, r.connection_id, '', 1",
    ),
    "inbox": Place(
        table="service_webhook_deliveries",
        payload="payload",
        row="r.provider_id, r.scope_type, r.scope_id, r.id, 1, r.connection_id, '', 1",
        is_value="length(r.@payload) > 0 AND r.encryption_backend <> ''",
    ),
    "idempotency": Place(
        table="service_idempotency",
        payload="result",
        key="key",
        row="'', NULL, NULL, r.key, 1, NULL, '', 1",
    ),
    "subscription": Place(
        table="service_subscriptions",
        payload="verification_token",
        row="r.provider_id, c.scope_type, c.scope_id, r.id, 1, r.connection_id, '', 1",
        join=_JOIN,
    ),
    "intent": Place(
        table="service_refresh_intents",
        payload="payload",
        row="c.provider_id, c.scope_type, c.scope_id, r.connection_id, r.version + 1, r.connection_id, '', 1",
        join=_JOIN,
        lock="""SELECT 1 FROM service_connections WHERE id IN (
          SELECT connection_id FROM service_refresh_intents WHERE id IN (@ids)) ORDER BY id FOR NO KEY UPDATE""",
    ),
    "endpoint": Place(
        table="service_webhook_endpoints",
        payload="secrets",
        row="'', r.scope_type, r.scope_id, r.id, 1, NULL, '', 1",
    ),
}
Choice = Literal["any", "under", "except"]
_UNDER = "r.encryption_backend = :backend AND r.encryption_key_id = :key_id AND r.encryption_version = :key_version"
# In CASE, so that PostgreSQL expects many rows to pass and walks the primary key. By its statistics, which are of the
# last key change or older, it may expect few, and would sort the whole table for every page.
_CHOICES: Final[Mapping[Choice, str]] = {
    "any": "",
    "under": f"AND CASE WHEN {_UNDER} THEN true ELSE false END",
    "except": f"AND CASE WHEN {_UNDER} THEN false ELSE true END",
}
_GIVEN = {
    "sqlite": "json_each(:given) AS given",
    "postgres": "jsonb_array_elements(:given) AS given (value)",
}
_IDS = "SELECT value ->> 'id' FROM jsonb_array_elements(:given) AS given (value)"


def _text(kind: SealedKind, text: str) -> str:
    place = PLACES[kind]
    for mark, said in (
        ("@is_value", place.is_value),
        ("@table", place.table),
        ("@payload", place.payload),
        ("@key", place.key),
        ("@row", place.row),
        ("@join", place.join),
    ):
        text = text.replace(mark, said)
    return text


def sealed_of(ciphertext: bytes | None, backend: str, key_id: str, key_version: int) -> Sealed | None:
    """The value in a row's columns, if it has one."""
    return None if ciphertext is None else Sealed(bytes(ciphertext), KeyRef(backend, key_id, key_version))


@cache
def _count(kind: SealedKind) -> Statement[KeyUse]:
    return Statement(
        _text(
            kind,
            """SELECT r.encryption_backend, r.encryption_key_id, r.encryption_version, count(*)
            FROM @table AS r WHERE @is_value GROUP BY 1, 2, 3 ORDER BY 1, 2, 3""",
        ),
        lambda row: KeyUse(kind=kind, key=KeyRef(row[0], row[1], row[2]), rows=row[3]),
    )


@cache
def _sizes(kind: SealedKind, choice: Choice) -> Statement[Row]:
    return Statement(
        _text(
            kind,
            f"""SELECT length(r.@payload) FROM @table AS r
            WHERE r.@key > :after AND @is_value {_CHOICES[choice]} ORDER BY r.@key LIMIT :rows""",  # noqa: S608
        )
    )


@cache
def _page(kind: SealedKind, choice: Choice) -> Statement[SealedRow]:
    return Statement(
        _text(
            kind,
            f"""SELECT r.@key, r.@payload, r.encryption_backend, r.encryption_key_id, r.encryption_version, @row
            FROM @table AS r @join
            WHERE r.@key > :after AND @is_value {_CHOICES[choice]} ORDER BY r.@key LIMIT :rows""",  # noqa: S608
        ),
        lambda row: _row_of(kind, row),
    )


def _row_of(kind: SealedKind, row: Row) -> SealedRow:
    return SealedRow(
        kind=kind,
        id=row[0],
        sealed=Sealed(bytes(row[1]), KeyRef(row[2], row[3], row[4])),
        provider_id=row[5],
        scope=None if row[6] is None else Scope(row[6], row[7]),
        record_id=row[8],
        record_version=row[9],
        connection_id=row[10],
        payload_format=row[11],
        payload_version=row[12],
    )


@cache
def _lock(kind: SealedKind) -> Statement[Row]:
    return Statement({"sqlite": "", "postgres": _text(kind, PLACES[kind].lock.replace("@ids", _IDS))})


@cache
def _replace(kind: SealedKind) -> Statement[Row]:
    """One statement for any number of rows: the ciphertexts come as two strings of bytes, cut at what JSON says.

    SQLite needs 3.41 to read bytes from JSON, and a statement a row would be a round trip a row for PostgreSQL.
    """
    return Statement({dialect: _text(kind, _replacing(kind, dialect)) for dialect in _GIVEN})


def _replacing(kind: SealedKind, dialect: str) -> str:
    def text(member: str) -> str:
        return f"json_extract(value, '$.{member}')" if dialect == "sqlite" else f"(value ->> '{member}')"

    def number(member: str) -> str:
        return text(member) if dialect == "sqlite" else f"{text(member)}::integer"

    def piece(name: str) -> str:
        whole = f":{name}" if dialect == "sqlite" else f":{name}::bytea"
        return f"substr({whole}, {number(f'{name}_at')}, {number(f'{name}_size')})"

    formats = {"payload_format": text("format"), "payload_version": number("format_version")}
    also = "".join(
        f", {column} = CASE WHEN {text('format')} = '' THEN {column} ELSE {new} END"
        for column, new in (formats.items() if PLACES[kind].has_format else ())
    )
    return f"""UPDATE @table SET @payload = {piece("after")}, encryption_backend = {text("to_backend")},
      encryption_key_id = {text("to_key_id")}, encryption_version = {number("to_version")}{also}
    FROM {_GIVEN[dialect]}
    WHERE @table.@key = {text("id")} AND @payload = {piece("before")} AND encryption_backend = {text("backend")}
      AND encryption_key_id = {text("key_id")} AND encryption_version = {number("version")}
    RETURNING @table.@key"""  # noqa: S608


MARK: Statement[Row] = Statement(
    """UPDATE service_connections SET secret_state = :state, last_error = :error, updated_at = @now
    WHERE id = :id AND secret_state <> :state RETURNING id"""
)
KNOWN: Statement[Row] = Statement("SELECT 1 FROM service_connections WHERE id = :id")


def keys() -> Steps[list[KeyUse]]:
    """One statement a kind."""
    found: list[KeyUse] = []
    for kind in PLACES:
        found += yield from _count(kind)()
    return found


def page(
    kind: SealedKind, *, key: KeyRef | None, other_than: KeyRef | None, after: str | None, limit: int
) -> Steps[Page[SealedRow]]:
    """Two statements: how many of the next ones fit, and these. Neither goes back to rows before ``after``."""
    choice: Choice = "under" if key is not None else "except" if other_than is not None else "any"
    values: dict[str, Any] = {"after": after or ""}
    if (chosen := key or other_than) is not None:
        values |= {"backend": chosen.backend, "key_id": chosen.key_id, "key_version": chosen.key_version}
    fitting, size = 0, 0
    for (bytes_,) in (yield from _sizes(kind, choice)(**values, rows=limit)):
        size += bytes_
        if fitting and size > PAGE_BYTES:
            break
        fitting += 1
    if not fitting:
        return Page(())
    rows = yield from _page(kind, choice)(**values, rows=fitting + 1)
    return Page(tuple(rows[:fitting]), rows[fitting - 1].id if len(rows) > fitting else None)


def replace(values: Sequence[Resealed]) -> Steps[list[str]]:
    """Replace values of one kind; gives the ids of those that are others now. One statement, and a lock."""
    kind = values[0].row.kind
    given: list[dict[str, Any]] = []
    before_at = after_at = 1
    for value in values:
        old, new = value.row.sealed, value.sealed
        given.append(
            {
                "id": value.row.id,
                "before_at": before_at,
                "before_size": len(old.ciphertext),
                "backend": old.key.backend,
                "key_id": old.key.key_id,
                "version": old.key.key_version,
                "after_at": after_at,
                "after_size": len(new.ciphertext),
                "to_backend": new.key.backend,
                "to_key_id": new.key.key_id,
                "to_version": new.key.key_version,
                "format": value.payload_format,
                "format_version": value.payload_version,
            }
        )
        before_at += len(old.ciphertext)
        after_at += len(new.ciphertext)
    yield from _lock(kind)(given=Json(given))
    replaced = yield from _replace(kind)(
        given=Json(given),
        before=b"".join(value.row.sealed.ciphertext for value in values),
        after=b"".join(value.sealed.ciphertext for value in values),
    )
    done = {id_ for (id_,) in replaced}
    return [value.row.id for value in values if value.row.id not in done]


def mark(connection_id: str, state: SecretState, *, error: str, event: Event | None) -> Steps[bool]:
    """One statement, and one for the event or where nothing changes. Raises ConnectionNotFound.

    A connection that the Go system deleted is marked as well: its credentials are still there.
    """
    error = error if state == "unreadable" else ""
    if (yield from MARK.first(id=connection_id, state=state, error=error)) is not None:
        if event is not None:
            yield from enqueue(event)
        return True
    if (yield from KNOWN.first(id=connection_id)) is None:
        raise connections.missing(connection_id)
    return False
