"""The table of ``docs/reference/outcomes.md``: each row is made to happen, to requests of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen

from go_services_core import errors, hookimpl
from go_services_core.call_specs import BreakerPolicy, RetryPolicy, Throttled
from go_services_core.errors import BudgetExhausted, CircuitOpen, OutcomeUnknown, ServicesError
from go_services_core.testing.rawserver import Answer, http_answer

from .calling import Caller, calling, cut, hang, hang_up

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "outcomes.md"
KINDS = ("safe", "idempotent", "keyed", "neither")
PATIENT = BreakerPolicy(failures=1000, least=1000)
TIMES = RetryPolicy(attempts=3, attempt_timeout=0.15)


@frozen
class Line:
    """A row of the table."""

    outcome: str
    follows: dict[str, str]
    error: str
    category: str
    status: int
    counts: bool
    pays: bool


def lines() -> list[Line]:
    text = PAGE.read_text(encoding="utf-8").split("<!-- table: outcomes -->")[1]
    found = []
    for line in text.strip().splitlines()[2:]:
        if not line.startswith("|"):
            break
        outcome, *follows, error, category, status, counts, pays, why = (
            cell.strip().replace("`", "") for cell in line.strip("|").split("|")
        )
        assert why
        found.append(
            Line(
                outcome,
                dict(zip(KINDS, follows, strict=True)),
                error,
                category,
                int(status),
                counts == "yes",
                pays == "yes",
            )
        )
    return found


class NoUnits:
    """A plugin whose budget is used up."""

    @hookimpl
    def gs_rate_limit_policy(self, provider_id: str) -> Any:
        return self

    def before(self, bucket: str) -> float:
        raise BudgetExhausted(retry_after=60.0)

    def after(self, bucket: str, response: Any) -> None:
        raise AssertionError("there is no answer")


@frozen(kw_only=True)
class Scenario:
    """How an outcome is made."""

    answer: Answer = b""
    status: int | None = None
    """Of the error, where it is not the row's."""
    sends: bool = True
    waits: float = 0.0
    """Seconds that are asked for."""
    options: dict[str, Any] = field(factory=dict)
    before: bool = False
    """Whether the host has failed already."""


def answers(status: int, *headers: tuple[str, str], body: bytes = b"{}", **fields: Any) -> Scenario:
    made = http_answer(status, body, (("Content-Type", "application/json"), *headers))
    return Scenario(answer=made, status=status, **fields)


LIMIT = Throttled(statuses=(200, 403), path="error.errors.reason", values="rateLimitExceeded", wait="error.wait")
TOLD = b'{"error": {"wait": 4, "errors": [{"reason": "other"}, {"reason": "RateLimitExceeded"}]}}'

SCENARIOS: dict[str, list[Scenario]] = {
    "No byte of the request was sent: no address, no connection, TLS failed": [
        Scenario(sends=False, options={"closed": True})
    ],
    "No answer in time": [Scenario(answer=hang)],
    "The connection broke before the answer was complete": [Scenario(answer=hang_up), Scenario(answer=cut)],
    "408": [answers(408)],
    "425": [answers(425)],
    "429, 403 that asks to wait, or what ApiSpec.throttled describes": [
        answers(429),
        answers(429, ("Retry-After", "7"), waits=7),
        answers(403, ("Retry-After", "7"), waits=7),
        answers(403, ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "9"), waits=9),
        answers(403, body=TOLD, waits=4, options={"throttled": LIMIT}),
        Scenario(
            answer=http_answer(200, TOLD, (("Content-Type", "application/json"),)),
            waits=4,
            options={"throttled": LIMIT},
        ),
    ],
    "401": [answers(401)],
    "Any other 3xx or 4xx": [
        Scenario(answer=http_answer(300), status=502),
        answers(400),
        answers(403),
        answers(404),
        answers(409),
        answers(422, ("Retry-After", "7")),
    ],
    "500, and any 5xx that has no row of its own": [answers(500), answers(507), answers(529)],
    "501, 505": [answers(501), answers(505)],
    "502, 504, and 520–524, 598, 599 of proxies": [answers(502), answers(504), answers(524), answers(599)],
    "503 that says when to come again": [answers(503, ("Retry-After", "7"), waits=7)],
    "503 that does not": [answers(503)],
    "The answer is too large, or not what it says it is": [
        Scenario(answer=http_answer(200, b"x" * 2000), options={"settings": {"transport.max_body": 1000}})
    ],
    "The request cannot be sent as it is, or cannot be signed": [
        Scenario(sends=False, status=400, options={"headers": {"X-Bad": "a\x01b"}})
    ],
    "The egress guard refuses the address": [Scenario(sends=False, options={"allowed": False})],
    "The circuit of the host is open": [Scenario(answer=http_answer(500), sends=False, before=True)],
    "The rate budget has no unit in time": [Scenario(sends=False, options={"plugins": {"units": NoUnits()}})],
}

