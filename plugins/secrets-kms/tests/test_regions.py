"""Multi-Region keys: the next Region while the first does not answer, and one name for one key."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from attrs import evolve

from go_services_core.errors import BackendUnavailable, CannotOpen, KeyDisabled, KeyInvalid, KeyNotFound
from go_services_core.sealing import WrappedKey
from go_services_core.testing.clock import FrozenClock
from go_services_envelope.policy import KeyWindow

from .conftest import AWAY, HOME, Opener
from .kms_stub import KmsStub, Refusal

CONTEXT = bytes(range(32))
MRK, OTHER_MRK = "mrk-" + "1" * 32, "mrk-" + "2" * 32
SINGLE = "11111111-2222-3333-4444-555555555555"
DOWN = Refusal(503, "ServiceUnavailable")


@pytest.fixture
def replicas(home: KmsStub, away: KmsStub) -> str:
    """The ARN in the first Region of a key that both have."""
    key = home.add_key(MRK, alias="alias/both")
    away.add_key(MRK, alias="alias/both", material=key.material)
    return key.arn


@pytest.mark.parametrize("name", ["arn", "alias/both", MRK])
async def test_next_region_serves_while_the_first_fails(
    home: KmsStub, away: KmsStub, replicas: str, open_kms: Opener, name: str
) -> None:
    clock = FrozenClock(datetime(2027, 1, 1, tzinfo=UTC))
    key = replicas if name == "arn" else name
    backend = open_kms(clock, key=key, endpoint_url=home.url, endpoints=(f"{AWAY}={away.url}",), max_attempts=1)
    before = await backend.generate(CONTEXT)
    assert not away.calls
    home.always = DOWN
    during = await backend.generate(CONTEXT)
    assert during.key == before.key, "a row names the key alike, whichever Region answered"
    assert during.key.key_id == replicas
    assert await backend.unwrap(before.wrapped, before.key, CONTEXT) == before.plaintext
    (moved,) = await backend.rewrap([WrappedKey(wrapped=during.wrapped, key=during.key, context=CONTEXT)])
    assert isinstance(moved, WrappedKey)
    home.always = None
    clock.advance(31)
    away.always = DOWN
    assert await backend.unwrap(during.wrapped, during.key, CONTEXT) == during.plaintext


async def test_region_that_failed_is_asked_last_for_a_while(
    home: KmsStub, away: KmsStub, replicas: str, open_kms: Opener
) -> None:
    clock = FrozenClock(datetime(2027, 1, 1, tzinfo=UTC))
    backend = open_kms(clock, key=replicas, endpoint_url=home.url, endpoints=(f"{AWAY}={away.url}",), max_attempts=1)
    home.always = DOWN
    for _ in range(5):
        await backend.generate(CONTEXT)
    assert (home.calls.total(), away.calls.total()) == (1, 5)
    home.always, away.always = None, DOWN
    await backend.generate(CONTEXT)
    assert home.calls.total() == 2, "asked last is still asked"
    away.always = None
    clock.advance(31)
    await backend.generate(CONTEXT)
    assert home.calls.total() == 3


async def test_slow_region_leaves_time_for_the_next(
    home: KmsStub, away: KmsStub, replicas: str, open_kms: Opener
) -> None:
    backend = open_kms(
        key=replicas, endpoint_url=home.url, endpoints=(f"{AWAY}={away.url}",), read_timeout=30, timeout=8
    )
    released = threading.Event()
    home.before = lambda _: released.wait(30) and None
    try:
        await backend.generate(CONTEXT)
    finally:
        released.set()
    assert away.calls.total() == 1


async def test_all_regions_down_is_unavailable(home: KmsStub, away: KmsStub, replicas: str, open_kms: Opener) -> None:
    backend = open_kms(key=replicas, endpoint_url=home.url, endpoints=(f"{AWAY}={away.url}",), max_attempts=1)
    home.always = away.always = DOWN
    with pytest.raises(BackendUnavailable):
        await backend.generate(CONTEXT)
    assert (home.calls.total(), away.calls.total()) == (1, 1)


async def test_refusal_is_not_taken_to_another_region(
    home: KmsStub, away: KmsStub, replicas: str, open_kms: Opener
) -> None:
    """P55"""
    backend = open_kms(key=replicas, endpoint_url=home.url, endpoints=(f"{AWAY}={away.url}",))
    made = await backend.generate(CONTEXT)
    with pytest.raises(CannotOpen):
        await backend.unwrap(made.wrapped, made.key, CONTEXT[:-1])
    home.keys[replicas].state = "Disabled"
    with pytest.raises(KeyDisabled):
        await backend.unwrap(made.wrapped, made.key, CONTEXT)
    assert not away.calls


async def test_alias_that_names_another_key_elsewhere_is_refused(
    home: KmsStub, away: KmsStub, open_kms: Opener
) -> None:
    """P55: what is sealed during an outage must open after it."""
    home.add_key(MRK, alias="alias/app")
    for id in (OTHER_MRK, SINGLE):
        away.add_key(id, alias="alias/app")
        backend = open_kms(key="alias/app", endpoint_url=home.url, endpoints=(f"{AWAY}={away.url}",), max_attempts=1)
        home.always = None
        await backend.check()
        home.always = DOWN
        with pytest.raises(KeyInvalid, match="not a replica"):
            await backend.generate(CONTEXT)


async def test_key_of_one_region_is_never_asked_for_elsewhere(home: KmsStub, away: KmsStub, open_kms: Opener) -> None:
    key = home.add_key(SINGLE)
    for name in (key.arn, SINGLE):
        backend = open_kms(key=name, endpoint_url=home.url, endpoints=(f"{AWAY}={away.url}",), max_attempts=1)
        home.always = None
        made = await backend.generate(CONTEXT)
        home.always = DOWN
        for use in (backend.generate(CONTEXT), backend.unwrap(made.wrapped, made.key, CONTEXT)):
            with pytest.raises(BackendUnavailable):
                await use
    assert not away.calls


async def test_rows_of_either_region_open_in_a_process_of_the_other(
    home: KmsStub, away: KmsStub, replicas: str, open_kms: Opener
) -> None:
    made = await open_kms(key=replicas, endpoint_url=home.url).generate(CONTEXT)
    for key in (replicas.replace(HOME, AWAY), "alias/both", MRK):
        there = open_kms(key=key, region=AWAY, endpoint_url=away.url)
        assert await there.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext
    other = away.add_key(OTHER_MRK)
    mixed = open_kms(key=other.arn, region=AWAY, endpoint_url=away.url, compatible=(replicas,))
    assert await mixed.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext


async def test_same_key_id_of_another_account_is_another_key(home: KmsStub, replicas: str, open_kms: Opener) -> None:
    backend = open_kms(key=replicas, endpoint_url=home.url)
    made = await backend.generate(CONTEXT)
    foreign = made.key.key_id.replace("111122223333", "999988887777")
    before = home.calls.total()
    with pytest.raises(KeyNotFound, match="999988887777"):
        await backend.unwrap(made.wrapped, evolve(made.key, key_id=foreign), CONTEXT)
    assert home.calls.total() == before


async def test_window_of_a_multi_region_key_holds_in_every_region(
    home: KmsStub, away: KmsStub, replicas: str, open_kms: Opener
) -> None:
    over = KeyWindow(
        key=replicas, encrypt_until=datetime(2026, 1, 1, tzinfo=UTC), decrypt_until=datetime(2028, 1, 1, tzinfo=UTC)
    )
    clock = FrozenClock(datetime(2027, 1, 1, tzinfo=UTC))
    backend = open_kms(clock, key="alias/both", region=AWAY, endpoint_url=away.url, windows=(over,))
    for use in (backend.generate(CONTEXT), backend.check()):
        with pytest.raises(KeyDisabled, match="encrypt window ended"):
            await use
    made = await open_kms(key=replicas, endpoint_url=home.url).generate(CONTEXT)
    assert await backend.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext
    with pytest.raises(KeyDisabled, match="encrypt window ended"):
        await backend.rewrap([WrappedKey(wrapped=made.wrapped, key=made.key, context=CONTEXT)])
    clock.advance(2 * 366 * 86400)
    with pytest.raises(KeyDisabled, match="decrypt window ended"):
        await backend.unwrap(made.wrapped, made.key, CONTEXT)
