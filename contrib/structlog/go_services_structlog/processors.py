"""Processors for an application's own chain."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from go_services_core.redaction import mask_data

if TYPE_CHECKING:
    from structlog.typing import Processor


def redact(logger: Any, method_name: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask the secrets of this process in an event, and whatever stands under the name of a secret.

    Put it behind processors that make text, such as ``format_exc_info``, and before the renderer.
    """
    masked: MutableMapping[str, Any] = mask_data(event_dict)
    return masked


def pre_chain() -> list[Processor]:
    """What turns records of ``logging`` into events, for ``ProcessorFormatter(foreign_pre_chain=pre_chain())``.

    For applications whose structlog writes through ``logging``.
    """
    from structlog.stdlib import ExtraAdder, add_log_level, add_logger_name

    return [add_logger_name, add_log_level, ExtraAdder(), redact]
