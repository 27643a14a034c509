"""The runtime's own jobs; what was sealed under a stand-in is wrapped anew by one."""

from __future__ import annotations

import asyncio

import pytest

import go_services_secrets_failover.plugin as failover
from go_services_core.errors import BackendUnavailable, BadInput, LeaseLost, StoreUnavailable
from go_services_core.model import Drained, NewJob
from go_services_core.runtime import jobs
from go_services_core.runtime.jobs import LONGEST_DELAY, MAX_ATTEMPTS
from go_services_core.runtime.stand_ins import DATA_KEY_LIFE, MARGIN, REWRAP
from go_services_core.testing.memory import MemoryStore

from .member import Remote
from .sealed_rows import contents, fill

FINAL = 2 * DATA_KEY_LIFE + MARGIN


@pytest.fixture(autouse=True)
def long_lived(sandbox):
    """Tokens that outlive every test: a renewal ahead of time would be one more event."""
    sandbox.access_token_lifetime = 365 * 86400.0


@pytest.fixture
def remote():
    return Remote()


@pytest.fixture
def memory(app, clock):
    """The application on a store whose leases and delays go by the test's clock."""
    app.store = MemoryStore(clock=clock)
    return app


def opening(app, remote, **more):
    settings = {
        "secrets.backend": "failover",
        "secrets.failover.primary": "remote",
        "secrets.failover.fallback": "appkey",
        "secrets.failover.policy": "fallback_allowed",
        "secrets.failover.failures_to_open": 1,
        "secrets.failover.probe_seconds": 10.0,
    }
    return app.open(settings={**settings, **more}, plugins={"remote": remote, "failover": failover})


async def backends(runtime):
    counts = {}
    for use in await runtime._core.store.sealed.keys():
        counts[use.key.backend] = counts.get(use.key.backend, 0) + use.rows
    return counts


async def queued(runtime):
    return [(item.name, item.status) for item in (await runtime._core.store.queues.list("jobs")).items]


async def test_outage_of_the_primary_leaves_a_job_that_moves_everything_back(memory, clock, remote):
    """P55: what a stand-in wrapped is marked, and under the primary again once that answers."""
    async with opening(memory, remote) as runtime:
        await memory.connect(runtime, "before")
        assert await queued(runtime) == []
        remote.member.away = True
        clock.advance(301)  # the data keys of before are not used any more
        await fill(memory, runtime)
        assert await queued(runtime) == [(REWRAP, "queued")]  # one for many data keys
        stood_in = (await backends(runtime))["appkey"]
        assert stood_in >= 8

        # Away: every attempt fails, each waits longer, and none is the last for days.
        waited = 0.0
        for attempt in range(1, 80):
            assert await runtime.run_due(REWRAP) == 0
            delay = min(60.0 * attempt, LONGEST_DELAY)
            clock.advance(delay - 1)
            assert await runtime._core.store.queues.claim("jobs", owner="x", lease=1, limit=1, kinds=[REWRAP]) == []
            clock.advance(1)
            waited += delay
        assert waited > 2 * 24 * 3600
        assert await queued(runtime) == [(REWRAP, "queued")]
        assert (await backends(runtime))["appkey"] == stood_in

        remote.member.away = False
        before = await contents(runtime)
        assert await runtime.drain() == Drained(deliveries=1, jobs=1)
        assert set(await backends(runtime)) == {"remote"}
        assert await contents(runtime) == before
        assert await queued(runtime) == [(REWRAP, "succeeded")]
        assert (await runtime.key_status()).check == remote.member.key


async def test_job_is_kept_and_done_on_every_store(either, clock, remote):
    async with opening(either, remote) as runtime:
        remote.member.away = True
        await either.begin(runtime, "u1")
        assert await queued(runtime) == [(REWRAP, "queued")]
        remote.member.away = False
        clock.advance(FINAL)
        assert await runtime.run_due(REWRAP) == 1
        assert await queued(runtime) == [(REWRAP, "succeeded")]
        assert set(await backends(runtime)) == {"remote"}


