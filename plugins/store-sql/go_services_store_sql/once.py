"""The replay ledger: what may happen once."""

from __future__ import annotations

from .statement import Row, Statement, Steps

TAKE: Statement[Row] = Statement(
    """INSERT INTO service_replay_ledger (key, expires_at) VALUES (:key, @later(seconds))
    ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at
      WHERE service_replay_ledger.expires_at <= @now
    RETURNING key"""
)
PRUNE: Statement[Row] = Statement(
    {
        "sqlite": "DELETE FROM service_replay_ledger WHERE expires_at <= @now",
        "postgres": """DELETE FROM service_replay_ledger WHERE key IN (
          SELECT key FROM service_replay_ledger WHERE expires_at <= @now LIMIT 1000 FOR UPDATE SKIP LOCKED)""",
    }
)


def claim(key: str, *, seconds: float) -> Steps[bool]:
    """True for the first within the time; it also removes keys that are over."""
    if (yield from TAKE.first(key=key, seconds=seconds)) is None:
        return False
    yield from PRUNE()
    return True
