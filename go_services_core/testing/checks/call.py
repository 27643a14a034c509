"""What every transport kind that shapes calls must do. The subject is a :class:`CallSubject`."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from attrs import evolve, field, frozen

from ...call_specs import OperationCall
from ...errors import BadInput, ProviderError, ServicesError, TransportError
from ...exchange import Answer, CallTransport, Checkpoint, Exchange, Receive, Received, Send, Step, Wait
from ...http import HttpResponse
from ..kit import Skipped, check

_STEPS = 1000
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "cookie"})
_NONSENSE = HttpResponse(200, (("Content-Type", "application/json"),), b"\x00 nonsense", "https://kit.example/")


@frozen
class CallSubject:
    """A transport kind, a call that fits it, and the answers with which that call succeeds."""

    transport: CallTransport
    call: OperationCall
    answers: tuple[HttpResponse, ...] = ()
    """In turn, one for each request; none for a kind that sends nothing."""
    wrong: tuple[OperationCall, ...] = ()
    """Calls whose record or parameters do not fit."""
    reads_anything: bool = field(default=False, kw_only=True)
    """Whether any body of 200 is a success, so that none is nonsense."""


def _exchange(subject: CallSubject) -> Exchange:
    """The exchange of the call, with the same randomness every time."""
    call = evolve(subject.call, random=random.Random(1).randbytes)  # noqa: S311
    return subject.transport.exchange(call)


def _played(subject: CallSubject, answer: Callable[[Step], Any]) -> tuple[list[Step], Answer]:
    """The steps of the exchange with what ``answer`` gives to each, and its result."""
    exchange, steps, given = _exchange(subject), [], None
    try:
        for _ in range(_STEPS):
            step = exchange.send(given)
            steps.append(step)
            given = answer(step)
    except StopIteration as done:
        return steps, done.value
    raise AssertionError(f"the exchange does not end after {_STEPS} steps")


def _answering(subject: CallSubject) -> Callable[[Step], Any]:
    answers = iter(subject.answers)

    def answer(step: Step) -> Any:
        if isinstance(step, Send):
            response = next(answers)
            error = step.failure(response) if step.failure is not None else None
            assert error is None, f"an answer of the subject is a failure: {error}"
            return response
        if isinstance(step, Receive):
            response = next(answers)
            return Received(response, step.place(response).at + len(response.body))
        return None

    return answer


@check("CALL-001", "call")
async def ends_with_an_answer(subject: CallSubject) -> None:
    """The exchange yields Send, Wait, Receive and Checkpoint steps only, and returns an Answer."""
    steps, result = _played(subject, _answering(subject))
    known: tuple[type, ...] = (Send, Wait, Receive, Checkpoint)
    strange = [step for step in steps if type(step) not in known]
    assert not strange, f"it yields {strange[0]!r}"
    assert isinstance(result, Answer), f"it returns {type(result).__name__}"


@check("CALL-002", "call")
async def depends_on_the_call_alone(subject: CallSubject) -> None:
    """The same call, answers and randomness give the same steps and the same result."""

    def told() -> list[Any]:
        steps, result = _played(subject, _answering(subject))
        return [
            (step.request.method, step.request.url, step.request.headers, step.request.timeout)
            if isinstance(step, (Send, Receive))
            else step
            for step in steps
        ] + [result]

    assert told() == told(), "two exchanges of one call differ"


@check("CALL-003", "call")
async def leaves_the_call_alone(subject: CallSubject) -> None:
    """Neither the parameters nor the body of the call are changed."""
    before = deepcopy((dict(subject.call.params), dict(subject.call.body), subject.call.headers))
    _played(subject, _answering(subject))
    after = (dict(subject.call.params), dict(subject.call.body), subject.call.headers)
    assert after == before, "the exchange changed its call"


@check("CALL-004", "call")
async def refuses_what_does_not_fit(subject: CallSubject) -> None:
    """A record or parameter that does not fit is BadInput before the first step."""
    if not subject.wrong:
        raise Skipped("the subject has no wrong call")
    for wrong in subject.wrong:
        try:
            step = next(subject.transport.exchange(wrong))
        except BadInput:
            continue
        except StopIteration:
            raise AssertionError(f"a wrong call succeeds: {wrong.record!r}") from None
        raise AssertionError(f"a wrong call yields {step!r}")


@check("CALL-005", "call")
async def lets_failures_through_typed(subject: CallSubject) -> None:
    """A failure that is thrown in at any request ends in a typed error, or in further steps that end."""
    sends = [step for step in _played(subject, _answering(subject))[0] if isinstance(step, (Send, Receive))]
    for failing in range(len(sends)):
        for error in (TransportError("cut"), ProviderError("no", upstream_status=400)):
            exchange, answer = _exchange(subject), _answering(subject)
            count = 0
            try:
                step = next(exchange)
                for _ in range(_STEPS):
                    if isinstance(step, (Send, Receive)):
                        count += 1
                        if count > failing:
                            step = exchange.throw(error)
                            continue
                    step = exchange.send(answer(step))
                raise AssertionError(f"the exchange does not end while request {failing + 1} fails")
            except ServicesError:
                continue
            except StopIteration:
                raise AssertionError(f"the exchange succeeds although request {failing + 1} failed") from None


@check("CALL-006", "call")
async def types_an_answer_that_it_cannot_read(subject: CallSubject) -> None:
    """An answer of 200 that is not what it should be ends in a typed error."""
    if subject.reads_anything or not subject.answers:
        raise Skipped("any answer is a success")

    def nonsense(step: Step) -> Any:
        if isinstance(step, Send):
            error = step.failure(_NONSENSE) if step.failure is not None else None
            if error is not None:
                raise error
        return _NONSENSE if isinstance(step, Send) else None

    try:
        _played(subject, nonsense)
    except ServicesError:
        return
    raise AssertionError("nonsense is taken for a success")


@check("CALL-007", "call")
async def puts_no_credential_on_requests(subject: CallSubject) -> None:
    """Requests have no credential: the runtime signs each of them as it is sent."""
    for step in _played(subject, _answering(subject))[0]:
        if isinstance(step, (Send, Receive)):
            found = [name for name, _ in step.request.headers if name.lower() in _CREDENTIALS]
            assert not found, f"a request has the header {found[0]}"


@check("CALL-008", "call")
async def ends_when_it_is_closed(subject: CallSubject) -> None:
    """An exchange that is closed at any step yields nothing more: a cancelled call sends nothing."""
    for last in range(len(_played(subject, _answering(subject))[0])):
        exchange, answer = _exchange(subject), _answering(subject)
        step = next(exchange)
        for _ in range(last):
            step = exchange.send(answer(step))
        try:
            exchange.close()
        except RuntimeError:
            raise AssertionError("the exchange yields a step while it is closed") from None
