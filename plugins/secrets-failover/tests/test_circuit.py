"""The circuit breaker over real calls."""

from __future__ import annotations

import asyncio

import pytest

from go_services_core.errors import BackendUnavailable, CannotOpen, KeyDenied, KeyDisabled, KeyNotFound
from go_services_core.model import KeyRef
from go_services_core.sealing import WrappedKey
from go_services_core.testing.clock import FrozenClock
from go_services_secrets_failover.backend import CircuitOpen

from .members import CONTEXT, Pair


@pytest.mark.parametrize("operation", ["generate", "unwrap", "rewrap"])
async def test_open_circuit_fails_at_once_with_the_last_reason_and_the_next_try(operation):
    clock = FrozenClock()
    pair = Pair(clock, failures_to_open=2, probe_seconds=15.0)
    made = await pair.primary.generate(CONTEXT)
    pair.primary.switch.error = BackendUnavailable("remote text")

    async def call():
        if operation == "generate":
            await pair.backend.generate(CONTEXT)
        elif operation == "unwrap":
            await pair.backend.unwrap(made.wrapped, made.key, CONTEXT)
        else:
            await pair.backend.rewrap([WrappedKey(wrapped=made.wrapped, key=made.key, context=CONTEXT)])

    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="remote text"):
            await call()
    asked = len(pair.primary.switch.calls)
    clock.advance(5)
    with pytest.raises(CircuitOpen) as caught:
        await call()
    assert len(pair.primary.switch.calls) == asked
    assert "BackendUnavailable (SERVICE_EXTERNAL_FAILURE) at 2026-01-01 00:00:00 UTC" in str(caught.value)
    assert "10.0 seconds" in str(caught.value)
    assert caught.value.metadata == {"retry_after": 10.0}
    assert "remote text" not in str(caught.value)


async def test_one_call_at_a_time_tries_a_primary_that_did_not_answer():
    clock = FrozenClock()
    pair = Pair(clock, policy="fallback_allowed", failures_to_open=1, probe_seconds=15.0)
    pair.primary.switch.error = BackendUnavailable("off")
    await pair.backend.generate(CONTEXT)
    clock.advance(15)
    asked = len(pair.primary.switch.calls)
    pair.primary.switch.error, pair.primary.switch.gate = None, asyncio.Event()
    pair.primary.switch.arrived.clear()
    probe = asyncio.create_task(pair.backend.generate(CONTEXT))
    await asyncio.wait_for(pair.primary.switch.arrived.wait(), 10)
    others = await asyncio.gather(*(pair.backend.generate(CONTEXT) for _ in range(20)))
    assert {made.key.backend for made in others} == {"far"}
    assert len(pair.primary.switch.calls) == asked + 1
    assert not probe.done()
    pair.primary.switch.gate.set()
    assert (await probe).key.backend == "near"
    assert (await pair.backend.generate(CONTEXT)).key.backend == "near"


async def test_under_strict_fail_the_others_do_not_wait_for_the_probe():
    clock = FrozenClock()
    pair = Pair(clock, failures_to_open=1, probe_seconds=15.0)
    pair.primary.switch.error = BackendUnavailable("off")
    with pytest.raises(BackendUnavailable):
        await pair.backend.check()
    clock.advance(15)
    pair.primary.switch.gate = asyncio.Event()
    pair.primary.switch.arrived.clear()
    probe = asyncio.create_task(pair.backend.check())
    await asyncio.wait_for(pair.primary.switch.arrived.wait(), 10)
    with pytest.raises(CircuitOpen, match="trying it now"):
        await pair.backend.check()
    pair.primary.switch.gate.set()
    with pytest.raises(BackendUnavailable, match="off"):
        await probe
    with pytest.raises(CircuitOpen, match=r"15\.0 seconds"):
        await pair.backend.check()


async def test_cancelled_probe_makes_way_for_the_next_one():
    clock = FrozenClock()
    pair = Pair(clock, failures_to_open=1, probe_seconds=15.0)
    pair.primary.switch.error = BackendUnavailable("off")
    with pytest.raises(BackendUnavailable):
        await pair.backend.check()
    clock.advance(15)
    pair.primary.switch.error, pair.primary.switch.gate = None, asyncio.Event()
    pair.primary.switch.arrived.clear()
    probe = asyncio.create_task(pair.backend.check())
    await asyncio.wait_for(pair.primary.switch.arrived.wait(), 10)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    pair.primary.switch.gate = None
    assert await pair.backend.check() == pair.primary.primary


@pytest.mark.parametrize("refusal", [KeyDenied, KeyDisabled, CannotOpen])
async def test_probe_that_is_refused_shows_that_the_primary_is_back(refusal):
    clock = FrozenClock()
    pair = Pair(clock, policy="fallback_allowed", failures_to_open=1, probe_seconds=15.0)
    pair.primary.switch.error = BackendUnavailable("off")
    await pair.backend.generate(CONTEXT)
    clock.advance(15)
    pair.primary.switch.error = refusal("no")
    for _ in range(2):
        with pytest.raises(refusal):
            await pair.backend.generate(CONTEXT)
    assert pair.outcomes()[-1] == "primary_back"


async def test_key_that_is_not_there_tells_nothing_of_the_primary():
    """A backend may say so without asking anybody."""
    clock = FrozenClock()
    pair = Pair(clock, failures_to_open=1, probe_seconds=15.0)
    pair.primary.switch.error = BackendUnavailable("off")
    with pytest.raises(BackendUnavailable):
        await pair.backend.check()
    clock.advance(15)
    pair.primary.switch.error = None
    with pytest.raises(KeyNotFound):
        await pair.backend.unwrap(b"x", KeyRef("near", "no-such-key", 1), CONTEXT)
    assert pair.outcomes() == ["primary_failed"]
    await pair.backend.check()
    assert pair.outcomes() == ["primary_failed", "primary_back"]
