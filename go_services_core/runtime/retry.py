"""Whether a request that failed is made again: one table, and the decision that reads it. Nothing here does I/O.

``docs/reference/outcomes.md`` is written from the table.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from attrs import frozen

from ..call_specs import RetryPolicy
from ..errors import (
    BadInput,
    BodyTooLarge,
    BudgetExhausted,
    CircuitOpen,
    ConnectFailed,
    EgressDenied,
    ProviderError,
    ProviderUnauthorized,
    ProviderUnavailable,
    RateLimited,
    RequestTimeout,
    ServicesError,
    SigningError,
    TransportError,
)

Repeats: TypeAlias = Literal["safe", "idempotent", "keyed", "neither"]
"""What repeating a request does: nothing at all (RFC 9110 §9.2.1), nothing more than the first did (§9.2.2), nothing
more because it carries an idempotency key, or the same again."""

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
IDEMPOTENT: Final = frozenset({"PUT", "DELETE"})

_ALL: Final[frozenset[Repeats]] = frozenset({"safe", "idempotent", "keyed", "neither"})
_HARMLESS: Final[frozenset[Repeats]] = frozenset({"safe", "idempotent", "keyed"})
_DOUBTED: Final[frozenset[Repeats]] = frozenset({"keyed", "neither"})
_NONE: Final[frozenset[Repeats]] = frozenset()


@frozen(kw_only=True)
class Rule:
    """What follows from one outcome of an attempt."""

    outcome: str
    error: type[ServicesError]
    """What the call ends with, or a class below it."""
    again: frozenset[Repeats] = _NONE
    """Of which requests it is made again."""
    unknown: frozenset[Repeats] = _NONE
    """Of which requests the call ends as ``OutcomeUnknown`` where it ends here."""
    counts: bool = False
    """Whether it is a failure of the host to its circuit breaker."""
    status: int | None = None
    """HTTP status of the error, where it is not the class's."""
    why: str


NOT_SENT: Final = Rule(
    outcome="No byte of the request was sent: no address, no connection, TLS failed",
    error=ConnectFailed,
    again=_ALL,
    counts=True,
    why="Nothing was done.",
)
NO_ANSWER: Final = Rule(
    outcome="No answer in time",
    error=RequestTimeout,
    again=_HARMLESS,
    unknown=_DOUBTED,
    counts=True,
    why="The request may have been carried out.",
)
BROKEN: Final = Rule(
    outcome="The connection broke before the answer was complete",
    error=TransportError,
    again=_HARMLESS,
    unknown=_DOUBTED,
    counts=True,
    why="The request may have been carried out.",
)
SLOW_REQUEST: Final = Rule(
    outcome="408",
    error=ProviderError,
    again=_HARMLESS,
    unknown=_DOUBTED,
    status=408,
    why="By RFC 9110 §15.5.9 the request was not complete, but gateways say so of a server that was slow to answer.",
)
TOO_EARLY: Final = Rule(
    outcome="425",
    error=ProviderError,
    again=_ALL,
    status=425,
    why="The server did not risk to process it (RFC 8470 §5.2).",
)
THROTTLED: Final = Rule(
    outcome="429, 403 that asks to wait, or what `ApiSpec.throttled` describes",
    error=RateLimited,
    again=_ALL,
    status=429,
    why="Refused before it was processed (RFC 6585 §4); GitHub and Google also say it with 403.",
)
UNAUTHORIZED: Final = Rule(
    outcome="401",
    error=ProviderUnauthorized,
    status=401,
    why="Nothing was done: once in a call the credential is renewed and, if it changed, the request is made again.",
)
REFUSED: Final = Rule(
    outcome="Any other 3xx or 4xx",
    error=ProviderError,
    status=400,
    why="The same request would be refused again. The status stays the provider's.",
)
FAILED: Final = Rule(
    outcome="500, and any 5xx that has no row of its own",
    error=ProviderUnavailable,
    again=_HARMLESS,
    counts=True,
    status=500,
    why="The server says that it failed, but not how far it came.",
)
NEVER: Final = Rule(
    outcome="501, 505",
    error=ProviderUnavailable,
    status=501,
    why="The server does not do this at all (RFC 9110 §15.6.2, §15.6.6).",
)
GATEWAY: Final = Rule(
    outcome="502, 504, and 520–524, 598, 599 of proxies",
    error=ProviderUnavailable,
    again=_HARMLESS,
    unknown=_DOUBTED,
    counts=True,
    status=502,
    why="A gateway lost the answer; the server behind it may have carried it out.",
)
BUSY: Final = Rule(
    outcome="503 that says when to come again",
    error=ProviderUnavailable,
    again=_ALL,
    counts=True,
    status=503,
    why="The server was unable to handle it and asks for another request (RFC 9110 §10.2.3, §15.6.4).",
)
UNAVAILABLE: Final = Rule(
    outcome="503 that does not",
    error=ProviderUnavailable,
    again=_HARMLESS,
    counts=True,
    status=503,
    why="Proxies also say so when a server went away while it was at it.",
)
UNREADABLE: Final = Rule(
    outcome="The answer is too large, or not what it says it is",
    error=BodyTooLarge,
    why="It was carried out, and would be answered alike again.",
)
UNSENDABLE: Final = Rule(
    outcome="The request cannot be sent as it is, or cannot be signed",
    error=SigningError,
    why="Nothing was sent, and nothing else would be the next time. `BadInput` where the caller is wrong.",
)
DENIED: Final = Rule(
    outcome="The egress guard refuses the address",
    error=EgressDenied,
    why="Nothing was sent.",
)
CIRCUIT: Final = Rule(
    outcome="The circuit of the host is open",
    error=CircuitOpen,
    why="Nothing was sent; `retry_after` says when the host is tried again.",
)
BUDGET: Final = Rule(
    outcome="The rate budget has no unit in time",
    error=BudgetExhausted,
    why="Nothing was sent; `retry_after` says when there will be one.",
)

