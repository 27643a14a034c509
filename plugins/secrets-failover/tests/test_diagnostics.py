"""What observers and operators get to see."""

from __future__ import annotations

import logging
import time

import pytest

from go_services_core.errors import BackendUnavailable, CapabilityUnsupported, Conflict, KeyDenied, KeyNotFound
from go_services_core.model import KeyRef
from go_services_core.runtime.observations import Observations
from go_services_core.sealing import KeyLifecycle
from go_services_core.secret import SecretBytes
from go_services_core.testing.clock import FrozenClock

from .members import CONTEXT, Local, Pair, Switched, app_key

OFF = BackendUnavailable("remote text")


# --- observations ---------------------------------------------------------------------------------------------------


async def test_one_observation_for_each_switch_not_for_each_call():
    clock = FrozenClock()
    pair = Pair(clock, policy="fallback_allowed", probe_seconds=15.0)
    for _ in range(5):
        await pair.backend.generate(CONTEXT)
    assert pair.outcomes() == [], "while the primary serves there is nothing to tell"
    pair.primary.switch.error = OFF
    for _ in range(5):
        await pair.backend.generate(CONTEXT)
    assert pair.outcomes() == ["primary_failed", "fallback_succeeded"]
    pair.fallback.switch.error = KeyDenied("remote text")
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            await pair.backend.generate(CONTEXT)
    pair.fallback.switch.error = None
    for _ in range(2):
        await pair.backend.generate(CONTEXT)
    pair.primary.switch.error = None
    clock.advance(15)
    for _ in range(5):
        await pair.backend.generate(CONTEXT)
    assert pair.outcomes() == [
        "primary_failed",
        "fallback_succeeded",
        "fallback_failed",
        "fallback_succeeded",
        "primary_back",
    ]


async def test_observation_names_operation_policy_members_reason_and_counts_and_repeats_no_message():
    clock = FrozenClock()
    pair = Pair(clock, policy="fallback_allowed")
    pair.primary.switch.error = OFF
    pair.fallback.switch.error = KeyDenied("remote text")
    with pytest.raises(BackendUnavailable):
        await pair.backend.wrap((await Local("x").generate(CONTEXT)).plaintext, CONTEXT)
    pair.fallback.switch.error = None
    await pair.backend.generate(CONTEXT)
    pair.primary.switch.error = None
    await pair.backend.check()
    failed, fallback_failed, stood_in, back = pair.told
    about = {"policy": "fallback_allowed", "primary": "near", "fallback": "far"}
    assert {seen.name for seen in pair.told} == {"secrets.failover"}
    assert {seen.at for seen in pair.told} == {clock.now()}
    assert [seen.ok for seen in pair.told] == [False, False, True, True]
    assert [seen.error_code for seen in pair.told] == [BackendUnavailable.code, KeyDenied.code, None, None]
    assert failed.detail == {
        "outcome": "primary_failed",
        "operation": "wrap",
        **about,
        "reason": "BackendUnavailable",
        "counts": {"primary_failed": 1},
    }
    assert (fallback_failed.detail["operation"], fallback_failed.detail["reason"]) == ("wrap", "KeyDenied")
    assert (stood_in.detail["operation"], stood_in.detail["reason"]) == ("generate", "BackendUnavailable")
    assert back.detail == {
        "outcome": "primary_back",
        "operation": "check",
        **about,
        "reason": "BackendUnavailable",
        "counts": {"primary_failed": 2, "fallback_failed": 1, "fallback_succeeded": 1, "primary_back": 1},
    }
    assert "remote text" not in repr(pair.told)


async def test_strict_fail_is_observed_as_well():
    pair = Pair(failures_to_open=10)
    pair.primary.switch.error = OFF
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            await pair.backend.generate(CONTEXT)
    pair.primary.switch.error = None
    await pair.backend.generate(CONTEXT)
    assert pair.outcomes() == ["primary_failed", "primary_back"]


async def test_observer_that_raises_or_blocks_changes_neither_the_result_nor_when_the_caller_has_it(caplog):
    """The caller has its data key before an observer is told; what the observer does then is its own."""
    order: list[str] = []

    def observer(observation):
        order.append(f"told {observation.detail['outcome']}")
        time.sleep(0.05)
        order.append("observer done")
        raise RuntimeError("broken observer")

    def tell(observation):  # as the runtime does it
        try:
            observer(observation)
        except Exception:
            logging.getLogger("test").exception("observer failed")

    class Still(Local):
        """Answers without giving others their turn, so that the order is the caller's alone."""

        async def generate(self, context):
            if self.switch.error is not None:
                raise self.switch.error
            return self._wrap(data_key, context)

    data_key = SecretBytes(bytes(range(32)))
    observations = Observations()
    observations.start(tell)
    pair = Pair(primary=Still("near"), fallback=Still("far"), policy="fallback_allowed", observe=observations)
    pair.primary.switch.error = OFF
    made = await pair.backend.generate(CONTEXT)
    order.append("caller has its key")
    await observations.aclose()
    assert (made.key.backend, made.stand_in) == ("far", True)
    assert order == [
        "caller has its key",
        "told primary_failed",
        "observer done",
        "told fallback_succeeded",
        "observer done",
    ]
    assert [record.message for record in caplog.records] == ["observer failed"] * 2


