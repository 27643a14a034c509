"""Events go to the endpoints of customers: signed, at least once, in their own time, and each by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import evolve
from standardwebhooks import Webhook

from go_services_core import Runtime, Scope
from go_services_core.clock import SystemClock, uuid7
from go_services_core.endpoints import SEND_JOB
from go_services_core.errors import (
    BadInput,
    Conflict,
    EgressDenied,
    InvalidTransition,
    LeaseLost,
    NotFound,
)
from go_services_core.http import InboundRequest
from go_services_core.model import Drained, Event, NewJob
from go_services_core.protocols import Rejected, Verified
from go_services_core.runtime import webhook_sends
from go_services_core.secret import SecretStr
from go_services_core.testing.memory import MemoryStore
from go_services_core.webhook_specs import StandardWebhook
from go_services_core.webhooks.hmac import HmacVerifier
from go_services_core.worker_status import Worked

from .conftest import App
from .receivers import Receiver, receiver

ORG = Scope("org", "o1")
STANDARD = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)


@pytest.fixture
async def customer() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture
def memory(app: App, clock: Any) -> App:
    """The application on a store whose leases and delays go by the test's clock."""
    app.store = MemoryStore(clock=clock)
    return app


def opened(app: App, *customers: Receiver, **settings: Any) -> Any:
    egress = {**app.settings["egress.allow"], "endpoint": [one.host for one in customers]}
    return app.open(settings={"egress.allow": egress, **settings})


def event(app: App, name: str = "connection.established", scope: Scope = ORG, **fields: Any) -> Event:
    made = Event(
        id=uuid7(SystemClock()),
        name=name,
        provider_id="sandbox",
        scope=scope,
        connection_id=None,
        occurred_at=app.clock.now(),
        payload={"what": "ü", "items": [1, 2]},
    )
    return evolve(made, **fields)


async def emit(runtime: Runtime, *events: Event) -> None:
    """Commit events."""
    queues = runtime._core.store.queues
    await queues.enqueue(NewJob(id=uuid7(SystemClock()), kind="test.emit", created_at=runtime._core.clock.now()))
    (claim,) = await queues.claim("jobs", owner="test", lease=60, limit=1, kinds=["test.emit"])
    await queues.settle(claim, "done", events=events)


async def messages(runtime: Runtime) -> list[tuple[str, str, int]]:
    return [(one.event, one.status, one.attempts) for one in (await runtime.endpoint_messages()).items]


async def events_of(runtime: Runtime) -> list[str]:
    listed = await runtime._core.store.queues.list("outbox")
    return sorted(item.name for item in listed.items if item.name.startswith("endpoint."))


def verdict_of(verifier: Any, request: InboundRequest, secret: SecretStr) -> Any:
    """What a receiver with our own verifier finds."""
    flow = verifier.verify(request, secrets=[secret], now=SystemClock().now())
    while True:
        try:
            next(flow)
        except StopIteration as end:
            return end.value


# --- what is sent ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["sqlite", "memory"])
async def test_event_reaches_its_endpoint_as_standard_webhook(app: App, customer: Receiver, where: str) -> None:
    """The official package and our own verifier accept what a real server got."""
    if where == "memory":
        app.store = MemoryStore(clock=app.clock)
    app.clock.advance((SystemClock().now() - app.clock.now()).total_seconds())  # the package looks at the real time
    async with opened(app, customer) as runtime:
        added = await runtime.add_endpoint(customer.url, scope=ORG, description="theirs")
        told = event(app, connection_id=None)
        await emit(runtime, told)
        assert await runtime.drain() == Drained(events=2, jobs=1)  # one of them tells of the endpoint
        (request,) = customer.got
        assert Webhook(added.secret.reveal()).verify(request.body, dict(request.headers)) == json.loads(request.body)
        verdict = verdict_of(HmacVerifier(StandardWebhook()), request, added.secret)
        assert isinstance(verdict, Verified)
        assert (verdict.delivery_id, verdict.event) == (told.id, told.name)
        forged = evolve(request, body=request.body.replace(b"o1", b"o2"))
        assert isinstance(verdict_of(HmacVerifier(StandardWebhook()), forged, added.secret), Rejected)
        assert json.loads(request.body) == {
            "type": "connection.established",
            "timestamp": told.occurred_at.isoformat().replace("+00:00", "Z"),
            "data": {
                "event_id": told.id,
                "version": 1,
                "provider_id": "sandbox",
                "scope": "org:o1",
                "connection_id": None,
                "payload": {"what": "ü", "items": [1, 2]},
            },
        }
        assert (request.method, request.target) == ("POST", "/hooks")
        assert request.header("webhook-id") == told.id
        assert request.header("content-type") == "application/json"
        names = {name.lower() for name, _ in request.headers}
        # P71: nothing of anybody's request is forwarded.
        assert names == {
            "host", "content-type", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature",
            "content-length", "accept-encoding", "accept",
        } & names  # fmt: skip
        assert not {"authorization", "cookie"} & names
        assert await messages(runtime) == [("connection.established", "succeeded", 1)]
        assert await runtime.drain() == Drained()
        assert len(customer.got) == 1


