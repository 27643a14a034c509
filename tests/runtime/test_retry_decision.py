"""The decision whether a request is made again, for every outcome, kind of request and policy."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from go_services_core.call_specs import RetryPolicy
from go_services_core.runtime.retry import (
    BROKEN,
    GATEWAY,
    NO_ANSWER,
    RULES,
    SLOW_REQUEST,
    Again,
    End,
    Repeats,
    Rule,
    decide,
)

KINDS = st.sampled_from(["safe", "idempotent", "keyed", "neither"])
SECONDS = st.floats(0.001, 1e6)
POLICIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 2000),
    first_delay=SECONDS,
    longest_delay=SECONDS,
    longest_wait=st.floats(0, 1e6),
)
MAY_HAVE_BEEN_DONE = (NO_ANSWER, BROKEN, SLOW_REQUEST, GATEWAY)


@given(
    rule=st.sampled_from(RULES),
    kind=KINDS,
    policy=POLICIES,
    attempts=st.integers(1, 3000),
    asked=st.none() | st.floats(0, 1e7),
    left=st.floats(-10, 1e7),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_nothing_is_repeated_that_may_have_been_done_nor_beyond_attempts_and_deadline(
    rule: Rule, kind: Repeats, policy: RetryPolicy, attempts: int, asked: float | None, left: float, chance: float
) -> None:
    """P81."""
    decision = decide(rule, kind, policy, attempts=attempts, asked=asked, left=left, chance=chance)
    if isinstance(decision, End):
        assert decision.unknown == (rule in MAY_HAVE_BEEN_DONE and kind in ("keyed", "neither"))
        return
    assert kind != "neither" or rule not in MAY_HAVE_BEEN_DONE
    assert attempts < policy.attempts
    assert 0 <= decision.delay < left
    if asked is not None:
        assert asked <= decision.delay <= asked + policy.first_delay
        assert asked <= policy.longest_wait
    else:
        assert decision.delay <= min(policy.longest_delay, policy.first_delay * 2.0 ** min(attempts - 1, 64))


@given(rule=st.sampled_from(RULES), kind=KINDS, chance=st.floats(0, 1, exclude_max=True))
def test_what_may_be_repeated_is_while_there_are_attempts_and_time(rule: Rule, kind: Repeats, chance: float) -> None:
    decision = decide(rule, kind, RetryPolicy(attempts=2), attempts=1, asked=None, left=60.0, chance=chance)
    assert isinstance(decision, Again) == (kind in rule.again)


def test_delays_double_up_to_the_longest_and_are_spread_over_all_of_the_time() -> None:
    policy = RetryPolicy(attempts=10, first_delay=1.0, longest_delay=5.0)

    def delay(attempts: int, chance: float) -> float:
        decision = decide(NO_ANSWER, "safe", policy, attempts=attempts, asked=None, left=60.0, chance=chance)
        assert isinstance(decision, Again)
        return decision.delay

    assert [delay(attempts, 0.5) for attempts in range(1, 6)] == [0.5, 1.0, 2.0, 2.5, 2.5]
    assert [delay(3, chance) for chance in (0.0, 0.25, 0.75)] == [0.0, 1.0, 3.0]
