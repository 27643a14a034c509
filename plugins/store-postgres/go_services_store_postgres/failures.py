"""What PostgreSQL's errors mean (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import AsyncConnection

from go_services_core.errors import BadInput, Conflict, ServicesError, StoreError, StoreUnavailable

from .target import Target

PLUGIN: Final = "store-postgres"

_HINTS: Final = {
    "25006": "Connect to the primary, for instance with `target_session_attrs=read-write` in the URL.",
    "28000": "Check user and password, and the server's pg_hba.conf.",
    "28P01": "Check user and password.",
    "3D000": "Create the database, or change [store] url.",
    "40001": "Other transactions kept getting in the way; try again.",
    "40P01": "Other transactions kept getting in the way; try again.",
    "53100": "Free space on the server's disk.",
    "53200": "The server is out of memory.",
    "53300": "Lower [store] pool_max, or raise the server's max_connections.",
    "55P03": "Find the transaction that holds the lock for so long.",
    "57014": "Find what blocks the statement, or raise [store] statement_timeout.",
    "58030": "Look at the server's log and its disk.",
}


class NoAnswer(psycopg.OperationalError):
    """The server did not answer in time; the connection was given up."""


def is_undone(error: psycopg.Error) -> bool:
    """Whether the server undid the transaction because of others: it may be run again."""
    return error.sqlstate in ("40001", "40P01")


def is_lost(error: psycopg.Error, connection: AsyncConnection[Any]) -> bool:
    """Whether the connection ended, so that nothing is known of what the server did last."""
    state = error.sqlstate or ""
    return connection.closed or state.startswith(("08", "57P"))


def explain(error: psycopg.Error, target: Target) -> ServicesError:
    """The typed error for one of psycopg's. It quotes no values and no password."""
    state = error.sqlstate or ""
    said = target.clean(error.diag.message_primary or str(error))
    if isinstance(error, psycopg.DataError) or state.startswith(("22", "54")):  # 54: no room in an index
        return BadInput(f"PostgreSQL cannot store a value of this change ({state or said}).", plugin=PLUGIN)
    if isinstance(error, psycopg.IntegrityError):
        return Conflict(f"The database refuses the change: {_sentence(said)}", plugin=PLUGIN)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) or state in _HINTS:
        return StoreUnavailable(
            f"The database {target.shown} cannot be used: {_sentence(said)}",
            hint=_HINTS.get(state, "Check that the server runs, and [store] url, user and password."),
            plugin=PLUGIN,
        )
    return StoreError(f"PostgreSQL refuses the statement: {_sentence(said)}", plugin=PLUGIN)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
