"""Checks for stores: blocks of rate budgets, pauses, and scopes that share one."""

from __future__ import annotations

import asyncio

from attrs import evolve

from ...errors import BadInput
from ...model import Scope
from ...protocols import Store
from ...resources import BudgetAsk, BudgetKey
from ..kit import check
from .store import SCOPE, refused
from .store_budgets import REST

MINUTE = BudgetAsk(key=REST, units=1, limit=10, window=60)
DAY = BudgetAsk(key=BudgetKey("kit", SCOPE, "rest per day"), units=1, limit=12, window=86400)
A, B, C = (Scope("org", name) for name in "abc")


async def got(store: Store, *asks: BudgetAsk, sharer: Scope | None = None) -> list[float]:
    """The units of each block, in the order of the asks; nothing where it was refused."""
    lease = await store.budgets.lease(asks, sharer=sharer)
    found = {block.key: block.units for block in lease.blocks}
    return [found[ask.key] for ask in asks if found]


async def left(store: Store, key: BudgetKey) -> float:
    """Units that are left."""
    held = await store.budgets.peek(key)
    assert held is not None
    return held.remaining


@check("STORE-220", "store", needs=("budgets",))
async def every_window_has_room_or_none_is_taken(store: Store) -> None:
    """Units are taken of all windows or of none, together with what :meth:`take` gives, and 50 at once share them."""
    assert await got(store, MINUTE, evolve(DAY, units=2)) == [1, 2]
    assert (await left(store, REST), await left(store, DAY.key)) == (9, 10)
    assert await got(store, MINUTE, evolve(DAY, units=11)) == []
    assert (await left(store, REST), await left(store, DAY.key)) == (9, 10)
    refusal = await store.budgets.lease([evolve(DAY, units=11), MINUTE])
    assert 60 < refusal.retry_in <= 86400
    assert not refusal.kept
    assert (await store.budgets.take(REST, 2, limit=10, window=60)).remaining == 7
    answers = await asyncio.gather(*(got(store, DAY, MINUTE) for _ in range(50)))
    assert [one for one in answers if one] == [[1, 1]] * 7
    assert (await left(store, REST), await left(store, DAY.key)) == (0, 3)


@check("STORE-221", "store", needs=("budgets",))
async def blocks_are_granted_while_ample(store: Store) -> None:
    """A block is granted as long as a fifth of the window is left after it, else no more than is needed."""
    ask = evolve(MINUTE, block=4)
    assert [await got(store, ask) for _ in range(6)] == [[4], [4], [1], [1], [], []]
    fraction = BudgetAsk(key=BudgetKey("kit", SCOPE, "slow"), units=0.1, limit=0.5, window=60, block=0.3)
    assert [await got(store, fraction) for _ in range(4)] == [[0.3], [0.1], [0.1], []]


@check("STORE-222", "store", needs=("budgets",))
async def unused_units_are_given_back_to_their_window(store: Store) -> None:
    """What is given back is there again, up to the limit; a window that has ended takes nothing back."""
    lease = await store.budgets.lease([evolve(MINUTE, block=6)])
    assert await left(store, REST) == 4
    await store.budgets.give_back([evolve(lease.blocks[0], units=2.5)])
    assert await left(store, REST) == 6.5
    await store.budgets.give_back([evolve(lease.blocks[0], units=60)])
    assert await left(store, REST) == 10
    short = evolve(MINUTE, key=BudgetKey("kit", SCOPE, "short"), window=0.1, units=5)
    old = await store.budgets.lease([short])
    await asyncio.sleep(0.15)
    assert await got(store, evolve(short, window=60)) == [5]
    await store.budgets.give_back(old.blocks)
    assert await left(store, short.key) == 5
    corrected = await store.budgets.lease([evolve(MINUTE, key=BudgetKey("kit", SCOPE, "told"))])
    await store.budgets.correct(BudgetKey("kit", SCOPE, "told"), remaining=3, limit=10, reset_in=600)
    await store.budgets.give_back(corrected.blocks)
    assert await left(store, BudgetKey("kit", SCOPE, "told")) == 3


