"""Rewrapping: the result is the primary's, whoever wrapped."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from go_services_core.errors import (
    BackendUnavailable,
    CannotOpen,
    KeyDenied,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
    SecretError,
)
from go_services_core.model import KeyRef
from go_services_core.sealing import WrappedKey

from .members import CONTEXT, Pair

POLICIES = ("strict_fail", "fallback_allowed")


def wrapped(made, context=CONTEXT):
    return WrappedKey(wrapped=made.wrapped, key=made.key, context=context)


@pytest.mark.parametrize("policy", POLICIES)
async def test_rewrap_ends_under_the_primary_whoever_wrapped_and_answers_in_place(policy):
    pair = Pair(policy=policy)
    mine = [await pair.primary.generate(CONTEXT) for _ in range(3)]
    theirs = [await pair.fallback.generate(CONTEXT) for _ in range(20)]
    await pair.primary.add_key()
    before, after = await pair.primary.rotate()
    assert before != after
    damaged = attrs.evolve(theirs[0], wrapped=theirs[0].wrapped[:-1])
    foreign = attrs.evolve(theirs[0], key=KeyRef("gone", "the-key", 1))
    moved = [mine[0], theirs[0], damaged, mine[1], foreign, *theirs[1:], mine[2]]
    pair.primary.switch.calls.clear()
    pair.fallback.switch.calls.clear()

    answers = await pair.backend.rewrap([wrapped(key) for key in moved])

    assert isinstance(answers[2], CannotOpen)
    assert isinstance(answers[4], KeyNotFound)
    assert "gone" in str(answers[4])
    for place, answer in enumerate(answers):
        if place not in (2, 4):
            assert (answer.key, answer.context) == (after, CONTEXT)
            opened = await pair.primary.unwrap(answer.wrapped, answer.key, CONTEXT)
            assert opened == moved[place].plaintext
    assert pair.primary.switch.calls.count("rewrap") == 1
    assert set(pair.fallback.switch.calls) == {"unwrap"}
    assert await pair.backend.rewrap([]) == []


async def test_own_keys_are_never_in_clear_in_this_process():
    pair = Pair()
    made = [wrapped(await pair.primary.generate(CONTEXT)) for _ in range(10)]
    pair.primary.switch.calls.clear()
    await pair.backend.rewrap(made)
    assert pair.primary.switch.calls == ["rewrap"]


@pytest.mark.parametrize("policy", POLICIES)
async def test_rewrap_while_the_primary_is_off_is_unavailable_and_never_ends_under_the_fallback(policy):
    pair = Pair(policy=policy)
    mine, theirs = await pair.primary.generate(CONTEXT), await pair.fallback.generate(CONTEXT)
    pair.primary.switch.error = BackendUnavailable("off")
    pair.fallback.switch.calls.clear()
    for asked in ([mine], [theirs], [mine, theirs], [theirs] * 30):
        with pytest.raises(BackendUnavailable):
            await pair.backend.rewrap([wrapped(key) for key in asked])
    assert set(pair.fallback.switch.calls) <= {"unwrap"}


@pytest.mark.parametrize("refusal", [KeyDenied, KeyDisabled, KeyNotFound])
async def test_rewrap_with_a_primary_that_refuses_is_its_error(refusal):
    pair = Pair()
    theirs = [wrapped(await pair.fallback.generate(CONTEXT)) for _ in range(3)]
    pair.primary.switch.error = refusal("no")
    with pytest.raises(refusal):
        await pair.backend.rewrap(theirs)


async def test_fallback_that_is_off_leaves_its_own_and_the_primary_s_are_rewrapped():
    pair = Pair()
    mine = await pair.primary.generate(CONTEXT)
    theirs = [await pair.fallback.generate(CONTEXT) for _ in range(30)]
    pair.fallback.switch.error = BackendUnavailable("off")
    pair.fallback.switch.calls.clear()
    first, *rest = await pair.backend.rewrap([wrapped(key) for key in (mine, *theirs)])
    assert first.key == pair.primary.primary
    assert all(isinstance(answer, BackendUnavailable) for answer in rest)
    assert len(rest) == 30
    assert len(pair.fallback.switch.calls) < 30, "a backend that does not answer is not asked for each"
    assert pair.told == []


async def test_data_key_that_the_primary_does_not_take_is_answered_in_its_place():
    pair = Pair()
    good, bad = [await pair.fallback.generate(CONTEXT) for _ in range(2)]
    wrap = pair.primary.wrap

    async def choosy(plaintext, context):
        if plaintext == bad.plaintext:
            raise KeyInvalid("not 32 bytes")
        return await wrap(plaintext, context)

    pair.primary.wrap = choosy
    first, second = await pair.backend.rewrap([wrapped(bad), wrapped(good)])
    assert isinstance(first, KeyInvalid)
    assert second.key == pair.primary.primary


async def test_batch_has_the_time_of_each_of_its_keys():
    pair = Pair(timeout=0.02)
    made = [wrapped(await pair.primary.generate(CONTEXT)) for _ in range(3000)]
    pair.primary.switch.gate = gate = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, gate.set)
    answers = await pair.backend.rewrap(made)
    assert not any(isinstance(answer, SecretError) for answer in answers)