async def test_job_goes_on_until_no_process_can_seal_under_a_stand_in(memory, clock, remote):
    """A data key lives for five minutes in the process that made it: also after the primary is back."""
    async with opening(memory, remote) as runtime:
        remote.member.away = True
        await memory.begin(runtime, "u1")
        remote.member.away = False
        clock.advance(20)
        assert await runtime.run_due(REWRAP) == 1
        assert set(await backends(runtime)) == {"remote"}
        assert await queued(runtime) == [(REWRAP, "queued")]
        clock.advance(FINAL - 21)
        assert await runtime.run_due(REWRAP) == 0
        clock.advance(1)
        assert await runtime.run_due(REWRAP) == 1
        assert await queued(runtime) == [(REWRAP, "succeeded")]


async def test_second_outage_of_a_process_is_a_job_of_its_own(memory, clock, remote):
    async with opening(memory, remote) as runtime:
        for outage in (1, 2):
            remote.member.away = True
            clock.advance(301)
            for who in ("u1", "u2", "u3"):
                await memory.begin(runtime, who)
            assert len(await queued(runtime)) == outage
            remote.member.away = False
            clock.advance(FINAL)
            assert await runtime.run_due(REWRAP) == 1
        assert await queued(runtime) == [(REWRAP, "succeeded")] * 2


async def test_long_outage_is_a_job_for_every_five_minutes(memory, clock, remote):
    async with opening(memory, remote) as runtime:
        remote.member.away = True
        for _ in range(3):
            clock.advance(301)
            await memory.begin(runtime, "u1")
            await memory.begin(runtime, "u2")
        assert len(await queued(runtime)) == 3


async def test_nothing_is_sealed_under_a_stand_in_while_the_job_cannot_be_kept(memory, clock, remote, monkeypatch):
    """The row comes first: there is no moment at which a crash would leave such a secret unknown."""
    async with opening(memory, remote) as runtime:
        remote.member.away = True

        async def refuse(job):
            raise StoreUnavailable("The database is away.")

        with monkeypatch.context() as patched:
            patched.setattr(runtime._core.store.queues, "enqueue", refuse)
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await memory.begin(runtime, "u1")
        assert "appkey" not in await backends(runtime)
        await memory.begin(runtime, "u1")
        assert await queued(runtime) == [(REWRAP, "queued")]


async def test_claimed_job_of_a_dead_process_is_done_by_another(memory, clock, remote):
    async with opening(memory, remote) as runtime:
        remote.member.away = True
        await memory.begin(runtime, "u1")
        remote.member.away = False
        clock.advance(FINAL)
        (claim,) = await runtime._core.store.queues.claim("jobs", owner="dead", lease=60, limit=1, kinds=[REWRAP])
        assert await runtime.run_due(REWRAP) == 0
        clock.advance(61)
        assert await runtime.run_due(REWRAP) == 1
        assert await queued(runtime) == [(REWRAP, "succeeded")]
        with pytest.raises(LeaseLost):
            await runtime._core.store.queues.settle(claim, "done")


async def test_progress_of_the_job_is_kept(memory, clock, remote):
    async with opening(memory, remote) as runtime:
        remote.member.away = True
        for number in range(5):
            await memory.begin(runtime, f"u{number}")
        remote.member.away = False
        clock.advance(20)
        assert await runtime.run_due(REWRAP) == 1
        (item,) = (await runtime._core.store.queues.list("jobs")).items
        job = await runtime._core.store.queues.job(item.id)
        assert job.checkpoint == "5 of 5 rows"
        assert job.payload["backend"] == "appkey"


async def test_job_that_is_slower_than_its_lease_is_not_done_twice(live, monkeypatch):
    """P67, P92."""
    begun = []

    async def slow(core, claim):
        begun.append(claim.id)
        await asyncio.sleep(0.7)

    monkeypatch.setattr(jobs, "JOBS", {REWRAP: slow})
    short = {"worker.lease": 0.4}
    async with live.open(settings=short) as one, live.open(settings=short) as two:
        await one._core.store.queues.enqueue(NewJob(id="j", kind=REWRAP, created_at=live.clock.now()))
        running = asyncio.create_task(one.run_due(REWRAP))
        await asyncio.sleep(0.5)
        assert await two.run_due(REWRAP) == 0
        assert await running == 1
        assert await queued(two) == [(REWRAP, "succeeded")]
    assert begun == ["j"]