@check("STORE-223", "store", needs=("budgets",))
async def reserve_is_left_to_others(store: Store) -> None:
    """A reserve stays for those who keep none; it never keeps a whole window from everybody."""
    behind = evolve(MINUTE, reserve=2)
    assert [len(await got(store, behind)) for _ in range(10)] == [1] * 8 + [0] * 2
    refusal = await store.budgets.lease([behind])
    assert refusal.kept
    assert [len(await got(store, MINUTE)) for _ in range(3)] == [1, 1, 0]
    one = BudgetAsk(key=BudgetKey("kit", SCOPE, "one"), units=1, limit=1, window=60, reserve=0.2)
    assert await got(store, one) == [1]


@check("STORE-224", "store", needs=("budgets",))
async def paused_budget_grants_nothing(store: Store) -> None:
    """A pause holds for every way of taking, for its time; a shorter one does not cut it, and windows are kept."""
    assert await got(store, MINUTE) == [1]
    await store.budgets.pause([REST, DAY.key], seconds=30)
    await store.budgets.pause([REST], seconds=0.01)
    refusal = await store.budgets.lease([MINUTE])
    assert 25 < refusal.retry_in <= 30
    assert await got(store, DAY) == []
    grant = await store.budgets.take(REST, 1, limit=10, window=60)
    assert not grant.granted
    assert 25 < grant.retry_in <= 30
    held = await store.budgets.peek(REST)
    assert held is not None
    assert held.remaining == 9
    assert 25 < held.paused_in <= 30
    short = evolve(MINUTE, key=BudgetKey("kit", SCOPE, "short"))
    assert await got(store, short) == [1]
    await store.budgets.pause([short.key], seconds=0.1)
    assert await got(store, short) == []
    await asyncio.sleep(0.15)
    assert await got(store, short) == [1]
    assert await left(store, short.key) == 8
    await refused(BadInput, store.budgets.pause([REST], seconds=0))


@check("STORE-225", "store", needs=("budgets",))
async def waiting_scopes_have_their_share(store: Store) -> None:
    """A scope that was refused has its share of the next window, whoever comes first."""
    shared = evolve(MINUTE, window=0.5)
    for _ in range(10):
        assert await got(store, shared, sharer=A) == [1]
    assert await got(store, shared, sharer=B) == []
    await asyncio.sleep(0.55)
    window = evolve(MINUTE, window=60, block=5)
    first = [len(await got(store, window, sharer=A)) for _ in range(6)]
    assert first == [1] * 5 + [0]  # no blocks either: B has 5 of 10, and then A waits, too
    refusal = await store.budgets.lease([window], sharer=A)
    assert refusal.kept
    assert [len(await got(store, window, sharer=B)) for _ in range(4)] == [1, 1, 1, 1]
    assert await got(store, window, sharer=C) == [1]  # of the third that nobody waits for, B had more than its share
    assert await got(store, window, sharer=B) == []
    alone = evolve(window, key=BudgetKey("kit", SCOPE, "alone"))
    assert await got(store, alone, sharer=B) == [5]


@check("STORE-226", "store", needs=("budgets",))
async def single_unit_goes_round(store: Store) -> None:
    """Where a share is less than a unit, the scope that has waited longest is next."""
    one = BudgetAsk(key=REST, units=1, limit=1, window=0.5)
    assert await got(store, one, sharer=A) == [1]
    assert await got(store, one, sharer=B) == []
    await asyncio.sleep(0.01)
    assert await got(store, one, sharer=C) == []
    order = []
    for _ in range(4):
        await asyncio.sleep(0.55)
        order += [scope for scope in (C, A, B) if await got(store, one, sharer=scope)]
    assert order[:2] == [B, C]
    assert set(order) == {A, B, C}


@check("STORE-227", "store", needs=("budgets",))
async def impossible_leases_are_refused(store: Store) -> None:
    """Nothing asked, a window twice, and amounts that make no sense are a BadInput and change nothing."""
    for asks in (
        [],
        [MINUTE, MINUTE],
        [MINUTE, evolve(DAY, units=13)],
        [evolve(MINUTE, units=0)],
        [evolve(MINUTE, window=0)],
        [evolve(MINUTE, reserve=-1)],
        [evolve(MINUTE, block=float("nan"))],
    ):
        await refused(BadInput, store.budgets.lease(asks))
    assert await store.budgets.peek(REST) is None
