"""Records of how calls are made: how they are repeated, what they cost, and what carries them.

A provider's record has them in ``ApiSpec`` and ``Operation``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from os import urandom
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol, runtime_checkable

from attrs import Attribute, field, frozen
from attrs.validators import optional

from .refs import Ref
from .tuples import as_tuple

if TYPE_CHECKING:
    from .http import BodySource

LEARNERS: Final = frozenset(
    {
        "amazon-sp",
        "google",
        "ietf",
        "meta",
        "pinterest",
        "retry-after",
        "salesforce",
        "shopify-graphql",
        "shopify-rest",
        "x-ratelimit",
    }
)
"""Names of the forms in which answers tell of rate limits; :mod:`go_services_core.rate_limits` reads them."""


def _above_zero(record: object, attribute: Attribute[Any], value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be above 0, not {value:g}")


def _not_below_zero(record: object, attribute: Attribute[Any], value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} must not be below 0, not {value:g}")


def _share(record: object, attribute: Attribute[Any], value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{attribute.name} must be above 0 and at most 1, not {value:g}")


def _not_empty(record: object, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    if not value:
        raise ValueError(f"{attribute.name} must not be empty")


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
    attempt_timeout: float | None = field(default=None, validator=optional(_above_zero))
    """For one attempt; None is ``[runtime] default_timeout``. The call's deadline cuts it shorter."""
    burst: float = field(default=10.0, validator=_not_below_zero)
    """Repetitions that a process may make at once for all calls of the provider together."""
    share: float = field(default=0.2, validator=_not_below_zero)
    """Repetitions that each first attempt earns, up to ``burst``; where none is left, failures are not repeated."""


@frozen(kw_only=True)
class BreakerPolicy:
    """When a host that keeps failing is left alone, by each process for itself.

    What counts is an attempt without an answer, or with a 5xx that says that the host fails; any other answer, also
    401 or 429, is a success. Times are in seconds.
    """

    failures: int = field(default=10, validator=_above_zero)
    """One after the other that open the circuit."""
    share: float = field(default=0.5, validator=_share)
    """Part of the attempts of a ``window`` that fail and open it, where it had ``least`` attempts or more."""
    least: int = field(default=20, validator=_above_zero)
    window: float = field(default=60.0, validator=_above_zero)
    pause: float = field(default=30.0, validator=_above_zero)
    """Until one request is let through to try the host; if it fails, the pause begins again."""


@frozen(kw_only=True)
class Throttled:
    """An answer by which a vendor limits calls although its status does not say so.

    It is taken for a 429 where its status is one of ``statuses`` and its JSON body has one of ``values`` at ``path``.
    """

    statuses: tuple[int, ...] = field(default=(403,), converter=as_tuple)
    """One of 200–299 is a limit that is told only in the body."""
    path: str
    """Dotted; where it comes to a list, any item of that counts: ``error.errors.reason``."""
    values: tuple[str, ...] = field(converter=as_tuple, validator=_not_empty)
    """Compared as text, whatever their case."""
    wait: str | None = None
    """Dotted path of the seconds to wait, where the body tells them."""


@frozen
class Window:
    """So many units in so many seconds; both may be fractions."""

    units: float = field(validator=_above_zero)
    seconds: float = field(validator=_above_zero)


def _known_forms(record: object, attribute: Attribute[Any], value: tuple[str | Ref[Any], ...]) -> None:
    unknown = sorted(name for name in value if isinstance(name, str) and name not in LEARNERS)
    if unknown:
        raise ValueError(f"{attribute.name} cannot read {unknown[0]!r}; there are {', '.join(sorted(LEARNERS))}")


@frozen(kw_only=True)
class RateBudget:
    """What a provider lets be asked, as far as it says so beforehand; the rest is learned from its answers.

    A call takes ``Operation.cost`` units of every window, or all of a window that has fewer.
    """

    windows: tuple[Window, ...] = field(default=(), converter=as_tuple)
    per: Literal["connection", "scope", "provider"] = "connection"
    """Whose the units are: each connection has its own, those of one scope share them, or all of the provider do."""
    learn: tuple[str | Ref[Any], ...] = field(
        default=("ietf", "x-ratelimit", "retry-after"), converter=as_tuple, validator=_known_forms
    )
    """Forms of answers that units left are read from, by name, or a function of one's own by reference; see
    :mod:`go_services_core.rate_limits`."""
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
    provider_id: str = field(default="", kw_only=True)
    base_url: str = field(default="", kw_only=True)
    """Of the API; templates of a record are below it."""
    params: Mapping[str, Any] = field(factory=dict, kw_only=True)
    """All parameters, in the order in which the operation declares them, as those in ``body`` are."""
    answer: str = field(default="json", kw_only=True)
    """What the operation says that answers hold."""
    random: Callable[[int], bytes] = field(default=urandom, kw_only=True, repr=False, eq=False)
    """Gives so many random bytes: an exchange takes time and chance from here alone."""
    source: BodySource | None = field(default=None, kw_only=True, repr=False)
    """What is uploaded."""
    content_type: str | None = field(default=None, kw_only=True)
    """Of ``source``."""
    filename: str | None = field(default=None, kw_only=True)
    """Of ``source``."""
    resume: Mapping[str, Any] | None = field(default=None, kw_only=True, repr=False)
    """What the last checkpoint of an earlier call had, when this one goes on from there."""
