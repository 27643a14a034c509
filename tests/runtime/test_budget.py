"""Calls within a rate budget, against the sandbox: reserved before the request, corrected by the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from attrs import evolve

from go_services_core import Operation, Runtime, hookimpl
from go_services_core.call_specs import RateBudget, Window
from go_services_core.errors import BudgetExhausted, FacetMissing, OperationNotFound, RateLimited, StoreUnavailable
from go_services_core.http import HttpResponse
from go_services_core.model import Connection
from go_services_core.ownership import RateLimitPolicy
from go_services_core.rate_limits import RateFact
from go_services_core.refs import Ref
from go_services_core.runtime.budget_bucket import Bucket
from go_services_core.testing.memory import MemoryStore

DEAF: tuple[str, ...] = ()
"""Nothing is learned: the sandbox tells its own limit in every answer."""


def limit(app: Any, *windows: Window, cost: float = 1.0, **budget: Any) -> None:
    """Give the sandbox's record a budget."""
    given = {"learn": DEAF, **budget}
    spec = app.providers.specs["sandbox"]
    operations = [evolve(one, cost=cost) for one in spec.operations]
    app.set(api=evolve(spec.api, budget=RateBudget(windows=windows, **given)), operations=operations)


async def call(runtime: Runtime, connection: Connection, operation: str = "me", **options: Any) -> Any:
    return await runtime.execute(connection.id, operation, **options)


def statements(runtime: Runtime) -> list[str]:
    """Filled with every statement about budgets from now on."""
    seen: list[str] = []

    def trace(text: str) -> None:
        if "service_rate_limit_state" in text:
            seen.append(text)

    runtime._core.store.trace(trace)  # type: ignore[attr-defined]
    return seen


def bucket_of(runtime: Runtime) -> Bucket:
    (bucket,) = runtime._core.buckets.values()
    return bucket


