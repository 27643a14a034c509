"""Checks for stores: rate budgets and the activity log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve

from ...errors import BadInput, Conflict
from ...model import Scope
from ...protocols import Store
from ...resources import Activity, BudgetKey
from ..kit import check
from .store import SCOPE, established, new_id, now, refused

REST = BudgetKey("kit", SCOPE, "rest")


@check("STORE-170", "store", needs=("budgets",))
async def budget_grants_until_it_is_empty(store: Store) -> None:
    """A window gives its limit, then refuses with the time that it began with; budgets of other keys are apart."""
    assert await store.budgets.peek(REST) is None
    left = [(await store.budgets.take(REST, 1, limit=3, window=window)).remaining for window in (60, 600, 600)]
    assert left == [2, 1, 0]
    refusal = await store.budgets.take(REST, 1, limit=3, window=60)
    assert (refusal.granted, refusal.remaining) == (False, 0)
    assert 0 < refusal.retry_in <= 60
    held = await store.budgets.peek(REST)
    assert held is not None
    assert (held.limit, held.remaining) == (3, 0)
    assert 0 < held.reset_in <= 60
    for other in (
        BudgetKey("kit", SCOPE, "rest per day"),
        BudgetKey("kit2", SCOPE, "rest"),
        BudgetKey("kit", Scope("org", "u1"), "rest"),
    ):
        granted = await store.budgets.take(other, 2, limit=3, window=60)
        assert (granted.granted, granted.remaining, granted.retry_in) == (True, 1, 0)


@check("STORE-171", "store", needs=("budgets",))
async def last_unit_goes_to_one(store: Store) -> None:
    """Of 50 concurrent takers of the last unit one gets it; a refusal takes nothing."""
    await store.budgets.take(REST, 9, limit=10, window=60)
    answers = await asyncio.gather(*(store.budgets.take(REST, 1, limit=10, window=60) for _ in range(50)))
    assert sum(answer.granted for answer in answers) == 1
    fresh = BudgetKey("kit", SCOPE, "fresh")
    answers = await asyncio.gather(*(store.budgets.take(fresh, 1, limit=7, window=60) for _ in range(50)))
    assert sum(answer.granted for answer in answers) == 7
    much = BudgetKey("kit", SCOPE, "much")
    await store.budgets.take(much, 3, limit=5, window=60)
    assert not (await store.budgets.take(much, 3, limit=5, window=60)).granted
    assert (await store.budgets.take(much, 2, limit=5, window=60)).granted


@check("STORE-172", "store", needs=("budgets",))
async def budget_counts_in_fractions(store: Store) -> None:
    """Ten tenths are one, and a limit below one is a limit."""
    answers = [await store.budgets.take(REST, 0.1, limit=1, window=60) for _ in range(11)]
    assert [answer.granted for answer in answers] == [True] * 10 + [False]
    assert min(answer.remaining for answer in answers) >= 0
    small = BudgetKey("kit", SCOPE, "small")
    answers = [await store.budgets.take(small, 0.0167, limit=0.05, window=60) for _ in range(3)]
    assert [answer.granted for answer in answers] == [True, True, False]


@check("STORE-173", "store", needs=("budgets",))
async def next_window_is_full_again(store: Store) -> None:
    """After its window a budget has the limit that is asked with then."""
    assert (await store.budgets.take(REST, 2, limit=2, window=0.1)).granted
    assert not (await store.budgets.take(REST, 1, limit=2, window=0.1)).granted
    await asyncio.sleep(0.15)
    held = await store.budgets.peek(REST)
    assert held is not None
    assert (held.remaining, held.reset_in) == (2, 0)
    granted = await store.budgets.take(REST, 1, limit=5, window=60)
    assert (granted.granted, granted.remaining) == (True, 4)
    assert not (await store.budgets.take(REST, 5, limit=5, window=60)).granted


@check("STORE-174", "store", needs=("budgets",))
async def budget_learns_from_the_provider(store: Store) -> None:
    """Within a window the units left only become fewer; a reset far later than the known one is a newer window."""

    async def left() -> tuple[float, float]:
        held = await store.budgets.peek(REST)
        assert held is not None
        return held.limit, held.remaining

    await store.budgets.correct(REST, remaining=5, limit=10, reset_in=30)
    assert await left() == (10, 5)
    assert (await store.budgets.take(REST, 2, limit=100, window=60)).remaining == 3
    await store.budgets.correct(REST, remaining=4, limit=10, reset_in=31)  # a late answer
    assert await left() == (10, 3)
    await store.budgets.correct(REST, remaining=1, limit=10, reset_in=29)  # others take, too
    assert await left() == (10, 1)
    await store.budgets.correct(REST, remaining=0, limit=10, reset_in=20)
    refusal = await store.budgets.take(REST, 1, limit=100, window=60)
    assert not refusal.granted
    assert 0 < refusal.retry_in <= 20
    await store.budgets.correct(REST, remaining=99, limit=100, reset_in=80)
    assert await left() == (100, 99)
    await store.budgets.correct(REST, remaining=0, limit=100, reset_in=0.05)
    await asyncio.sleep(0.1)
    await store.budgets.correct(REST, remaining=50, limit=60, reset_in=20)
    assert await left() == (60, 50)


@check("STORE-175", "store", needs=("budgets",))
async def impossible_budgets_are_refused(store: Store) -> None:
    """More units than the limit, none at all, or no window are a BadInput and change nothing."""
    for units, limit, window in ((4, 3, 60), (0, 3, 60), (-1, 3, 60), (1, 3, 0), (float("nan"), 3, 60), (1, 0, 60)):
        await refused(BadInput, store.budgets.take(REST, units, limit=limit, window=window))
    for remaining, limit, reset_in in ((-1, 3, 60), (1, -3, 60), (1, 3, 0)):
        await refused(BadInput, store.budgets.correct(REST, remaining=remaining, limit=limit, reset_in=reset_in))
    assert await store.budgets.peek(REST) is None


def entry(**fields: Any) -> Activity:
    """An entry that is new."""
    made = Activity(
        id=new_id(),
        provider_id="kit",
        scope=SCOPE,
        action="connection.established",
        object_type="connection",
        object_id="c1",
        actor="u1",
        actor_type="user",
        metadata={"items": [1, {"text": "ü"}]},
        created_at=now(),
    )
    return evolve(made, **fields)


async def logged(store: Store, **filters: Any) -> list[str]:
    """The ids of what the log shows."""
    return [one.id for one in (await store.log.activity(**filters)).items]


@check("STORE-180", "store", needs=("connections", "log"))
async def entry_is_kept_once(store: Store) -> None:
    """An entry is read back unchanged, recording it again keeps one, and entries given together are kept together."""
    connected = await established(store)
    full = entry(
        connection_id=connected.id,
        installation_id="i1",
        subscription_id="s1",
        sync_job_id="j1",
        channel="kit",
        status="warn",
    )
    assert await store.log.record([full]) == 1
    assert (await store.log.activity()).items == (full,)
    again = [evolve(full, action="changed"), entry(), entry()]
    answers = await asyncio.gather(*(store.log.record(again) for _ in range(4)))
    assert sum(answers) == 2
    assert await store.log.record([]) == 0
    await refused(Conflict, store.log.record([entry(), entry(connection_id="none")]))
    found = {one.id: one for one in (await store.log.activity()).items}
    assert found == {one.id: one for one in (full, *again[1:])}


@check("STORE-181", "store", needs=("log",))
async def activity_comes_newest_first(store: Store) -> None:
    """Pages go from new to old; entries of one moment are neither lost nor doubled."""
    moment = now()
    entries = [entry(created_at=moment - timedelta(seconds=number // 3)) for number in range(8)]
    await store.log.record(entries)
    expected = sorted(entries, key=lambda one: (one.created_at, one.id), reverse=True)
    seen: list[Activity] = []
    after = None
    while True:
        page = await store.log.activity(after=after, limit=2)
        seen += page.items
        if (after := page.next) is None:
            break
    assert seen == expected
    await refused(BadInput, store.log.activity(limit=0))
    for wrong in ("x", "2026-01-01T00:00:00 id", "2026-01-01T00:00:00+00:00"):
        await refused(BadInput, store.log.activity(after=wrong))


@check("STORE-182", "store", needs=("connections", "log"))
async def activity_is_filtered(store: Store) -> None:
    """Filters combine, and times are compared as times, to the microsecond and within a day."""
    connected = await established(store)
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    base = entry(created_at=noon)
    other = {
        "provider_id": "kit2",
        "scope": Scope("org", "o1"),
        "connection_id": connected.id,
        "action": "other",
        "status": "error",
    }
    variants = {name: entry(created_at=noon, **{name: value}) for name, value in other.items()}
    later = entry(created_at=noon + timedelta(microseconds=1))
    await store.log.record([base, later, *variants.values()])
    for name, value in other.items():
        assert await logged(store, **{name: value}) == [variants[name].id]
    assert await logged(store, since=noon + timedelta(microseconds=1)) == [later.id]
    assert base.id in await logged(store, since=noon, until=noon + timedelta(microseconds=1))
    assert await logged(store, until=noon) == []
    assert later.id not in await logged(store, until=noon + timedelta(microseconds=1))
    assert await logged(store, action="other", status="error") == []
    page = await store.log.activity(provider_id="kit", limit=2)
    rest = await store.log.activity(provider_id="kit", limit=9, after=page.next)
    assert len({one.id for one in (*page.items, *rest.items)}) == 6