# --- keys and their warnings ----------------------------------------------------------------------------------------


async def test_keys_are_those_of_both_members_and_the_fallback_s_only_decrypt():
    pair = Pair()
    old = pair.primary.primary
    new = (await pair.backend.add_key()).key
    assert isinstance(pair.backend, KeyLifecycle)
    assert await pair.backend.rotate() == (old, new)
    keys = await pair.backend.keys()
    assert [(info.key, info.state) for info in keys] == [
        (new, "primary"),
        (old, "decrypt-only"),
        (pair.fallback.primary, "decrypt-only"),
    ]
    assert [info.detail for info in keys] == ["primary near: in memory", "primary near", "fallback far: in memory"]
    assert [info.warnings for info in keys] == [("only a test",), (), ("only a test",)]


async def test_member_without_a_key_list_is_shown_by_the_key_that_it_wraps_with():
    key = app_key()
    pair = Pair(primary=Switched(key), fallback=Local("far"))
    (first, _) = await pair.backend.keys()
    assert (first.key, first.state) == (await key.check(), "primary")
    await key.aclose()


async def test_warnings_tell_since_when_the_primary_is_away_why_and_what_stood_in():
    clock = FrozenClock()
    pair = Pair(clock, policy="fallback_allowed", failures_to_open=2, probe_seconds=15.0)
    pair.primary.switch.error = OFF
    for _ in range(4):
        await pair.backend.generate(CONTEXT)
        clock.advance(1)
    pair.primary.switch.error = None
    (first, *_) = await pair.backend.keys()
    assert first.key == pair.primary.primary, "the keys are told past the circuit breaker"
    away, stood_in, own = first.warnings
    assert "near does not answer since 2026-01-01 00:00:00 UTC" in away
    assert "BackendUnavailable (SERVICE_EXTERNAL_FAILURE) at 2026-01-01 00:00:01 UTC, 2 calls" in away
    assert "12.0 seconds" in away
    assert "remote text" not in away
    assert "4 calls" in stood_in
    assert own == "only a test"
    pair.fallback.switch.error = KeyDenied("remote text")
    with pytest.raises(BackendUnavailable):
        await pair.backend.generate(CONTEXT)
    pair.fallback.switch.error = None
    (first, *_) = await pair.backend.keys()
    assert "KeyDenied (SERVICE_FORBIDDEN)" in first.warnings[2]
    clock.advance(15)
    await pair.backend.generate(CONTEXT)
    (first, *_) = await pair.backend.keys()
    assert not any("does not answer" in warning for warning in first.warnings)


async def test_member_that_cannot_tell_its_keys_is_a_warning_and_both_an_error():
    pair = Pair()
    pair.primary.switch.error = OFF
    (only,) = await pair.backend.keys()
    assert only.key == pair.fallback.primary
    assert "the primary near cannot tell its keys: BackendUnavailable" in only.warnings
    pair.fallback.switch.error = KeyDenied("no")
    with pytest.raises(BackendUnavailable):
        await pair.backend.keys()
    pair.primary.switch.error = None
    (only,) = await pair.backend.keys()
    assert only.key == pair.primary.primary
    assert "the fallback far cannot tell its keys: KeyDenied" in only.warnings


async def test_key_is_retired_at_the_member_that_it_is_of():
    pair = Pair()
    for member in (pair.primary, pair.fallback):
        old = member.primary
        await member.add_key()
        await member.rotate()
        assert await pair.backend.retire(old) == "removed 1"
        assert old not in member.held
    with pytest.raises(Conflict, match="primary key"):
        await pair.backend.retire(pair.primary.primary)
    with pytest.raises(Conflict, match=r"take the fallback out of \[secrets\.failover\]"):
        await pair.backend.retire(pair.fallback.primary)
    with pytest.raises(KeyNotFound, match="gone"):
        await pair.backend.retire(KeyRef("gone", "the-key", 1))
    assert pair.fallback.primary in pair.fallback.held


async def test_new_keys_and_rotation_are_the_primary_s_alone():
    pair = Pair()
    pair.fallback.switch.calls.clear()
    await pair.backend.add_key(dry_run=True)
    await pair.backend.rotate(to="near-key", dry_run=True)
    assert pair.primary.switch.calls == ["add_key", "rotate"]
    assert pair.fallback.switch.calls == []


async def test_member_whose_keys_nobody_changes_from_here_says_so():
    key = app_key()
    pair = Pair(primary=Switched(key), fallback=Local("far"))
    for call in (pair.backend.add_key, pair.backend.rotate):
        with pytest.raises(CapabilityUnsupported, match="'appkey'"):
            await call()
    with pytest.raises(CapabilityUnsupported, match="'appkey'"):
        await pair.backend.retire(await key.check())
    await key.aclose()