async def ended(calls: Iterable[Any]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


# --- reserving -----------------------------------------------------------------------------------------------------


async def test_call_beyond_the_budget_is_not_sent_and_tells_the_time_to_wait(app: Any, counted: Any) -> None:
    limit(app, Window(2, 3600))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        counted()
        for _ in range(2):
            await call(runtime, connection)
        with pytest.raises(BudgetExhausted) as caught:
            await call(runtime, connection, deadline=60)
    assert counted()["userinfo"] == 2
    assert 3500 < (caught.value.retry_after or 0) <= 3600
    assert caught.value.code == "SERVICE_RATE_BUDGET_EXHAUSTED"
    assert isinstance(caught.value, RateLimited)


async def test_fifty_callers_with_one_unit_left_send_one_request(either: Any, counted: Any) -> None:  # P84
    limit(either, Window(1, 3600))
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        counted()
        results = await ended(call(runtime, connection) for _ in range(50))
    assert counted()["userinfo"] == 1
    assert sum(isinstance(one, BudgetExhausted) for one in results) == 49


async def test_calls_wait_for_the_next_windows_and_none_fails(live: Any) -> None:  # P84: it waits, as often as it takes
    limit(live, Window(4, 0.3))
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        before = live.sandbox.requests["userinfo"]
        await asyncio.wait_for(asyncio.gather(*(call(runtime, connection, deadline=50) for _ in range(50))), 60)
        assert live.sandbox.requests["userinfo"] - before == 50


async def test_every_window_must_have_room(app: Any, counted: Any) -> None:
    limit(app, Window(5, 60), Window(3, 3600))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        counted()
        results = await ended(call(runtime, connection) for _ in range(6))
        assert counted()["userinfo"] == 3
        waits = [one.retry_after for one in results if isinstance(one, BudgetExhausted)]
        assert len(waits) == 3
        assert min(waits) > 60
        keys = {held.key.bucket.rpartition("/")[2] for held in bucket_of(runtime).windows}
        assert keys == {"60", "3600"}


async def test_operations_cost_what_their_record_says(app: Any, counted: Any) -> None:
    limit(app, Window(1, 3600), cost=0.25)
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        counted()
        results = await ended(call(runtime, connection) for _ in range(6))
    assert counted()["userinfo"] == 4
    assert sum(isinstance(one, BudgetExhausted) for one in results) == 2


async def test_free_operation_needs_no_unit(app: Any, counted: Any) -> None:
    limit(app, Window(1, 3600), cost=0)
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        seen = statements(runtime)
        for _ in range(3):
            await call(runtime, connection)
    assert seen == []


async def test_operation_may_have_a_budget_of_its_own(app: Any, counted: Any) -> None:
    limit(app, Window(1, 3600))
    spec = app.providers.specs["sandbox"]
    own = RateBudget(windows=[Window(2, 3600)], bucket="search", learn=DEAF)
    app.set(operations=[*spec.operations, Operation("search", "GET", "/userinfo", budget=own)])
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        counted()
        await call(runtime, connection)
        with pytest.raises(BudgetExhausted):
            await call(runtime, connection)
        await ended(call(runtime, connection, "search") for _ in range(3))
    assert counted()["userinfo"] == 3


@pytest.mark.parametrize(("per", "sent"), [("connection", 3), ("scope", 2), ("provider", 1)])
async def test_units_are_whose_the_record_says(app: Any, counted: Any, per: str, sent: int) -> None:
    limit(app, Window(1, 3600), per=per)
    async with app.open() as runtime:
        one = await app.connect(runtime, "u1")
        app.sandbox.account = evolve(app.sandbox.account, id="second")
        two = await app.connect(runtime, "u1")
        other = await app.connect(runtime, "u2")
        assert len({one.id, two.id, other.id}) == 3
        counted()
        for connection in (one, two, other):
            await ended([call(runtime, connection)])
    assert counted()["userinfo"] == sent


async def test_units_come_from_two_runtimes_with_one_store(app: Any, counted: Any) -> None:
    limit(app, Window(6, 3600))
    async with app.open() as first, app.open() as second:
        connection = await app.connect(first)
        counted()
        results = await ended(call(runtime, connection) for runtime in (first, second) * 5)
    assert counted()["userinfo"] == 6
    assert sum(isinstance(one, BudgetExhausted) for one in results) == 4


async def test_cancelled_caller_leaves_its_unit_to_others(live: Any) -> None:
    limit(live, Window(1, 0.5))
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        await call(runtime, connection)
        waiting = [asyncio.create_task(call(runtime, connection, deadline=20)) for _ in range(3)]
        await asyncio.sleep(0.05)
        waiting[0].cancel()
        done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30)
        assert isinstance(done[0], asyncio.CancelledError)
        assert [getattr(one, "status", one) for one in done[1:]] == [200, 200]


# --- what it costs -------------------------------------------------------------------------------------------------


async def test_without_budget_or_news_there_is_no_statement(app: Any) -> None:
    async with app.open() as runtime:  # the sandbox tells in each answer that thousands are left
        connection = await app.connect(runtime)
        seen = statements(runtime)
        for _ in range(20):
            await call(runtime, connection)
    assert seen == []


async def test_ample_budget_costs_one_statement_a_block(app: Any) -> None:
    limit(app, Window(5000, 3600), learn=("ietf", "x-ratelimit", "retry-after"))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        seen = statements(runtime)
        for _ in range(50):
            await call(runtime, connection)
        assert len(seen) == 1  # a hundredth of the window is the first block
        await call(runtime, connection)
        assert len(seen) == 2


async def test_scarce_budget_costs_one_statement_a_call(app: Any) -> None:
    limit(app, Window(10, 3600))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        seen = statements(runtime)
        for _ in range(10):
            await call(runtime, connection)
        assert len(seen) == 10


async def test_unused_units_are_given_back_on_close(app: Any) -> None:
    limit(app, Window(1000, 3600))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        await call(runtime, connection)
        (held,) = bucket_of(runtime).windows
        assert (await runtime._core.store.budgets.peek(held.key)).remaining == 990
    async with app.open() as runtime:
        assert (await runtime._core.store.budgets.peek(held.key)).remaining == 999


