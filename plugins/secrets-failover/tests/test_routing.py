"""Who is asked, and what happens when that member does not answer or refuses."""

from __future__ import annotations

import asyncio
import copy
import pickle
import random

import pytest

from go_services_core.errors import (
    BackendUnavailable,
    CannotOpen,
    KeyDenied,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
)
from go_services_core.model import KeyRef
from go_services_core.secret import SecretBytes
from go_services_core.testing.clock import FrozenClock
from go_services_secrets_failover.backend import AnswerTooLate

from .members import CONTEXT, Local, Pair, Switched, app_key

POLICIES = ("strict_fail", "fallback_allowed")
DATA_KEY = SecretBytes(bytes(range(32)))
REFUSALS = (KeyDenied, KeyDisabled, KeyInvalid, KeyNotFound, CannotOpen)


async def made_of(backend, operation):
    """The key that the operation used, and whether it was marked."""
    if operation == "check":
        return await backend.check(), None
    made = await (backend.generate(CONTEXT) if operation == "generate" else backend.wrap(DATA_KEY, CONTEXT))
    return made.key, made.stand_in


# --- making ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("operation", ["generate", "wrap", "check"])
async def test_primary_makes_while_it_answers(policy, operation):
    pair = Pair(policy=policy)
    key, stand_in = await made_of(pair.backend, operation)
    assert key.backend == "near"
    assert not stand_in
    assert pair.fallback.switch.calls == []


@pytest.mark.parametrize("operation", ["generate", "wrap", "check"])
async def test_strict_fail_never_writes_with_the_fallback(operation):
    pair = Pair()
    pair.primary.switch.error = BackendUnavailable("off")
    for _ in range(5):  # the circuit opens on the way
        with pytest.raises(BackendUnavailable):
            await made_of(pair.backend, operation)
    assert pair.fallback.switch.calls == []


@pytest.mark.parametrize("operation", ["generate", "wrap"])
async def test_allowed_fallback_stands_in_and_what_it_makes_is_marked(operation):
    pair = Pair(policy="fallback_allowed")
    pair.primary.switch.error = BackendUnavailable("off")
    for _ in range(5):
        key, stand_in = await made_of(pair.backend, operation)
        assert key.backend == "far"
        assert stand_in is True


async def test_check_never_names_the_key_of_the_fallback():
    """What rows are wrapped anew by must not change with an outage."""
    pair = Pair(policy="fallback_allowed")
    pair.primary.switch.error = BackendUnavailable("off")
    for _ in range(5):
        with pytest.raises(BackendUnavailable):
            await pair.backend.check()
    assert pair.fallback.switch.calls == []


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("operation", ["generate", "wrap", "check"])
async def test_refusal_of_the_primary_never_leads_to_the_fallback(operation, refusal):
    pair = Pair(policy="fallback_allowed")
    pair.primary.switch.error = refusal("no")
    for _ in range(5):
        with pytest.raises(refusal):
            await made_of(pair.backend, operation)
    assert pair.fallback.switch.calls == []
    assert pair.told == []


async def test_error_that_is_none_of_a_backend_never_leads_to_the_fallback():
    pair = Pair(policy="fallback_allowed")
    pair.primary.switch.error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        await pair.backend.generate(CONTEXT)
    assert pair.fallback.switch.calls == []


@pytest.mark.parametrize("failure", [BackendUnavailable, *REFUSALS])
async def test_primary_and_fallback_that_both_fail_are_one_typed_error_that_names_both(failure):
    pair = Pair(policy="fallback_allowed")
    pair.primary.switch.error = BackendUnavailable("remote text")
    pair.fallback.switch.error = failure("other remote text")
    with pytest.raises(BackendUnavailable) as caught:
        await pair.backend.generate(CONTEXT)
    for word in ("near", "far", "BackendUnavailable", failure.__name__):
        assert word in str(caught.value)
    assert "remote text" not in str(caught.value)
    assert caught.value.metadata == {"primary": "BackendUnavailable", "fallback": failure.__name__}
    assert isinstance(caught.value.__cause__, failure)


async def test_primary_that_does_not_answer_in_time_is_unavailable():
    pair = Pair(timeout=0.01)
    pair.primary.switch.gate = asyncio.Event()
    with pytest.raises(AnswerTooLate, match="'near'") as caught:
        await pair.backend.generate(CONTEXT)
    assert isinstance(caught.value, BackendUnavailable)
    assert caught.value.retryable


async def test_primary_that_does_not_answer_in_time_is_replaced_where_that_is_allowed():
    pair = Pair(policy="fallback_allowed", timeout=0.01)
    pair.primary.switch.gate = asyncio.Event()
    made = await pair.backend.generate(CONTEXT)
    assert (made.key.backend, made.stand_in) == ("far", True)


async def test_time_limit_that_a_member_has_itself_is_not_taken_for_ours():
    pair = Pair(policy="fallback_allowed")
    pair.primary.switch.error = TimeoutError("not typed: a bug of the member")
    with pytest.raises(TimeoutError, match="bug of the member"):
        await pair.backend.generate(CONTEXT)
    assert pair.fallback.switch.calls == []


