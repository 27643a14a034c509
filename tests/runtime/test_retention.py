"""History that is over is removed by its policy, by one process at a time, and never what something waits for."""

from __future__ import annotations

import asyncio

import pytest

from go_services_core.config.retention import RetentionRoot
from go_services_core.errors import ConfigError, StoreUnavailable
from go_services_core.resources import HISTORY, KEPT_AT_LEAST

BODY = b'{"type": "item.created"}'
OLD = "UPDATE service_webhook_deliveries SET updated_at = '2001-01-01 00:00:00.000000'"


async def nothing(event, context):
    pass


async def handled(app, runtime, *ids):
    await runtime.on("webhook.*", nothing, name="h")
    for id in ids:
        await runtime.accept_webhook("sandbox", app.webhook(BODY, id=id))
    await runtime.drain()


def kept(app):
    return [id for (id,) in app.rows("SELECT delivery_id FROM service_webhook_deliveries ORDER BY 1")]


def test_every_table_with_history_has_a_setting_and_a_limit_that_is_kept():
    assert set(RetentionRoot().policy()) <= set(HISTORY)
    every = RetentionRoot(**{table.removeprefix("service_"): 604_800.0 for table in HISTORY})
    assert set(every.policy()) == set(HISTORY)
    assert all(RetentionRoot().policy()[table] >= least for table, least in KEPT_AT_LEAST.items())


async def test_history_is_removed_when_its_time_is_over(live):
    """P96."""
    async with live.open() as runtime:
        await handled(live, runtime, "old", "new")
        live.rows(f"{OLD} WHERE delivery_id = 'old'")
        assert await runtime.run_due("retention") == 1
        assert kept(live) == ["new"]


async def test_what_waits_or_is_dead_is_kept_however_old(live):
    async with live.open() as runtime:
        await handled(live, runtime, "done", "dead", "waits")
        live.rows("UPDATE service_webhook_deliveries SET status = 'dead' WHERE delivery_id = 'dead'")
        live.rows("UPDATE service_webhook_deliveries SET status = 'pending' WHERE delivery_id = 'waits'")
        live.rows(OLD)
        assert await runtime.run_due("retention") == 1
        assert kept(live) == ["dead", "waits"]


async def test_table_that_is_kept_for_ever_is_not_touched(live):
    async with live.open(settings={"retention.webhook_deliveries": 0.0}) as runtime:
        await handled(live, runtime, "old")
        live.rows(OLD)
        assert await runtime.run_due("retention") == 0
        assert kept(live) == ["old"]


async def test_processes_together_run_it_once_per_interval(live):
    async with live.open() as one, live.open() as two, live.open() as three:
        await handled(live, one, "a", "b", "c")
        live.rows(OLD)
        removed = await asyncio.gather(*(runtime.run_due("retention") for runtime in (one, two, three)))
        assert sorted(removed) == [0, 0, 3]
        await handled(live, one, "d")
        live.rows(OLD)
        assert await two.run_due("retention") == 0
        live.rows("UPDATE service_leases SET expires_at = '2001-01-01 00:00:00.000000'")
        assert await two.run_due("retention") == 1


async def test_run_that_did_not_get_through_leaves_the_next_one_to_whoever_comes(live, monkeypatch):
    async with live.open() as one, live.open() as two:
        await handled(live, one, "a")
        live.rows(OLD)

        async def away(*args, **options):
            raise StoreUnavailable("The database is away.")

        monkeypatch.setattr(one._core.store, "prune", away)
        with pytest.raises(StoreUnavailable):
            await one.run_due("retention")
        assert await two.run_due("retention") == 1


async def test_policy_that_would_forget_too_soon_is_refused(live):
    for name, value in (("idempotency", 60.0), ("webhook_deliveries", -1.0), ("every", 0.0), ("mail", 5.0)):
        with pytest.raises(ConfigError, match=f"retention.*{name}"):
            async with live.open(settings={f"retention.{name}": value}):
                pass