async def test_store_that_fails_keeps_the_request_from_being_sent(either: Any, counted: Any) -> None:
    limit(either, Window(5, 3600))
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        counted()

        async def lease(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable("down")

        runtime._core.store.budgets.lease = lease
        with pytest.raises(StoreUnavailable):
            await call(runtime, connection)
        del runtime._core.store.budgets.lease
        assert counted()["userinfo"] == 0
        await call(runtime, connection)


async def test_store_without_budgets_fails_a_record_with_windows(app: Any, sandbox: Any, clock: Any) -> None:
    app.store = MemoryStore(clock=clock)
    del app.store.budgets
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        await call(runtime, connection)
    limit(app, Window(5, 3600))
    async with app.open() as runtime:
        with pytest.raises(FacetMissing, match="rate limit of sandbox"):
            await call(runtime, connection)


# --- learning ------------------------------------------------------------------------------------------------------


async def test_provider_that_has_little_left_is_shared_through_the_store(app: Any, counted: Any) -> None:
    app.sandbox.rate_limit = 5
    async with app.open() as first, app.open() as second:
        connection = await app.connect(first)
        counted()
        await call(first, connection)  # its answer tells of 4 more, or fewer
        left = int(bucket_of(first).windows[0].left)
        results = await ended(call(first, connection) for _ in range(10))
        assert sum(isinstance(one, BudgetExhausted) for one in results) == 10 - left
        assert counted()["userinfo"] == 1 + left
        await ended([call(second, connection)])
        assert app.sandbox.requests["userinfo"] <= 7


async def test_window_that_is_over_is_forgotten(live: Any) -> None:
    live.sandbox.rate_limit, live.sandbox.rate_window = 3, 1.0
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        for _ in range(6):
            await call(runtime, connection, deadline=30)
        while bucket_of(runtime).windows:  # what was left of it was zero
            await asyncio.sleep(0.1)
            bucket_of(runtime)._take(0.0)
        await call(runtime, connection)


async def test_pause_holds_other_calls_here_and_in_other_processes(live: Any) -> None:
    limit(live, Window(10, 3600), learn=("retry-after",))
    async with live.open() as first, live.open() as second:
        connection = await live.connect(first)
        live.sandbox.faults.set("userinfo", "503", retry_after=30)
        before = live.sandbox.requests["userinfo"]
        with pytest.raises(Exception, match="503"):
            await call(first, connection, retry=_once())
        for runtime in (first, second):
            with pytest.raises(BudgetExhausted) as caught:
                await call(runtime, connection, deadline=5)
            assert 20 < (caught.value.retry_after or 0) <= 30
        assert live.sandbox.requests["userinfo"] == before + 1


def _once() -> Any:
    from go_services_core.call_specs import RetryPolicy

    return RetryPolicy(attempts=1)


async def test_refusals_without_a_time_are_paused_for_longer_each_time(app: Any) -> None:
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        app.clock.slept.clear()
        await call(runtime, connection)
        bucket = bucket_of(runtime)
        for _ in range(8):
            assert bucket.learn([], cost=1, status=429)
            app.clock.slept.append(bucket.paused_until)
            bucket.paused_until = 0.0
        assert app.clock.slept == [1, 2, 4, 8, 16, 32, 60, 60]
        assert not bucket.learn([], cost=1, status=200)
        bucket.learn([RateFact(throttled=True)], cost=1, status=403)
        assert bucket.paused_until == 1


async def test_provider_may_charge_another_weight(app: Any) -> None:
    limit(app, Window(1000, 3600))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        await call(runtime, connection)
        bucket = bucket_of(runtime)
        assert bucket.windows[0].units == 9
        bucket.learn([RateFact(weight=5)], cost=1, status=200)
        assert bucket.windows[0].units == 5


async def test_share_that_is_left_counts_in_units_of_the_declared_window(app: Any) -> None:
    limit(app, Window(200, 3600))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        await call(runtime, connection)
        bucket = bucket_of(runtime)
        bucket.learn([RateFact(share=0.05, window=3600)], cost=1, status=200)
        await bucket.flush()
        held = await runtime._core.store.budgets.peek(bucket.windows[0].key)
        assert held is not None
        assert held.remaining + bucket.windows[0].units == pytest.approx(10)


async def test_stated_rate_becomes_the_window(app: Any) -> None:
    limit(app, Window(20, 100))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        await call(runtime, connection)
        bucket = bucket_of(runtime)
        bucket.learn([RateFact(limit=1, window=10)], cost=1, status=200)
        assert [(held.limit, held.seconds) for held in bucket.windows] == [(20, 200)]
    limit(app)
    async with app.open() as runtime:
        await call(runtime, connection)
        bucket = bucket_of(runtime)
        bucket.learn([RateFact(limit=100, window=1), RateFact(limit=1000, window=60)], cost=1, status=200)
        assert [(held.limit, held.seconds) for held in bucket.windows] == [(1000, 60), (100, 1)]


async def test_operation_is_counted_where_its_answer_says(app: Any) -> None:
    spec = app.providers.specs["sandbox"]
    learn = (Ref(f"{__name__}:of_the_search"),)
    app.set(api=evolve(spec.api, budget=RateBudget(learn=learn)))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        await call(runtime, connection)
        with pytest.raises(BudgetExhausted):
            await call(runtime, connection)
        names = {bucket.name.partition(":")[0]: bucket.windows for bucket in runtime._core.buckets.values()}
        assert names["default"] == []
        assert [held.limit for held in names["search"]] == [30]


def of_the_search(response: HttpResponse, now: Any) -> list[RateFact]:
    return [RateFact(0, 30, 600, bucket="search")]


def broken(response: HttpResponse, now: Any) -> list[RateFact]:
    raise ValueError("broken")


async def test_broken_learner_cannot_hurt_a_call(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    limit(app, learn=(Ref(f"{__name__}:broken"),))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        assert (await call(runtime, connection)).attempts == 1
    assert "rate limit is lost" in caplog.text


# --- whose turn it is ----------------------------------------------------------------------------------------------


async def test_background_calls_leave_the_last_fifth(app: Any, counted: Any) -> None:
    limit(app, Window(10, 3600))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        counted()
        results = await ended(call(runtime, connection, background=True) for _ in range(10))
        assert sum(isinstance(one, BudgetExhausted) for one in results) == 2
        await call(runtime, connection)
        await call(runtime, connection)
    assert counted()["userinfo"] == 10


async def test_pages_in_the_background_leave_the_last_fifth(app: Any, counted: Any) -> None:
    limit(app, Window(10, 3600))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        counted()
        listed = runtime.paginate(connection.id, "items.list", {"per_page": 1}, background=True)
        with pytest.raises(BudgetExhausted):
            _ = [item async for item in listed]
        assert counted()["items.list"] == 8
        await call(runtime, connection)


async def test_interactive_call_overtakes_background_calls_that_wait(live: Any) -> None:
    limit(live, Window(2, 1.0))
    async with live.open() as runtime:
        connection = await live.connect(runtime)
        order: list[str] = []

        async def one(name: str, **options: Any) -> None:
            await call(runtime, connection, deadline=30, **options)
            order.append(name)

        await one("first")
        behind = [asyncio.create_task(one("background", background=True)) for _ in range(4)]
        await asyncio.sleep(0.1)
        await asyncio.wait_for(asyncio.gather(one("interactive"), one("interactive"), *behind), 40)
        assert order.index("interactive") <= 2
        assert order[-1] == "background"


async def test_scopes_in_one_process_take_turns(live: Any) -> None:
    limit(live, Window(2, 0.4), per="provider")
    async with live.open() as runtime:
        busy, quiet = await live.connect(runtime, "busy"), await live.connect(runtime, "quiet")
        order: list[str] = []

        async def one(connection: Connection, name: str) -> None:
            await call(runtime, connection, deadline=40)
            order.append(name)

        many = [asyncio.create_task(one(busy, "busy")) for _ in range(12)]
        await asyncio.sleep(0.05)
        await asyncio.wait_for(asyncio.gather(*many, *(one(quiet, "quiet") for _ in range(2))), 60)
        assert len(order) == 14
        assert max(place for place, name in enumerate(order) if name == "quiet") < 9


# --- operators and plugins -----------------------------------------------------------------------------------------


async def test_operator_states_the_windows(app: Any, counted: Any) -> None:
    limit(app, Window(100, 3600))
    settings = {"providers.sandbox.rate_limit": [{"units": 2, "seconds": 3600}]}
    async with app.open(settings=settings) as runtime:
        connection = await app.connect(runtime)
        counted()
        await ended(call(runtime, connection) for _ in range(4))
        assert counted()["userinfo"] == 2
    settings["providers.sandbox.rate_limit_per"] = "provider"  # type: ignore[assignment]
    async with app.open(settings=settings) as runtime:
        await call(runtime, connection)
        assert bucket_of(runtime).is_shared


async def test_call_without_a_deadline_waits_as_long_as_is_set(app: Any) -> None:
    limit(app, Window(1, 60))
    async with app.open(settings={"runtime.call_deadline": 1.0}) as runtime:
        connection = await app.connect(runtime)
        await call(runtime, connection)
        with pytest.raises(BudgetExhausted):
            await call(runtime, connection)


class Policy(RateLimitPolicy):
    """States windows and reads answers in code."""

    @hookimpl
    def gs_rate_limit_policy(self, provider_id: str) -> RateLimitPolicy | None:
        return self if provider_id == "sandbox" else None

    def budget(self, operation: Operation) -> RateBudget | None:
        return RateBudget(windows=[Window(50, 3600)], learn=DEAF) if operation.id == "me" else None

    def learn(self, response: HttpResponse, now: Any) -> list[RateFact]:
        return [RateFact(1, 50, 600)]


async def test_policy_states_windows_and_learns_in_code(app: Any, counted: Any) -> None:
    async with app.open(plugins={"policy": Policy()}) as runtime:
        connection = await app.connect(runtime)
        counted()
        await call(runtime, connection)
        results = await ended(call(runtime, connection) for _ in range(5))
        assert sum(isinstance(one, BudgetExhausted) for one in results) == 4
    assert counted()["userinfo"] == 2


class Narrow(RateLimitPolicy):
    @hookimpl
    def gs_rate_limit_policy(self, provider_id: str) -> RateLimitPolicy | None:
        return self if provider_id == "sandbox" else None

    def budget(self, operation: Operation) -> RateBudget | None:
        return RateBudget(windows=[Window(2, 3600)], learn=DEAF)


async def test_windows_that_a_policy_states_hold_before_anything_was_learned(app: Any, counted: Any) -> None:
    async with app.open(plugins={"policy": Narrow()}) as runtime:
        connection = await app.connect(runtime)
        counted()
        results = await ended(call(runtime, connection) for _ in range(5))
        assert sum(isinstance(one, BudgetExhausted) for one in results) == 3
    assert counted()["userinfo"] == 2


class Slow(RateLimitPolicy):
    @hookimpl
    def gs_rate_limit_policy(self, provider_id: str) -> RateLimitPolicy | None:
        return self

    def before(self, bucket: str) -> float:
        return 90.0


async def test_policy_that_asks_to_wait_too_long_ends_the_call(app: Any, counted: Any) -> None:
    async with app.open(plugins={"policy": Slow()}) as runtime:
        connection = await app.connect(runtime)
        counted()
        with pytest.raises(BudgetExhausted) as caught:
            await call(runtime, connection, deadline=5)
    assert caught.value.retry_after == 90
    assert counted()["userinfo"] == 0


async def test_idle_budgets_are_forgotten_when_there_are_many(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("go_services_core.runtime.budget.MANY", 2)
    async with app.open() as runtime:
        for who in ("u1", "u2", "u3", "u4"):
            await call(runtime, await app.connect(runtime, who))
        assert len(runtime._core.buckets) <= 2


async def test_what_is_left_can_be_looked_at(either: Any) -> None:
    limit(either, Window(200, 3600), Window(10, 1800))
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        fresh = await runtime.budget(connection.id, "me")
        assert {name: (held.limit, held.remaining) for name, held in fresh.items()} == {
            "3600": (200, 200),
            "1800": (10, 10),
        }
        await call(runtime, connection)
        left = await runtime.budget(connection.id, "me")
        assert (left["3600"].remaining, left["1800"].remaining) == (198, 9)
        assert 3500 < left["3600"].reset_in <= 3600
        with pytest.raises(OperationNotFound):
            await runtime.budget(connection.id, "you")