CASES = [
    pytest.param(line, scenario, kind, id=f"{line.outcome} {number}: {kind}")
    for line in lines()
    for number, scenario in enumerate(SCENARIOS.get(line.outcome, ()), 1)
    for kind in KINDS
]
SAFE = [case for case in CASES if case.values[2] == "safe" and not case.values[1].before]


def test_every_row_has_a_scenario_and_every_scenario_a_row() -> None:
    rows = [line.outcome for line in lines()]
    assert len(rows) == len(set(rows))
    assert set(rows) == set(SCENARIOS)
    assert len(rows) > 15


async def failed(caller: Caller, kind: str, policy: RetryPolicy) -> ServicesError:
    with pytest.raises(ServicesError) as raised:
        await caller.call(kind, retry=policy)
    return raised.value


@pytest.mark.parametrize(("line", "scenario", "kind"), CASES)
async def test_row(line: Line, scenario: Scenario, kind: str) -> None:
    """P80, P81, P85."""
    breaker = BreakerPolicy(failures=1) if scenario.before else PATIENT
    async with calling(scenario.answer, breaker=breaker, **scenario.options) as caller:
        if scenario.before:
            await failed(caller, "safe", RetryPolicy(attempts=1))
        already = caller.sent
        error = await failed(caller, kind, TIMES)
        follows = line.follows[kind]
        attempts = TIMES.attempts if "again" in follows else 1
        assert follows in ("again", "again, OutcomeUnknown", "OutcomeUnknown", "end")
        assert caller.sent - already == (attempts if scenario.sends else 0)
        assert len(caller.delays) == attempts - 1
        assert all(scenario.waits <= delay <= scenario.waits + 5 for delay in caller.delays)
        cause: Any = error
        if "OutcomeUnknown" in follows:
            assert type(error) is OutcomeUnknown
            assert not error.retryable
            assert error.attempts == attempts
            named = {"provider": "raw", "operation": "call.post"}
            assert error.metadata == (named | {"idempotency_key": "key-1"} if kind == "keyed" else named)
            cause = error.__cause__
        elif line.error not in ("SigningError", "BudgetExhausted", "CircuitOpen"):
            assert error.attempts == attempts  # type: ignore[attr-defined]
            assert error.retryable is ("again" in follows)
        wanted = errors.BadInput if line.error == "SigningError" else getattr(errors, line.error)
        assert isinstance(cause, wanted)
        if line.error not in ("SigningError", "ProviderError"):
            assert cause.category == line.category
        assert cause.status == (scenario.status or line.status)
        if line.error in ("RateLimited", "ProviderUnavailable") and scenario.waits:
            assert cause.retry_after == scenario.waits
        keys = {head for request in caller.server.requests for head in request.split(b"\r\n") if b"dempotency" in head}
        assert keys == ({b"Idempotency-Key: key-1"} if kind == "keyed" and scenario.sends else set())


@pytest.mark.parametrize(("line", "scenario", "kind"), SAFE)
async def test_column_breaker(line: Line, scenario: Scenario, kind: str) -> None:
    options = {"breaker": BreakerPolicy(failures=1), **scenario.options}
    async with calling(scenario.answer, **options) as caller:
        once = RetryPolicy(attempts=1, attempt_timeout=0.15)
        first = await failed(caller, kind, once)
        second = await failed(caller, kind, once)
        assert not isinstance(first, CircuitOpen)
        assert isinstance(second, CircuitOpen) is line.counts


@pytest.mark.parametrize(("line", "scenario", "kind"), SAFE)
async def test_column_budget(line: Line, scenario: Scenario, kind: str) -> None:
    async with calling(scenario.answer, breaker=PATIENT, **scenario.options) as caller:
        await failed(caller, kind, RetryPolicy(attempts=3, attempt_timeout=0.15, burst=1))
        assert len(caller.delays) == line.pays