# --- opening ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
async def test_each_data_key_is_opened_by_the_member_that_its_reference_names(policy):
    """P54c, P55: a move from one backend to another; old data keys open with the old one, new ones are the primary's."""
    old, new = app_key(), Local("kms")
    before = await old.generate(CONTEXT)
    fallback = Switched(old)
    pair = Pair(primary=new, fallback=fallback, policy=policy)
    assert await pair.backend.unwrap(before.wrapped, before.key, CONTEXT) == before.plaintext
    assert new.switch.calls == []
    after = await pair.backend.generate(CONTEXT)
    assert after.key.backend == "kms"
    assert await pair.backend.unwrap(after.wrapped, after.key, CONTEXT) == after.plaintext
    assert fallback.switch.calls == ["unwrap"]
    await old.aclose()


@pytest.mark.parametrize("policy", POLICIES)
async def test_what_the_fallback_sealed_opens_while_the_primary_is_off(policy):
    pair = Pair(policy=policy)
    before = await pair.fallback.generate(CONTEXT)
    pair.primary.switch.error = BackendUnavailable("off")
    for _ in range(5):
        with pytest.raises(BackendUnavailable):
            await pair.backend.unwrap(b"", pair.primary.primary, CONTEXT)
    assert await pair.backend.unwrap(before.wrapped, before.key, CONTEXT) == before.plaintext


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("failure", [BackendUnavailable, *REFUSALS])
async def test_member_that_cannot_open_its_own_is_never_replaced_by_the_other(policy, failure):
    """P55: never a different secret, whatever the reason."""
    pair = Pair(policy=policy)
    for member, other in ((pair.primary, pair.fallback), (pair.fallback, pair.primary)):
        made = await member.generate(CONTEXT)
        member.switch.error = failure("no")
        other.switch.calls.clear()
        with pytest.raises(failure):
            await pair.backend.unwrap(made.wrapped, made.key, CONTEXT)
        assert other.switch.calls == []
        member.switch.error = None


async def test_equal_key_ids_of_both_members_are_told_apart_by_the_backend():
    """P55: the same id and version at the other member is another key."""
    pair = Pair()
    made = await pair.primary.generate(CONTEXT)
    twin = KeyRef("far", made.key.key_id, made.key.key_version)
    pair.fallback.held[twin] = pair.fallback.held[pair.fallback.primary]
    with pytest.raises(CannotOpen):
        await pair.backend.unwrap(made.wrapped, twin, CONTEXT)
    assert pair.primary.switch.calls == ["generate"]


async def test_reference_to_neither_member_names_backend_and_key_and_asks_nobody():
    pair = Pair(policy="fallback_allowed")
    with pytest.raises(KeyNotFound, match="'gone'") as caught:
        await pair.backend.unwrap(b"x", KeyRef("gone", "the-key", 7), CONTEXT)
    assert "the-key" in str(caught.value)
    assert caught.value.field == "secrets.failover.fallback"
    assert pair.primary.switch.calls == pair.fallback.switch.calls == []


async def test_members_that_flip_never_mix_up_concurrent_answers():
    """P55: every answer comes with its own reference; nothing is kept of the call before."""
    clock = FrozenClock()
    pair = Pair(clock, policy="fallback_allowed", failures_to_open=2, probe_seconds=1.0)
    done = asyncio.Event()
    chance = random.Random(1)

    async def flip():
        while not done.is_set():
            pair.primary.switch.error = chance.choice((None, BackendUnavailable("off")))
            clock.advance(0.7)
            await asyncio.sleep(0)

    async def use(number):
        context = number.to_bytes(32, "big")
        kept = []
        for _ in range(10):
            made = await pair.backend.generate(context)
            assert made.stand_in == (made.key.backend == "far")
            kept.append((made, context))
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        return kept

    flipping = asyncio.create_task(flip())
    made = [one for kept in await asyncio.gather(*(use(number) for number in range(50))) for one in kept]
    done.set()
    await flipping
    assert {one.key.backend for one, _ in made} == {"near", "far"}
    pair.primary.switch.error = None
    clock.advance(10)
    await pair.backend.check()
    for one, context in made:
        assert await pair.backend.unwrap(one.wrapped, one.key, context) == one.plaintext


# --- secrecy ---------------------------------------------------------------------------------------------------------


async def test_backend_shows_its_members_only_and_cannot_be_copied():
    pair = Pair()
    assert repr(pair.backend) == "FailoverBackend('near', 'far')"
    with pytest.raises(TypeError):
        pickle.dumps(pair.backend)
    with pytest.raises(TypeError):
        copy.deepcopy(pair.backend)


async def test_closing_leaves_the_members_to_their_owner():
    pair = Pair()
    await pair.backend.aclose()
    assert pair.primary.closed == pair.fallback.closed == 0
