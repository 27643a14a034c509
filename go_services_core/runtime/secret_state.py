"""Whether a connection's credential can be opened: a state of the connection, so that a failure stops no other."""

from __future__ import annotations

from typing import Final

from ..errors import CannotOpen, KeyDisabled, KeyNotFound, SecretError, ServicesError
from ..model import Connection, Event, KeyRef, Observation, SecretState
from .announce import told
from .core import Core, logger

UNREADABLE: Final = (CannotOpen, KeyNotFound, KeyDisabled)
"""What is wrong with a ciphertext or its key. Other errors of a backend say nothing about what it was asked for."""


async def mark_unreadable(core: Core, connection: Connection, key: KeyRef, error: SecretError) -> None:
    """Keep that the credential cannot be opened. The log names connection and key when that is new, and not again."""
    event = told(core, connection, "credential.unreadable", {"code": error.code})
    if await _mark(core, connection, "unreadable", error.message, event):
        logger.error(
            "the credential of connection %s cannot be opened with key %s version %d of %r: %s",
            connection.id, key.key_id, key.key_version, key.backend, type(error).__name__,
        )  # fmt: skip
        _observe(core, connection, ok=False, error_code=error.code)


async def mark_readable(core: Core, connection: Connection) -> None:
    """Keep that the credential can be opened again; no statement where it always could."""
    if connection.secret_state == "ok":
        return
    if await _mark(core, connection, "ok", "", told(core, connection, "credential.readable", {})):
        logger.info("the credential of connection %s can be opened again", connection.id)
        _observe(core, connection, ok=True)


async def _mark(core: Core, connection: Connection, state: SecretState, error: str, event: Event) -> bool:
    facet = getattr(core.store, "sealed", None)
    if facet is None:
        return False
    try:
        changed: bool = await facet.mark(connection.id, state, error=error[:500], event=event)
    except ServicesError as failed:  # the caller's answer does not depend on it
        logger.warning("the secret state of connection %s could not be kept: %s", connection.id, failed)
        return False
    return changed


def _observe(core: Core, connection: Connection, *, ok: bool, error_code: str | None = None) -> None:
    core.observe(
        Observation(
            name="connection.secret_state",
            at=core.clock.now(),
            ok=ok,
            provider_id=connection.provider_id,
            connection_id=connection.id,
            error_code=error_code,
        )
    )
