"""Masking secrets in what this process logs, whichever library logs it and whoever's handler writes it.

``logging`` has one place that each record passes after it is complete and before any handler sees it:
``Logger.callHandlers``. A filter would have to be put on every handler, also on those that are added later; a record
factory never sees ``extra``. So that method is wrapped while somebody wants masking, and put back afterwards.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final

from .redaction import is_secret_name, mask, mask_data, mask_values
from .secret import MASK

OURS: Final = "go_services"
"""Begins the names of this project's loggers."""
_STANDARD: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime"}
_UNREADABLE: Final = "A log record could not be searched for secrets and is not shown."

_lock = threading.Lock()
_wanted = {"all": 0, "ours": 0}
_before: Callable[[logging.Logger, logging.LogRecord], None] | None = None


def install(*, every_logger: bool = True) -> Callable[[], None]:
    """Mask secrets in the records of every logger of this process, or of this project's alone.

    ``Runtime.open`` does it, as ``[runtime] redact_logs`` says; call it yourself to begin earlier. Messages, arguments,
    exceptions, stacks and texts in ``extra`` are masked in the record itself, so that it also holds for handlers that
    format later, elsewhere or as JSON. A record without a secret stays as it is.

    Returns:
        What ends it; the last of several that were begun puts ``logging`` back. Calling it again does nothing.
    """
    kind = "all" if every_logger else "ours"
    with _lock:
        _wanted[kind] += 1
        _wrap()
    ended = False

    def end() -> None:
        nonlocal ended
        with _lock:
            if not ended:
                ended = True
                _wanted[kind] -= 1
                _unwrap()

    return end


def _wrap() -> None:
    global _before
    if _before is None:
        _before = logging.Logger.callHandlers
        logging.Logger.callHandlers = _call_handlers  # type: ignore[method-assign,assignment]


def _unwrap() -> None:
    """Put the method back, unless somebody has wrapped ours meanwhile: then it goes on and masks nothing."""
    global _before
    if not any(_wanted.values()) and logging.Logger.callHandlers is _call_handlers:
        assert _before is not None
        logging.Logger.callHandlers = _before  # type: ignore[method-assign,assignment]
        _before = None


def _call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
    if _wanted["all"] or (_wanted["ours"] and record.name.startswith(OURS)):
        try:
            mask_record(record)
        except Exception:  # an argument whose text cannot be had; nobody may see what was not searched
            record.msg, record.args, record.exc_info, record.exc_text = _UNREADABLE, None, None, None
            record.stack_info = None
    before = _before
    if before is not None:
        before(logger, record)


def mask_record(record: logging.LogRecord) -> None:
    """Mask one record, in place.

    An exception that says a secret is replaced by its masked text, since handlers would print the exception itself.
    """
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):  # the handler will complain, and quote message and arguments
        record.msg = mask(str(record.msg))
        record.args = tuple(mask(str(one)) for one in _arguments(record.args))
    else:
        masked = mask(message)
        if masked != message:
            record.msg, record.args = masked, None
    if record.exc_info and record.exc_info[1] is not None:
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        masked = mask_traceback(text)
        if masked != text:
            record.exc_info, record.exc_text = None, masked
    if record.exc_text:
        record.exc_text = mask_traceback(record.exc_text)
    if record.stack_info:
        record.stack_info = mask_values(record.stack_info)
    for name in [name for name in vars(record) if name not in _STANDARD]:
        value = getattr(record, name)
        secret = is_secret_name(name) and isinstance(value, (str, bytes)) and value
        setattr(record, name, MASK if secret else mask_data(value))


def _arguments(args: Any) -> tuple[Any, ...]:
    return args if isinstance(args, tuple) else (args,)


def mask_traceback(text: str) -> str:
    """A traceback; its lines of source code may assign to a ``password``, what the exceptions say is masked as text."""
    lines = mask_values(text).split("\n")
    return "\n".join(line if line.startswith(" ") else mask(line) for line in lines)
