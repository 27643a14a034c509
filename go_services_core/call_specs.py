"""Records of how calls are made: how they are repeated, what they cost, and what carries them.

A provider's record has them in ``ApiSpec`` and ``Operation``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from attrs import Attribute, field, frozen

from .tuples import as_tuple


def _above_zero(record: object, attribute: Attribute[Any], value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be above 0, not {value:g}")


def _not_below_zero(record: object, attribute: Attribute[Any], value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} must not be below 0, not {value:g}")


@frozen(kw_only=True)
class RetryPolicy:
    """How often and when a call that failed is made again; whether it may be at all, its outcome and method say.

    Times are in seconds. Between two attempts a random time up to the delay passes, which begins at ``first_delay`` and
    doubles up to ``longest_delay``; what the provider asks to wait counts instead, up to ``longest_wait``.
    """

    attempts: int = field(default=3, validator=_above_zero)
    """In all; 1 never repeats."""
    first_delay: float = field(default=0.2, validator=_above_zero)
    longest_delay: float = field(default=5.0, validator=_above_zero)
    longest_wait: float = field(default=60.0, validator=_not_below_zero)
    """A provider that asks to wait longer ends the call with its error, which says how long."""


@frozen
class Window:
    """So many units in so many seconds; both may be fractions."""

    units: float = field(validator=_above_zero)
    seconds: float = field(validator=_above_zero)


@frozen(kw_only=True)
class RateBudget:
    """What a provider lets be asked, as far as it says so beforehand; the rest is learned from its answers.

    A call takes ``Operation.cost`` units of every window.
    """

    windows: tuple[Window, ...] = field(default=(), converter=as_tuple)
    per: Literal["connection", "scope", "provider"] = "connection"
    """Whose the units are: each connection has its own, those of one scope share them, or all of the provider do."""
    learn: tuple[str, ...] = field(default=("ietf", "x-ratelimit"), converter=as_tuple)
    """Forms of answers that units left are read from, by name; see :mod:`go_services_core.rate_limits`."""
    bucket: str = "default"
    """Name of the budget; operations whose budgets have another name do not count against this one."""


@runtime_checkable
class CallSpec(Protocol):
    """Any frozen record with the ``kind`` of transport that carries the call."""

    @property
    def kind(self) -> str: ...


@frozen(kw_only=True)
class Noop:
    """Nothing is sent: the call's parameters are its result. For tests and dry runs."""

    kind: ClassVar[str] = "noop"


@frozen
class OperationCall:
    """What a transport kind gets to know of one call of an operation; the credential is not its business."""

    operation_id: str
    record: Any
    """The operation's ``call``."""
    method: str
    url: str
    """Final, from the API's base URL, the template and the parameters in path and query."""
    headers: tuple[tuple[str, str], ...]
    """Of the API, the operation and the parameters; with the idempotency key's."""
    body: Mapping[str, Any]
    """The parameters in the body."""
    timeout: float
    """Seconds for one request."""
