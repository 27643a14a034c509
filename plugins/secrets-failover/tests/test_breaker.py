"""The circuit breaker's rules, without a clock and without calls."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from go_services_secrets_failover.breaker import Breaker


def made(failures_to_open: int = 3, probe_seconds: float = 15.0) -> Breaker:
    return Breaker(failures_to_open=failures_to_open, probe_seconds=probe_seconds)


def opened(at: float = 0.0) -> Breaker:
    breaker = made(1)
    breaker.unavailable(breaker.ask(at), at)
    assert breaker.state == "open"
    return breaker


def test_closed_opens_after_failures_in_a_row_only() -> None:
    breaker = made(3)
    for answered in (False, False, True, False, False):
        permit = breaker.ask(0.0)
        breaker.answered(permit) if answered else breaker.unavailable(permit, 0.0)
        assert breaker.state == "closed"
    breaker.unavailable(breaker.ask(0.0), 0.0)
    assert breaker.state == "open"


def test_open_lets_nobody_ask_until_the_probe_is_due_and_then_exactly_one() -> None:
    breaker = opened(at=100.0)
    assert breaker.ask(100.0) is None
    assert breaker.ask(114.9) is None
    assert breaker.ask(115.0) is not None
    assert breaker.state == "half-open"
    assert breaker.ask(115.0) is None
    assert breaker.ask(10_000.0) is None


def test_answered_probe_closes_and_forgets_the_failures() -> None:
    breaker = opened()
    assert breaker.answered(breaker.ask(15.0))
    assert (breaker.state, breaker.failures) == ("closed", 0)


def test_probe_without_an_answer_opens_for_the_whole_time_again() -> None:
    breaker = opened()
    breaker.unavailable(breaker.ask(15.0), 20.0)
    assert breaker.state == "open"
    assert breaker.ask(34.9) is None
    assert breaker.ask(35.0) is not None


def test_probe_that_tells_nothing_makes_way_for_the_next_one_at_once() -> None:
    breaker = opened()
    breaker.given_up(breaker.ask(15.0))
    assert breaker.ask(15.0) is not None
    assert breaker.state == "half-open"


def test_what_began_before_a_change_is_not_heard() -> None:
    breaker = made(1)
    early, late = breaker.ask(0.0), breaker.ask(0.0)
    assert breaker.unavailable(early, 0.0)
    assert not breaker.answered(late)
    assert breaker.state == "open"
    probe = breaker.ask(15.0)
    assert not breaker.unavailable(late, 15.0)
    breaker.given_up(late)
    assert breaker.state == "half-open"
    assert breaker.answered(probe)
    assert not breaker.unavailable(late, 15.0)
    assert breaker.state == "closed"


class Rules(RuleBasedStateMachine):
    """Any order of calls, answers and moments keeps the rules."""

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.breaker = made(3, 10.0)
        self.now = 0.0
        self.opened_at: float | None = None
        self.probe: int | None = None

    @rule(seconds=st.floats(0, 30))
    def passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.breaker.state == "closed")
    @rule(target=permits)
    def asks(self) -> int:
        permit = self.breaker.ask(self.now)
        assert permit is not None
        return permit

    @precondition(lambda self: self.breaker.state != "closed")
    @rule(target=permits)
    def asks_while_not_closed(self) -> int:
        due = self.probe is None and self.now >= self.breaker.probe_at
        permit = self.breaker.ask(self.now)
        assert (permit is not None) == due
        if permit is None:
            return -1
        self.probe = permit
        return permit

    @rule(permit=consumes(permits))
    def answers(self, permit: int) -> None:
        before, failures = self.breaker.state, self.breaker.failures
        heard = self.breaker.answered(permit)
        if heard:
            assert self.breaker.state == "closed"
            assert self.breaker.failures == 0
            self.probe = None
        else:
            assert (self.breaker.state, self.breaker.failures) == (before, failures)

    @rule(permit=consumes(permits))
    def does_not_answer(self, permit: int) -> None:
        before, failures = self.breaker.state, self.breaker.failures
        if self.breaker.unavailable(permit, self.now):
            opens = before == "half-open" or failures + 1 >= 3
            assert self.breaker.state == ("open" if opens else "closed")
            if opens:
                assert self.breaker.probe_at == self.now + 10.0
                self.probe = None
        else:
            assert (self.breaker.state, self.breaker.failures) == (before, failures)

    @rule(permit=consumes(permits))
    def gives_up(self, permit: int) -> None:
        mine = permit == self.probe and self.breaker.state == "half-open"
        before = self.breaker.state
        self.breaker.given_up(permit)
        assert self.breaker.state == ("open" if mine else before)
        if mine:
            self.probe = None

    @invariant()
    def half_open_is_a_probe_on_its_way(self) -> None:
        assert (self.breaker.state == "half-open") == (self.probe is not None)
        if self.breaker.state == "closed":
            assert self.breaker.failures < 3


TestRules = Rules.TestCase
TestRules.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
