"""What becomes of each table of the Go system: the columns that need more than copying."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from .adopt_values import Reading
from .go_schema import COLUMNS, EVENTS
from .models import (
    MODELS,
    ConnectionRow,
    CredentialRow,
    DispatchRow,
    InboxRow,
    InstallationRow,
    JobRow,
    OutboxRow,
    SubscriptionRow,
)
from .models.columns import JsonColumn, Table, Time

OLD: Final = "go_"
"""What the Go system's tables are called while their rows are copied."""
ASSUMED_KIND: Final = "oauth2_auth_code"
TOLD_KINDS: Final = ("api_key", "pat", "hmac", "basic", "mtls", "aws_sigv4")
"""Kinds of auth that the Go system also writes as token type."""
DEAD_LETTER: Final = "go-services"
"""The handler that has the events which the Go system gave up."""
_NOT_SEALED: Final = "'adopted from go-services without its headers; let the provider send it again'"
_UNFINISHED: Final = "lower(trim(old.status)) IN ('pending', 'processing', 'retry_ready')"
_SUPERSEDED: Final = "old.place > 1 AND lower(trim(old.status)) <> 'uninstalled'"
_TOKEN_TYPE: Final = """(SELECT lower(trim(k.token_type)) FROM go_service_credentials AS k
  WHERE k.connection_id = old.id ORDER BY k.version DESC LIMIT 1)"""
_KINDS: Final = ", ".join(f"'{kind}'" for kind in TOLD_KINDS)


@frozen(kw_only=True)
class Rule:
    """How one table is adopted. ``old`` is the Go system's row.

    Args:
        model: the table.
        values: column → SQL, for what is not simply copied.
        changed: SQL that is true for a row that says something else afterwards.
        statuses: those that are understood; empty where any text is.
        source: instead of the table itself, a query on ``@old``.
        note: what the report says beside a number of changed rows.
    """

    model: type[Table]
    values: Mapping[str, str] = field(factory=dict)
    changed: str = ""
    statuses: tuple[str, ...] = ()
    source: str = "@old"
    note: str = ""

    @property
    def table(self) -> str:
        """The table's name, which is the same in both systems."""
        return str(self.model._meta.table_name)

    @property
    def go_columns(self) -> tuple[str, ...]:
        """The Go system's columns."""
        return COLUMNS[self.table]

    @property
    def has_scope(self) -> bool:
        """Whether the Go system's rows say whose they are."""
        return "scope_type" in self.go_columns

    def expressions(self, read: Reading) -> dict[str, str]:
        """Column → SQL. Columns that are missing here take their default."""
        found: dict[str, str] = {}
        for name, column in self.model._meta.columns.items():
            if name in self.values:
                found[name] = (
                    self.values[name]
                    .replace("@digest", read.digest("old.payload"))
                    .replace("@body", read.body("old.payload"))
                    .replace("@reason", read.member("old.metadata", "status_reason"))
                )
            elif name == "scope_type" and self.has_scope:
                found[name] = "lower(trim(old.scope_type))"
            elif name == "scope_id" and self.has_scope:
                found[name] = "trim(old.scope_id)"
            elif name in self.go_columns:
                found[name] = f'old."{name}"'
            else:
                continue
            if isinstance(column, Time):
                found[name] = read.time(found[name])
            elif isinstance(column, JsonColumn):
                found[name] = read.json(found[name], default_of(column))
        return found

    def is_changed(self) -> str:
        """SQL that is true for a changed row."""
        conditions = [self.changed] if self.changed else []
        if self.has_scope:
            conditions.append("old.scope_type <> lower(trim(old.scope_type)) OR old.scope_id <> trim(old.scope_id)")
        if self.statuses:
            conditions.append("old.status <> lower(trim(old.status))")
        return " OR ".join(f"({condition})" for condition in conditions) or "false"

    def rows(self) -> str:
        """The FROM clause."""
        return f"{self.source.replace('@old', OLD + self.table)} AS old"


def default_of(column: JsonColumn) -> str:
    """``[]`` or ``{}``."""
    return "[]" if any("'[]'" in constraint.sql for constraint in column.constraints) else "{}"


