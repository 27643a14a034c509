"""How long and how often a data key is used, and how often the backend is asked."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from typing import Any

import attrs
import pytest

from go_services_core.errors import BackendUnavailable, BadInput, CannotOpen
from go_services_core.model import Binding, KeyRef, Scope, Sealed
from go_services_core.secret import SecretBytes
from go_services_core.testing.clock import FrozenClock
from go_services_envelope import Sealer
from go_services_envelope.cache import KeyCache
from go_services_envelope.format import located, place
from go_services_envelope.keys import KnownKey
from go_services_envelope.sealer import MAX_AGE, MAX_KEYS, MAX_USES

BINDING = Binding(purpose="credential", provider_id="github", scope=Scope("user", "u1"), record_id="r-1")
OTHER_SCOPE = attrs.evolve(BINDING, scope=Scope("user", "u2"))


def sealer(backend: Any, **kwargs: Any) -> Sealer:
    arguments: dict[str, Any] = {"store_id": "store-1", "clock": FrozenClock()} | kwargs
    return Sealer(backend, **arguments)


async def test_one_scope_costs_one_backend_call_and_another_scope_another(backend: Any) -> None:
    one = sealer(backend)
    for number in range(50):
        await one.seal(b"x", attrs.evolve(BINDING, record_id=f"r-{number}", purpose=f"p-{number}"))
    assert backend.calls == ["generate"]
    await one.seal(b"x", OTHER_SCOPE)
    await one.seal(b"x", attrs.evolve(BINDING, provider_id="gitlab"))
    await one.seal(b"x", attrs.evolve(BINDING, scope=None))
    assert backend.calls == ["generate"] * 4
    assert len({made.plaintext.reveal() for made in backend.generated}) == 4


async def test_process_that_sealed_opens_without_asking_the_backend(backend: Any) -> None:
    one = sealer(backend)
    sealed = await one.seal(b"x", BINDING)
    assert await one.open(sealed, BINDING) == SecretBytes(b"x")
    assert backend.calls == ["generate"]


async def test_other_process_unwraps_once_for_all_records_of_a_data_key(backend: Any) -> None:
    one = sealer(backend)
    bindings = [attrs.evolve(BINDING, record_id=f"r-{number}") for number in range(20)]
    records = [(await one.seal(b"x", binding), binding) for binding in bindings]
    backend.calls.clear()
    reader = sealer(backend)
    for sealed, binding in records:
        assert await reader.open(sealed, binding) == SecretBytes(b"x")
    assert backend.calls == ["unwrap"]


async def test_data_key_is_replaced_after_its_last_use(backend: Any) -> None:
    one = sealer(backend, max_uses=3)
    sealed = [await one.seal(b"%d" % number, BINDING) for number in range(7)]
    assert backend.calls == ["generate"] * 3
    assert [await one.open(each, BINDING) for each in sealed] == [SecretBytes(b"%d" % number) for number in range(7)]


async def test_data_key_is_replaced_after_five_minutes(backend: Any) -> None:
    clock = FrozenClock()
    one = sealer(backend, clock=clock)
    await one.seal(b"x", BINDING)
    clock.advance(299.9)
    await one.seal(b"x", BINDING)
    assert backend.calls == ["generate"]
    clock.advance(0.1)
    await one.seal(b"x", BINDING)
    assert backend.calls == ["generate"] * 2


async def test_age_counts_from_before_the_backend_was_asked(backend: Any) -> None:
    clock = FrozenClock()
    backend.gate = asyncio.Event()
    one = sealer(backend, clock=clock)
    first = asyncio.create_task(one.seal(b"x", BINDING))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.advance(200)
    backend.gate.set()
    await first
    clock.advance(100)
    await one.seal(b"x", BINDING)
    assert backend.calls == ["generate"] * 2


async def test_unwrapped_key_is_asked_for_again_after_five_minutes(backend: Any) -> None:
    sealed = await sealer(backend).seal(b"x", BINDING)
    clock = FrozenClock()
    reader = sealer(backend, clock=clock)
    for wait in (0, 299, 1):
        clock.advance(wait)
        await reader.open(sealed, BINDING)
    assert backend.calls == ["generate", "unwrap", "unwrap"]


async def test_unwrapped_key_is_never_used_to_seal(backend: Any) -> None:
    sealed = await sealer(backend).seal(b"x", BINDING)
    reader = sealer(backend)
    await reader.open(sealed, BINDING)
    backend.calls.clear()

    again = await reader.seal(b"x", BINDING)

    assert backend.calls == ["generate"]
    first, second = (made.wrapped for made in backend.generated)
    assert first in sealed.ciphertext
    assert second in again.ciphertext
    assert first not in again.ciphertext


async def test_records_of_several_data_keys_in_one_scope_cost_one_unwrap_each_in_any_order(backend: Any) -> None:
    sealed = [await sealer(backend).seal(b"%d" % number, BINDING) for number in range(4)]
    backend.calls.clear()
    reader = sealer(backend)
    await reader.seal(b"x", BINDING)
    for number in (0, 1, 2, 3, 1, 0, 3, 2, 2):
        assert await reader.open(sealed[number], BINDING) == SecretBytes(b"%d" % number)
    await reader.seal(b"x", BINDING)
    assert backend.calls == ["generate"] + ["unwrap"] * 4


async def test_concurrent_opens_of_two_data_keys_in_one_scope_make_a_call_for_each(backend: Any) -> None:
    sealed = [await sealer(backend).seal(b"%d" % number, BINDING) for number in range(2)]
    backend.calls.clear()
    reader = sealer(backend)
    opened = await asyncio.gather(*(reader.open(each, BINDING) for each in sealed * 2))
    assert opened == [SecretBytes(b"0"), SecretBytes(b"1")] * 2
    assert backend.calls == ["unwrap"] * 2


async def test_remembered_key_serves_no_other_scope(backend: Any) -> None:
    """Only the backend says whether a data key belongs to a context, once for each context."""
    one = sealer(backend)
    sealed = await one.seal(b"x", BINDING)
    with pytest.raises(CannotOpen):
        await one.open(sealed, OTHER_SCOPE)
    assert backend.calls == ["generate", "unwrap"]
    assert len(set(backend.contexts)) == 2


async def test_concurrent_seals_make_one_backend_call(backend: Any) -> None:
    backend.gate = asyncio.Event()
    one = sealer(backend)
    tasks = [asyncio.create_task(one.seal(b"x", BINDING)) for _ in range(40)]
    tasks.append(asyncio.create_task(one.seal(b"x", OTHER_SCOPE)))
    await asyncio.sleep(0.01)
    backend.gate.set()
    await asyncio.gather(*tasks)
    assert backend.calls == ["generate", "generate"]


async def test_concurrent_opens_make_one_backend_call(backend: Any) -> None:
    sealed = await sealer(backend).seal(b"x", BINDING)
    backend.calls.clear()
    backend.gate = asyncio.Event()
    reader = sealer(backend)
    tasks = [asyncio.create_task(reader.open(sealed, BINDING)) for _ in range(40)]
    await asyncio.sleep(0.01)
    backend.gate.set()
    assert await asyncio.gather(*tasks) == [SecretBytes(b"x")] * 40
    assert backend.calls == ["unwrap"]


async def test_concurrent_seals_never_use_a_key_more_often_than_allowed(backend: Any) -> None:
    one = sealer(backend, max_uses=4)
    sealed = await asyncio.gather(*(one.seal(b"x", BINDING) for _ in range(30)))
    uses = [sum(made.wrapped in each.ciphertext for each in sealed) for made in backend.generated]
    assert sum(uses) == 30
    assert max(uses) <= 4


async def test_record_that_names_a_wrong_key_does_not_spoil_a_concurrent_open(backend: Any) -> None:
    sealed = await sealer(backend).seal(b"x", BINDING)
    reader = sealer(backend)
    wrong, right = await asyncio.gather(
        reader.open(Sealed(sealed.ciphertext, KeyRef("memory", "k9", 1)), BINDING),
        reader.open(sealed, BINDING),
        return_exceptions=True,
    )
    assert isinstance(wrong, CannotOpen)
    assert right == SecretBytes(b"x")


async def test_cancelled_caller_does_not_cancel_the_call_for_others(backend: Any) -> None:
    backend.gate = asyncio.Event()
    one = sealer(backend)
    first, second = (asyncio.create_task(one.seal(b"x", BINDING)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    backend.gate.set()
    assert await one.open(await second, BINDING) == SecretBytes(b"x")
    assert first.cancelled()
    assert backend.calls == ["generate"]


async def test_failure_reaches_every_waiter_and_is_not_kept(backend: Any) -> None:
    backend.gate = asyncio.Event()
    backend.down = True
    one = sealer(backend)
    tasks = [asyncio.create_task(one.seal(b"x", BINDING)) for _ in range(5)]
    await asyncio.sleep(0.01)
    backend.gate.set()
    assert {type(answer) for answer in await asyncio.gather(*tasks, return_exceptions=True)} == {BackendUnavailable}
    assert backend.calls == ["generate"]
    backend.down = False
    await one.seal(b"x", BINDING)


async def test_failure_that_nobody_waits_for_any_more_is_silent(backend: Any) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    backend.gate = asyncio.Event()
    backend.down = True
    task = asyncio.create_task(sealer(backend).seal(b"x", BINDING))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    backend.gate.set()
    await asyncio.sleep(0.01)
    del task  # its traceback holds the call, and asyncio complains when that is collected
    gc.collect()
    assert complaints == []


async def test_remembered_keys_are_bounded_and_the_least_used_goes_first(backend: Any) -> None:
    one = sealer(backend, max_keys=2)
    first, second, third = (attrs.evolve(BINDING, scope=Scope("user", name)) for name in "abc")
    for binding in (first, second, first, third, first):
        await one.seal(b"x", binding)
    assert backend.calls == ["generate"] * 3
    await one.seal(b"x", second)
    assert backend.calls == ["generate"] * 4


async def test_unwrapped_keys_are_bounded_and_the_least_used_goes_first(backend: Any) -> None:
    first, second, third = (attrs.evolve(BINDING, scope=Scope("user", name)) for name in "abc")
    sealed = {binding: await sealer(backend).seal(b"x", binding) for binding in (first, second, third)}
    backend.calls.clear()
    reader = sealer(backend, max_keys=2)
    for binding in (first, second, first, third, first):
        await reader.open(sealed[binding], binding)
    assert backend.calls == ["unwrap"] * 3
    await reader.open(sealed[second], second)
    assert backend.calls == ["unwrap"] * 4


async def test_sealer_with_more_scopes_than_it_remembers_still_serves_them_all(backend: Any) -> None:
    one = sealer(backend, max_keys=1)
    bindings = [attrs.evolve(BINDING, scope=Scope("user", f"u{number}")) for number in range(30)]
    sealed = await asyncio.gather(*(one.seal(b"x", binding) for binding in bindings))
    opened = await asyncio.gather(*(map(one.open, sealed, bindings)))
    assert opened == [SecretBytes(b"x")] * 30


async def test_keys_that_are_too_old_leave_memory_when_another_one_comes(backend: Any) -> None:
    clock = FrozenClock()
    one = sealer(backend, clock=clock)
    known = [weakref.ref(await known_key(one, attrs.evolve(BINDING, scope=Scope("user", name)))) for name in "abc"]
    assert all(key() is not None for key in known)
    clock.advance(300)
    await one.seal(b"x", BINDING)
    assert [key() for key in known] == [None] * 3


def known(head: bytes, context: bytes = b"c", *, until: float = 300, left: int = 1) -> KnownKey:
    return KnownKey(SecretBytes(bytes(32)), KeyRef("b", "k", 1), head, context, until=until, left=left)


def test_key_that_was_used_stays_longer_and_one_that_leaves_is_found_no_more() -> None:
    cache = KeyCache(size=2)
    cache.put(known(b"a", b"1"), now=0)
    assert not cache.crowded
    cache.put(known(b"b", b"2"), now=0)
    assert cache.crowded
    cache.touch(b"a")
    cache.put(known(b"c", b"3"), now=0)
    assert [cache.find(head) is not None for head in (b"a", b"b", b"c")] == [True, False, True]
    assert [cache.latest(context) is not None for context in (b"1", b"2", b"3")] == [True, False, True]


def test_key_that_seals_stays_the_latest_of_its_context_until_it_is_used_up() -> None:
    cache = KeyCache(size=9)
    sealing, unwrapped, again = known(b"a"), known(b"b", left=0), known(b"b", left=0)
    cache.put(sealing, now=0)
    cache.put(unwrapped, now=0)
    assert (cache.latest(b"c"), cache.find(b"b")) == (sealing, unwrapped)
    sealing.left = 0
    cache.put(again, now=0)
    assert cache.latest(b"c") is cache.find(b"b") is again
    assert cache.find(b"a") is sealing


def test_latest_of_a_context_stays_when_an_earlier_one_leaves() -> None:
    cache = KeyCache(size=9)
    later = known(b"b")
    cache.put(known(b"a", until=10), now=0)
    cache.put(later, now=0)
    cache.put(known(b"c", b"other"), now=10)
    assert cache.find(b"a") is None
    assert cache.latest(b"c") is later


def test_key_that_is_over_or_replaced_is_not_the_latest_either() -> None:
    cache = KeyCache(size=9)
    cache.put(known(b"a", until=10), now=0)
    cache.put(known(b"b", b"other"), now=10)
    assert cache.find(b"a") is cache.latest(b"c") is None
    cache.put(known(b"b", b"c"), now=10)
    assert cache.latest(b"other") is None
    assert cache.latest(b"c") is cache.find(b"b") is not None


async def known_key(one: Sealer, binding: Binding) -> KnownKey:
    """The data key that seals for a binding."""
    await one.seal(b"x", binding)
    key = one._keys.latest(place("store-1", binding.purpose, binding.provider_id, binding.scope).context)
    assert key is not None
    return key


async def test_rotated_backend_is_followed_when_the_data_key_is_replaced(backend: Any) -> None:
    clock = FrozenClock()
    one = sealer(backend, clock=clock)
    before = await one.seal(b"x", BINDING)
    backend.rotate()
    clock.advance(300)
    after = await one.seal(b"x", BINDING)
    assert (before.key.key_version, after.key.key_version) == (1, 2)
    assert await one.open(before, BINDING) == await one.open(after, BINDING) == SecretBytes(b"x")


async def test_forgotten_keys_are_asked_for_again(backend: Any) -> None:
    one = sealer(backend)
    sealed = await one.seal(b"x", BINDING)
    one.forget()
    await one.open(sealed, BINDING)
    await one.seal(b"x", BINDING)
    assert backend.calls == ["generate", "unwrap", "generate"]


async def test_same_seeded_clock_never_repeats_a_nonce(backend: Any) -> None:
    payload = 12 + 32 + 1 + 16
    sealed = [await sealer(backend, clock=FrozenClock(seed=7)).seal(b"x", BINDING) for _ in range(5)]
    assert len({each.ciphertext[-payload:][:12] for each in sealed}) == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_process_does_not_seal_with_its_parents_key(backend: Any) -> None:
    one = sealer(backend)
    before = asyncio.run(one.seal(b"x", BINDING))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            sealed = asyncio.run(one.seal(b"x", BINDING))
            os.write(write, b"new" if backend.generated[0].wrapped not in sealed.ciphertext else b"old")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        assert answer.read() == b"new"
    os.waitpid(child, 0)
    after = asyncio.run(one.seal(b"x", BINDING))
    assert backend.generated[0].wrapped in before.ciphertext
    assert backend.generated[0].wrapped in after.ciphertext
    assert backend.calls == ["generate"]


@pytest.mark.parametrize(
    "limits", [{"max_uses": 0}, {"max_uses": MAX_USES + 1}, {"max_age": 0}, {"max_age": MAX_AGE + 1}, {"max_keys": 0}]
)
def test_limits_cannot_be_set_beyond_the_protocols(backend: Any, limits: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        sealer(backend, **limits)


@pytest.mark.parametrize("store_id", ["", "x" * 1025])
def test_sealer_needs_the_identity_of_its_store(backend: Any, store_id: str) -> None:
    with pytest.raises(BadInput):
        sealer(backend, store_id=store_id)


def test_default_limits_are_those_of_the_protocol() -> None:
    assert (MAX_USES, MAX_AGE, MAX_KEYS) == (2**20, 300, 8192)


async def test_ten_thousand_records_of_a_thousand_scopes_cost_one_call_for_each_scope(backend: Any) -> None:
    bindings = [
        attrs.evolve(BINDING, scope=Scope("org", f"o{number % 1000}"), record_id=f"r-{number}")
        for number in range(10_000)
    ]
    one = sealer(backend)
    records = [(await one.seal(b"x", binding), binding) for binding in bindings]
    for sealed, binding in records:
        assert await one.open(sealed, binding) == SecretBytes(b"x")
    assert (backend.calls.count("generate"), backend.calls.count("unwrap")) == (1000, 0)

    backend.calls.clear()
    clock = FrozenClock()
    other = sealer(backend, clock=clock)
    for wait in (0, 299.9):
        clock.advance(wait)
        for sealed, binding in records:
            assert await other.open(sealed, binding) == SecretBytes(b"x")
    assert (backend.calls.count("generate"), backend.calls.count("unwrap")) == (0, 1000)


async def test_stand_ins_data_key_seals_thirty_seconds_and_opens_five_minutes(backend: Any) -> None:
    clock = FrozenClock()
    generate, stand_in = backend.generate, True

    async def by_stand_in(context: bytes) -> Any:
        return attrs.evolve(await generate(context), stand_in=stand_in)

    backend.generate = by_stand_in
    one = sealer(backend, clock=clock)
    first = await one.seal(b"x", BINDING)
    clock.advance(29.9)
    await one.seal(b"x", BINDING)
    assert backend.calls == ["generate"]

    stand_in = False
    clock.advance(0.1)
    second = await one.seal(b"x", BINDING)
    assert backend.calls == ["generate"] * 2
    assert backend.generated[1].wrapped in second.ciphertext
    clock.advance(269.9)
    await one.seal(b"x", BINDING)
    await one.open(first, BINDING)
    assert backend.calls == ["generate"] * 2
    clock.advance(0.1)
    await one.open(first, BINDING)
    assert backend.calls == ["generate", "generate", "unwrap"]


async def test_stand_ins_age_does_not_lengthen_a_shorter_limit(backend: Any) -> None:
    clock = FrozenClock()
    generate = backend.generate

    async def by_stand_in(context: bytes) -> Any:
        return attrs.evolve(await generate(context), stand_in=True)

    backend.generate = by_stand_in
    one = sealer(backend, clock=clock, max_age=10)
    for wait in (0, 9.9, 0.1):
        clock.advance(wait)
        await one.seal(b"x", BINDING)
    assert backend.calls == ["generate"] * 2


async def test_data_key_that_comes_after_forgetting_is_not_kept(backend: Any) -> None:
    backend.gate = asyncio.Event()
    one = sealer(backend)
    task = asyncio.create_task(one.seal(b"x", BINDING))
    await asyncio.sleep(0.01)
    one.forget()
    backend.gate.set()
    sealed = await task
    await one.seal(b"x", BINDING)
    assert await one.open(sealed, BINDING) == SecretBytes(b"x")
    assert backend.calls == ["generate", "generate", "unwrap"]


async def test_local_backend_is_asked_without_a_task(backend: Any) -> None:
    tasks: list[Any] = []

    def counted(loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
        tasks.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    async def once() -> None:
        await sealer(backend).open(await sealer(backend).seal(b"x", BINDING), BINDING)

    asyncio.get_running_loop().set_task_factory(counted)
    await once()
    assert len(tasks) == 2
    backend.local = True
    await once()
    assert len(tasks) == 2
    assert backend.calls == ["generate", "unwrap"] * 2


async def test_concurrent_seals_over_a_local_backend_that_waits_after_all_open(backend: Any) -> None:
    backend.local = True
    backend.gate = asyncio.Event()
    one = sealer(backend, max_keys=1)
    bindings = [attrs.evolve(BINDING, scope=Scope("user", f"u{number % 3}")) for number in range(12)]
    tasks = [asyncio.create_task(one.seal(b"x", binding)) for binding in bindings]
    await asyncio.sleep(0.01)
    backend.gate.set()
    opened = [
        await one.open(sealed, binding) for sealed, binding in zip(await asyncio.gather(*tasks), bindings, strict=True)
    ]
    assert opened == [SecretBytes(b"x")] * 12


async def test_more_records_than_are_remembered_open(backend: Any) -> None:
    most = located.cache_info().maxsize
    assert most == 8192
    one = sealer(backend)
    bindings = [attrs.evolve(BINDING, record_id=f"r-{number}", record_version=number) for number in range(most + 20)]
    records = [(await one.seal(b"%d" % number, binding), binding) for number, binding in enumerate(bindings)]
    for number, (sealed, binding) in enumerate(records):
        assert await one.open(sealed, binding) == SecretBytes(b"%d" % number)
    assert located.cache_info().currsize == most
    assert backend.calls == ["generate"]


def nonce(sealed: Sealed) -> bytes:
    return sealed.ciphertext[-(12 + 32 + 1 + 16) :][:12]


async def test_no_nonce_comes_twice(backend: Any) -> None:
    one = sealer(backend)
    nonces = [nonce(await one.seal(b"x", BINDING)) for _ in range(2000)]
    assert len(set(nonces)) == 2000
    assert {len(each) for each in nonces} == {12}
    assert backend.calls == ["generate"]


async def test_no_nonce_is_fetched_before_it_is_needed(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of nonces would be used twice by a process whose memory was copied."""
    fetched: list[bytes] = []

    def watched(size: int) -> bytes:
        fetched.append(os.urandom(size))
        return fetched[-1]

    monkeypatch.setattr("go_services_envelope.sealer.urandom", watched)
    one = sealer(backend)
    for number in range(1, 4):
        sealed = await one.seal(b"x", BINDING)
        assert len(fetched) == number
        assert nonce(sealed) == fetched[-1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_process_takes_no_nonce_of_its_parents(backend: Any) -> None:
    one = sealer(backend)

    async def some() -> list[bytes]:
        return [nonce(await one.seal(b"x", BINDING)) for _ in range(20)]

    mine = asyncio.run(some())
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, b"".join(asyncio.run(some())))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        sent = answer.read()
    os.waitpid(child, 0)
    mine += asyncio.run(some())
    theirs = {sent[at : at + 12] for at in range(0, len(sent), 12)}
    assert len(theirs) == 20
    assert len({*mine, *theirs}) == 60
