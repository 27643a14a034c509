"""Whether the rows make sense together: what the constraints of the tables do not say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .credentials import KEPT
from .dialect import Dialect
from .models import MODELS
from .models.columns import JsonColumn, Time
from .statement import Row, Statement, Steps

STATUSES: Final = {
    "service_connections": ("active", "disconnected", "errored", "pending_reauth", "needs_reconsent"),
    "service_credentials": ("active", "revoked"),
    "service_lifecycle_outbox": ("committed", "processing", "delivered"),
    "service_webhook_deliveries": (
        "pending",
        "processing",
        "retry_ready",
        "processed",
        "superseded",
        "dead",
        "quarantined",
        "dropped",
    ),
    "service_event_deliveries": ("pending", "processing", "retry_ready", "delivered", "dead"),
    "service_subscriptions": ("active", "expired", "cancelled", "errored"),
    "service_installations": ("active", "suspended", "uninstalled", "needs_reconsent"),
    "service_sync_jobs": ("queued", "running", "succeeded", "failed"),
    "service_notification_dispatches": ("running", "sent", "failed"),
    "service_idempotency": ("running", "resumed", "done", "failed"),
}
"""What the code knows, by table."""
DUE: Final = {
    "service_webhook_deliveries": ("pending", "processing", "retry_ready"),
    "service_event_deliveries": ("pending", "processing", "retry_ready"),
    "service_sync_jobs": ("queued", "running"),
}
"""Statuses in which a row must have a time at which it is due, or nobody ever claims it."""
RULES: Final = (
    (
        "connections with more than one active credential",
        """SELECT count(*) FROM (SELECT connection_id FROM service_credentials WHERE status = 'active'
          GROUP BY connection_id HAVING count(*) > 1) AS several""",
    ),
    (
        "credentials with neither a ciphertext nor the time of its destruction",
        "SELECT count(*) FROM service_credentials WHERE length(encrypted_payload) = 0 AND destroyed_at IS NULL",
    ),
    (
        "credentials without their connection",
        """SELECT count(*) FROM service_credentials AS c
        WHERE NOT EXISTS (SELECT 1 FROM service_connections WHERE id = c.connection_id)""",
    ),
    (
        "disconnected connections that still have an active credential",
        """SELECT count(*) FROM service_connections AS c JOIN service_credentials AS k
          ON k.connection_id = c.id AND k.status = 'active' WHERE c.status = 'disconnected'""",
    ),
    (
        "ciphertexts of disconnected connections that no job has to revoke",
        f"""SELECT count(*) FROM service_credentials
        WHERE status <> 'active' AND destroyed_at IS NULL AND encryption_backend <> '' AND NOT {KEPT}
          AND connection_id IN (SELECT id FROM service_connections WHERE status = 'disconnected')""",  # noqa: S608
    ),
    (
        "connections whose secret is neither readable nor unreadable",
        "SELECT count(*) FROM service_connections WHERE secret_state NOT IN ('ok', 'unreadable')",
    ),
    (
        "verification tokens of subscriptions that say no key",
        """SELECT count(*) FROM service_subscriptions
        WHERE verification_token IS NOT NULL AND encryption_backend = ''""",
    ),
    (
        "deliveries to handlers without their event",
        """SELECT count(*) FROM service_event_deliveries AS d
        WHERE NOT EXISTS (SELECT 1 FROM service_lifecycle_outbox WHERE event_id = d.event_id)""",
    ),
    (
        "events to hand out that do not exist",
        """SELECT count(*) FROM service_pending_events AS p
        WHERE NOT EXISTS (SELECT 1 FROM service_lifecycle_outbox WHERE event_id = p.event_id)""",
    ),
    (
        "idempotency keys without their job",
        """SELECT count(*) FROM service_sync_job_idempotency AS k
        WHERE NOT EXISTS (SELECT 1 FROM service_sync_jobs WHERE id = k.sync_job_id)""",
    ),
)
"""What must not be → how many there are."""
TIME: Final = "????-??-?? ??:??:??.??????"
"""How a time looks in SQLite; others sort wrongly."""


def _quoted(values: tuple[str, ...]) -> str:
    return ", ".join(f"'{value}'" for value in values)


def _questions(dialect: Dialect) -> Iterator[tuple[str, str]]:
    yield from RULES
    for table, known in STATUSES.items():
        yield (
            f"rows of {table} with an unknown status",
            f"SELECT count(*) FROM {table} WHERE status NOT IN ({_quoted(known)})",  # noqa: S608
        )
    for table, known in DUE.items():
        yield (
            f"rows of {table} that are waiting and never due",
            f"SELECT count(*) FROM {table} WHERE next_attempt_at IS NULL AND status IN ({_quoted(known)})",  # noqa: S608
        )
    for model in MODELS:
        table = model._meta.table_name
        if "scope_type" in model._meta.fields:
            strange = "scope_type NOT IN ('user', 'org', '') OR scope_id <> trim(scope_id)"
            yield (
                f"rows of {table} with a scope that is neither a user nor an organisation",
                f"SELECT count(*) FROM {table} WHERE {strange}",  # noqa: S608
            )
        if dialect.name == "sqlite":
            yield from _texts(model)


def _texts(model: type) -> Iterator[tuple[str, str]]:
    """SQLite keeps times and JSON as text, which may be any."""
    meta = model._meta  # type: ignore[attr-defined]
    times = [f"\"{name}\" NOT GLOB '{TIME}'" for name, field in meta.columns.items() if isinstance(field, Time)]
    json = [f'NOT json_valid("{name}")' for name, field in meta.columns.items() if isinstance(field, JsonColumn)]
    for what, conditions in (("a time that is not ours", times), ("a value that is not JSON", json)):
        if conditions:
            condition = " OR ".join(conditions)
            yield (
                f"rows of {meta.table_name} with {what}",
                f"SELECT count(*) FROM {meta.table_name} WHERE {condition}",  # noqa: S608
            )


SQLITE_DAMAGE: Statement[Row] = Statement("PRAGMA integrity_check(10)")
SQLITE_ORPHANS: Statement[Row] = Statement(
    """SELECT "table", parent, count(*) FROM pragma_foreign_key_check
    WHERE "table" GLOB 'service_*' GROUP BY 1, 2"""
)


def damage() -> Steps[list[str]]:
    """What SQLite says of the file itself."""
    found = [str(line) for (line,) in (yield from SQLITE_DAMAGE())]
    return [] if found == ["ok"] else found


def orphans() -> Steps[list[str]]:
    """Rows of SQLite that refer to rows which do not exist."""
    found = yield from SQLITE_ORPHANS()
    return [f"{rows} rows of {table} refer to rows of {parent} that do not exist" for table, parent, rows in found]


def check(dialect: Dialect) -> Steps[list[str]]:
    """A line for each kind of row that must not be, with their number."""
    problems: list[str] = []
    if dialect.name == "sqlite":
        problems += [*(yield from damage()), *(yield from orphans())]
    for what, text in _questions(dialect):
        ((rows,),) = yield from Statement[Row](text)()
        if rows:
            problems.append(f"{rows} {what}")
    return problems