async def test_messages_go_to_who_hears_them(app: App, customer: Receiver) -> None:
    """By pattern and by scope; one without a scope hears all; what the setting does not name goes nowhere."""
    paths = {
        "own": {"scope": ORG},
        "all": {},
        "other": {"scope": Scope("user", "u1")},
        "grants": {"scope": ORG, "events": ["grant.*", "connection.lost"]},
    }
    async with opened(app, customer) as runtime:
        for path, options in paths.items():
            await runtime.add_endpoint(f"{customer.url}/{path}", **options)
        sent = [event(app), event(app, "grant.drift"), event(app, "credential.refreshed"), event(app, "webhook.push")]
        await emit(runtime, *sent)
        await runtime.drain()
        got = sorted((one.target.removeprefix("/hooks/"), json.loads(one.body)["type"]) for one in customer.got)
        assert got == [
            ("all", "connection.established"),
            ("all", "grant.drift"),
            ("grants", "grant.drift"),
            ("own", "connection.established"),
            ("own", "grant.drift"),
        ]
        customer.got.clear()
    async with opened(app, customer, **{"endpoints.events": ["webhook.*"]}) as runtime:
        await emit(runtime, event(app), event(app, "webhook.push"))
        await runtime.drain()
        assert sorted(json.loads(one.body)["type"] for one in customer.got) == ["webhook.push"] * 2


async def test_events_cost_nothing_before_the_first_endpoint(app: App, customer: Receiver) -> None:
    async with opened(app, customer) as runtime:
        await emit(runtime, event(app))
        assert await runtime.drain() == Drained()
        assert app.rows("SELECT count(*) FROM service_event_deliveries") == [(0,)]
        await runtime.add_endpoint(customer.url)
        await emit(runtime, event(app))
        await runtime.drain()
        assert len(customer.got) == 1  # nothing from before


async def test_fan_out_is_one_commit_and_happens_once(app: App, customer: Receiver) -> None:
    """P72: an event that is handled again after a crash brings no second message, and a half of them never stays."""
    async with opened(app, customer) as runtime:
        for _ in range(3):
            await runtime.add_endpoint(customer.url)
        told = event(app)
        await emit(runtime, told)
        core = runtime._core
        settle, failures = core.store.queues.settle, []

        async def dying(claim: Any, outcome: Any, **rest: Any) -> Any:
            if rest.get("jobs") and not failures:
                failures.append(len(rest["jobs"]))
                raise LeaseLost
            return await settle(claim, outcome, **rest)

        core.store.queues.settle = dying
        await runtime.run_due("outbox")
        assert failures == [3]
        assert await messages(runtime) == []
        app.rows("UPDATE service_event_deliveries SET next_attempt_at = '2000-01-01 00:00:00.000000'")
        await runtime.drain()
        assert customer.ids() == [told.id] * 3
        jobs = app.rows("SELECT idempotency_key FROM service_sync_job_idempotency ORDER BY 1")
        assert len(jobs) == 3
        assert all(key.startswith(f"{told.id}:") for (key,) in jobs)


async def test_attempts_have_the_same_id_and_body_and_a_time_and_signature_of_their_own(
    memory: App, customer: Receiver
) -> None:
    customer.answers = [(500, {}), (502, {}), (200, {})]
    async with opened(memory, customer) as runtime:
        added = await runtime.add_endpoint(customer.url)
        await emit(runtime, event(memory))
        for wait in (0, *STANDARD[:2]):
            memory.clock.advance(wait * 1.2)
            await runtime.drain()
        assert len(customer.got) == 3
        assert len({one.body for one in customer.got}) == len(set(customer.ids())) == 1
        assert len({one.header("webhook-timestamp") for one in customer.got}) == 3
        assert len({one.header("webhook-signature") for one in customer.got}) == 3
        assert await messages(runtime) == [("connection.established", "succeeded", 3)]
        assert (await runtime.endpoint(added.endpoint.id)).failures == 0