_SPECIAL: Final = (
    Rule(
        model=ConnectionRow,
        values={
            "status": "lower(trim(old.status))",
            "auth_kind": f"CASE WHEN {_TOKEN_TYPE} IN ({_KINDS}) THEN {_TOKEN_TYPE} ELSE '{ASSUMED_KIND}' END",
            "refresh_state": "CASE WHEN lower(trim(old.status)) = 'errored' THEN 'backing_off' ELSE 'ok' END",
            "secret_state": """CASE WHEN EXISTS (SELECT 1 FROM go_service_credentials AS k
              WHERE k.connection_id = old.id AND lower(trim(k.status)) = 'active' AND length(k.encrypted_payload) = 0)
              THEN 'unreadable' ELSE 'ok' END""",
        },
        statuses=("active", "disconnected", "errored", "pending_reauth", "needs_reconsent"),
    ),
    Rule(
        model=CredentialRow,
        values={
            "payload_format": "coalesce(nullif(lower(trim(old.payload_format)), ''), 'legacy_token')",
            "payload_version": "CASE WHEN old.payload_version > 0 THEN old.payload_version ELSE 1 END",
            "status": "CASE lower(trim(old.status)) WHEN 'expired' THEN 'revoked' ELSE lower(trim(old.status)) END",
            "revocation_reason": """CASE WHEN lower(trim(old.status)) = 'expired' AND old.revocation_reason = ''
              THEN 'expired' ELSE old.revocation_reason END""",
            "destroyed_at": "CASE WHEN length(old.encrypted_payload) = 0 THEN old.updated_at END",
        },
        changed="lower(trim(old.status)) = 'expired' OR length(old.encrypted_payload) = 0",
        statuses=("active", "revoked", "expired"),
        note="expired ones are revoked, empty ones count as destroyed",
    ),
    Rule(
        model=OutboxRow,
        values={
            "status": """CASE lower(trim(old.status)) WHEN 'delivered' THEN 'delivered' WHEN 'failed' THEN 'processing'
              ELSE 'committed' END""",
            "source": "'go-services'",
            "next_attempt_at": "NULL",
        },
        changed="lower(trim(old.status)) IN ('processing', 'failed')",
        statuses=("pending", "processing", "delivered", "failed"),
        note=f"abandoned ones are pending again, failed ones are dead under the handler {DEAD_LETTER!r}",
    ),
    Rule(
        model=InboxRow,
        values={
            "event": "'unknown'",
            "digest": "@digest",
            "payload": "@body",
            "received_at": "old.created_at",
            "status": f"CASE WHEN {_UNFINISHED} THEN 'dead' ELSE lower(trim(old.status)) END",
            "last_error": f"CASE WHEN {_UNFINISHED} THEN {_NOT_SEALED} ELSE '' END",
            "next_attempt_at": "NULL",
        },
        changed=_UNFINISHED,
        statuses=("pending", "processing", "retry_ready", "processed", "dead"),
        note="unfinished ones are dead: their headers were never kept",
    ),
    Rule(
        model=SubscriptionRow,
        values={"status": "lower(trim(old.status))", "status_reason": "@reason"},
        statuses=("active", "expired", "cancelled", "errored"),
    ),
    Rule(
        model=InstallationRow,
        source="""(SELECT *, row_number() OVER (
            PARTITION BY provider_id, lower(trim(scope_type)), trim(scope_id), lower(trim(install_type)),
              lower(trim(status)) = 'uninstalled'
            ORDER BY CASE lower(trim(status)) WHEN 'active' THEN 0 ELSE 1 END, updated_at DESC, id DESC) AS place
          FROM @old)""",
        values={
            "install_type": "lower(trim(old.install_type))",
            "status": f"CASE WHEN {_SUPERSEDED} THEN 'uninstalled' ELSE lower(trim(old.status)) END",
            "status_reason": f"CASE WHEN {_SUPERSEDED} THEN 'superseded' ELSE @reason END",
            "revoked_at": f"CASE WHEN {_SUPERSEDED} THEN old.updated_at ELSE old.revoked_at END",
        },
        changed=f"{_SUPERSEDED} OR old.install_type <> lower(trim(old.install_type))",
        statuses=("active", "suspended", "uninstalled", "needs_reconsent"),
        note="of several for one scope the older ones are uninstalled",
    ),
    Rule(
        model=JobRow,
        values={
            "kind": "'sync'",
            "scope_type": """(SELECT lower(trim(c.scope_type)) FROM go_service_connections AS c
              WHERE c.id = old.connection_id)""",
            "scope_id": "(SELECT trim(c.scope_id) FROM go_service_connections AS c WHERE c.id = old.connection_id)",
            "status": "CASE lower(trim(old.status)) WHEN 'running' THEN 'queued' ELSE lower(trim(old.status)) END",
            "next_attempt_at": """CASE WHEN lower(trim(old.status)) IN ('queued', 'running')
              THEN coalesce(old.next_attempt_at, old.updated_at) END""",
        },
        changed="lower(trim(old.status)) = 'running'",
        statuses=("queued", "running", "succeeded", "failed"),
        note="running ones are queued again",
    ),
    Rule(
        model=DispatchRow,
        values={"status": "lower(trim(old.status))", "attempts": "1", "updated_at": "old.created_at"},
        statuses=("sent", "failed"),
    ),
)

_BY_TABLE: Final = {rule.table: rule for rule in (*(Rule(model=model) for model in MODELS), *_SPECIAL)}
RULES: Final = tuple(_BY_TABLE[table] for table in COLUMNS if table != EVENTS)
"""In the order in which rows are copied: parents before children."""