RULES: Final = (
    NOT_SENT,
    NO_ANSWER,
    BROKEN,
    SLOW_REQUEST,
    TOO_EARLY,
    THROTTLED,
    UNAUTHORIZED,
    REFUSED,
    FAILED,
    NEVER,
    GATEWAY,
    BUSY,
    UNAVAILABLE,
    UNREADABLE,
    UNSENDABLE,
    DENIED,
    CIRCUIT,
    BUDGET,
)

EARLY: Final = frozenset((403, 409))
"""Refusals that may come before the provider looks whether it knows the key: they say nothing of earlier attempts."""
_GATEWAYS: Final = frozenset({502, 504, 598, 599, *range(520, 525)})


def rule_of(error: BaseException) -> Rule:
    """The rule for an attempt that ended with ``error``, also one that an exchange or a plugin made of its answer."""
    if isinstance(error, TransportError):
        return _without_answer(error)
    if isinstance(error, RateLimited):
        return BUDGET if isinstance(error, BudgetExhausted) else THROTTLED
    if isinstance(error, ProviderUnavailable):
        return of_status(error.upstream_status or 500, asked=error.retry_after)
    if isinstance(error, ProviderUnauthorized):
        return UNAUTHORIZED
    if isinstance(error, ProviderError) and error.upstream_status in (408, 425):
        return SLOW_REQUEST if error.upstream_status == 408 else TOO_EARLY
    if isinstance(error, (SigningError, BadInput)):
        return UNSENDABLE
    return REFUSED


def of_status(status: int, *, asked: float | None = None) -> Rule:
    """The rule for a provider that fails with ``status`` and, with 503, asks to come again in so many seconds."""
    if status == 503:
        return UNAVAILABLE if asked is None else BUSY
    if status in (501, 505):
        return NEVER
    return GATEWAY if status in _GATEWAYS else FAILED


def _without_answer(error: TransportError) -> Rule:
    if isinstance(error, CircuitOpen):
        return CIRCUIT
    if isinstance(error, EgressDenied):
        return DENIED
    if not error.retryable:
        return UNREADABLE
    if not error.sent:
        return NOT_SENT
    return NO_ANSWER if isinstance(error, RequestTimeout) else BROKEN


@frozen
class Again:
    """The request is made again."""

    delay: float
    """Seconds to wait before it."""


@frozen
class End:
    """The call ends with the attempt's error."""

    unknown: bool
    """Nobody knows whether the request was carried out, and repeating it could do it twice."""


def decide(
    rule: Rule,
    repeats: Repeats,
    policy: RetryPolicy,
    *,
    attempts: int,
    asked: float | None,
    left: float,
    chance: float,
) -> Again | End:
    """What follows from an attempt that failed.

    Args:
        rule: of its outcome.
        repeats: what repeating the request does.
        policy: how often and when.
        attempts: made of this request, with the one that failed.
        asked: seconds that the provider asks to wait.
        left: seconds until the call's deadline.
        chance: a random number from 0 up to 1, of which the delay is made ("full jitter"); nobody waits for less than
            was asked for, and those who were asked for the same do not all come at once.
    """
    if repeats in rule.again and attempts < policy.attempts:
        if asked is not None:
            delay = asked + chance * policy.first_delay
            may_wait = asked <= policy.longest_wait
        else:
            delay = chance * min(policy.longest_delay, policy.first_delay * 2.0 ** min(attempts - 1, 64))
            may_wait = True
        if may_wait and delay < left:
            return Again(delay)
    return End(repeats in rule.unknown)