# --- what fails -----------------------------------------------------------------------------------------------------


async def test_message_is_tried_by_the_standard_schedule_and_then_dead(memory: App, customer: Receiver) -> None:
    """Ten attempts in a little over three days; then it is set aside with an event, and replayed once (P73)."""
    customer.answers = [(500, {})]
    settings = {"endpoints.open_after": 1000, "endpoints.disable_after": 1e9}
    async with opened(memory, customer, **settings) as runtime:
        added = await runtime.add_endpoint(customer.url)
        await emit(runtime, event(memory))
        await runtime.drain()
        for number, delay in enumerate(STANDARD, 1):
            assert len(customer.got) == number
            memory.clock.advance(delay - 1)
            await runtime.drain()
            assert len(customer.got) == number
            memory.clock.advance(delay * 0.2 + 1)
            await runtime.drain()
        assert len(customer.got) == 10
        assert await messages(runtime) == [("connection.established", "failed", 10)]
        (dead,) = (await runtime.endpoint_messages(added.endpoint.id, status="failed")).items
        assert dead.error == "The endpoint answered 500."
        assert "endpoint.message_dead" in await events_of(runtime)
        memory.clock.advance(1e7)
        await runtime.drain()
        assert len(customer.got) == 10
        customer.answers = [(204, {})]
        answers = await asyncio.gather(*(runtime.replay_endpoint_message(dead.id) for _ in range(5)))
        assert sorted(answers) == [False] * 4 + [True]
        await runtime.drain()
        assert len(customer.got) == 11
        assert len(set(customer.ids())) == 1
        assert await messages(runtime) == [("connection.established", "succeeded", 1)]


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 500])
async def test_any_other_answer_is_a_failure(memory: App, customer: Receiver, status: int) -> None:
    """P71: also a redirect, which is not followed."""
    async with receiver() as elsewhere:
        customer.answers = [(status, {"Location": elsewhere.url})]
        async with opened(memory, customer, elsewhere) as runtime:
            await runtime.add_endpoint(customer.url)
            await emit(runtime, event(memory))
            assert (await runtime.drain()).failed == 1
            assert await messages(runtime) == [("connection.established", "queued", 1)]
            assert elsewhere.got == []


async def test_410_disables_the_endpoint_and_ends_its_messages(memory: App, customer: Receiver) -> None:
    """P71."""
    customer.answers = [(410, {})]
    async with opened(memory, customer) as runtime:
        added = await runtime.add_endpoint(customer.url)
        await emit(runtime, event(memory))
        await runtime.drain()
        found = await runtime.endpoint(added.endpoint.id)
        assert (found.status, found.status_reason) == ("disabled", "410 Gone")
        assert sorted(await events_of(runtime)) == ["endpoint.created", "endpoint.disabled", "endpoint.message_dead"]
        await emit(runtime, event(memory))
        await runtime.drain()
        assert len(customer.got) == 1
        assert await messages(runtime) == [("connection.established", "failed", 1)]
        (dead,) = (await runtime.endpoint_messages()).items
        for refused in (
            runtime.replay_endpoint_message(dead.id),
            runtime.replay_endpoint_messages(added.endpoint.id),
            runtime.pause_endpoint(added.endpoint.id),
        ):
            with pytest.raises((Conflict, InvalidTransition)):
                await refused
        customer.answers = [(200, {})]
        await runtime.resume_endpoint(added.endpoint.id)
        assert await runtime.replay_endpoint_messages(added.endpoint.id, dry_run=True) == 1
        assert await runtime.replay_endpoint_messages(added.endpoint.id) == 1
        assert await runtime.replay_endpoint_messages(added.endpoint.id) == 0
        await runtime.drain()
        assert len(customer.got) == 2


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_kept_to_by_all_messages_of_the_endpoint(
    memory: App, customer: Receiver, status: int
) -> None:
    """P71."""
    customer.answers = [(status, {"Retry-After": "400"}), (200, {})]
    async with opened(memory, customer, **{"endpoints.concurrency": 1}) as runtime:
        await runtime.add_endpoint(customer.url)
        await emit(runtime, event(memory), event(memory))
        await runtime.drain()
        assert len(customer.got) == 1
        memory.clock.advance(399)
        await runtime.drain()
        assert len(customer.got) == 1
        memory.clock.advance(400 * 0.2 + 2)
        await runtime.drain()
        await runtime.drain()
        assert len(customer.got) == 3
        assert sorted(attempts for _, _, attempts in await messages(runtime)) == [1, 2]


