"""One log record for each piece of work that ended, without any plugin: ``go_services.operation``, ``.refresh`` …"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from ..errors import AuthError, ServicesError, WebhookRejected
from ..metrics import event_type
from ..redaction import mask_data

if TYPE_CHECKING:
    from ..model import Observation

_QUIETER: Final = frozenset({"bad_input", "validation", "not_found", "conflict", "authorization", "rate_limit"})
"""Categories of errors that are the caller's to handle; a warning, since nothing is broken here."""
_OTHERS: Final = (AuthError, WebhookRejected)
"""What people and strangers do: consents that are refused or forged, deliveries that are not authentic."""
_RESERVED: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""Names that ``extra`` may not have."""
_loggers: dict[str, logging.Logger] = {}


def logger_of(name: str) -> logging.Logger:
    """The logger of an observation: ``go_services.`` and the first word of its name."""
    found = _loggers.get(name)
    if found is None:
        found = _loggers[name] = logging.getLogger(f"go_services.{name.partition('.')[0]}")
    return found


def severity(error: BaseException | None) -> int:
    """The level of work that ended so."""
    if error is None or isinstance(error, asyncio.CancelledError):
        return logging.INFO
    if isinstance(error, _OTHERS) or (isinstance(error, ServicesError) and error.category in _QUIETER):
        return logging.WARNING
    return logging.ERROR


def write(observation: Observation, error: BaseException | None) -> None:
    """Log ``observation`` if it is of work that ended; ``error`` is what it ended with."""
    if observation.phase != "end" or observation.duration_ms is None:
        return
    level = severity(error) if error is not None or observation.ok else logging.WARNING
    logger = logger_of(observation.name)
    if not logger.isEnabledFor(level):
        return
    # A typed error says it all; of a foreign one the place is needed to find out more.
    foreign = error if level == logging.ERROR and not isinstance(error, ServicesError) else None
    logger.log(
        level,
        "%s %s",
        observation.detail.get("operation") or event_type(observation.name),
        "succeeded" if observation.ok else "failed",
        extra=fields(observation, error, level),
        exc_info=foreign,
    )


def fields(observation: Observation, error: BaseException | None, level: int) -> dict[str, Any]:
    """The record's fields; those that do not apply are left out."""
    scope = observation.scope
    found: dict[str, Any] = {
        "event_type": event_type(observation.name),
        "status": "success" if observation.ok else "failure",
        "duration_ms": observation.duration_ms,
        "provider_id": observation.provider_id,
        "scope_type": scope.type if scope is not None else None,
        "scope_id": scope.id if scope is not None else None,
        "connection_id": observation.connection_id,
        "trace_id": observation.trace_id,
    }
    for name, value in observation.detail.items():
        found.setdefault(f"detail_{name}" if name in _RESERVED else name, value)
    if not observation.ok:
        found |= {
            "error": observation.error,
            "error_category": observation.error_category,
            "error_code": observation.error_status,
            "error_text_code": observation.error_code,
            "error_severity": logging.getLevelName(level),
            "error_location": _location(error),
        }
        if isinstance(error, ServicesError):
            found["error_validation_errors"] = (
                [{"field": error.field, "message": error.message}] if error.field else None
            )
            found["error_metadata"] = mask_data(error.metadata) or None
            found.setdefault("request_id", error.metadata.get("request_id"))
    return {name: value for name, value in found.items() if value is not None}


def _location(error: BaseException | None) -> str | None:
    """Where it was raised."""
    trace = error.__traceback__ if error is not None else None
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"
