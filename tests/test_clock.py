"""Time-ordered ids, and the clock of the machine."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.clock import Clock, SystemClock, uuid7
from go_services_core.testing.clock import FrozenClock


class FixedRandom(FrozenClock):
    def __init__(self, now: datetime, octets: bytes) -> None:
        super().__init__(now)
        self.octets = octets

    def random(self, size: int) -> bytes:
        return self.octets[:size]


def test_a_uuid7_is_the_one_of_rfc_9562_appendix_a_6() -> None:
    """unix_ts_ms 0x017F22E279B0, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F."""
    octets = bytes.fromhex("0cc3" + "18c4dc0c0c07398f")
    clock = FixedRandom(datetime(2022, 2, 22, 19, 22, 22, 816, tzinfo=UTC), octets)
    assert uuid7(clock) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(
    now=st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),
    octets=st.binary(min_size=10, max_size=10),
)
def test_a_uuid7_has_version_variant_and_the_time(now: datetime, octets: bytes) -> None:
    made = uuid.UUID(uuid7(FixedRandom(now, octets)))
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    microseconds = (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert made.int >> 80 == microseconds // 1000
    assert made.int >> 66 & 0x3FF == microseconds % 1000
    assert made.int & (1 << 62) - 1 == int.from_bytes(octets, "big") & (1 << 62) - 1


def test_ids_sort_as_text_by_the_time_of_their_making() -> None:
    clock = FrozenClock()
    made = []
    for _ in range(200):
        made.append(uuid7(clock))
        clock.advance(0.000001)
    assert made == sorted(made)


def test_ids_of_one_moment_differ() -> None:
    clock = FrozenClock()
    assert len({uuid7(clock) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("clock", [SystemClock(), FrozenClock()])
async def test_a_clock_is_aware_monotonic_and_random(clock: Clock) -> None:
    assert isinstance(clock, Clock)
    assert clock.now().utcoffset() == timedelta(0)
    before = clock.monotonic()
    await clock.sleep(0.0)
    assert clock.monotonic() >= before
    assert [len(clock.random(size)) for size in (0, 1, 32)] == [0, 1, 32]
    assert clock.random(16) != clock.random(16)


async def test_the_frozen_clock_moves_only_when_told() -> None:
    clock = FrozenClock()
    started = clock.now()
    assert (clock.now(), clock.monotonic()) == (started, 0.0)
    await clock.sleep(90.0)
    clock.advance(10)
    assert (clock.now() - started, clock.monotonic(), clock.slept) == (timedelta(seconds=100), 100.0, [90.0])


def test_the_frozen_clocks_randomness_repeats() -> None:
    assert FrozenClock(seed=7).random(16) == FrozenClock(seed=7).random(16) != FrozenClock(seed=8).random(16)
