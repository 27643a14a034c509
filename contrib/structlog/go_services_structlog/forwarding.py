"""Records of the loggers ``go_services.*`` as events of structlog."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_lock = threading.Lock()
_open = 0


class Forwarder(logging.Handler):
    """Gives each record to structlog: its message is the event, its ``extra`` the fields.

    The runtime has masked it before any handler sees it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: dict[str, Any] = {name: value for name, value in vars(record).items() if name not in _STANDARD}
            if record.exc_info:
                fields["exc_info"] = record.exc_info
            elif record.exc_text:
                fields["exception"] = record.exc_text
            method = record.levelname.lower() if record.levelno % 10 == 0 else "info"
            getattr(structlog.get_logger(record.name), method)(record.getMessage(), logger=record.name, **fields)
        except Exception:
            self.handleError(record)


FORWARDER: Final = Forwarder()


@asynccontextmanager
async def forwarded() -> AsyncGenerator[None]:
    """Forward while the block runs; the records then go to no handler of ``logging``, or they would come twice.

    Nothing is done where the application has not configured structlog, which would print to standard output then, and
    where structlog writes through ``logging`` itself: the records are there already.
    """
    through_logging = isinstance(structlog.get_config()["logger_factory"], structlog.stdlib.LoggerFactory)
    if through_logging or not structlog.is_configured():
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _open
    with _lock:
        _open += 1
        if _open == 1:
            ours = logging.getLogger("go_services")
            ours.addHandler(FORWARDER)
            ours.propagate = False


def _leave() -> None:
    global _open
    with _lock:
        _open -= 1
        if _open == 0:
            ours = logging.getLogger("go_services")
            ours.removeHandler(FORWARDER)
            ours.propagate = True