async def test_endpoint_that_keeps_failing_is_left_alone_and_its_messages_lose_no_attempt(
    memory: App, customer: Receiver
) -> None:
    """The circuit is a row: another process keeps to it. Once its time is over one message tries, and closes it."""
    customer.answers = [(500, {})]
    settings = {"endpoints.concurrency": 1, "endpoints.open_after": 3, "endpoints.pause": 600.0}
    async with opened(memory, customer, **settings) as runtime, opened(memory, customer, **settings) as other:
        added = await runtime.add_endpoint(customer.url)
        await emit(runtime, *(event(memory) for _ in range(6)))
        await runtime.drain()
        assert len(customer.got) == 3
        assert (await runtime.endpoint(added.endpoint.id)).failures == 3
        assert sorted(attempts for _, _, attempts in await messages(runtime)) == [0, 0, 0, 1, 1, 1]
        memory.clock.advance(500)
        await other.drain()
        assert len(customer.got) == 3
        memory.clock.advance(1000)
        await other.drain()
        assert len(customer.got) == 4  # the one that tries
        assert (await runtime.endpoint(added.endpoint.id)).failures == 4
        customer.answers = [(200, {})]
        for _ in range(6):
            memory.clock.advance(3600)
            await other.drain()
        assert {status for _, status, _ in await messages(runtime)} == {"succeeded"}
        found = await runtime.endpoint(added.endpoint.id)
        assert (found.failures, found.failing_since, found.open_until) == (0, None, None)


async def test_endpoint_that_fails_for_days_is_disabled(memory: App, customer: Receiver) -> None:
    customer.answers = [(500, {})]
    async with opened(memory, customer) as runtime:
        added = await runtime.add_endpoint(customer.url)
        for day in range(7):
            await emit(runtime, event(memory))
            await runtime.drain()
            found = await runtime.endpoint(added.endpoint.id)
            assert found.status == ("active" if day < 5 else "disabled")
            memory.clock.advance(86_400)
        assert found.status_reason == "nothing but failures for 432000 seconds"
        assert (await events_of(runtime)).count("endpoint.disabled") == 1
        seen = len(customer.got)
        memory.clock.advance(86_400)
        await runtime.drain()
        assert len(customer.got) == seen
        assert {status for _, status, _ in await messages(runtime)} == {"failed"}


async def test_slow_endpoint_holds_up_nobody_else(app: App, customer: Receiver) -> None:
    """While one does not answer, also messages of events that were committed later reach the others."""
    async with receiver(hold=asyncio.Event()) as slow, opened(app, customer, slow) as runtime:
        await runtime.add_endpoint(slow.url)
        quick = await runtime.add_endpoint(customer.url)
        for number in range(3):
            await emit(runtime, *(event(app) for _ in range(10)))
            await runtime.run_due("outbox", 100)
            while len(customer.got) < 10 * (number + 1):
                async with asyncio.timeout(20):
                    await runtime.run_due(SEND_JOB, 100)
        assert len(slow.got) == 4  # as many as may be at once
        assert all(one.status == "succeeded" for one in (await runtime.endpoint_messages(quick.endpoint.id)).items)
        assert slow.hold is not None
        slow.hold.set()


async def test_ordered_endpoint_gets_one_after_another(memory: App, customer: Receiver) -> None:
    """One that fails holds up the later ones, and only those of its endpoint."""
    customer.answers = [(200, {}), (500, {}), (200, {})]
    async with receiver() as other, opened(memory, customer, other) as runtime:
        await runtime.add_endpoint(customer.url, ordered=True)
        await runtime.add_endpoint(other.url)
        told = [event(memory) for _ in range(5)]
        told.sort(key=lambda one: one.id)
        await emit(runtime, *told)
        await runtime.drain()
        assert customer.ids() == [told[0].id, told[1].id]
        assert len(other.got) == 5
        memory.clock.advance(7)
        await runtime.drain()
        assert customer.ids() == [told[index].id for index in (0, 1, 1, 2, 3, 4)]