async def test_limit_bounds_the_jobs(memory, clock, remote):
    async with opening(memory, remote) as runtime:
        for number in range(3):
            await runtime._core.store.queues.enqueue(NewJob(id=f"j{number}", kind=REWRAP, created_at=clock.now()))
        clock.advance(FINAL)
        assert await runtime.run_due(REWRAP, 2) == 2
        assert await runtime.run_due(REWRAP, 2) == 1


async def test_job_that_fails_for_days_is_set_aside_in_the_end(memory, clock, remote):
    async with opening(memory, remote) as runtime:
        await runtime._core.store.queues.enqueue(NewJob(id="j", kind=REWRAP, created_at=clock.now()))
        remote.member.away = True
        for _ in range(MAX_ATTEMPTS):
            assert await queued(runtime) == [(REWRAP, "queued")]
            await runtime.run_due(REWRAP)
            clock.advance(LONGEST_DELAY)
        assert await queued(runtime) == [(REWRAP, "failed")]
        assert (await runtime._core.store.queues.job("j")).last_error


async def test_job_that_is_done_part_by_part_uses_up_no_attempts(memory, clock, remote, monkeypatch):
    """After more parts than there are attempts, a first failure is a first failure; those before and after do count."""
    plan = [OSError, *[1.0] * (MAX_ATTEMPTS + 5), OSError, None]

    async def part(core, claim):
        step = plan.pop(0)
        if step is OSError:
            raise OSError
        return step

    monkeypatch.setattr(jobs, "JOBS", {REWRAP: part})
    async with opening(memory, remote) as runtime:
        await runtime._core.store.queues.enqueue(NewJob(id="j", kind=REWRAP, created_at=clock.now()))
        while len(plan) > 1:
            await runtime.run_due(REWRAP)
            assert await queued(runtime) == [(REWRAP, "queued")]
            clock.advance(LONGEST_DELAY)
        assert (await runtime._core.store.queues.job("j")).attempts == 2
        await runtime.run_due(REWRAP)
        assert await queued(runtime) == [(REWRAP, "succeeded")]


async def test_part_of_a_job_whose_lease_was_lost_meanwhile_does_not_count(memory, clock, remote, monkeypatch):
    async def part(core, claim):
        clock.advance(core.worker.lease + 1)
        assert await core.store.queues.claim("jobs", owner="next", lease=60, limit=1, kinds=[REWRAP])
        return 1.0

    monkeypatch.setattr(jobs, "JOBS", {REWRAP: part})
    async with opening(memory, remote) as runtime:
        await runtime._core.store.queues.enqueue(NewJob(id="j", kind=REWRAP, created_at=clock.now()))
        assert await runtime.run_due(REWRAP) == 0
        assert await queued(runtime) == [(REWRAP, "running")]


async def test_foreign_error_of_a_job_leaves_no_text_in_its_row(memory, clock, remote, monkeypatch, caplog):
    async with opening(memory, remote) as runtime:

        async def broken(core, claim):
            raise RuntimeError("token sbx_at_secret")

        monkeypatch.setattr(jobs, "JOBS", {REWRAP: broken})
        await runtime._core.store.queues.enqueue(NewJob(id="j", kind=REWRAP, created_at=clock.now()))
        assert (await runtime.drain()).failed == 1
        assert (await runtime._core.store.queues.job("j")).last_error == "RuntimeError"


async def test_unknown_kind_is_refused_with_the_known_ones(app, runtime):
    with pytest.raises(BadInput, match=r"inbox, outbox, connections\.revoke, secrets\.rewrap"):
        await runtime.run_due("jobs")


async def test_without_the_policy_an_outage_is_an_error_and_leaves_nothing(memory, clock, remote):
    async with opening(memory, remote, **{"secrets.failover.policy": "strict_fail"}) as runtime:
        remote.member.away = True
        with pytest.raises(BackendUnavailable):
            await memory.begin(runtime, "u1")
        assert await queued(runtime) == []
        assert await backends(runtime) == {}