async def test_closing_lets_what_is_sent_come_to_its_end_and_gives_back_the_rest(app: App) -> None:
    async with receiver(hold=asyncio.Event()) as slow:
        async with opened(app, slow) as runtime:
            await runtime.add_endpoint(slow.url)
            await emit(runtime, *(event(app) for _ in range(6)))
            await runtime.run_due("outbox")
            await runtime.run_due(SEND_JOB)
            assert len(slow.got) == 4
            assert slow.hold is not None
            asyncio.get_running_loop().call_later(0.1, slow.hold.set)
        states = app.rows(
            "SELECT status, attempts FROM service_sync_jobs WHERE kind = ? ORDER BY status, attempts", SEND_JOB
        )
        assert states == [("queued", 0)] * 2 + [("succeeded", 1)] * 4


async def _work_until_four_are_sent(runtime: Runtime, slow: Receiver, stop: asyncio.Event) -> Worked:
    """The worker's end, once it was stopped while an endpoint keeps four messages waiting for its answers."""
    working = asyncio.create_task(runtime.work(stop=stop))
    async with asyncio.timeout(20):
        while len(slow.got) < 4:
            await asyncio.sleep(0.02)
    stop.set()
    async with asyncio.timeout(20):
        return await working


async def _states(runtime: Runtime) -> list[tuple[str, int]]:
    return sorted((status, attempts) for _, status, attempts in await messages(runtime))


async def test_worker_that_ends_lets_what_is_sent_come_to_its_end(app: App) -> None:
    """In a process that goes on after its worker as well: nothing of the lanes is left when ``work`` returns."""
    async with receiver(hold=asyncio.Event()) as slow, opened(app, slow) as runtime:
        await runtime.add_endpoint(slow.url)
        await emit(runtime, *(event(app) for _ in range(6)))
        stop = asyncio.Event()
        assert slow.hold is not None
        working = asyncio.create_task(_work_until_four_are_sent(runtime, slow, stop))
        await stop.wait()
        await _answer_once_the_rest_is_back(runtime, slow.hold)
        assert (await working).cut_off == ()
        assert await _states(runtime) == [("queued", 0)] * 2 + [("succeeded", 1)] * 4
        await runtime.drain()  # and what begins later is done as before
        assert await _states(runtime) == [("succeeded", 1)] * 6


async def _answer_once_the_rest_is_back(runtime: Runtime, hold: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        while ("queued", 0) not in await _states(runtime) or len(await _states(runtime)) < 6:
            await asyncio.sleep(0.02)
    hold.set()


async def test_worker_gives_back_what_an_endpoint_does_not_answer_in_time(app: App) -> None:
    """No attempt is counted, no lease is extended any more, and whoever works next sends it again."""
    async with receiver(hold=asyncio.Event()) as slow, opened(app, slow, **{"worker.grace": 0.2}) as runtime:
        await runtime.add_endpoint(slow.url)
        await emit(runtime, *(event(app) for _ in range(6)))
        worked = await _work_until_four_are_sent(runtime, slow, asyncio.Event())
        assert worked.cut_off == (SEND_JOB,)
        assert await _states(runtime) == [("queued", 0)] * 6
        sends = runtime._core.sends
        assert (sends.tasks, sends.held, sends.lanes) == (set(), {}, {})
        assert sends.keeping is not None
        assert sends.keeping.done()
        assert slow.hold is not None
        slow.hold.set()
        await runtime.drain()
        assert await _states(runtime) == [("succeeded", 1)] * 6


async def test_large_answer_is_not_read_and_counts_by_its_status(memory: App, customer: Receiver) -> None:
    customer.body = b"x" * (webhook_sends._ANSWER * 4)
    async with opened(memory, customer) as runtime:
        await runtime.add_endpoint(customer.url)
        await emit(runtime, event(memory))
        await runtime.drain()
        assert await messages(runtime) == [("connection.established", "succeeded", 1)]


async def test_egress_guard_is_asked_at_each_attempt(memory: App, customer: Receiver) -> None:
    """An address that was allowed when the endpoint was added is not reached once it is not."""
    async with opened(memory, customer) as runtime:
        await runtime.add_endpoint(customer.url)
        await emit(runtime, event(memory))
    async with memory.open() as runtime:
        assert (await runtime.drain()).failed == 1
        (waiting,) = (await runtime.endpoint_messages()).items
        assert "may not reach" in waiting.error
        assert customer.got == []
        with pytest.raises(BadInput, match="https"):
            await runtime.add_endpoint(customer.url)


async def test_endpoint_is_not_moved_to_a_host_that_is_not_public(memory: App, customer: Receiver) -> None:
    async with opened(memory, customer) as runtime:
        added = await runtime.add_endpoint(customer.url)
        for url in (
            "https://127.0.0.1/",
            "https://[::ffff:10.0.0.1]/",
            "https://app.localhost/",
            "https://printer.local/",
        ):
            with pytest.raises(EgressDenied, match=r"may not reach .* not public"):
                await runtime.update_endpoint(added.endpoint.id, url=url)
        assert (await runtime.endpoint(added.endpoint.id)).version == added.endpoint.version
        await runtime.update_endpoint(added.endpoint.id, url="https://localhost.example/")


async def test_paused_endpoint_keeps_its_messages(memory: App, customer: Receiver) -> None:
    async with opened(memory, customer) as runtime:
        added = await runtime.add_endpoint(customer.url)
        paused = await runtime.pause_endpoint(added.endpoint.id, reason="maintenance")
        assert (paused.status, paused.status_reason) == ("paused", "maintenance")
        await emit(runtime, event(memory))
        for _ in range(20):
            await runtime.drain()
            memory.clock.advance(100)
        assert customer.got == []
        assert await messages(runtime) == [("connection.established", "queued", 0)]
        await runtime.resume_endpoint(added.endpoint.id)
        await runtime.drain()
        assert len(customer.got) == 1
        assert sorted(await events_of(runtime)) == ["endpoint.created", "endpoint.paused", "endpoint.resumed"]
        again = await runtime.resume_endpoint(added.endpoint.id)
        assert again.version == 3  # nothing to change


async def test_removed_endpoint_gets_nothing(memory: App, customer: Receiver) -> None:
    async with opened(memory, customer) as runtime:
        added = await runtime.add_endpoint(customer.url)
        await emit(runtime, event(memory))
        await runtime.run_due("outbox")
        await runtime.remove_endpoint(added.endpoint.id)
        await runtime.drain()
        assert customer.got == []
        assert [(status, one) for _, status, one in await messages(runtime)] == [("succeeded", 1)]
        assert await events_of(runtime) == ["endpoint.created", "endpoint.removed"]
        for gone in (
            runtime.endpoint(added.endpoint.id),
            runtime.remove_endpoint(added.endpoint.id),
            runtime.rotate_endpoint_secret(added.endpoint.id),
            runtime.test_endpoint(added.endpoint.id),
            runtime.replay_endpoint_message("none"),
        ):
            with pytest.raises(NotFound):
                await gone


async def test_worker_sends_what_its_handler_brings(app: App, customer: Receiver) -> None:
    """Each kind of work is a loop of its own: the event reaches its endpoint without anybody asking for it."""
    async with opened(app, customer) as runtime:
        await runtime.add_endpoint(customer.url, scope=ORG)
        await emit(runtime, event(app, connection_id=None))
        stop = asyncio.Event()
        working = asyncio.create_task(runtime.work(stop=stop))
        async with asyncio.timeout(10):
            while ("connection.established", "succeeded", 1) not in await messages(runtime):
                await asyncio.sleep(0.02)
        stop.set()
        assert (await working).cut_off == ()
        assert len(customer.got) == 1


async def test_message_that_is_dead_makes_no_endless_row_of_messages_about_messages(
    memory: App, customer: Receiver
) -> None:
    """Two endpoints that hear everything, and answer nothing: that one could not be told is told, and that this could
    not be told is not."""
    customer.answers = [(500, {})]
    settings = {"endpoints.events": ["*"], "endpoints.delays": [], "endpoints.open_after": 10_000}
    async with opened(memory, customer, **settings) as runtime:
        for _ in range(2):
            await runtime.add_endpoint(customer.url, events=["endpoint.message_dead", "order.*"])
        await emit(runtime, event(memory, "order.paid"))
        for _ in range(6):
            await runtime.drain()
        sent = [name for name, _, _ in await messages(runtime)]
        assert sorted(sent) == ["endpoint.message_dead"] * 4 + ["order.paid"] * 2
        assert (await events_of(runtime)).count("endpoint.message_dead") == 6
